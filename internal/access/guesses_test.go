package access

import (
	"bytes"
	"context"
	"net/netip"
	"os"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// TestProvenTokens: tokens that were shown go on to work while others guess from the same address, also after a change of the file.
func TestProvenTokens(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		g, alice, _, _ := opened(t)
		good := call(nil, "authorization", "Bearer "+alice)
		if _, err := g.Identify(good); err != nil {
			t.Fatal(err)
		}
		press(good, g)
		text, err := os.ReadFile(g.path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(g.path, append(text, "# changed\n"...), 0o600); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			time.Sleep(recheck)
			if _, err := g.Identify(good); err != nil {
				t.Error(err)
			}
		}
		if !bytes.HasSuffix(g.current.Load().text, []byte("# changed\n")) {
			t.Error("the file was not read again")
		}
	})
}

// press lets so many wrong guesses from the address of a call wait that further ones are not looked at.
func press(ctx context.Context, g *Guard) {
	_, host := addressOf(ctx)
	for range waitAtOnce {
		g.brake.miss(network(host), time.Now())
	}
}

// TestRevokedWhileOthersGuess: the stream of a token that was taken out of the file ends, also while so many guesses come from its address that
// tokens are not looked at.
func TestRevokedWhileOthersGuess(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		g, alice, _, _ := opened(t)
		i := Intercept(g, map[string]Rule{"/a/B": nil})
		ctx, cancel := context.WithTimeout(call(nil, "authorization", "Bearer "+alice), time.Minute)
		defer cancel()
		err := i.Stream(nil, &silentStream{ctx: ctx}, &grpc.StreamServerInfo{FullMethod: "/a/B"}, func(_ any, s grpc.ServerStream) error {
			press(ctx, g)
			if err := os.WriteFile(g.path, []byte("roles: {}"), 0o600); err != nil {
				t.Fatal(err)
			}
			<-s.Context().Done()
			return context.Cause(s.Context())
		})
		if batch.CodeOf(err) != batch.CodeUnavailable || ctx.Err() != nil {
			t.Errorf("the stream ended with %v", err)
		}
	})
}

// silentStream is a stream on which nothing is sent.
type silentStream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context implements grpc.ServerStream.
func (s *silentStream) Context() context.Context { return s.ctx }

// TestGuesses counts how many wrong tokens an address can try in a minute, one after the other and many at once, and checks that a token that
// was shown before goes on to work at once, from the same address.
func TestGuesses(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		g, alice, _, _ := opened(t)
		good := call(nil, "authorization", "Bearer "+alice)
		if _, err := g.Identify(good); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithTimeout(call(nil, "authorization", "Bearer guess"), time.Minute)
		defer stop()
		looked := make(chan int)
		const guessers = 50
		for range guessers {
			go func() {
				n := 0
				for ctx.Err() == nil {
					_, err := g.Identify(ctx)
					if batch.CodeOf(err) == batch.CodeUnauthenticated {
						n++
						continue
					}
					time.Sleep(10 * time.Millisecond)
				}
				looked <- n
			}()
		}
		for range 20 {
			time.Sleep(time.Second)
			began := time.Now()
			if _, err := g.Identify(good); err != nil || time.Since(began) > 0 {
				t.Errorf("a good token got %v after %s", err, time.Since(began))
			}
		}
		total := 0
		for range guessers {
			total += <-looked
		}
		if most := freeMisses + 2*waitAtOnce*int(time.Minute/longestDelay); total > most {
			t.Errorf("%d guesses were looked at within a minute, want at most %d", total, most)
		}
		time.Sleep(forgetAfter)
		began := time.Now()
		if _, err := g.Identify(call(nil, "authorization", "Bearer typo")); err == nil || time.Since(began) > 0 {
			t.Errorf("the first typo after a pause got %v after %s", err, time.Since(began))
		}
	})
}

// TestAddresses keeps the brake's memory bounded however many addresses guess, and counts a network of IPv6 as one address.
func TestAddresses(t *testing.T) {
	var b brake
	now := time.Now()
	for i := range 3 * maxAddresses {
		_, done := b.miss(network(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})), now.Add(time.Duration(i)))
		done()
	}
	if n := len(b.addresses); n > maxAddresses {
		t.Errorf("the brake remembers %d addresses", n)
	}
	if network(netip.MustParseAddr("2001:db8::1")) != network(netip.MustParseAddr("2001:db8::ffff:2")) {
		t.Error("two addresses of one IPv6 network are told apart")
	}
	if network(netip.MustParseAddr("::ffff:10.0.0.1")) != network(netip.MustParseAddr("10.0.0.1")) {
		t.Error("an IPv4 address has two forms")
	}
	for i := range waitTotal { // wrong guesses of other addresses
		b.miss(network(netip.AddrFrom4([4]byte{10, 1, 0, byte(i / waitAtOnce)})), now)
	}
	if b.pressed(netip.MustParseAddr("192.0.2.1")) {
		t.Error("guesses from other addresses shut out one from which none came")
	}
	if !b.pressed(netip.MustParseAddr("10.1.0.1")) {
		t.Error("an address with many guesses may guess on")
	}
}

// TestMask hides fields wherever a function could read them, and keeps everything else.
