package world

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kisgrid/kisgrid/internal/authority"
	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/internal/world/forms"
	"github.com/kisgrid/kisgrid/internal/world/history"
	"github.com/kisgrid/kisgrid/internal/world/scenario"
	"github.com/kisgrid/kisgrid/internal/world/simetcd"
	"github.com/kisgrid/kisgrid/internal/world/simnet"
	"github.com/kisgrid/kisgrid/internal/world/simredis"
)

// Report is what came of a scenario.
type Report struct {
	History *history.History
	// Stuck says that goroutines were left that wait for something which never comes, with their stacks. Empty means none.
	Stuck string
	// Took is the time that the run took on this machine.
	Took time.Duration
}

// world is a scenario under way. Unless a field says otherwise, it is set before the scenario's parties start.
type world struct {
	t      *testing.T
	s      scenario.Scenario
	folder string // for files of processes; it goes with the test
	rec    *history.Recorder
	files  authority.Files // of TLS
	net    *simnet.Net
	etcd   *simetcd.Etcd
	redis  *simredis.Redis

	ctx    context.Context // of everything; it ends with the scenario
	cancel context.CancelFunc
	tasks  sync.WaitGroup // every goroutine that the world starts
	// changing are the changes of documents that are to come or under way.
	changing sync.WaitGroup

	operator *simnet.Process // from which operators call coordinators, and write to etcd and Redis
	put      *clientv3.Client

	coordinatorParties, workerParties []*party
	clients                           []*submitter

	mu      sync.Mutex
	parties map[string]*party     // by name; guarded by mu
	flows   map[string]*flowState // by name; guarded by mu
	marks   int                   // marks that were given out; guarded by mu
	store   forms.Connectors      // how the connectors' documents are written now; guarded by mu
	many    []string              // flows of the change "many"; guarded by mu
	undo    map[int]func()        // how faults that are in force end, by their numbers; guarded by mu
	calmed  bool                  // all faults are over; guarded by mu
	closing bool                  // no process starts any more; guarded by mu
	twins   []*process            // processes that were started beside others of their name; guarded by mu
	all     []*process            // every life of a process; guarded by mu
	rules   []*rule               // faults of Redis's commands that are in force; guarded by mu

	leftOut   map[string]int     // faults in force that leave a machine out of the coordinators' name; guarded by mu
	snapshots map[int]snapshotAt // of etcd, by the number of the fault that restores them; guarded by mu
	back      []history.Document // documents with which etcd came back; guarded by mu
}

// Run lives through a scenario in virtual time, and returns its history. A panic of anything in the simulated cluster ends the test process.
func Run(t *testing.T, s scenario.Scenario) *Report {
	t.Helper()
	began := time.Now()
	if err := countMutexes(); err != nil {
		t.Log(errors.Join(err, errNoTable))
	}
	r := &Report{}
	w := &world{s: s, folder: t.TempDir()}
	func() {
		defer func() {
			if p := recover(); p != nil {
				// The bubble's goroutines wait for ever. They are left behind.
				r.Stuck = fmt.Sprint(p)
				if w.rec != nil {
					r.History = w.rec.History()
				}
			}
		}()
		bubble.Test(t, func(t *testing.T) {
			w.t = t
			w.live(t.Context())
			r.History = w.rec.History()
		})
	}()
	r.Took = time.Since(began)
	return r
}

// live lives through the scenario.
func (w *world) live(ctx context.Context) {
	w.rec = history.New(w.s)
	for _, secret := range Secrets {
		w.rec.Secret("a password", secret)
	}
	w.rec.Secret("a piece of a row's pad", forms.PadMark)
	w.ctx, w.cancel = context.WithCancel(ctx)
	defer w.cancel()
	endless := time.AfterFunc(w.s.Lasts+w.s.Calm+mostPatience+time.Hour, func() {
		panic("the life of the cluster does not end; its goroutines:\n\n" + strings.Join(leftGoroutines(), "\n\n"))
	})
	defer endless.Stop()
	w.prepare()
	w.startHosts()
	w.firstDocuments()
	for _, p := range append(slices.Clone(w.coordinatorParties), w.workerParties...) {
		if !p.setting.Absent {
			w.start(p, p.setting)
		}
	}
	w.startClients()
	w.scheduleChanges()
	w.scheduleFaults()
	w.lookNowAndThen()
	time.Sleep(w.s.Lasts)
	w.calm()
	w.end()
}

// prepare makes the world's tables of parties.
func (w *world) prepare() {
	w.leftOut = map[string]int{}
	w.parties, w.flows, w.undo, w.snapshots = map[string]*party{}, map[string]*flowState{}, map[int]func(){}, map[int]snapshotAt{}
	if err := w.writePassword(); err != nil {
		w.t.Fatal(err)
	}
	if w.s.TLS {
		files, err := w.certificate()
		if err != nil {
			w.t.Fatal(err)
		}
		w.files = files
	}
	ports := map[string]int{} // coordinators on each host that listen at a port of the world's choice
	for _, c := range w.s.Coordinators {
		if c.Listen == "" {
			if n := ports[c.Host]; n > 0 {
				c.Listen = fmt.Sprintf(":%d", 7700+10*n)
			}
			ports[c.Host]++
		}
		p := &party{kind: history.Coordinator, setting: c}
		w.coordinatorParties, w.parties[c.Name] = append(w.coordinatorParties, p), p
	}
	for _, c := range w.s.Workers {
		p := &party{kind: history.Worker, setting: c}
		w.workerParties, w.parties[c.Name] = append(w.workerParties, p), p
	}
	for _, f := range w.s.Flows {
		w.flows[f.Name] = &flowState{flow: f, variant: forms.First(f, w.nextMark())}
	}
}

// inWorld runs f in a goroutine that the end of the world waits for.
func (w *world) inWorld(f func()) { w.tasks.Go(f) }

// at runs f at a time of the scenario, unless the world ends before.
func (w *world) at(when time.Duration, f func()) {
	w.inWorld(func() {
		if w.sleep(when - w.rec.Now()) {
			f()
		}
	})
}

// sleep waits, and reports whether the world goes on.
func (w *world) sleep(d time.Duration) bool {
	if d <= 0 {
		return w.ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-w.ctx.Done():
		return false
	}
}

// flowOf returns the scenario's flow of a name, or nil.
func (w *world) flowOf(name string) *scenario.Flow {
	for i := range w.s.Flows {
		if w.s.Flows[i].Name == name {
			return &w.s.Flows[i]
		}
	}
	return nil
}

// coordinators returns the addresses of the coordinators with these names, separated by commas: as somebody wrote them into the client's
// configuration. An empty list means all, and scenario.ByName the name of all.
func (w *world) coordinators(names string) string {
	if names == scenario.ByName {
		return "dns:///" + coordinatorsName + ":7700"
	}
	var addresses []string
	for _, p := range w.coordinatorParties {
		if names == "" || slices.Contains(strings.Split(names, ","), p.setting.Name) {
			addresses = append(addresses, w.addressOf(p))
		}
	}
	return strings.Join(addresses, ",")
}

// addressOf returns the address at which a coordinator can be reached from other machines, by the name of its host.
func (w *world) addressOf(p *party) string {
	port := "7700"
	if _, own, ok := strings.Cut(p.setting.Listen, ":"); ok && own != "" {
		port = own
	}
	return p.setting.Host + ":" + port
}

// present returns the present life of a party, or nil.
func (w *world) present(p *party) *process {
	w.mu.Lock()
	defer w.mu.Unlock()
	return p.now
}

// living returns the processes that have not ended: coordinators first, in the scenario's order.
func (w *world) living() []*process {
	var all []*process
	for _, p := range append(slices.Clone(w.coordinatorParties), w.workerParties...) {
		if n := w.present(p); n != nil && !n.ended() {
			all = append(all, n)
		}
	}
	return all
}

// lookNowAndThen notes the metrics of all processes at a few moments, and those of workers with a tight budget often where rows grow.
func (w *world) lookNowAndThen() {
	if slices.ContainsFunc(w.s.Clients, func(c scenario.Client) bool { return c.Mix.Grow > 0 }) {
		w.inWorld(func() {
			for w.rec.Now() < w.s.Lasts && w.sleep(500*time.Millisecond) {
				for _, n := range w.living() {
					if n.setting.RowBudget > 0 {
						n.snap("kisgrid_worker_")
					}
				}
			}
		})
	}
	rng := w.s.Rand("looks")
	for range 3 {
		w.at(time.Duration(rng.Int64N(int64(w.s.Lasts)+1)), func() {
			for _, n := range w.living() {
				n.snap("kisgrid_rows_", "kisgrid_worker_", "kisgrid_stream_window", "kisgrid_coordinator_")
			}
		})
	}
}
