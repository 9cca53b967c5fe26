package world

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/internal/world/history"
	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// intrude calls workers as if it were a coordinator, again and again, while the client's rows last. It knows what anybody can ask the
// coordinators for: the ids and addresses of workers, and the ids of coordinators. None of that may disturb the real sessions.
func (s *submitter) intrude(l *clientLife) {
	for !s.exhausted() && l.pause(time.Duration(1000+s.chance(5000))*time.Millisecond) {
		workers, coordinators := s.spy(l, "workers"), s.spy(l, "coordinators")
		if len(workers) == 0 || len(coordinators) == 0 {
			continue
		}
		s.falseHello(l, workers[s.chance(len(workers))], coordinators[s.chance(len(coordinators))].id)
	}
}

// spied is a process as the command line shows it.
type spied struct{ id, address string }

// spy asks a coordinator for the processes of a kind, workers or coordinators, as kisgrid get does. It returns none if there is no answer.
func (s *submitter) spy(l *clientLife, kind string) (all []spied) {
	_ = s.w.admin(l.net, s.w.coordinators(s.c.To), "get", kind, 10*time.Second, func(ctx context.Context, a pb.AdminClient) (string, error) {
		r, err := a.Get(ctx, &pb.GetRequest{Kind: kind})
		for _, resource := range r.GetResources() {
			var status struct {
				Address string `json:"address"`
			}
			if json.Unmarshal(resource.GetStatus(), &status) == nil {
				all = append(all, spied{resource.GetName(), status.Address})
			}
		}
		return fmt.Sprint(len(all), " ", kind), err
	}) // the call is noted
	return all
}

// falseHello opens a session at a worker with a false Hello, and keeps it open for a moment. It notes how the worker answered.
func (s *submitter) falseHello(l *clientLife, worker spied, coordinator string) {
	ctx, cancel := context.WithTimeout(l.ctx, 5*time.Second)
	defer cancel()
	hello := &pb.Hello{
		ProtocolMin: wire.Protocol, ProtocolMax: wire.Protocol, Coordinator: coordinator, Worker: worker.id,
		BatchBytes: 8 << 20, BatchRows: 65536, FollowsLimits: true,
	}
	m := &pb.CoordinatorMessage{Kind: &pb.CoordinatorMessage_Hello{Hello: hello}}
	call := history.Call{At: s.w.rec.Now(), Verb: "wrong", Coordinator: worker.address}
	switch s.chance(6) {
	case 0:
		call.Subject = "a Hello that resumes"
		hello.Resume, m.ResultsReceived = true, uint64(s.chance(100))
	case 1:
		call.Subject = "a Hello with a secret"
		hello.Secret = []byte("not the coordinator's")
	case 2:
		call.Subject = "a Hello for another worker"
		hello.Worker = "somebody-0123456789"
	case 3:
		call.Subject = "a Hello of a protocol from the future"
		hello.ProtocolMin, hello.ProtocolMax = 900, 901
	case 4:
		call.Subject = "a session without Hello"
		m.Kind = nil
	default:
		call.Subject = "a Hello that does not resume"
	}
	err := func() error {
		settings := s.w.secured()
		settings.Network, settings.ProbeSilence = l.net, true
		address, dial, err := transport.Resolve(worker.address)
		if err != nil {
			return err
		}
		conn, err := transport.Dial(address, settings, dial...)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		session, err := pb.NewWorkerClient(conn).Session(ctx)
		if err != nil {
			return err
		}
		if err = session.Send(m); err == nil && s.chance(2) == 0 {
			_ = session.Send(&pb.CoordinatorMessage{ResultsReceived: 1 << 20}) // Recv says how it ended
		}
		for {
			if _, err := session.Recv(); err != nil {
				return err
			}
		}
	}()
	if l.ctx.Err() != nil {
		return
	}
	err = wire.FromStatus(err)
	call.Code, call.Error = batch.CodeOf(err), err.Error()
	s.w.rec.Called(call)
}
