package coordinator

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

var (
	rounds     = flag.Int("revisions.rounds", 4, "how often TestRevisionRounds loses etcd")
	roundsSeed = flag.Uint64("revisions.seed", 1, "what TestRevisionRounds does, and when")
	roundsWait = flag.Duration("revisions.wait", 300*time.Millisecond, "within which time of an apply TestRevisionRounds loses etcd")
)

// TestRevisionRounds applies version after version of a flow, and before, while or after one is applied has etcd lose its data, go
// back to a copy, or only be away. Workers of this build and of one that knows revisions by number alone run it. Whatever became of
// the version, the next one that is applied runs, and rows run on its documents only.
func TestRevisionRounds(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(*roundsSeed, 0))
	e := newEtcd(t)
	r := &rig{t: t, prefix: "/rounds/", etcd: e.address}
	r.start(longLease)
	r.awaitReady()
	t.Cleanup(r.end) // before etcd
	var workers []*fakeWorker
	for i, name := range []string{"a", "b"} {
		w := r.newWorker(name, "echo")
		w.byNumber, w.lease, w.answers = i == 1, r.config.Lease, true
		workers = append(workers, w.register())
		r.awaitSession(w)
	}
	sequence, copied, n := uint64(0), "", 0
	// apply writes the next version, over and over where etcd is not there, and waits until it runs.
	apply := func() {
		n++
		r.awaitEtcd()
		until(t, "the version is written", func() bool {
			_, err := r.store.PutDocuments(t.Context(), nil, []definition.Document{version("F", n), funcDocument("echo")}, nil)
			return err == nil
		})
		until(t, fmt.Sprintf("version %d runs", n), func() bool {
			for _, w := range workers {
				w.keep()
			}
			e := r.c.board.Load().Flows["F"]
			return e.TakesBatches() && e.Active.Copies == n
		})
		active := r.awaitVersion("F", n)
		for _, w := range workers {
			r.awaitSession(w)
		}
		r.owns("F", len(workers))
		for range 10 { // to each worker some
			sequence++
			in := named(sequence, active)
			in.Rows = rows(int(sequence))
			call := r.call(t.Context(), "F", in)
			s, p := r.partOf(workers)
			if d := s.documents("F", p.GetRevision(), p.GetDigest()); d != string(version("F", n).YAML) {
				t.Fatalf("round with version %d, worker %s: a row runs on %q", n, s.worker.record.ID, d)
			}
			s.done(p)
			if a := r.answered(call); a.GetRefused() != nil || len(a.GetNotDone()) > 0 {
				t.Fatalf("round with version %d: answered %v", n, a)
			}
		}
	}
	apply()
	for round := range *rounds {
		if copied == "" || random.IntN(2) == 0 {
			copied = e.save()
			apply()
		}
		what := random.IntN(3)
		wait := time.Duration(random.Int64N(int64(*roundsWait)))
		t.Logf("round %d: etcd is lost %v after an apply of version %d, %s", round, wait, n+1, []string{"with its data", "and goes back to a copy", "and is away"}[what])
		written := make(chan struct{})
		n++
		go func() {
			defer close(written)
			_, _ = r.store.PutDocuments(t.Context(), nil, []definition.Document{version("F", n)}, nil) // whether it is, is chance
		}()
		time.Sleep(wait) // the chance that is tried
		switch what {
		case 0:
			e.replace(t.TempDir())
		case 1:
			again := fmt.Sprintf("%s/%d", t.TempDir(), round) // the copy may be gone back to again
			copyFolder(t, again, copied)
			e.replace(again)
		case 2:
			e.replace(e.dir)
		}
		<-written
		apply()
	}
}

// partOf is the next part of any worker, and its session.
func (r *rig) partOf(workers []*fakeWorker) (*workerSession, *pb.Part) {
	r.t.Helper()
	var s *workerSession
	var p *pb.Part
	until(r.t, "a part comes", func() bool {
		return slices.ContainsFunc(workers, func(w *fakeWorker) bool {
			s = w.last()
			select {
			case p = <-s.parts:
				return true
			default:
				return false
			}
		})
	})
	return s, p
}
