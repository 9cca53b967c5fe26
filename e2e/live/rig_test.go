// Package live changes the definitions of running clusters, in this process, while clients submit rows under load.
package live

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/kisgrid/kisgrid/internal/devcluster"
	"github.com/kisgrid/kisgrid/internal/testgrid"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// patience is the longest that a test of this package waits for anything.
const patience = 60 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// row is a row of flow Live. A client sets the ID; the functions First and Second write the rest.
type row struct {
	ID int `json:"id"`
	// First and Second are the parameter version of the documents, as these functions see it. Revision is the revision that First
	// runs for, and Mixed says that Second runs for another one.
	First    string `json:"first,omitempty"`
	Second   string `json:"second,omitempty"`
	Flow     string `json:"flow,omitempty"`
	Revision int64  `json:"revision,omitempty"`
	Mixed    bool   `json:"mixed,omitempty"`
}

// first is the function First: it writes the version, the flow parameter and the revision that it sees into the row.
func first(ctx context.Context, r row) (row, error) {
	c := kis.From(ctx)
	r.First, r.Flow, r.Revision = c.Param("version"), c.Param("flow"), c.Revision
	return r, nil
}

// second is the function Second: it writes the version that it sees into the row, and whether its revision is another than that of
// First.
func second(ctx context.Context, r row) (row, error) {
	c := kis.From(ctx)
	r.Second = c.Param("version")
	r.Mixed = r.Revision != c.Revision
	return r, nil
}

// register registers First and Second.
func register(r *kis.Registry) {
	r.Func("First", kis.Calculate(first))
	r.Func("Second", kis.Calculate(second))
}

// documents are the flow Live and its functions in one version. Each document has the number of the version in a parameter.
func documents(version int) []definition.Document {
	return []definition.Document{
		testgrid.Document(definition.KindFlow, "Live", fmt.Sprintf("status: 1\nshard_key: id\nflows:\n  - fname: First\n    params: {flow: \"%d\"}\n  - fname: Second\n", version)),
		function("First", version), function("Second", version),
	}
}

// function is the document of a function in one version.
func function(name string, version int) definition.Document {
	return testgrid.Document(definition.KindFunc, name, fmt.Sprintf("fmode: Calculate\noption:\n  default_params: {version: \"%d\"}\n", version))
}

// rig is a cluster in this process, with access to its definitions.
type rig struct {
	*devcluster.Cluster // nil where somebody else runs the cluster
	definitions         *testgrid.Definitions
	t                   testing.TB
}

// start starts a cluster whose workers have the functions First and Second, unless c says otherwise.
func start(t testing.TB, c devcluster.Config) *rig {
	t.Helper()
	if c.Register == nil {
		c.Register = register
	}
	if level := os.Getenv("KISGRID_LOG_LEVEL"); level != "" {
		c.Logger = hclog.New(&hclog.LoggerOptions{Level: hclog.LevelFromString(level)})
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	k, err := devcluster.Start(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	r := reach(t, k.Etcd())
	r.Cluster = k
	return r
}

// reach makes a rig of a cluster that somebody else runs.
func reach(t testing.TB, etcd string) *rig {
	t.Helper()
	return &rig{t: t, definitions: testgrid.OpenDefinitions(t, etcd)}
}

// awaitState waits until the status of a flow has the state for the wanted revision, or for a newer one.
func (r *rig) awaitState(flow, state string, wanted int64) cluster.FlowStatus {
	r.t.Helper()
	return r.definitions.Await(flow, fmt.Sprintf("%s at revision %d", state, wanted), func(s cluster.FlowStatus) bool { return s.State == state && s.Wanted >= wanted })
}

// addresses are the addresses of all coordinators, with commas between them.
func (r *rig) addresses() string {
	var addresses []string
	for _, n := range r.Coordinators() {
		addresses = append(addresses, n.Address())
	}
	return strings.Join(addresses, ",")
}

// dial makes a client of all coordinators.
func (r *rig) dial() *client.Client {
	r.t.Helper()
	c, err := client.Dial(r.addresses(), client.WithRetryFor(patience))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	return c
}

// load is some clients that submit as fast as answers come, and check each answer.
type load struct {
	t      testing.TB
	stop   chan struct{}
	ending sync.Once
	ended  sync.WaitGroup

	mu        sync.Mutex
	batches   int
	rows      int
	of        map[int]int      // by the id of a batch's first row: how many batches; guarded by mu
	versions  map[int64]string // by revision: the version that its rows have; guarded by mu
	revisions []int64          // in the order in which they were first seen; guarded by mu
	wrong     int              // guarded by mu
	latest    int64            // the newest revision in an answer; guarded by mu
	news      chan struct{}    // replaced and closed when latest changes; guarded by mu
}

// startLoad opens as many streams to the flow as clients says, and sends batches on each, with as many rows as rows says.
func (r *rig) startLoad(flow string, clients, rows int) *load {
	r.t.Helper()
	l := r.newLoad()
	l.stream(r.dial(), flow, clients, rows)
	return l
}

// newLoad makes a load without clients.
func (r *rig) newLoad() *load {
	l := &load{t: r.t, stop: make(chan struct{}), of: map[int]int{}, versions: map[int64]string{}, news: make(chan struct{})}
	r.t.Cleanup(l.end)
	return l
}

// stream opens as many streams of a client to a flow as streams says, and sends batches on each, with as many rows as rows says.
func (l *load) stream(c *client.Client, flow string, streams, rows int) {
	l.t.Helper()
	for i := range streams {
		s, err := c.Stream(context.WithoutCancel(l.t.Context()), flow)
		if err != nil {
			l.t.Fatal(err)
		}
		l.ended.Go(func() { l.run(s, i*rows, rows) })
	}
}

// call submits the same rows again and again, in calls one after the other, until the load ends. rows is their number, and id the
// id of the first one.
func (l *load) call(c *client.Client, flow string, id, rows int) {
	for {
		select {
		case <-l.stop:
			return
		default:
		}
		result, err := c.Submit(context.Background(), flow, numbered(id, rows))
		if err != nil {
			l.fail("a call ended with %v", err)
			return
		}
		l.check(id, rows, result)
	}
}

// numbered makes a batch with as many rows as rows says, whose ids are id, id+1 and so on.
func numbered(id, rows int) *client.Batch {
	all := make([]row, rows)
	for i := range all {
		all[i].ID = id + i
	}
	return client.Rows(all...)
}

// end stops the load and waits for all answers.
func (l *load) end() {
	l.ending.Do(func() { close(l.stop) })
	l.ended.Wait()
}

// run sends the same rows again and again, with at most four batches unanswered, until the load ends. It closes the stream.
func (l *load) run(s *client.Stream, id, rows int) {
	sending := testgrid.Load{
		Stream: s, Open: 4,
		Next: func(int) *client.Batch { return numbered(id, rows) },
		Answered: func(_ int, result *client.Result, err error) {
			if err != nil {
				l.fail("a batch ended with %v", err)
				return
			}
			l.check(id, rows, result)
		},
	}
	if err := sending.Run(context.Background(), l.stop); err != nil {
		l.fail("%v", err)
	}
	if err := s.Close(); err != nil {
		l.fail("close the stream: %v", err)
	}
}

// fail fails the test, with the text of the first ten failures.
func (l *load) fail(format string, arguments ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.wrong++; l.wrong <= 10 {
		l.t.Errorf(format, arguments...)
	}
}

// check fails the test unless each row is done once, all rows ran on the revision that the result names, and all documents of that
// revision have one version.
func (l *load) check(id, rows int, result *batch.Result) {
	out, err := client.Output[row](result)
	if err != nil {
		l.fail("read the output: %v", err)
		return
	}
	if len(result.NotDone) > 0 || len(out) != rows {
		l.fail("revision %d: %d of %d rows came back, and these are not done: %+v", result.Revision, len(out), rows, result.NotDone)
		return
	}
	for i, o := range out {
		if o.ID != id+i {
			l.fail("row %d came back as %d", id+i, o.ID)
			return
		}
		if o.Revision != result.Revision || o.Mixed || o.First != out[0].First || o.Second != o.First || o.Flow != o.First {
			l.fail("a batch of revision %d has the row %+v beside %+v", result.Revision, o, out[0])
			return
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.batches++
	l.of[id]++
	l.rows += rows
	if version, known := l.versions[result.Revision]; !known {
		l.versions[result.Revision] = out[0].First
		l.revisions = append(l.revisions, result.Revision)
	} else if version != out[0].First {
		l.wrong++
		l.t.Errorf("revision %d is version %s, and in another batch %s", result.Revision, version, out[0].First)
	}
	if result.Revision > l.latest {
		l.latest = result.Revision
		close(l.news)
		l.news = make(chan struct{})
	}
}

// awaitRevision waits until an answer names this revision or a newer one. It returns the version of this revision.
func (l *load) awaitRevision(revision int64) string {
	l.t.Helper()
	timeout := time.After(patience)
	for {
		l.mu.Lock()
		latest, version, news := l.latest, l.versions[revision], l.news
		l.mu.Unlock()
		if latest >= revision {
			return version
		}
		select {
		case <-news:
		case <-timeout:
			l.t.Fatalf("no batch ran on revision %d; the newest is %d", revision, latest)
		}
	}
}
