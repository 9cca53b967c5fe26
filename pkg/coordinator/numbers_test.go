package coordinator

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// etcdOf is an etcd that a test stops, empties and restores.
type etcdOf struct {
	t       *testing.T
	address string
	dir     string
	stop    func() error
}

func newEtcd(t *testing.T) *etcdOf {
	e := &etcdOf{t: t}
	e.start(t.TempDir())
	t.Cleanup(func() { _ = e.stop() })
	return e
}

// start starts it with what is in a folder.
func (e *etcdOf) start(dir string) {
	e.t.Helper()
	var err error
	if e.address, e.stop, err = StartEtcd(e.address, dir); err != nil {
		e.t.Fatal(err)
	}
	e.dir = dir
}

// replace stops it, and starts it with what is in another folder.
func (e *etcdOf) replace(dir string) {
	e.t.Helper()
	if err := e.stop(); err != nil {
		e.t.Fatal(err)
	}
	e.start(dir)
}

// save stops it, copies what it has, and starts it again. It returns the copy's folder.
func (e *etcdOf) save() string {
	e.t.Helper()
	if err := e.stop(); err != nil {
		e.t.Fatal(err)
	}
	copied := filepath.Join(e.t.TempDir(), "saved")
	copyFolder(e.t, copied, e.dir)
	e.start(e.dir)
	return copied
}

func copyFolder(t *testing.T, to, from string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// advance writes keys that nobody looks at until the next revision is the one given; false when that is over already.
func (e *etcdOf) advance(next int64) bool {
	e.t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{e.address}, Logger: zap.NewNop()})
	if err != nil {
		e.t.Fatal(err)
	}
	defer c.Close()
	for {
		put, err := c.Put(e.t.Context(), "filler", "")
		if err != nil {
			e.t.Fatal(err)
		}
		if r := put.Header.Revision; r >= next-1 {
			return r == next-1
		}
	}
}

// longLease has nothing run out while etcd is away, however slow the machine is.
func longLease(c *Config) { c.Lease = 30 * time.Second }

// version is a flow's document that says which version it is.
func version(flow string, n int) definition.Document {
	return flowDocument(flow, "id", "echo", fmt.Sprintf("copies: %d", n))
}

// awaitVersion waits until new batches run on a version of the flow here, and returns its revision.
func (r *rig) awaitVersion(flow string, n int) batch.Revision {
	r.t.Helper()
	e := r.awaitSnapshot(fmt.Sprintf("version %d of flow %s is active", n, flow), func(c *flowstate.Snapshot) bool {
		e := c.Flows[flow]
		return e.TakesBatches() && e.Active.Copies == n
	}).Flows[flow]
	return e.Active.ID()
}

// named is a submission that names a revision.
func named(sequence uint64, r batch.Revision) *pb.Submission {
	return &pb.Submission{Sequence: sequence, Revision: r.Number, Digest: wire.FromDigest(r.Digest), Rows: rows(1)}
}

// TestNumbersGivenAgain has etcd lose its data, or go back to a copy, and gives the number of a flow's revision to other
// documents: these run, by workers of this build and of one that knows revisions by number alone, and a batch that began on the
// documents before is refused. A worker that refuses them gets no rows.
func TestNumbersGivenAgain(t *testing.T) {
	for name, c := range map[string]struct{ byNumber, restored bool }{
		"emptied":                    {false, false},
		"restored":                   {false, true},
		"emptied, an earlier build":  {true, false},
		"restored, an earlier build": {true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEtcd(t)
			r := &rig{t: t, prefix: "/again/", etcd: e.address}
			r.start(longLease)
			r.awaitReady()
			t.Cleanup(r.end) // before etcd
			var workers []*fakeWorker
			for _, name := range []string{"a", "b"} {
				w := r.newWorker(name, "echo")
				w.byNumber, w.lease, w.answers = c.byNumber, r.config.Lease, true
				w.unfitFor = map[string]string{"b": "copies: 2"}[name]
				workers = append(workers, w.register())
				r.awaitSession(w)
			}
			r.put(funcDocument("echo"))
			saved := ""
			if c.restored {
				saved = e.save()
			} else {
				e.advance(200) // so that the numbers below come again only when they are to
			}
			// Other writes may take a number first: then another flow's is tried.
			r.awaitEtcd()
			before := map[string]batch.Revision{}
			flows := []string{"F0", "F1", "F2", "F3"}
			for i, flow := range flows {
				e.advance(300 + 30*int64(i))
				r.put(version(flow, 1))
				before[flow] = r.awaitVersion(flow, 1)
			}
			if saved == "" {
				saved = t.TempDir()
			}
			e.replace(saved)
			r.awaitSnapshot("etcd has none of the flows", func(c *flowstate.Snapshot) bool { return len(c.Flows) == 0 })
			until(t, "it leads again", r.c.leading.Load)
			for _, w := range workers {
				if !c.restored {
					closed(t, "the worker's key is lost", w.registration.Lost())
				}
				r.awaitSession(w)
			}
			r.put(funcDocument("echo"))

			again := slices.IndexFunc(flows, func(flow string) bool {
				return e.advance(before[flow].Number) && r.put(version(flow, 2)) == before[flow].Number
			})
			if again < 0 {
				t.Fatal("no number came again")
			}
			flow := flows[again]
			now := r.awaitVersion(flow, 2)
			if now.Number != before[flow].Number || now.Digest == before[flow].Digest {
				t.Fatalf("revision %v follows %v", now, before[flow])
			}
			r.owns(flow, 1)
			call := r.call(t.Context(), flow, named(1, now))
			s := workers[0].last()
			p := s.part()
			if d := s.documents(flow, p.GetRevision(), p.GetDigest()); d != string(version(flow, 2).YAML) {
				t.Errorf("the row runs on %q", d)
			}
			s.done(p)
			if a := r.answered(call); len(a.GetNotDone()) > 0 || a.GetRevision() != now.Number || string(a.GetDigest()) != string(now.Digest[:]) {
				t.Errorf("answered %v", a)
			}
			u := within(t, "an answer", r.call(t.Context(), flow, named(2, before[flow])))
			wantCode(t, u.err, batch.CodeRevisionGone, "new batch")
			changed := named(3, before[flow])
			changed.First = true
			if a := r.answered(r.call(t.Context(), flow, changed)); a.GetRefused().GetCode() != pb.Code_CODE_REVISION_CHANGED || string(a.GetDigest()) != string(now.Digest[:]) {
				t.Errorf("a new batch of the documents before is answered %v", a)
			}
		})
	}
}

// TestBackToACopy takes etcd back to a copy: what that says is active runs again, although its number is the lesser one.
func TestBackToACopy(t *testing.T) {
	t.Parallel()
	e := newEtcd(t)
	r := &rig{t: t, prefix: "/back/", etcd: e.address}
	r.start(longLease)
	r.awaitReady()
	t.Cleanup(r.end) // before etcd
	w := r.newWorker("w", "echo")
	w.lease, w.answers = r.config.Lease, true
	r.awaitSession(w.register())
	r.put(version("F", 1), funcDocument("echo"))
	one := r.awaitVersion("F", 1)
	saved := e.save()
	r.awaitEtcd()
	r.put(version("F", 2))
	two := r.awaitVersion("F", 2)
	e.replace(saved)
	r.awaitSnapshot("what the copy has runs", func(c *flowstate.Snapshot) bool {
		return c.Flows["F"].TakesBatches() && c.Flows["F"].Active.ID() == one
	})
	s := r.awaitSession(w)
	r.owns("F", 1)
	call := r.call(t.Context(), "F", named(1, one))
	s.done(s.part())
	r.answered(call)
	r.put(version("F", 3))
	if now := r.awaitVersion("F", 3); now == two || now == one {
		t.Errorf("%v runs", now)
	}
}

// awaitEtcd waits until the coordinator's connection to etcd is up again.
func (r *rig) awaitEtcd() {
	r.t.Helper()
	if err := r.store.Wait(r.t.Context(), nil); err != nil {
		r.t.Fatal(err)
	}
}

// awaitSession is the session that is up with a worker, which is registered again where etcd lost its key.
func (r *rig) awaitSession(w *fakeWorker) *workerSession {
	r.t.Helper()
	until(r.t, "a session with "+w.record.ID, func() bool {
		w.keep()
		up := false
		r.c.fleet.wait(r.t.Context(), func() {
			m := r.c.fleet.roster.members[w.record.ID]
			up = m != nil && m.peer.connected.Load()
		})
		return up
	})
	return w.last()
}

// keep registers the worker again where etcd lost its key.
func (w *fakeWorker) keep() {
	select {
	case <-w.registration.Lost():
		if r, err := w.store.RegisterWorker(w.rig.t.Context(), w.record, w.lease); err == nil {
			w.registered(r)
		}
	default:
	}
}

// documents is the flow's document of a revision, as the session's worker was told last; a worker of an earlier build goes by
// the number.
func (s *workerSession) documents(flow string, number int64, digest []byte) string {
	s.t.Helper()
	if s.worker.byNumber {
		digest = nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range slices.Backward(s.told) {
		if d.GetFlow() == flow && d.GetRevision() == number && (digest == nil || string(d.GetDigest()) == string(digest)) {
			return string(d.GetDocuments()[0].GetYaml())
		}
	}
	s.t.Fatal(errors.New("the worker was not told the revision"))
	return ""
}
