package live

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/kisgrid/kisgrid/internal/devcluster"
	"github.com/kisgrid/kisgrid/internal/testgrid"
	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// registerSave registers First and Second, and beside them the function Keep.
func registerSave(r *kis.Registry) {
	register(r)
	r.Func("Keep", kis.Save(keep))
}

// keep counts each row through the connector.
func keep(_ context.Context, to kis.Writer, in row) error {
	to.Incr(strconv.Itoa(in.ID), "times", 1)
	return nil
}

// withStore are the documents of a version that also saves each row, through a connector at the addresses.
func withStore(version int, addrs string) []definition.Document {
	docs := append(documents(version),
		testgrid.Document(definition.KindFunc, "Keep", "fmode: Save\noption:\n  cname: Store\n"),
		testgrid.Document(definition.KindConn, "Store", "type: redis\naddrs: "+addrs+"\n"))
	docs[0].YAML = append(docs[0].YAML, "  - fname: Keep\n"...)
	return docs
}

// saved is the sum of all counters that Keep has saved in a Redis.
func saved(t testing.TB, m *miniredis.Miniredis) int {
	t.Helper()
	total := 0
	for _, key := range m.Keys() {
		n, err := strconv.Atoi(m.HGet(key, "times"))
		if err != nil {
			continue // a key of the connector itself
		}
		total += n
	}
	return total
}

// TestChangedAddress moves a connector from one Redis to another and back, under load. No row fails, each is saved once in one of the
// two, and the connection to the Redis that is not used any more is closed.
func TestChangedAddress(t *testing.T) {
	a, b := miniredis.RunT(t), miniredis.RunT(t)
	r := start(t, devcluster.Config{Workers: 2, Register: registerSave})
	revision := r.definitions.Put(withStore(1, a.Addr())...)
	r.awaitState("Live", cluster.StateActive, revision)
	l := r.startLoad("Live", 3, 50)
	l.awaitRevision(revision)
	for i, to := range []*miniredis.Miniredis{b, a, b} {
		revision = r.definitions.Put(withStore(i+2, to.Addr())...)
		r.awaitState("Live", cluster.StateActive, revision)
		l.awaitRevision(revision)
	}
	for end := time.Now().Add(patience); a.CurrentConnectionCount() > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d connections to the Redis that was left are open", a.CurrentConnectionCount())
		}
	}
	l.end()
	atA, atB := saved(t, a), saved(t, b)
	if atA == 0 || atB == 0 || atA+atB != l.rows {
		t.Errorf("%d rows were saved here and %d there, want %d together", atA, atB, l.rows)
	}
}

// TestEnvironmentOfEachWorker resolves ${NAME} on each worker. A worker that does not have the name rejects the revision, and the
// status says which worker that is.
func TestEnvironmentOfEachWorker(t *testing.T) {
	a, b := miniredis.RunT(t), miniredis.RunT(t)
	r := start(t, devcluster.Config{Register: registerSave})
	for name, variables := range map[string]map[string]string{"one": {"STORE": a.Addr(), "ONLY_HERE": a.Addr()}, "other": {"STORE": b.Addr()}} {
		environment := func(name string) (string, bool) { value, ok := variables[name]; return value, ok }
		if _, err := r.StartWorker(devcluster.WorkerConfig{Name: name, Environment: environment}); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Await(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	revision := r.definitions.Put(withStore(1, "${STORE}")...)
	r.awaitState("Live", cluster.StateActive, revision)
	c := r.dial()
	r.awaitRunning(c, revision)
	var rows []row
	for i := range 1000 {
		rows = append(rows, row{ID: i})
	}
	before := saved(t, a) + saved(t, b)
	if result, err := c.Submit(t.Context(), "Live", client.Rows(rows...)); err != nil || len(result.NotDone) > 0 {
		t.Fatalf("the rows ended as %+v, %v", result, err)
	}
	if atA, atB := saved(t, a), saved(t, b); atA == 0 || atB == 0 || atA+atB-before != len(rows) {
		t.Errorf("%d and %d rows were saved, want some at both and %d together", atA, atB, len(rows)+before)
	}
	history, err := r.definitions.Store.Revision(t.Context(), "Live", revision)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range history.Documents {
		if d.Kind == definition.KindConn && !strings.Contains(string(d.YAML), "addrs: ${STORE}\n") {
			t.Errorf("the history has a value instead of its name:\n%s", d.YAML)
		}
	}

	wanted := r.definitions.Put(withStore(2, "${ONLY_HERE}")...)
	s := r.definitions.Await("Live", "rejected by one worker and taken by the other", func(s cluster.FlowStatus) bool {
		return s.State == cluster.StateRejected && s.Wanted >= wanted && s.Applied == 1
	})
	if s.Active != revision || len(s.Workers) != 1 || !strings.HasPrefix(s.Workers[0].ID, "other-") ||
		!strings.Contains(strings.Join(s.Reasons, "\n"), "ONLY_HERE") {
		t.Errorf("the status is %+v, want the worker other to reject it for ONLY_HERE", s)
	}
}

// TestConnectorChangesUnderARun changes the address of a connector, and later the prefix of its keys, while a row of the old revision
// is between two functions. That row is saved where its own revision says, and later batches where theirs say.
func TestConnectorChangesUnderARun(t *testing.T) {
	a, b := miniredis.RunT(t), miniredis.RunT(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	const held = 7
	r := start(t, devcluster.Config{Workers: 1, Register: func(reg *kis.Registry) {
		reg.Func("First", kis.Calculate(first))
		reg.Func("Second", kis.Calculate(func(ctx context.Context, in row) (row, error) {
			if in.ID == held && kis.From(ctx).Param("version") == "1" {
				close(entered)
				select {
				case <-leave:
				case <-ctx.Done():
					return in, ctx.Err()
				}
			}
			return second(ctx, in)
		}))
		reg.Func("Keep", kis.Save(keep))
	}})
	c := r.dial()
	submit := func(id int) <-chan error {
		done := make(chan error, 1)
		go func() {
			result, err := c.Submit(t.Context(), "Live", client.Rows(row{ID: id}))
			if err == nil && len(result.NotDone) > 0 {
				err = fmt.Errorf("it ended as %+v", result.NotDone)
			}
			done <- err
		}()
		return done
	}
	ends := func(done <-chan error) {
		t.Helper()
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(patience):
			t.Fatal("a batch does not end")
		}
	}
	slowly := func(docs []definition.Document) []definition.Document { // the function may hold its row for as long as the test takes
		docs[0].YAML = []byte(strings.Replace(string(docs[0].YAML), "shard_key: id\n", "copies: 4\ntimeout: 1h\n", 1)) // other rows find a free lane
		docs[2].YAML = append(docs[2].YAML, "timeout: 1h\n"...)
		return docs
	}
	at := func(m *miniredis.Miniredis, key string) string { return m.HGet(key, "times") }

	r.awaitState("Live", cluster.StateActive, r.definitions.Put(slowly(withStore(1, a.Addr()))...))
	ends(submit(1))
	under := submit(held)
	select {
	case <-entered:
	case <-time.After(patience):
		t.Fatal("the row does not come to the second function")
	}
	revision := r.definitions.Put(slowly(withStore(2, b.Addr()))...)
	r.awaitState("Live", cluster.StateActive, revision)
	r.awaitRunning(c, revision)
	ends(submit(2))
	if at(b, "2") != "1" || at(a, "2") != "" {
		t.Errorf("the next batch was saved %q times there and %q times here, want 1 and none", at(b, "2"), at(a, "2"))
	}
	docs := slowly(withStore(3, b.Addr()))
	docs[len(docs)-1].YAML = append(docs[len(docs)-1].YAML, "key: moved/\n"...)
	revision = r.definitions.Put(docs...)
	r.awaitState("Live", cluster.StateActive, revision)
	r.awaitRunning(c, revision)
	ends(submit(3))
	if at(b, "moved/3") != "1" || at(b, "3") != "" {
		t.Errorf("after its keys begin with another text, a row is at the key with it %q times, and without it %q times, want 1 and none", at(b, "moved/3"), at(b, "3"))
	}
	close(leave)
	ends(under)
	if at(a, fmt.Sprint(held)) != "1" || at(b, fmt.Sprint(held)) != "" || at(b, fmt.Sprintf("moved/%d", held)) != "" {
		t.Error("the row under way was not saved where its revision says")
	}
}
