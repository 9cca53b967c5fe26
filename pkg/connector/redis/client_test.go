package redis_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/alicebob/miniredis/v2"
	goredis "github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector/memory"
	"github.com/kisgrid/kisgrid/pkg/connector/redis"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/kis"
	"github.com/kisgrid/kisgrid/pkg/kis/common"
)

// A function and its CaaS call get the connector's client, and the client that CaaSInit keeps, in KisFlow's way, is beside it.
func TestClient(t *testing.T) {
	server := miniredis.RunT(t)
	var mu sync.Mutex
	var shared goredis.UniversalClient // guarded by mu, as is own
	var own *goredis.Client
	local, err := flow("Save", "Save", server.Addr(), func(r *kis.Registry) {
		r.CaaSInit("Store", func(conn kis.Connector) error {
			conn.SetMetaData("rdb", goredis.NewClient(&goredis.Options{Addr: conn.GetConfig().AddrString}))
			return nil
		})
		r.CaaS("Store", "Save", common.S, func(ctx context.Context, conn kis.Connector, _ kis.Function, _ kis.Flow, args any) (any, error) {
			c, err := kis.From(ctx).Connection()
			if err != nil {
				return nil, err
			}
			client, err := redis.Client(c)
			if err != nil {
				return nil, err
			}
			kept, _ := conn.GetMetaData("rdb").(*goredis.Client)
			mu.Lock()
			shared, own = client, kept
			mu.Unlock()
			return nil, errors.Join(client.Set(ctx, "shared", args, 0).Err(), client.Close(), kept.Set(ctx, "own", args, 0).Err())
		})
		r.FaaS("Save", func(ctx context.Context, f kis.Flow, rows []map[string]int) error {
			conn, err := f.GetConnector()
			if err != nil {
				return err
			}
			_, err = conn.Call(ctx, f, rows[0]["a"])
			return errors.Join(err, f.CommitRowBatch(rows))
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // a Close of the client closes nothing
		result, err := local.Submit(t.Context(), "F", batch.Rows(map[string]int{"a": 1}))
		if err != nil || len(result.NotDone) > 0 {
			t.Fatalf("%v: %v", err, result)
		}
	}
	server.CheckGet(t, "shared", "1")
	server.CheckGet(t, "own", "1")
	if err := local.Close(); err != nil {
		t.Error(err)
	}
	mu.Lock()
	defer mu.Unlock()
	for name, client := range map[string]goredis.UniversalClient{"the connector's": shared, "the function's own": own} {
		if err := client.Ping(t.Context()).Err(); !errors.Is(err, goredis.ErrClosed) {
			t.Errorf("after the flow is closed, %s client says %v", name, err)
		}
	}
}

// Who asks when the call is over is told so.
func TestClientOfACallThatIsOver(t *testing.T) {
	var call *kis.Call
	local, err := flow("Look", "Verify", miniredis.RunT(t).Addr(), func(r *kis.Registry) {
		r.Func("Look", kis.Verify(func(ctx context.Context, _ map[string]int) error {
			call = kis.From(ctx)
			return nil
		}))
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := local.Submit(t.Context(), "F", batch.Rows(map[string]int{"a": 1})); err != nil {
		t.Fatal(err)
	}
	if err := local.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := call.Connection(); batch.CodeOf(err) != batch.CodeUnknownConnector || !strings.Contains(err.Error(), "is over") {
		t.Errorf("got %v", err)
	}
}

// Where there is no Redis behind it, the error says so.
func TestClientOfOthers(t *testing.T) {
	conn, err := memory.New().Open(t.Context(), &definition.Connector{Name: "Store", Type: "memory"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := redis.Client(conn); batch.CodeOf(err) != batch.CodeBadDocument || !strings.Contains(err.Error(), "must have the type redis") {
		t.Errorf("Client of a memory store returned %v", err)
	}
	if _, err := kis.From(t.Context()).Connection(); batch.CodeOf(err) != batch.CodeUnknownConnector {
		t.Errorf("outside of a flow: %v", err)
	}
}
