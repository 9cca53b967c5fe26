package flowtest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// Apply writes documents as kisgrid apply does, and waits until each flow that they change runs on them at every coordinator. Each text
// is one document, or several with a line --- between them. A change that is refused, or that does not become active, is an error,
// which says why.
//
//	err := g.Apply(`
//	kistype: flow
//	flow_name: Weather
//	status: 1
//	shard_key: sensor
//	flows: [{fname: Plausible}, {fname: Keep}]
//	`)
func (g *Grid) Apply(documents ...string) error {
	var docs []definition.Document
	for i, text := range documents {
		docs = append(docs, definition.Split(fmt.Sprintf("document %d", i+1), []byte(text))...)
	}
	return g.apply(docs)
}

// Put writes documents into etcd as etcdctl put does: it checks nothing, and does not wait for the leader. The error is etcd's.
func (g *Grid) Put(documents ...definition.Document) error {
	ctx, cancel := g.patient()
	defer cancel()
	return g.cluster.Put(ctx, documents)
}

// readFS reads the documents in the .yml and .yaml files of a folder and of the folders below it.
func readFS(conf fs.FS) ([]definition.Document, error) {
	var docs []definition.Document
	err := fs.WalkDir(conf, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || path.Ext(name) != ".yml" && path.Ext(name) != ".yaml" || definition.IsKustomization(name) {
			return err
		}
		text, err := fs.ReadFile(conf, name)
		if err != nil || definition.IsTestFile(name) && !definition.HasKind(text) {
			return err
		}
		docs = append(docs, definition.Split(name, text)...)
		return err
	})
	return docs, err
}

// apply has the first coordinator apply the documents, and then waits until each flow that they change runs at every coordinator. Documents
// of kind global are left out.
func (g *Grid) apply(docs []definition.Document) error {
	in := &pb.ApplyRequest{}
	for _, d := range docs {
		p, err := definition.Parse(d)
		if err != nil {
			return err
		}
		if p.Global == nil {
			d = p.Document()
			in.Documents = append(in.Documents, &pb.Document{Kind: string(d.Kind), Name: d.Name, Yaml: d.YAML})
		}
	}
	ctx, cancel := g.patient()
	defer cancel()
	flows := map[string]bool{}
	for i, n := range g.cluster.Coordinators() {
		err := g.admin(n.Address(), func(a pb.AdminClient) error {
			if i == 0 {
				events, err := a.Apply(ctx, in)
				return settle(err, func() (*pb.Progress, error) {
					e, err := events.Recv()
					if p := e.GetProgress(); p != nil {
						flows[p.GetFlow()] = true
					}
					return e.GetProgress(), err
				})
			}
			for flow := range flows {
				events, err := a.Rollout(ctx, &pb.RolloutRequest{Flow: flow})
				if err := settle(err, func() (*pb.Progress, error) { return events.Recv() }); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// settle calls receive until it returns an error, and looks at the last progress of each flow. A flow that is neither active nor disabled
// in the end is an error; io.EOF, the normal end, is none. The argument err is the error of the call that began the stream: unless it is
// nil, settle returns it.
func settle(err error, receive func() (*pb.Progress, error)) error {
	last := map[string]*pb.Progress{}
	for err == nil {
		var p *pb.Progress
		if p, err = receive(); p != nil {
			last[p.GetFlow()] = p
		}
	}
	if !errors.Is(err, io.EOF) {
		return err
	}
	var wrong []error
	for flow, p := range last {
		if s := p.GetState(); s != cluster.StateActive && s != cluster.StateDisabled {
			wrong = append(wrong, fmt.Errorf("flow %s is %s: %s", flow, s, strings.Join(p.GetReasons(), "; ")))
		}
	}
	return errors.Join(wrong...)
}

// admin connects to the coordinator at an address and calls f with a client of its Admin service. No fault reaches this connection.
func (g *Grid) admin(address string, f func(pb.AdminClient) error) error {
	conn, err := transport.Dial("passthrough:///"+address, transport.Config{Network: g.network.machine})
	if err != nil {
		return err
	}
	defer conn.Close()
	return wire.FromStatus(f(pb.NewAdminClient(conn)))
}

// ownerPoll is the interval at which Owner asks again.
const ownerPoll = 10 * time.Millisecond

// Owner returns the worker to which rows with a shard key go now, as the first living coordinator says. The key is written as it stands in a
// row's JSON, such as 101 or "roof" with its quotes:
//
//	g.Owner("Weather", `"roof"`).Kill()
//
// A key whose rows go to no worker fails the test. A worker that has just registered again, under a new id, is waited for.
func (g *Grid) Owner(flow, key string) *Node {
	g.t.Helper()
	ctx, cancel := g.patient()
	defer cancel()
	addresses := g.addresses()
	if len(addresses) == 0 {
		g.t.Fatalf("find the owner of %s in flow %s: every coordinator has ended: start one with AddCoordinator", key, flow)
	}
	for {
		var answer *pb.ExplainResponse
		err := g.admin(addresses[0], func(a pb.AdminClient) (err error) {
			answer, err = a.Explain(ctx, &pb.ExplainRequest{Flow: flow, Key: key})
			return err
		})
		if err != nil {
			g.t.Fatalf("find the owner of %s in flow %s: %v", key, flow, err)
		}
		for _, n := range g.Workers() {
			if answer.GetWorker() != "" && n.ID() == answer.GetWorker() {
				return n
			}
		}
		if answer.GetWorker() == "" {
			g.t.Fatalf("rows of flow %s with the key %s go to no worker: %s", flow, key, answer.GetReason())
		}
		select {
		case <-time.After(ownerPoll):
		case <-ctx.Done():
			g.t.Fatalf("rows of flow %s with the key %s go to worker %s, which is no node of this Grid", flow, key, answer.GetWorker())
		}
	}
}
