package flowtest

import (
	"context"
	"io"
	"testing"

	kisnet "github.com/kisgrid/kisgrid/internal/network"
)

// TestPairAfterADialThatGaveUp makes connections of the network's own listener that nobody has, as dials leave them that end with their
// context while the kernel connects them. The pairs that are made afterwards must belong together.
func TestPairAfterADialThatGaveUp(t *testing.T) {
	n, err := newNetwork(t.Context(), kisnet.System())
	if err != nil {
		t.Fatal(err)
	}
	defer n.close()
	for range 2 {
		stray, err := n.machine.DialContext(t.Context(), "tcp", n.pairs.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if err := stray.Close(); err != nil {
			t.Fatal(err)
		}
	}
	// Dials that end at about the time at which the kernel has connected them.
	for range 50 {
		ctx, cancel := context.WithCancel(t.Context())
		go cancel()
		if a, b, err := n.pair(ctx); err == nil {
			_, _ = a.Close(), b.Close()
		}
		cancel()
	}
	for _, text := range []string{"first", "second"} {
		a, b, err := n.pair(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(a, text); err != nil {
			t.Fatal(err)
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(b); err != nil || string(got) != text {
			t.Errorf("the other end reads %q, %v; want %q", got, err, text)
		}
		_ = b.Close()
	}
}
