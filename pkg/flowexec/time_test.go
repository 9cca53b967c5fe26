package flowexec_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// within runs rows in a bubble and checks how long that took.
func within(t *testing.T, least, most time.Duration, f func()) {
	t.Helper()
	begin := time.Now()
	f()
	if took := time.Since(begin); took < least || took > most {
		t.Errorf("took %v, not %v to %v", took, least, most)
	}
}

// polite waits as long as the row says, or until its context is over.
func polite(ctx context.Context, i in) error {
	select {
	case <-time.After(time.Duration(i.N) * time.Millisecond):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestFunctionTimeout(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l := local(t, chain("copies: 1\n", "v Verify; timeout: 2s"), func(r *kis.Registry) { r.Func("v", kis.Verify(polite)) })
		defer l.Close()
		within(t, 8300*time.Millisecond, 8600*time.Millisecond, func() {
			// Slow rows have their own time each.
			expect(t, submit(t, l, row("a", 1500), row("b", 1500), row("c", 9000), row("d", 0), row("e", 1500), row("f", 1800)), `
				2 dead FUNCTION_TIMEOUT v: the function did not return within its timeout of 2s: make it faster, or raise timeout in its document
				0 → {"k":"a","n":1500}
				1 → {"k":"b","n":1500}
				3 → {"k":"d","n":0}
				4 → {"k":"e","n":1500}
				5 → {"k":"f","n":1800}`)
		})
	})
}

// A function that comes back rightly although its context was cancelled is through, and spoils nothing for the next row.
func TestLateSuccess(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l := local(t, chain("copies: 1\n", "v Verify; timeout: 2s", "w Verify"), func(r *kis.Registry) {
			r.Func("v", kis.Verify(func(_ context.Context, i in) error {
				time.Sleep(time.Duration(i.N) * time.Millisecond)
				return nil
			}))
			r.Func("w", kis.Verify(func(ctx context.Context, _ in) error { return ctx.Err() }))
		})
		defer l.Close()
		expect(t, submit(t, l, row("a", 2500), row("b", 10), row("c", 2500)), "0 → {\"k\":\"a\",\"n\":2500}\n1 → {\"k\":\"b\",\"n\":10}\n2 → {\"k\":\"c\",\"n\":2500}")
	})
}

func TestRowTimeout(t *testing.T) {
	register := func(r *kis.Registry) {
		r.Func("v", kis.Verify(polite))
		r.Func("w", kis.Verify(polite))
		r.Func("e", kis.Verify(ctxErr(func(i in) error {
			if i.K == "e" {
				return errors.New("no luck")
			}
			return nil
		})))
	}
	bubble.Test(t, func(t *testing.T) {
		l := local(t, chain("timeout: 5s\ncopies: 1\n", "v Verify", "w Verify", "e Verify; retry_times: 100; retry_duration: 4s"), register)
		defer l.Close()
		// What a row waits for its neighbours counts for nothing.
		expect(t, submit(t, l, row("a", 2000), row("b", 2000), row("c", 2000), row("d", 3000), row("e", 0)), `
			3 dead ROW_TIMEOUT w: the row took longer than the flow's timeout of 5s, waits included: raise timeout in the flow's document
			4 dead ROW_TIMEOUT e: the row took longer than the flow's timeout of 5s, waits included: raise timeout in the flow's document; the last error was: no luck (2 attempts)
			0 → {"k":"a","n":2000}
			1 → {"k":"b","n":2000}
			2 → {"k":"c","n":2000}`)
	})
}

func TestRetriesWait(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l := local(t, chain("", "v Verify; retry_times: 3; retry_duration: 1s"), func(r *kis.Registry) {
			r.Func("v", kis.Verify(func(ctx context.Context, _ in) error {
				if kis.From(ctx).Attempt < 4 {
					return errors.New("not yet")
				}
				return nil
			}))
		})
		defer l.Close()
		// Three intervals, each with a jitter of a fifth.
		within(t, 2400*time.Millisecond, 3600*time.Millisecond, func() { submit(t, l, row("a", 1)) })
	})
}

// A function that never returns costs its own row only, and its goroutine is counted until it ends after all.
func TestAbandoned(t *testing.T) {
	for _, rows := range []int{1, 20} {
		t.Run(fmt.Sprint(rows), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				forever := make(chan struct{})
				registry := prometheus.NewRegistry()
				var calls atomic.Int32
				l := local(t, chain("copies: 1\n", "c Calculate", "v Verify; timeout: 2s", "d Calculate"), func(r *kis.Registry) {
					r.Func("c", kis.Calculate(func(ctx context.Context, i in) (in, error) {
						c := kis.From(ctx).Cache()
						if n, _ := c.Get("used"); n != nil && i.K == "first" {
							return i, errors.New("the copy of the abandoned goroutine is used again")
						}
						c.Set("used", true, 0)
						return i, nil
					}))
					r.Func("v", kis.Verify(func(_ context.Context, i in) error {
						if i.N == 13 || rows == 1 {
							calls.Add(1)
							<-forever
						}
						return nil
					}))
					r.Func("d", kis.Calculate(double))
				}, flowexec.WithMetrics(registry))
				var batchRows, want []string
				for n := range rows {
					k := "x"
					if n == 0 {
						k = "first"
					}
					batchRows = append(batchRows, row(k, n))
					if n != 13 && rows > 1 {
						want = append(want, fmt.Sprintf(`%d → {"k":"%s","m":%d}`, n, k, 2*n))
					}
				}
				dead := map[int]int{1: 0, 20: 13}[rows]
				want = append([]string{fmt.Sprintf("%d dead FUNCTION_TIMEOUT v: the function did not return within…", dead)}, want...)
				expect(t, submit(t, l, batchRows...), strings.Join(want, "\n"))
				gauge := func() float64 {
					families, err := registry.Gather()
					if err != nil {
						t.Fatal(err)
					}
					for _, f := range families {
						if f.GetName() == "kisgrid_lane_abandoned" {
							return f.GetMetric()[0].GetGauge().GetValue()
						}
					}
					t.Fatal("there is no kisgrid_lane_abandoned")
					return 0
				}
				if got := gauge(); got != float64(calls.Load()) {
					t.Errorf("%v goroutines are counted as abandoned of %d", got, calls.Load())
				}
				// The lane goes on, and can be stopped.
				if rows > 1 {
					expect(t, submit(t, l, row("y", 1)), `0 → {"k":"y","m":2}`)
				}
				if err := l.Close(); err != nil {
					t.Error(err)
				}
				close(forever)
				synctest.Wait()
				if got := gauge(); got != 0 {
					t.Errorf("%v goroutines are counted as abandoned after they ended", got)
				}
			})
		})
	}
}

func TestAbandonedWhole(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		forever := make(chan struct{})
		l := local(t, chain("", "c Calculate", "f Calculate; timeout: 2s"), func(r *kis.Registry) {
			r.Func("c", kis.Calculate(func(_ context.Context, i in) (in, error) {
				if i.N == 2 {
					return i, errors.New("two")
				}
				return i, nil
			}))
			r.FaaS("f", func(context.Context, kis.Flow) error { <-forever; return nil })
		})
		within(t, 3*time.Second, 3200*time.Millisecond, func() {
			expect(t, submit(t, l, row("a", 1), row("b", 2), row("c", 3)), `
				0 dead FUNCTION_TIMEOUT f: …
				1 dead FUNCTION_ERROR c: two
				2 dead FUNCTION_TIMEOUT f: …`)
		})
		l.Close()
		close(forever)
	})
}

// A function that is entered without rows and hangs ends the rows that stand behind it.
func TestAbandonedWithoutRows(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		forever := make(chan struct{})
		l := local(t, chain("", "f Calculate", "g Calculate; timeout: 2s"), func(r *kis.Registry) {
			r.FaaS("f", func(_ context.Context, flow kis.Flow) error { return flow.Next(kis.ActionForceEntryNext) })
			r.FaaS("g", func(context.Context, kis.Flow) error { <-forever; return nil })
		})
		within(t, 3*time.Second, 3200*time.Millisecond, func() {
			expect(t, submit(t, l, row("a", 1), row("b", 2)), "0 dead FUNCTION_TIMEOUT g: …\n1 dead FUNCTION_TIMEOUT g: …")
		})
		l.Close()
		close(forever)
	})
}

func TestGoexit(t *testing.T) {
	l := local(t, chain("copies: 1\n", "v Verify"), func(r *kis.Registry) {
		r.Func("v", kis.Verify(ctxErr(func(i in) error {
			if i.N == 2 {
				runtime.Goexit()
			}
			return nil
		})))
	})
	for range 2 {
		expect(t, submit(t, l, row("a", 1), row("b", 2), row("c", 3)), `
			1 dead FUNCTION_PANIC v: the function ended its goroutine with runtime.Goexit: let it return
			0 → {"k":"a","n":1}
			2 → {"k":"c","n":3}`)
	}
}

func TestDeadline(t *testing.T) {
	for name, function := range map[string]func(context.Context, in) error{
		"polite": polite,
		"rude":   func(_ context.Context, i in) error { time.Sleep(time.Duration(i.N) * time.Millisecond); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				l := local(t, chain("copies: 1\n", "v Verify; timeout: 1h", "w Verify"), func(r *kis.Registry) {
					r.Func("v", kis.Verify(function))
					r.Func("w", kis.Verify(ctxErr(func(in) error { return nil })))
				})
				within(t, 3*time.Second, 4200*time.Millisecond, func() {
					result, err := l.Submit(t.Context(), "F", batch.Rows(row("a", 1000), row("b", 50000), row("c", 0)), flowexec.Timeout(3*time.Second))
					if err != nil {
						t.Fatal(err)
					}
					expect(t, tell(result), "0 failed DEADLINE …\n1 failed DEADLINE …\n2 failed DEADLINE …")
				})
				expect(t, submit(t, l, row("c", 0)), `0 → {"k":"c","n":0}`)
				l.Close()
				time.Sleep(time.Minute) // for the rude function
			})
		})
	}
}

func TestClose(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l := local(t, chain("copies: 1\n", "v Verify; timeout: 1h"), func(r *kis.Registry) { r.Func("v", kis.Verify(polite)) })
		s, err := l.Stream(t.Context(), "F")
		if err != nil {
			t.Fatal(err)
		}
		running, err := s.Send(t.Context(), batch.Rows(row("a", 0), row("b", 50000)))
		if err != nil {
			t.Fatal(err)
		}
		queued, err := s.Send(t.Context(), batch.Rows(row("c", 0)))
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		l.Close()
		for p, want := range map[*flowexec.Pending]string{
			running: "0 failed SHUTDOWN v: …\n1 failed SHUTDOWN v: …",
			queued:  "0 failed SHUTDOWN : …",
		} {
			result, err := p.Wait(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			expect(t, tell(result), want)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if _, err := s.Send(t.Context(), batch.Rows(row("c", 0))); batch.CodeOf(err) != batch.CodeCancelled {
			t.Errorf("sending on a closed stream: %v", err)
		}
		if _, err := l.Submit(t.Context(), "F", batch.Rows(row("c", 0))); batch.CodeOf(err) != batch.CodeShutdown {
			t.Errorf("submitting to a closed Local: %v", err)
		}
	})
}
