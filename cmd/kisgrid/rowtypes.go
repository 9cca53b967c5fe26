package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"


	"github.com/kisgrid/kisgrid/internal/rowfile"
	"github.com/kisgrid/kisgrid/internal/yamltext"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// rowTypes returns the types of the fields of a flow's rows. The first function of the flow that has a field tells its type: its document
// declares it, or a worker describes the Go type that the function reads. The result is nil if no function tells anything.
func rowTypes(ctx context.Context, s *server, flow string) (rowfile.Types, error) {
	types := rowfile.Types{}
	err := s.admin(func(a pb.AdminClient) error {
		flows, err := a.Get(ctx, &pb.GetRequest{Kind: "flows", Name: flow})
		if err != nil {
			return err
		}
		functions, err := a.Get(ctx, &pb.GetRequest{Kind: "functions"})
		if err != nil {
			return err
		}
		workers, err := a.Get(ctx, &pb.GetRequest{Kind: "workers"})
		if err != nil {
			return err
		}
		for _, name := range functionsOf(flows.GetResources()[0].GetDocument().GetYaml()) {
			types.Add(declaredTypes(name, functions.GetResources()))
			types.Add(describedTypes(name, workers.GetResources()))
		}
		return nil
	})
	return types, err
}

// shardKeyOf returns the name of the shard key of a flow's active revision, or "" if it has none.
func shardKeyOf(ctx context.Context, s *server, flow string) (key string, err error) {
	err = s.admin(func(a pb.AdminClient) error {
		r, err := a.Get(ctx, &pb.GetRequest{Kind: "flows", Name: flow})
		if err != nil {
			return err
		}
		var status struct {
			ShardKey string `json:"shard_key"`
		}
		if err := json.Unmarshal(r.GetResources()[0].GetStatus(), &status); err != nil {
			return fmt.Errorf("read the status of flow %s: %w", flow, err)
		}
		key = status.ShardKey
		return nil
	})
	return key, err
}

// functionsOf returns the names of the functions of a flow's document, or none if it can't be read.
func functionsOf(document []byte) (names []string) {
	var flow struct {
		Flows []struct {
			Name string `yaml:"fname"`
		} `yaml:"flows"`
	}
	if yamltext.Unmarshal(document, &flow) != nil {
		return nil
	}
	for _, f := range flow.Flows {
		names = append(names, f.Name)
	}
	return names
}

// declaredTypes returns the types that the document of a function declares, or nil.
func declaredTypes(name string, functions []*pb.Resource) rowfile.Types {
	i := slices.IndexFunc(functions, func(r *pb.Resource) bool { return r.GetName() == name })
	if i < 0 {
		return nil
	}
	return rowfile.DeclaredTypes(functions[i].GetDocument().GetYaml())
}

// describedTypes returns the types that a worker's description of a function tells, or nil.
func describedTypes(name string, workers []*pb.Resource) rowfile.Types {
	for _, r := range workers {
		var w cluster.Worker
		if json.Unmarshal(r.GetStatus(), &w) != nil {
			continue // a worker of a build that describes itself in another way
		}
		for _, f := range w.Functions {
			if types, err := rowfile.ParseTypes(f.In); f.Name == name && err == nil {
				return types
			}
		}
	}
	return nil
}
