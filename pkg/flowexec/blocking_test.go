package flowexec_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// TestBlockingCallsOfALocalEndWithTheirContext: whatever a call waits for, it ends when its context does, with its error.
func TestBlockingCallsOfALocalEndWithTheirContext(t *testing.T) {
	full := func() *batch.Batch { return batch.Rows(make([]int, 65536)...) }
	type bed struct {
		local  *flowexec.Local
		stream *flowexec.Stream
		life   context.Context
	}
	for _, test := range []struct {
		name string
		call func(ctx context.Context, b bed) error
	}{
		{"Submit", func(ctx context.Context, b bed) error {
			_, err := b.local.Submit(ctx, "F", batch.Rows(1))
			return err
		}},
		{"Send, without room", func(ctx context.Context, b bed) error {
			_, err := b.stream.Send(ctx, batch.Rows(1))
			return err
		}},
		{"Send, behind another", func(ctx context.Context, b bed) error {
			go func() { _, _ = b.stream.Send(b.life, batch.Rows(1)) }() // it ends with the stream; whichever is the first, both wait
			_, err := b.stream.Send(ctx, batch.Rows(1))
			return err
		}},
		{"Wait", func(ctx context.Context, b bed) error {
			s, err := b.local.Stream(context.Background(), "F")
			if err != nil {
				return err
			}
			p, err := s.Send(context.Background(), batch.Rows(1))
			if err != nil {
				return err
			}
			_, err = p.Wait(ctx)
			return err
		}},
		{"Flush", func(ctx context.Context, b bed) error { return b.stream.Flush(ctx) }},
		{"Close of a stream", func(ctx context.Context, b bed) error {
			s, err := b.local.Stream(ctx, "F")
			if err != nil {
				return err
			}
			if _, err := s.Send(context.Background(), batch.Rows(1)); err != nil {
				return err
			}
			return s.Close()
		}},
	} {
		for _, over := range []string{"before", "meanwhile"} {
			t.Run(test.name+"/"+over, func(t *testing.T) {
				leave := make(chan struct{})
				l := local(t, chain("", "Hold Calculate"), func(r *kis.Registry) {
					r.Func("Hold", kis.Calculate(func(_ context.Context, in int) (int, error) { <-leave; return in, nil }))
				})
				life, end := context.WithCancel(t.Context())
				defer end()
				defer close(leave)
				s, err := l.Stream(life, "F")
				if err != nil {
					t.Fatal(err)
				}
				if _, err := s.Send(t.Context(), full()); err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if over == "before" {
					cancel()
				}
				ended := make(chan error, 1)
				go func() { ended <- test.call(ctx, bed{l, s, life}) }()
				if over == "meanwhile" {
					time.AfterFunc(50*time.Millisecond, cancel)
				}
				select {
				case err := <-ended:
					if !errors.Is(err, context.Canceled) {
						t.Errorf("it ended with %v, want its context's error", err)
					}
				case <-time.After(time.Minute):
					t.Fatal("it does not end")
				}
			})
		}
	}
}

// TestTimeoutOfALocalIsAMoment: a batch that waits for room longer than its Timeout does not begin.
func TestTimeoutOfALocalIsAMoment(t *testing.T) {
	leave := make(chan struct{})
	l := local(t, chain("", "Hold Calculate"), func(r *kis.Registry) {
		r.Func("Hold", kis.Calculate(func(_ context.Context, in int) (int, error) { <-leave; return in, nil }))
	})
	s, err := l.Stream(t.Context(), "F")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Send(t.Context(), batch.Rows(make([]int, 65536)...)); err != nil {
		t.Fatal(err)
	}
	_, err = s.Send(t.Context(), batch.Rows(1), flowexec.Timeout(20*time.Millisecond))
	if batch.CodeOf(err) != batch.CodeDeadline || errors.Is(err, batch.ErrUnanswered) {
		t.Errorf("a batch without room ended with %v", err)
	}
	close(leave)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestNilArgumentsOfALocal: the error says what is nil.
func TestNilArgumentsOfALocal(t *testing.T) {
	docs := chain("", "Same Calculate")
	register := func(r *kis.Registry) {
		r.Func("Same", kis.Calculate(func(_ context.Context, in int) (int, error) { return in, nil }))
	}
	set := bundleSet(t, docs)
	for want, open := range map[string]func() (*flowexec.Local, error){
		"registers functions": func() (*flowexec.Local, error) { return flowexec.NewLocalSet(set, nil) },
		"set of documents":    func() (*flowexec.Local, error) { return flowexec.NewLocalSet(nil, register) },
		"file system":         func() (*flowexec.Local, error) { return flowexec.NewLocalFS(nil, register) },
		"option 1":            func() (*flowexec.Local, error) { return flowexec.NewLocalSet(set, register, nil) },
		"logger":              func() (*flowexec.Local, error) { return flowexec.NewLocalSet(set, register, flowexec.WithLogger(nil)) },
		"WithEnvironment": func() (*flowexec.Local, error) {
			return flowexec.NewLocalSet(set, register, flowexec.WithEnvironment(nil))
		},
	} {
		if _, err := open(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, want %q in it", err, want)
		}
	}
	l := local(t, docs, register)
	if _, err := l.Stream(nil, "F"); batch.CodeOf(err) != batch.CodeBadMessage { //nolint:staticcheck // that is what is tried
		t.Errorf("a stream without a context: %v", err)
	}
	if _, err := l.Submit(t.Context(), "F", batch.Rows(1), nil); batch.CodeOf(err) != batch.CodeBadMessage {
		t.Errorf("an option that is nil: %v", err)
	}
}
