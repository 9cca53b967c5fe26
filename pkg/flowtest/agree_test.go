package flowtest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
)

// house has the methods that a client of a cluster and a Local have in common.
type house struct {
	submit func(ctx context.Context, flow string, b *batch.Batch) (*batch.Result, error)
	stream func(t *testing.T, ctx context.Context, flow string) sending
}

type sending struct {
	send  func(ctx context.Context, b *batch.Batch) (waiting, error)
	close func() error
}

type waiting interface {
	Wait(ctx context.Context) (*batch.Result, error)
}

func clusterHouse(c *client.Client) house {
	return house{
		submit: func(ctx context.Context, flow string, b *batch.Batch) (*batch.Result, error) {
			return c.Submit(ctx, flow, b)
		},
		stream: func(t *testing.T, ctx context.Context, flow string) sending {
			t.Helper()
			s, err := c.Stream(ctx, flow)
			if err != nil {
				t.Fatal(err)
			}
			return sending{func(ctx context.Context, b *batch.Batch) (waiting, error) { return s.Send(ctx, b) }, s.Close}
		},
	}
}

func localHouse(l *flowexec.Local) house {
	return house{
		submit: func(ctx context.Context, flow string, b *batch.Batch) (*batch.Result, error) {
			return l.Submit(ctx, flow, b)
		},
		stream: func(t *testing.T, ctx context.Context, flow string) sending {
			t.Helper()
			s, err := l.Stream(ctx, flow)
			if err != nil {
				t.Fatal(err)
			}
			return sending{func(ctx context.Context, b *batch.Batch) (waiting, error) { return s.Send(ctx, b) }, s.Close}
		},
	}
}

// said is the result of a call, without the parts that may differ.
func said(r *batch.Result, err error) string {
	if err != nil {
		return fmt.Sprintf("%s, may have run: %t", batch.CodeOf(err), errors.Is(err, batch.ErrUnanswered))
	}
	return fmt.Sprintf("done %d, failed %d", r.Counts()[batch.Done], r.Counts()[batch.Failed])
}

// TestLocalAndClusterAgree runs each story on a cluster and on a Local, and compares the results: how a batch ends that is submitted
// again, in each state that the first submission may have.
func TestLocalAndClusterAgree(t *testing.T) {
	t.Parallel()
	const other = "kistype: flow\nflow_name: Other\nstatus: 1\nshard_key: id\nflows: [{fname: Meet}]\n"
	late := func(t *testing.T) (context.Context, context.CancelFunc) { return context.WithCancel(t.Context()) }
	stories := []struct {
		name string
		tell func(t *testing.T, h house, m *meeting) []string
		want []string
	}{
		{"answered", func(t *testing.T, h house, _ *meeting) []string {
			b := batch.Rows(row{ID: 1})
			return []string{said(h.submit(t.Context(), "Meet", b)), said(h.submit(t.Context(), "Meet", b)), said(h.submit(t.Context(), "Other", b))}
		}, []string{"done 1, failed 0", "BAD_BATCH_ID, may have run: true", "BAD_BATCH_ID, may have run: true"}},
		{"under way", func(t *testing.T, h house, m *meeting) []string {
			b := batch.Rows(row{1, "here"})
			first := make(chan string, 1)
			go func() { first <- said(h.submit(t.Context(), "Meet", b)) }()
			<-m.begun
			again, elsewhere := said(h.submit(t.Context(), "Meet", b)), said(h.submit(t.Context(), "Other", b))
			m.leave <- struct{}{}
			return []string{again, elsewhere, <-first}
		}, []string{"BAD_BATCH_ID, may have run: true", "BAD_BATCH_ID, may have run: true", "done 1, failed 0"}},
		{"left", func(t *testing.T, h house, m *meeting) []string {
			b := batch.Rows(row{1, "here"})
			ctx, cancel := late(t)
			first := make(chan string, 1)
			go func() { first <- said(h.submit(ctx, "Meet", b)) }()
			<-m.begun
			cancel()
			left := <-first
			elsewhere := said(h.submit(t.Context(), "Other", b))
			m.leave <- struct{}{} // the first run goes on
			go func() {
				<-m.begun
				m.leave <- struct{}{}
			}()
			return []string{left, elsewhere, said(h.submit(t.Context(), "Meet", b)), said(h.submit(t.Context(), "Meet", b))}
		}, []string{"CANCELLED, may have run: true", "BAD_BATCH_ID, may have run: true", "done 1, failed 0", "BAD_BATCH_ID, may have run: true"}},
		{"never sent", func(t *testing.T, h house, _ *meeting) []string {
			b := batch.Rows(row{ID: 1})
			ctx, cancel := late(t)
			cancel()
			return []string{said(h.submit(ctx, "Meet", b)), said(h.submit(t.Context(), "Nowhere", b)), said(h.submit(t.Context(), "Other", b))}
		}, []string{"CANCELLED, may have run: false", "UNKNOWN_FLOW, may have run: false", "done 1, failed 0"}},
		{"another stream's", func(t *testing.T, h house, _ *meeting) []string {
			b := batch.Rows(row{ID: 1})
			one, two := h.stream(t, t.Context(), "Meet"), h.stream(t, t.Context(), "Meet")
			p, err := one.send(t.Context(), b)
			if err != nil {
				t.Fatal(err)
			}
			tells := []string{said(p.Wait(t.Context()))}
			_, err = two.send(t.Context(), b)
			tells = append(tells, said(nil, err))
			_, err = one.send(t.Context(), b)
			tells = append(tells, said(nil, err))
			if err := errors.Join(one.close(), two.close()); err != nil {
				t.Error(err)
			}
			_, err = one.send(t.Context(), batch.Rows(row{ID: 2}))
			return append(tells, said(nil, err))
		}, []string{"done 1, failed 0", "BAD_BATCH_ID, may have run: true", "BAD_BATCH_ID, may have run: true", "CANCELLED, may have run: false"}},
		{"a stream's end", func(t *testing.T, h house, m *meeting) []string {
			b := batch.Rows(row{1, "here"})
			ctx, cancel := late(t)
			s := h.stream(t, ctx, "Meet")
			p, err := s.send(t.Context(), b)
			if err != nil {
				t.Fatal(err)
			}
			<-m.begun
			waits, stop := late(t)
			stop()
			tells := []string{said(p.Wait(waits))}
			cancel()
			tells = append(tells, said(p.Wait(t.Context())), said(nil, s.close()))
			_, err = s.send(t.Context(), batch.Rows(row{ID: 2}))
			tells = append(tells, said(nil, err))
			m.leave <- struct{}{} // the first run goes on
			go func() {
				<-m.begun
				m.leave <- struct{}{}
			}()
			return append(tells, said(h.submit(t.Context(), "Meet", b)))
		}, []string{"CANCELLED, may have run: true", "CANCELLED, may have run: true", "CANCELLED, may have run: true", "CANCELLED, may have run: false", "done 1, failed 0"}},
		{"what can't be", func(t *testing.T, h house, _ *meeting) []string {
			return []string{
				said(h.submit(t.Context(), "Meet", nil)),
				said(h.submit(nil, "Meet", batch.Rows(row{ID: 1}))),
				said(h.submit(t.Context(), "M\xff", batch.Rows(row{ID: 1}))),
				said(h.submit(t.Context(), "Meet", batch.Rows[row]())),
				said(h.submit(t.Context(), "Meet", batch.Pack(batch.Columns{Data: []byte("1"), Ends: []uint32{1}, Encoding: "j\xff"}))),
				said(h.submit(t.Context(), "Meet", batch.Rows(strings.Repeat("x", 20<<20)))),
				said(h.submit(t.Context(), "Meet", batch.Rows(make([]int, 70_000)...))),
			}
		}, []string{
			"EMPTY_BATCH, may have run: false", "BAD_MESSAGE, may have run: false", "UNKNOWN_FLOW, may have run: false", "EMPTY_BATCH, may have run: false",
			"BAD_COLUMNS, may have run: false", "BATCH_TOO_LARGE, may have run: false", "TOO_MANY_ROWS, may have run: false",
		}},
	}

	g, inCluster := grid(t, 1)
	if err := g.Apply(other); err != nil {
		t.Fatal(err)
	}
	var docs []definition.Document
	for _, text := range []string{meet, keep, other} {
		docs = append(docs, definition.Split("documents", []byte(text))...)
	}
	set, err := definition.NewSet(docs)
	if err != nil {
		t.Fatal(err)
	}
	inLocal := &meeting{begun: make(chan string, 16), leave: make(chan struct{})}
	local, err := flowexec.NewLocalSet(set, inLocal.register)
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	for _, s := range stories {
		for name, run := range map[string]func() []string{
			"cluster": func() []string { return s.tell(t, clusterHouse(g.Client()), inCluster) },
			"local":   func() []string { return s.tell(t, localHouse(local), inLocal) },
		} {
			if got := run(); strings.Join(got, "; ") != strings.Join(s.want, "; ") {
				t.Errorf("%s, %s:\n%s\nwant\n%s", s.name, name, strings.Join(got, "\n"), strings.Join(s.want, "\n"))
			}
		}
	}
}

// TestLargeBatchesAreRefused checks that nothing runs of a batch that is too large for every coordinator, and that the connection
// stays open.
func TestLargeBatchesAreRefused(t *testing.T) {
	t.Parallel()
	g, _ := grid(t, 1)
	c := g.Client(client.WithRetryFor(0))
	for _, mib := range []int{12, 40, 80} {
		_, err := c.Submit(t.Context(), "Meet", client.Rows(strings.Repeat("x", mib<<20)))
		if batch.CodeOf(err) != batch.CodeBatchTooLarge || errors.Is(err, client.ErrUnanswered) {
			t.Errorf("%d MiB: %v", mib, err)
		}
	}
	run(t, c, "Meet", row{ID: 1})
}
