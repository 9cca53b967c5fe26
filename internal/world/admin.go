package world

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/kisgrid/kisgrid/internal/network"
	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/internal/world/history"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// startOperator opens the operator's own connection to etcd, as etcdctl has it.
func (w *world) startOperator() {
	var err error
	w.put, err = clientv3.New(clientv3.Config{
		Endpoints: w.etcdEndpoints(), Logger: zap.NewNop(), Username: w.s.Etcd.User, Password: etcdPasswordOf(w), DialTimeout: 5 * time.Second,
		DialOptions: []grpc.DialOption{through(w.operator), grpc.WithTransportCredentials(insecure.NewCredentials())},
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// through makes gRPC dial through a network.
func through(in network.Network) grpc.DialOption {
	return grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		return in.DialContext(ctx, "tcp", address)
	})
}

// etcdPasswordOf returns the password with which the operator signs in at etcd; empty means that nobody signs in.
func etcdPasswordOf(w *world) string {
	if w.s.Etcd.User == "" {
		return ""
	}
	return etcdSecret
}

// etcdctl writes documents, or deletes them where they have no text, one after the other, as an operator does with etcdctl. A write that
// fails is tried again for a while.
func (w *world) etcdctl(docs []definition.Document) error {
	for _, d := range docs {
		key := "/kisgrid/config/" + string(d.Kind) + "/" + d.Name
		var err error
		for range 5 {
			ctx, cancel := context.WithTimeout(w.ctx, 5*time.Second)
			if d.YAML == nil {
				_, err = w.put.Delete(ctx, key)
			} else {
				_, err = w.put.Put(ctx, key, string(d.YAML))
			}
			cancel()
			if err == nil || !w.sleep(2*time.Second) {
				break
			}
		}
		if err != nil {
			return fmt.Errorf("put %s: %w", key, err)
		}
	}
	return nil
}

// admin calls the service of the command line at the coordinators with these addresses, from a process, as kisgrid does with --server. It
// notes the call. f returns the answer as text.
func (w *world) admin(from network.Network, servers, verb, subject string, timeout time.Duration, f func(context.Context, pb.AdminClient) (string, error)) error {
	call := history.Call{At: w.rec.Now(), Coordinator: servers, Verb: verb, Subject: subject}
	ctx, cancel := context.WithTimeout(w.ctx, timeout)
	defer cancel()
	answer, err := func() (string, error) {
		settings := w.secured()
		settings.Network, settings.ProbeSilence = from, true
		address, dial, err := transport.Resolve(servers)
		if err != nil {
			return "", err
		}
		conn, err := transport.Dial(address, settings, dial...)
		if err != nil {
			return "", err
		}
		defer conn.Close()
		answer, err := f(ctx, pb.NewAdminClient(conn))
		return answer, wire.FromStatus(err)
	}()
	call.Answer = answer
	if err != nil {
		call.Code, call.Error = batch.CodeOf(err), err.Error()
	}
	w.rec.Called(call)
	return err
}

// apply writes documents as kisgrid apply does.
func (w *world) apply(docs []definition.Document) error {
	in := &pb.ApplyRequest{WorkersMilliseconds: 5000, TellConnectors: true, ConnectorsMilliseconds: 2000, InParts: len(docs) > 100}
	for _, d := range docs {
		p, err := definition.Parse(d)
		if err != nil {
			return err // kisgrid apply sends nothing then
		}
		d = p.Document()
		in.Documents = append(in.Documents, &pb.Document{Kind: string(d.Kind), Name: d.Name, Yaml: d.YAML})
	}
	err := w.admin(w.operator, w.coordinators(""), "apply", names(docs), 30*time.Second, func(ctx context.Context, a pb.AdminClient) (string, error) {
		events, err := a.Apply(ctx, in)
		if err != nil {
			return "", err
		}
		var told []string
		for {
			e, err := events.Recv()
			if errors.Is(err, io.EOF) {
				return strings.Join(told, "; "), nil
			}
			if err != nil {
				return strings.Join(told, "; "), err
			}
			if p := e.GetProgress(); p != nil {
				told = append(told, fmt.Sprintf("%s %s %d %v", p.GetFlow(), p.GetState(), p.GetWanted(), p.GetReasons()))
			}
		}
	})
	return err
}

// names lists documents by kind and name.
func names(docs []definition.Document) string {
	var all []string
	for _, d := range docs {
		all = append(all, string(d.Kind)+"/"+d.Name)
	}
	return strings.Join(all, " ")
}

// delete deletes documents as kisgrid delete does.
func (w *world) delete(docs []definition.Document) error {
	in := &pb.DeleteRequest{}
	for _, d := range docs {
		in.Documents = append(in.Documents, &pb.DocumentName{Kind: string(d.Kind), Name: d.Name})
	}
	err := w.admin(w.operator, w.coordinators(""), "delete", names(docs), 30*time.Second, func(ctx context.Context, a pb.AdminClient) (string, error) {
		r, err := a.Delete(ctx, in)
		return fmt.Sprint("revision ", r.GetRevision()), err
	})
	return err
}

// undoRollout writes the documents of a flow's earlier revision again, as kisgrid rollout undo does. It returns the documents.
func (w *world) undoRollout(flow string) ([]definition.Document, error) {
	var docs []definition.Document
	err := w.admin(w.operator, w.coordinators(""), "undo", "flow/"+flow, 30*time.Second, func(ctx context.Context, a pb.AdminClient) (string, error) {
		h, err := a.History(ctx, &pb.HistoryRequest{Flow: flow})
		if err != nil {
			return "", err
		}
		all := h.GetRevisions()
		active := slices.IndexFunc(all, (*pb.Accepted).GetActive)
		if active < 1 {
			return "nothing to undo", nil
		}
		for _, d := range all[active-1].GetDocuments() {
			if definition.Kind(d.GetKind()) != definition.KindConn {
				docs = append(docs, definition.Document{Kind: definition.Kind(d.GetKind()), Name: d.GetName(), YAML: d.GetYaml()})
			}
		}
		return fmt.Sprint("back to ", all[active-1].GetRevision()), nil
	})
	if err != nil || docs == nil {
		return nil, err
	}
	return docs, w.apply(docs)
}

// watch calls verbs of the command line until the scenario's time is over, as somebody does who looks after the cluster.
func (s *submitter) watch(l *clientLife) {
	pause := max(s.c.Every, 5*time.Second)
	for !s.exhausted() && l.pause(pause) {
		s.verb(l)
	}
}

// verb calls one verb of the command line.
func (s *submitter) verb(l *clientLife) {
	w, servers := s.w, s.w.coordinators(s.c.To)
	flow := s.c.Flow
	call := func(verb, subject string, f func(context.Context, pb.AdminClient) (string, error)) {
		_ = w.admin(l.net, servers, verb, subject, 20*time.Second, f) // the call is noted
	}
	filter := &pb.DeadFilter{Flow: flow}
	switch s.chance(12) {
	case 0, 1, 2:
		kind := []string{"flows", "functions", "connectors", "workers", "coordinators"}[s.chance(5)]
		call("get", kind, func(ctx context.Context, a pb.AdminClient) (string, error) {
			return text(a.Get(ctx, &pb.GetRequest{Kind: kind, Known: s.chance(2) == 0}))
		})
	case 3, 4:
		key := fmt.Sprintf(`"k%d"`, s.chance(10))
		call("explain", flow+" "+key, func(ctx context.Context, a pb.AdminClient) (string, error) {
			return text(a.Explain(ctx, &pb.ExplainRequest{Flow: flow, Key: key, Rows: true, Most: 5}))
		})
	case 5:
		call("rollout status", flow, func(ctx context.Context, a pb.AdminClient) (string, error) {
			events, err := a.Rollout(ctx, &pb.RolloutRequest{Flow: flow, WorkersMilliseconds: 3000})
			return drainEvents(events, err)
		})
	case 6:
		call("rollout history", flow, func(ctx context.Context, a pb.AdminClient) (string, error) {
			return text(a.History(ctx, &pb.HistoryRequest{Flow: flow}))
		})
	case 7:
		call("version", "", func(ctx context.Context, a pb.AdminClient) (string, error) {
			return text(a.Version(ctx, &pb.VersionRequest{}))
		})
	case 8, 9:
		call("dead list", flow, func(ctx context.Context, a pb.AdminClient) (string, error) {
			events, err := a.ListDead(ctx, &pb.ListDeadRequest{Filter: filter, NoRows: true, Limit: 20})
			return drainEvents(events, err)
		})
	case 10:
		call("dead redrive", flow, func(ctx context.Context, a pb.AdminClient) (string, error) {
			events, err := a.RedriveDead(ctx, &pb.RedriveDeadRequest{Filter: filter})
			return drainEvents(events, err)
		})
	case 11:
		call("dead drop", flow, func(ctx context.Context, a pb.AdminClient) (string, error) {
			return text(a.DropDead(ctx, &pb.DropDeadRequest{Filter: &pb.DeadFilter{Flow: flow, Code: pb.Code(batch.CodeFunctionPanic)}}))
		})
	}
}

// text returns an answer as JSON.
func text(answer any, err error) (string, error) {
	if err != nil {
		return "", err
	}
	written, err := json.Marshal(answer)
	return string(written), err
}

// drainEvents reads a stream of events to its end, and returns the last one as text.
func drainEvents[E any](events grpc.ServerStreamingClient[E], err error) (string, error) {
	if err != nil {
		return "", err
	}
	last, n := "", 0
	for {
		e, err := events.Recv()
		if errors.Is(err, io.EOF) {
			return fmt.Sprintf("%d events, the last one: %s", n, last), nil
		}
		if err != nil {
			return last, err
		}
		n++
		last, _ = text(e, nil)
	}
}
