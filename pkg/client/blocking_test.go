package client_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kisgrid/kisgrid/pkg/client"
)

// TestBlockingCallsEndWithTheirContext: a call ends as soon as its context does, with the context's error, for each thing that a call may wait for.
func TestBlockingCallsEndWithTheirContext(t *testing.T) {
	large := func() *client.Batch {
		return client.Pack(client.Columns{Data: make([]byte, 3<<20), Ends: []uint32{3 << 20}})
	}
	for _, test := range []struct {
		name string
		// ready makes all ready for a call that blocks.
		ready func(n *network, c *client.Client, k *coordinator) func(ctx context.Context) error
	}{
		{"Submit, connecting", func(n *network, c *client.Client, _ *coordinator) func(context.Context) error {
			n.slow = time.Hour
			return submits(c, numbered(1))
		}},
		{"Submit, under way", func(_ *network, c *client.Client, _ *coordinator) func(context.Context) error {
			return submits(c, numbered(1))
		}},
		{"Submit, behind others", func(n *network, c *client.Client, k *coordinator) func(context.Context) error {
			for range 2 {
				submit(n.t.Context(), c, "F", large())
				<-k.calls
			}
			return submits(c, large())
		}},
		{"Submit, between tries", func(_ *network, c *client.Client, k *coordinator) func(context.Context) error {
			k.kill()
			return submits(c, numbered(1))
		}},
		{"Stream, connecting", func(n *network, c *client.Client, _ *coordinator) func(context.Context) error {
			n.slow = time.Hour
			return opens(c)
		}},
		{"Stream, not opened", func(_ *network, c *client.Client, _ *coordinator) func(context.Context) error { return opens(c) }},
		{"Stream, between tries", func(_ *network, c *client.Client, k *coordinator) func(context.Context) error {
			k.kill()
			return opens(c)
		}},
		{"Send, without credit", func(_ *network, c *client.Client, k *coordinator) func(context.Context) error {
			s, _ := k.stream(c, 0, 0)
			return sends(s)
		}},
		{"Send, behind another", func(n *network, c *client.Client, k *coordinator) func(context.Context) error {
			s, _ := k.stream(c, 0, 0)
			go func() { _ = sends(s)(n.t.Context()) }() // it ends with the client
			synctest.Wait()
			return sends(s)
		}},
		{"Send, without a coordinator", func(_ *network, c *client.Client, k *coordinator) func(context.Context) error {
			s, _ := k.stream(c, 100, 1000)
			k.kill()
			synctest.Wait()
			return sends(s)
		}},
		{"Wait", func(n *network, c *client.Client, k *coordinator) func(context.Context) error {
			s, _ := k.stream(c, 100, 1000)
			p := send(n.t, s, numbered(1))
			return func(ctx context.Context) error {
				_, err := p.Wait(ctx)
				return err
			}
		}},
		{"Flush", func(n *network, c *client.Client, k *coordinator) func(context.Context) error {
			s, _ := k.stream(c, 100, 1000)
			send(n.t, s, numbered(1))
			return s.Flush
		}},
	} {
		for _, over := range []string{"before", "meanwhile"} {
			t.Run(test.name+"/"+over, func(t *testing.T) {
				inNetwork(t, func(t *testing.T, n *network) {
					n.t = t
					k := n.start("a:7700")
					c := n.dial("passthrough:///a:7700", client.WithOpenTimeout(time.Hour), client.WithRetryDelay(time.Hour, time.Hour), client.WithRetryFor(24*time.Hour))
					synctest.Wait() // until it serves
					call := test.ready(n, c, k)
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					if over == "before" {
						cancel()
					}
					ended := make(chan error, 1)
					go func() { ended <- call(ctx) }()
					synctest.Wait()
					if over == "meanwhile" && len(ended) > 0 {
						t.Fatalf("it did not block: %v", <-ended)
					}
					began := time.Now()
					cancel()
					if err := <-ended; !errors.Is(err, context.Canceled) {
						t.Errorf("it ended with %v, want its context's error", err)
					}
					if took := time.Since(began); took > 0 {
						t.Errorf("it ended %s after its context", took)
					}
				})
			})
		}
	}
}

func submits(c *client.Client, b *client.Batch) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := c.Submit(ctx, "F", b)
		return err
	}
}

func opens(c *client.Client) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := c.Stream(ctx, "F")
		return err
	}
}

func sends(s *client.Stream) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := s.Send(ctx, numbered(1))
		return err
	}
}
