package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/kisgrid/kisgrid/internal/rowfile"
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
		types = rowfile.FlowTypes(flows.GetResources()[0].GetDocument().GetYaml(), func(function string) []byte {
			return documentOf(function, functions.GetResources())
		}, func(function string) string {
			return rowTypeOf(function, workers.GetResources())
		})
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

// documentOf returns the text of a function's document, or nil if there is none.
func documentOf(name string, functions []*pb.Resource) []byte {
	i := slices.IndexFunc(functions, func(r *pb.Resource) bool { return r.GetName() == name })
	if i < 0 {
		return nil
	}
	return functions[i].GetDocument().GetYaml()
}

// rowTypeOf returns the row type that a worker's description of a function tells, or "".
func rowTypeOf(name string, workers []*pb.Resource) string {
	for _, r := range workers {
		var w cluster.Worker
		if json.Unmarshal(r.GetStatus(), &w) != nil {
			continue // a worker of a build that describes itself in another way
		}
		if in := w.RowType(name); in != "" {
			return in
		}
	}
	return ""
}
