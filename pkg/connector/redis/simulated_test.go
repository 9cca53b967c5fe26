package redis

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	goredis "github.com/redis/go-redis/v9"
	"google.golang.org/grpc/test/bufconn"

	"github.com/kisgrid/kisgrid/internal/network"
	"github.com/kisgrid/kisgrid/internal/world/simredis"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/connector/conformance"
)

// oneServer is a network with a simulated Redis, and nothing else.
type oneServer struct {
	network.Network
	listener *bufconn.Listener
}

// DialContext connects to the Redis, whatever the address is.
func (s *oneServer) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	return s.listener.DialContext(ctx)
}

func TestConformanceOfSimulated(t *testing.T) {
	conformance.Run(t, conformance.Store{Pairs: 2_000, InBubble: func(t *testing.T) conformance.Store {
		t.Helper()
		s := &oneServer{listener: bufconn.Listen(1 << 20)}
		server, err := simredis.Start(t.Context(), simredis.Config{Listen: func(context.Context) (net.Listener, error) { return s.listener, nil }})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(server.Close)
		return conformance.Store{
			Open: func(tb testing.TB, prefix string) connector.Connection {
				tb.Helper()
				doc := document("redis:6379")
				doc.Key = prefix
				return openWith(tb, Config{Network: s, tick: -1}, doc)
			},
			List: func(_ testing.TB, key string) []string { return server.List(0, key) },
		}
	}})
}

// The Save script does the same in the simulated Redis as in a real one: the same effects take place, the same are refused with the same
// words, and the same is remembered.
func TestSavesInSimulatedAreRedis(t *testing.T) {
	listener := bufconn.Listen(1 << 20)
	simulated, err := simredis.Start(t.Context(), simredis.Config{Listen: func(context.Context) (net.Listener, error) { return listener, nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(simulated.Close)
	s := startServer(t, "")
	connections := []*Connection{open(t, document(s.addr)), openWith(t, Config{Network: &oneServer{listener: listener}, tick: -1}, document("redis:6379"))}
	clients := []goredis.UniversalClient{connections[0].client, connections[1].client}
	dice := rand.New(rand.NewPCG(3, 4))
	numbers := []string{"1", "-7", "0.5", "9223372036854775807", "-2.5e3", "abc", "1e30"}
	for round := range 2000 {
		cause := connector.Cause{Flow: "F", Function: "s", Batch: batch.ID{Stream: batch.StreamID{byte(dice.IntN(3))}}}
		cause.Batch.Sequence = uint64(1 + round/20 + dice.IntN(4))
		cause.Floor = uint64(1+round/20) - min(uint64(round/20), uint64(dice.IntN(3)))
		if dice.IntN(10) == 0 {
			cause.Batch = batch.ID{}
		}
		if dice.IntN(3) == 0 {
			cause.Log = &connector.Log{ID: batch.LogID{byte(1 + dice.IntN(2))}, Term: uint64(1 + round/100 + dice.IntN(2)), Floor: uint64(round * 3 / (1 + dice.IntN(2)))}
		}
		var effects []connector.Effect
		for n := range dice.IntN(30) {
			e := connector.Effect{
				Op: connector.Op(1 + dice.IntN(4)), Key: "k" + strconv.Itoa(dice.IntN(12)), Field: "f" + strconv.Itoa(dice.IntN(3)), Value: numbers[dice.IntN(len(numbers))],
				Row: uint32(n * dice.IntN(40)), Command: uint32(n), Visit: uint32(dice.IntN(2)), Output: uint64(dice.IntN(2)),
			}
			if cause.Log != nil {
				e.Row, e.Position = 0, uint64(round*3+n*dice.IntN(40))
			}
			if e.Op == connector.Delete && dice.IntN(4) > 0 {
				e.Op = connector.Set
			}
			effects = append(effects, e)
		}
		var verdicts, failures [2]string
		for i, c := range connections {
			each, err := c.Save(t.Context(), cause, effects)
			verdicts[i], failures[i] = fmt.Sprint(each), fmt.Sprint(err)
		}
		if verdicts[0] != verdicts[1] || failures[0] != failures[1] {
			t.Fatalf("round %d: the real Redis says %s, %s\nthe simulated one says %s, %s", round, verdicts[0], failures[0], verdicts[1], failures[1])
		}
		if round%100 == 99 {
			if diff := cmp.Diff(dataOf(t, clients[0]), dataOf(t, clients[1])); diff != "" {
				t.Fatalf("round %d: data (- real, + simulated):\n%s", round, diff)
			}
		}
	}
}

// dataOf reads all hashes and lists but that of the once-windows, which has times.
func dataOf(t *testing.T, client goredis.UniversalClient) map[string]any {
	t.Helper()
	data := map[string]any{}
	for _, key := range client.Keys(t.Context(), "*").Val() {
		switch kind := client.Type(t.Context(), key).Val(); {
		case key == windowsKey:
		case kind == "hash":
			data[key] = client.HGetAll(t.Context(), key).Val()
		default:
			data[key] = client.LRange(t.Context(), key, 0, -1).Val()
		}
		if kept := client.PTTL(t.Context(), key).Val() > 0; kept != strings.HasPrefix(key, "kisgrid:once:") {
			t.Errorf("%s is kept for a time: %v", key, kept)
		}
	}
	return data
}
