package coordinator

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

func nobodyAt(at string) error {
	e := &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	if at != "" {
		e.Addr, _ = net.ResolveTCPAddr("tcp", at)
	}
	return e
}

// TestProvesDeath goes through what a failed try may be. Only where the address of a session that this coordinator had takes no
// connections any more, or another process has it, is the worker dead.
func TestProvesDeath(t *testing.T) {
	t.Parallel()
	const here, there = "10.0.0.1:7701", "10.0.0.2:7701"
	session := &dialAttempt{address: "worker:7701", remote: here}
	for name, c := range map[string]struct {
		at     *dialAttempt // of the session
		tried  dialAttempt  // and of the try that failed
		err    error
		direct error // of a dial to the session's own address; nil: somebody answers there
		dead   bool
	}{
		"refused, and never reached":                  {nil, dialAttempt{address: "worker:7701"}, nobodyAt(here), nobodyAt(here), false},
		"another process, and never reached":          {nil, dialAttempt{"worker:7701", here}, fmt.Errorf("%w: 5", errAnotherWorker), nil, false},
		"refused at the session's address":            {session, dialAttempt{address: "worker:7701"}, nobodyAt(here), nil, true},
		"refused, and the dialer does not say where":  {session, dialAttempt{address: "worker:7701"}, nobodyAt(""), nil, true},
		"a bare refusal":                              {session, dialAttempt{address: "worker:7701"}, syscall.ECONNREFUSED, nil, true},
		"another address of the name, and both":       {session, dialAttempt{address: "worker:7701"}, nobodyAt(there), nobodyAt(here), true},
		"another address of the name, not the first":  {session, dialAttempt{address: "worker:7701"}, nobodyAt(there), nil, false},
		"another address of the name, the first slow": {session, dialAttempt{address: "worker:7701"}, nobodyAt(there), os.ErrDeadlineExceeded, false},
		"the worker has moved":                        {session, dialAttempt{address: "moved:7701"}, nobodyAt(there), nobodyAt(here), false},
		"the worker has moved, and says no more":      {session, dialAttempt{address: "moved:7701"}, nobodyAt(""), nobodyAt(here), false},
		"another process at the session's address":    {session, dialAttempt{"worker:7701", here}, fmt.Errorf("%w: 5", errAnotherWorker), nil, true},
		"another process at another address":          {session, dialAttempt{"worker:7701", there}, fmt.Errorf("%w: 5", errAnotherWorker), nil, false},
		"no such name": {
			session, dialAttempt{address: "worker:7701"},
			&net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "worker", IsNotFound: true}}, nobodyAt(here), false,
		},
		"a name server refuses": {
			session, dialAttempt{address: "worker:7701"},
			&net.OpError{Op: "dial", Net: "tcp", Err: errors.Join(&net.DNSError{Err: "connection refused", Name: "worker"}, syscall.ECONNREFUSED)}, nobodyAt(here), false,
		},
		"a certificate is refused": {session, dialAttempt{"worker:7701", here}, x509.UnknownAuthorityError{}, nobodyAt(here), false},
		"a proxy hangs up":         {session, dialAttempt{"worker:7701", here}, io.EOF, nobodyAt(here), false},
		"the connection is reset":  {session, dialAttempt{"worker:7701", here}, syscall.ECONNRESET, nobodyAt(here), false},
		"no way there":             {session, dialAttempt{address: "worker:7701"}, &net.OpError{Op: "dial", Err: syscall.EHOSTUNREACH}, nobodyAt(here), false},
		"it takes too long":        {session, dialAttempt{address: "worker:7701"}, context.DeadlineExceeded, nobodyAt(here), false},
		"it panicked": {
			session, dialAttempt{"worker:7701", here}, batch.Errorf(batch.CodeInternal, "the worker panicked"), nobodyAt(here), false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dials := 0
			k := &workerPeer{worker: cluster.Worker{ID: "w-1"}, sessionDial: c.at, settings: &peerSettings{dial: func(_ context.Context, w cluster.Worker) (net.Conn, error) {
				dials++
				if w.Address != here {
					t.Errorf("asked %s, and not the address of the session", w.Address)
				}
				if c.direct != nil {
					return nil, c.direct
				}
				one, other := net.Pipe()
				_ = other.Close()
				return one, nil
			}}}
			k.lastDial.Store(&c.tried)
			if dead := k.provesDeath(t.Context(), c.err); dead != c.dead {
				t.Errorf("it proves a death: %t, want %t", dead, c.dead)
			}
			if dials > 1 {
				t.Errorf("%d dials", dials)
			}
		})
	}
}

// TestOnlyWhoWasReachedIsBuried has two coordinators, of which one finds nobody at the workers' addresses, as where they are of
// another machine. It takes no worker from the other one: it says whom it can't reach, and leaves clients and the lead to that.
func TestOnlyWhoWasReachedIsBuried(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var workers []*fakeWorker
	for i := range 3 {
		w, _ := r.join(fmt.Sprintf("w%d", i))
		workers = append(workers, w)
	}
	r.whole()
	r.owns("W", 3)
	until(t, "it says that it reaches three workers", func() bool {
		c := r.c.fleet.Coordinators()[r.c.ID()]
		return c.Ready && c.Sessions != nil && *c.Sessions == 3
	})
	far := &rig{t: t, prefix: r.prefix, etcd: r.etcd}
	far.start(func(c *Config) {
		c.DialWorker = func(context.Context, cluster.Worker) (net.Conn, error) {
			return nil, nobodyAt("127.0.0.1:1")
		}
	})
	far.awaitReady()
	until(t, "everybody can see whom it does not reach", func() bool {
		c := r.c.fleet.Coordinators()[far.c.ID()]
		return c.CutOff && !c.Ready && c.Missed == 3 && len(c.Unreachable) == 3 && c.Unreachable[0].Worker == workers[0].record.ID &&
			c.Unreachable[0].Address == workers[0].record.Address
	})
	_, err := far.tryOpen(batch.NewStreamID(), "W")
	wantCode(t, err, batch.CodeUnavailable, "another coordinator")
	for metric, want := range map[string]float64{"workers_unreachable": 3, "cut_off": 1, "sessions": 0} {
		if got := far.gauge("kisgrid_coordinator_" + metric); got != want {
			t.Errorf("%s is %v, want %v", metric, got, want)
		}
	}
	if far.c.leading.Load() {
		t.Error("it leads")
	}
	for _, w := range workers {
		quiet(t, "a worker lost its key", w.registration.Lost())
	}
}

// gauge is the value of a metric without labels.
func (r *rig) gauge(name string) float64 {
	r.t.Helper()
	families, err := r.c.config.Registry.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	r.t.Fatalf("there is no metric %s", name)
	return 0
}

// TestNobodyReachesMore lets a coordinator that reaches a minority go on, since no other one reaches more.
func TestNobodyReachesMore(t *testing.T) {
	t.Parallel()
	reachable := cluster.Worker{Name: "near"}
	dial := func(c *Config) {
		c.DialWorker = func(ctx context.Context, w cluster.Worker) (net.Conn, error) {
			if w.Name != reachable.Name {
				return nil, nobodyAt("127.0.0.1:1")
			}
			return new(net.Dialer).DialContext(ctx, "tcp", w.Address)
		}
	}
	r := newRig(t, dial)
	_, s := r.join("near")
	for i := range 3 {
		r.newWorker(fmt.Sprintf("far%d", i), "echo").register()
	}
	until(t, "three workers are lost", func() bool {
		r.c.fleet.wait(t.Context(), func() { r.c.fleet.publish() })
		return r.c.board.Load().Lost == 3
	})
	if r.c.board.Load().CutOff {
		t.Error("it takes no batches, and there is nobody else")
	}
	r.whole()
	call := r.call(t.Context(), "W", &pb.Submission{Sequence: 1, Rows: rows(1)})
	s.done(s.part())
	r.answered(call)
}

// TestCutOffByWhatOthersSay goes through what coordinators say of themselves.
func TestCutOffByWhatOthersSay(t *testing.T) {
	t.Parallel()
	n := func(n int) *int { return &n }
	for name, c := range map[string]struct {
		up, lost, never int
		wrong           int // workers that were never reached, and for so long that they count as lost
		others          []cluster.Coordinator
		cutOff, outdone bool
	}{
		"all reached":                              {up: 3},
		"alone, and nobody reached":                {lost: 3, cutOff: true},
		"alone, and nobody reached yet":            {never: 3},
		"alone, and a wrong address is left":       {wrong: 1},
		"a wrong address, and another reaches it":  {wrong: 1, others: []cluster.Coordinator{{Ready: true, Sessions: n(1)}}, cutOff: true, outdone: true},
		"alone, and a minority reached":            {up: 1, lost: 3},
		"another reaches more":                     {up: 1, lost: 2, others: []cluster.Coordinator{{Ready: true, Sessions: n(2)}}, cutOff: true, outdone: true},
		"another reaches more, from the beginning": {up: 1, never: 2, others: []cluster.Coordinator{{Ready: true, Sessions: n(3)}}, cutOff: true, outdone: true},
		"another reaches as few":                   {up: 1, lost: 2, others: []cluster.Coordinator{{Ready: true, Sessions: n(1)}}},
		"another reaches more, and takes none":     {up: 1, lost: 2, others: []cluster.Coordinator{{Sessions: n(3)}}},
		"another does not say":                     {up: 1, lost: 2, others: []cluster.Coordinator{{Ready: true}}, cutOff: true, outdone: true},
		"another does not say, at the beginning":   {up: 1, never: 2, others: []cluster.Coordinator{{Ready: true}}},
		"half are reached":                         {up: 2, lost: 2, others: []cluster.Coordinator{{Ready: true, Sessions: n(4)}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &roster{id: "c", members: map[string]*member{}, board: flowstate.NewBoard()}
			all := map[string]cluster.Coordinator{"c": {Ready: true, Sessions: n(c.up)}}
			for i, o := range c.others {
				all[fmt.Sprint(i)] = o
			}
			f.coordinatorsByID.Store(&all)
			add := func(k *workerPeer) {
				address := "a:1"
				k.address.Store(&address)
				f.members[fmt.Sprint(len(f.members))] = &member{peer: k}
			}
			for range c.up {
				k := &workerPeer{createdAt: time.Now()}
				k.connected.Store(true)
				add(k)
			}
			for range c.lost {
				k := &workerPeer{createdAt: time.Now()}
				k.lost.Store(true)
				k.everReached.Store(true)
				add(k)
			}
			for range c.wrong {
				k := &workerPeer{createdAt: time.Now()}
				k.lost.Store(true)
				add(k)
			}
			for range c.never {
				k := &workerPeer{createdAt: time.Now()}
				why := "refused"
				k.unreachable.Store(&why)
				add(k)
			}
			if s := f.surveyReach(); s.CutOff != c.cutOff || s.OthersReachMore != c.outdone {
				t.Errorf("cut off %t, outdone %t, want %t and %t", s.CutOff, s.OthersReachMore, c.cutOff, c.outdone)
			}
		})
	}
}

// TestWorkerMoves lets a worker's record name another address: the next session goes there, and that nobody is at the old one
// proves nothing.
func TestWorkerMoves(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	w, s := r.join("w")
	until(t, "the coordinator has read Welcome", func() bool { return r.gauge("kisgrid_coordinator_sessions") == 1 })
	moved := r.newWorker("elsewhere", "echo")
	record := w.record
	record.Address = moved.record.Address
	if err := w.registration.Update(t.Context(), record); err != nil {
		t.Fatal(err)
	}
	until(t, "the coordinator knows", func() bool { return r.c.fleet.Workers(t.Context())[record.ID].Address == record.Address })
	s.breaks(errBroken)
	w.kill()
	next := moved.session()
	if next.hello.GetWorker() != record.ID || !next.hello.GetResume() {
		t.Errorf("Hello %v", next.hello)
	}
	quiet(t, "it was taken for dead", w.registration.Lost())
}

// TestDisagreement answers a resumption as a worker does that was told other things meanwhile, by whomever: the coordinator
// begins anew by itself, and each row is done.
func TestDisagreement(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(*workerSession){
		"it lacks results": func(s *workerSession) {
			s.breaks(wire.Status(batch.Errorf(batch.CodeBadMessage, "result 65 is acknowledged, and the last one sent was 0")))
		},
		"it has parts that nobody sent": func(s *workerSession) { s.welcome(true, 65) },
		"it drains, and knows nobody": func(s *workerSession) {
			s.breaks(wire.Status(batch.Errorf(batch.CodeShutdown, "the worker has drained")))
		},
		"it panicked over the resumption": func(s *workerSession) { s.breaks(wire.Status(batch.Errorf(batch.CodeInternal, "it panicked"))) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			w, s := r.join("w")
			r.whole()
			r.owns("W", 1)
			secret := s.hello.GetSecret()
			call := r.call(t.Context(), "W", &pb.Submission{Sequence: 1, Rows: rows(1, 2)})
			s.part()
			s.breaks(errBroken)
			again := w.session()
			if !again.hello.GetResume() {
				t.Fatal("it is not to be resumed")
			}
			answer(again)
			next := w.session()
			if next.hello.GetResume() {
				t.Fatal("it is to be resumed once more")
			}
			if len(secret) < 16 || !slices.Equal(next.hello.GetSecret(), secret) || !slices.Equal(again.hello.GetSecret(), secret) {
				t.Errorf("secrets of %d, %d and %d bytes, or others", len(secret), len(again.hello.GetSecret()), len(next.hello.GetSecret()))
			}
			next.welcome(false, 0)
			next.done(next.part())
			r.answered(call)
			r.awaitLedger("W", 2, map[batch.Outcome]uint64{batch.Done: 2})
		})
	}
}

// TestSecrets draws another one for each worker: one worker can't pass for the coordinator at another.
func TestSecrets(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, a := r.join("a")
	_, b := r.join("b")
	if slices.Equal(a.hello.GetSecret(), b.hello.GetSecret()) {
		t.Error("two workers are told the same secret")
	}
}
