package live

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/hashicorp/go-hclog"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowtest"
	"github.com/kisgrid/kisgrid/pkg/kis"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

var (
	soakFor  = flag.Duration("soak.for", time.Minute, "how long TestSoak changes definitions")
	soakRate = flag.Int("soak.rate", 160, "how many versions a minute it writes")
	soakSeed = flag.Uint64("soak.seed", uint64(time.Now().UnixNano()), "of what is random in it")
)

const soakWorkers = 3

// soak is one run of TestSoak.
type soak struct {
	*rig
	grid    *flowtest.Grid
	workers []*flowtest.Node // the living workers; only the goroutine of disturb uses workers and random
	random  *rand.Rand
	stores  []*miniredis.Miniredis

	mu      sync.Mutex
	version int   // the newest version that was written; guarded by mu
	good    int64 // the revision of the newest good version; guarded by mu
	puts    [2]int
	bad     int
	refused int

	disturbed map[string]int // by kind of disturbance: how often it was done; only the goroutine of disturb uses it
}

// TestSoak has two writers write versions of a flow, some of them bad, under the full load of streams and calls: one writes through
// etcd, the other through a coordinator. Meanwhile coordinators and workers are killed, started again, and cut off from etcd, from
// each other and from everybody; workers join and leave; and etcd is compacted under a slow watcher. Each batch must run on one
// revision whose documents belong together, no row may fail, each must be saved once, and nothing may grow.
func TestSoak(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes a minute: left out with -short, which make test does not give")
	}
	t.Logf("-soak.for %v -soak.rate %d -soak.seed %d", *soakFor, *soakRate, *soakSeed)
	w := newWitness()
	s := &soak{random: rand.New(rand.NewPCG(*soakSeed, 1)), stores: []*miniredis.Miniredis{miniredis.RunT(t), miniredis.RunT(t)}}
	s.grid = flowtest.Cluster(t, soakWorkers, flowtest.Coordinators(2), flowtest.Register(func(r *kis.Registry) {
		w.register(r)
		r.Func("Keep", kis.Save(keep))
	}))
	s.workers = s.grid.Workers()
	s.rig = reach(t, s.grid.Etcd())
	s.good = s.definitions.Put(s.documents(1)...)
	s.version = 1
	s.awaitState("Live", cluster.StateActive, s.good)
	slow := s.watchSlowly()
	l := s.newLoad()
	c := s.grid.Client()
	l.stream(c, "Live", 4, 50)
	for i := range 2 {
		l.ended.Go(func() { l.call(c, "Live", 10_000*(i+1), 50) })
	}
	l.awaitRevision(s.good)

	ctx, stop := context.WithTimeout(t.Context(), *soakFor)
	defer stop()
	var writers sync.WaitGroup
	for writer := range 2 {
		writers.Go(func() { s.write(ctx, writer) })
	}
	var early, late usage
	third := time.AfterFunc(*soakFor/3, func() { early = s.measure() })
	defer third.Stop()
	s.disturb(ctx)
	writers.Wait()
	late = s.measure()

	// In the end everything runs on the version that was written last.
	last := s.definitions.Put(s.documents(s.next())...)
	s.awaitState("Live", cluster.StateActive, last)
	for _, n := range s.grid.Coordinators() {
		s.awaitRevisionAt(n.Address(), last)
	}
	l.awaitRevision(last)
	l.end()
	slow(last)
	again := w.check(t)
	s.checkSaved(l)
	t.Logf("%d versions by etcd and %d by Apply, of which %d bad and %d refused or in conflict; %d batches with %d rows on %d revisions",
		s.puts[0], s.puts[1], s.bad, s.refused, l.batches, l.rows, len(l.versions))
	t.Logf("%d runs of batches were repetitions; disturbances: %v", again, s.disturbed)
	t.Logf("after a third: %v; at the end: %v", early, late)
	if late.goroutines > early.goroutines*3/2+50 {
		t.Errorf("goroutines grew from %d to %d", early.goroutines, late.goroutines)
	}
	if late.connections > early.connections*3/2+20 {
		t.Errorf("connections to Redis grew from %d to %d", early.connections, late.connections)
	}
	if late.heap > 2*early.heap+32<<20 {
		t.Errorf("the heap grew from %d to %d MiB", early.heap>>20, late.heap>>20)
	}
	if l.batches == 0 || len(l.versions) < 3 {
		t.Errorf("%d batches ran, on %d revisions", l.batches, len(l.versions))
	}
}

// checkSaved compares the counters that Keep has saved with the load: the counter of a row must be the number of batches that had the
// row.
func (s *soak) checkSaved(l *load) {
	s.t.Helper()
	wrong := 0
	for id, batches := range l.of {
		for i := range 50 {
			times := 0
			for _, store := range s.stores {
				n, _ := strconv.Atoi(store.HGet(strconv.Itoa(id+i), "times")) // a counter that is not there counts as 0
				times += n
			}
			if times != batches {
				if wrong++; wrong <= 5 {
					s.t.Errorf("row %d was saved %d times, want %d", id+i, times, batches)
				}
			}
		}
	}
	if wrong > 5 {
		s.t.Errorf("and %d more rows", wrong-5)
	}
}

// usage is the use of resources that must not grow.
type usage struct {
	goroutines, connections int // connections are those to Redis
	heap                    uint64
}

// measure measures the use of resources now, after a garbage collection.
func (s *soak) measure() usage {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u := usage{goroutines: runtime.NumGoroutine(), heap: m.HeapAlloc}
	for _, store := range s.stores {
		u.connections += store.CurrentConnectionCount()
	}
	return u
}

// String is the usage for the log.
func (u usage) String() string {
	return fmt.Sprintf("%d goroutines, %d connections to Redis, %d MiB of heap", u.goroutines, u.connections, u.heap>>20)
}

// next is the number of the next version.
func (s *soak) next() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	return s.version
}

// documents are those of a good version. The connector's address changes from one version to the next.
func (s *soak) documents(version int) []definition.Document {
	return withStore(version, s.stores[version/5%2].Addr())
}

// write writes versions until ctx is done. The first writer writes as etcdctl does, the second as kisgrid apply does.
func (s *soak) write(ctx context.Context, writer int) {
	random := rand.New(rand.NewPCG(*soakSeed, uint64(2+writer)))
	pause := time.Minute / time.Duration(*soakRate) * 2
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		docs := s.documents(s.next())
		wrong := random.IntN(5) == 0
		if wrong {
			docs = spoil(random, docs)
		}
		var err error
		if writer == 0 {
			err = s.tryPut(ctx, docs)
		} else {
			err = s.tryApply(ctx, docs)
		}
		s.mu.Lock()
		s.puts[writer]++
		if wrong {
			s.bad++
		}
		if err != nil {
			s.refused++
		}
		s.mu.Unlock()
		if err != nil && ctx.Err() == nil && (!wrong || batch.CodeOf(err) != batch.CodeBadDocument) && !passing(err) {
			s.t.Errorf("writer %d: %v", writer, err)
		}
	}
}

// passing reports whether an error is one that a writer must expect: another writer was faster, or its coordinator was killed.
func passing(err error) bool {
	switch batch.CodeOf(err) {
	case batch.CodeConflict, batch.CodeUnavailable, batch.CodeShutdown, batch.CodeCancelled, batch.CodeDeadline:
		return true
	}
	return false
}

// spoil makes one of the documents bad, in a random way.
func spoil(random *rand.Rand, docs []definition.Document) []definition.Document {
	d := &docs[random.IntN(len(docs))]
	switch random.IntN(4) {
	case 0:
		d.YAML = append(d.YAML, "nonsense: 1\n"...)
	case 1:
		d.YAML = []byte("\t]")
	case 2:
		docs[0].YAML = append(docs[0].YAML, "  - fname: NobodyHasIt\n"...)
	case 3:
		docs[len(docs)-1].YAML = []byte(strings.Replace(string(docs[len(docs)-1].YAML), "addrs: ", "addrs: ${NO_SUCH_NAME},", 1))
	}
	return docs
}

// tryPut writes documents through etcd.
func (s *soak) tryPut(ctx context.Context, docs []definition.Document) error {
	var ops []clientv3.Op
	for _, d := range docs {
		ops = append(ops, clientv3.OpPut("/kisgrid/config/"+string(d.Kind)+"/"+d.Name, string(d.YAML)))
	}
	_, err := s.definitions.Etcd.Txn(ctx).Then(ops...).Commit()
	return err
}

// tryApply writes documents through a coordinator.
func (s *soak) tryApply(ctx context.Context, docs []definition.Document) error {
	conn, err := grpc.NewClient(s.grid.Coordinators()[0].Address(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	in := &pb.ApplyRequest{}
	for _, d := range docs {
		in.Documents = append(in.Documents, &pb.Document{Kind: string(d.Kind), Name: d.Name, Yaml: d.YAML})
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	events, err := pb.NewAdminClient(conn).Apply(ctx, in)
	for err == nil {
		_, err = events.Recv()
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return wire.FromStatus(err)
}

// disturb does one disturbance after the other, in random order, until ctx is done. Each ends before the next begins.
func (s *soak) disturb(ctx context.Context) {
	const lease = 2 * time.Second // the lease of the grid
	s.disturbed = map[string]int{}
	coordinator := func() *flowtest.Node { all := s.grid.Coordinators(); return all[s.random.IntN(len(all))] }
	worker := func() *flowtest.Node { return s.workers[s.random.IntN(len(s.workers))] }
	all := func(nodes []*flowtest.Node) (parties []flowtest.Party) {
		for _, n := range nodes {
			parties = append(parties, n)
		}
		return parties
	}
	// The cut lasts longer than a lease, so that the node is given up meanwhile.
	cut := func(n *flowtest.Node, from ...flowtest.Party) {
		heal := n.Cut(from...)
		select {
		case <-time.After(lease + lease/2):
		case <-ctx.Done():
		}
		heal()
	}
	does := map[string]func(){
		"coordinator killed": func() {
			n := coordinator()
			n.Kill()
			n.Restart()
		},
		"coordinator cut off from etcd":       func() { cut(coordinator(), flowtest.Etcd) },
		"coordinator cut off from workers":    func() { cut(coordinator(), all(s.workers)...) },
		"coordinator cut off from everybody":  func() { cut(coordinator()) },
		"worker cut off from etcd":            func() { cut(worker(), flowtest.Etcd) },
		"worker cut off from a coordinator":   func() { cut(worker(), coordinator()) },
		"worker cut off from coordinators":    func() { cut(worker(), all(s.grid.Coordinators())...) },
		"worker killed and another one comes": func() { s.replace(s.random.IntN(len(s.workers))) },
		"worker joins and leaves": func() {
			n := s.grid.AddWorker(flowtest.WorkerConfig{Name: "guest"})
			select {
			case <-time.After(lease / 2): // the worker runs rows meanwhile
			case <-ctx.Done():
			}
			n.Drain()
		},
		"etcd compacted": func() {
			answer, err := s.definitions.Etcd.Get(s.t.Context(), "/kisgrid/leader")
			if err == nil {
				_, err = s.definitions.Etcd.Compact(s.t.Context(), answer.Header.Revision)
			}
			if err != nil && ctx.Err() == nil {
				s.t.Errorf("compact: %v", err)
			}
		},
	}
	var names []string // the disturbances that are left in this round
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(lease / 4):
		}
		if len(names) == 0 {
			names = slices.Sorted(maps.Keys(does))
			s.random.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		}
		does[names[0]]()
		s.disturbed[names[0]]++
		s.converge(names[0])
		names = names[1:]
	}
}

// converge waits until every coordinator has a session with every worker, and all run the same revision.
func (s *soak) converge(after string) {
	s.t.Helper()
	s.until("all are back after this: "+after, func() error {
		for _, c := range s.grid.Coordinators() {
			if up := int(c.Metric("kisgrid_coordinator_sessions")); up != soakWorkers {
				return fmt.Errorf("%s has sessions with %d of %d workers", c.Name(), up, soakWorkers)
			}
			status, err := s.definitions.Store.Status(s.t.Context(), "Live")
			if err != nil {
				return err
			}
			if runs := int64(c.Metric("kisgrid_flow_revision", "flow", "Live")); runs < status.Active {
				return fmt.Errorf("%s runs revision %d, and %d is active", c.Name(), runs, status.Active)
			}
		}
		return nil
	})
}

// replace kills a worker, waits until the coordinators know that, and starts one under its name.
func (s *soak) replace(i int) {
	name := s.workers[i].Name()
	s.workers[i].Kill()
	s.until("the worker is given up", func() error {
		for _, c := range s.grid.Coordinators() {
			if up := c.Metric("kisgrid_coordinator_sessions"); int(up) >= soakWorkers {
				return fmt.Errorf("coordinator %s has %v sessions", c.Name(), up)
			}
		}
		return nil
	})
	s.workers[i] = s.grid.AddWorker(flowtest.WorkerConfig{Name: name})
}

// watchSlowly follows the statuses of flows with a callback that takes a second each time. The returned function waits until the
// callback has seen a revision.
func (s *soak) watchSlowly() (awaitRevision func(int64)) {
	ctx, stop := context.WithCancel(s.t.Context())
	seen := make(chan int64, 1)
	var following sync.WaitGroup
	store, err := cluster.Open(cluster.Config{Endpoints: []string{s.grid.Etcd()}, Logger: hclog.NewNullLogger()})
	if err != nil {
		s.t.Fatal(err)
	}
	following.Go(func() {
		_ = store.FollowFlows(ctx, func(flows []cluster.ActiveFlow) {
			for _, f := range flows {
				select {
				case <-seen:
				default:
				}
				seen <- f.Status.Active
			}
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		})
	})
	s.t.Cleanup(func() { stop(); following.Wait(); _ = store.Close() })
	return func(revision int64) {
		timeout := time.After(patience)
		for {
			select {
			case at := <-seen:
				if at >= revision {
					return
				}
			case <-timeout:
				s.t.Fatalf("a slow watcher did not come to revision %d", revision)
			}
		}
	}
}
