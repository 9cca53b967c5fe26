//go:build linux

package once

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/internal/testgrid"
	"github.com/kisgrid/kisgrid/internal/testprocess"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// TestPasswordSetMeanwhile gives Redis a password while a cluster runs, and closes all connections, so that no new connection gets
// past its handshake. Rows wait until the password is removed: then each is done, and saved.
func TestPasswordSetMeanwhile(t *testing.T) {
	const rows = 100
	address := testprocess.Address(t)
	_, r := testgrid.RealRedis(t, address)
	g := startGrid(t, 1, 1, fmt.Sprintf("addrs: %q\nkey: \"pw:\"\nsave: [Put]\nload: [Take]\nparams: {retry_max: 50ms}\n", address), []definition.Document{
		{Kind: definition.KindFlow, Name: "Put", YAML: []byte("kistype: flow\nflow_name: Put\nstatus: 1\nshard_key: key\nflows: [{fname: Put}]\n")},
		{Kind: definition.KindFunc, Name: "Put", YAML: []byte("kistype: func\nfname: Put\nfmode: Save\noption: {cname: Store, save: {key: \"{key}\", set: {n: n}}}\n")},
		{Kind: definition.KindFlow, Name: "Take", YAML: []byte("kistype: flow\nflow_name: Take\nstatus: 1\nflows: [{fname: Take}]\n")},
		{Kind: definition.KindFunc, Name: "Take", YAML: []byte("kistype: func\nfname: Take\nfmode: Load\noption: {cname: Store, wait: 10ms, load: {key: \"{key}\", set: {n: n}}}\n")},
	})
	type put struct {
		Key string `json:"key"`
		N   int    `json:"n"`
	}
	ctx := t.Context()
	c := g.Dial()
	puts, takes := g.Stream(ctx, c, "Put"), g.Stream(ctx, c, "Take")
	send := func(s *client.Stream, all ...put) *client.Pending {
		p, err := s.Send(ctx, client.Rows(all...))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	done := func(p *client.Pending) {
		t.Helper()
		result, err := p.Wait(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if len(result.NotDone) > 0 {
			t.Errorf("%d of %d rows are not done: %+v", len(result.NotDone), result.Rows, result.NotDone[0])
		}
	}
	done(send(puts, put{"there", 1}))

	if err := r.ConfigSet(ctx, "requirepass", "secret").Err(); err != nil {
		t.Fatal(err)
	}
	admin := redis.NewClient(&redis.Options{Addr: address, Password: "secret"})
	defer admin.Close()
	if err := admin.Do(ctx, "client", "kill", "type", "normal").Err(); err != nil {
		t.Fatal(err)
	}
	var all []put
	for i := range rows {
		all = append(all, put{fmt.Sprintf("k%d", i), i})
	}
	saving, loading := send(puts, all...), send(takes, put{Key: "there"})
	testprocess.Until(t, "connections were refused", func() error {
		var n int
		info := admin.Info(ctx, "errorstats").Val()
		if _, text, ok := strings.Cut(info, "errorstat_NOAUTH:count="); ok {
			_, _ = fmt.Sscan(text, &n)
		}
		if n < 50 {
			return errors.New(info)
		}
		return nil
	})
	for name, p := range map[string]*client.Pending{"saved": saving, "loaded": loading} {
		select {
		case <-p.Done():
			result, err := p.Wait(ctx)
			t.Errorf("rows that could not be %s have ended, these not as done: %+v, error %v", name, result.NotDone, err)
		default:
		}
	}
	status := func(says string) {
		t.Helper()
		testprocess.Until(t, "the connector's status has "+says, func() error {
			response, err := g.admin.Get(ctx, &pb.GetRequest{Kind: "connectors"})
			if err != nil {
				return err
			}
			var view struct {
				Down map[string]string `json:"down"`
			}
			if err := json.Unmarshal(response.GetResources()[0].GetStatus(), &view); err != nil {
				return err
			}
			for _, why := range view.Down {
				if says != "" && strings.Contains(why, says) {
					return nil
				}
			}
			if says == "" && len(view.Down) == 0 {
				return nil
			}
			return fmt.Errorf("%v", view.Down)
		})
	}
	status("NOAUTH Authentication required")
	if err := admin.ConfigSet(ctx, "requirepass", "").Err(); err != nil {
		t.Fatal(err)
	}
	done(saving)
	done(loading)
	status("")
	for _, row := range all {
		if n := admin.HGet(ctx, "pw:"+row.Key, "n").Val(); n != fmt.Sprint(row.N) {
			t.Errorf("key %s has %q", row.Key, n)
		}
	}
}

// TestFullRedis fills the memory of Redis: it refuses writes and answers reads. Rows that save are tried again until their time is
// over, and their reason says that Redis is full.
func TestFullRedis(t *testing.T) {
	address := testprocess.Address(t)
	_, r := testgrid.RealRedis(t, address)
	g := startGrid(t, 1, 1, fmt.Sprintf("addrs: %q\nkey: \"full:\"\nsave: [Put]\nparams: {retries: 2, retry_max: 50ms}\n", address), []definition.Document{
		{Kind: definition.KindFlow, Name: "Put", YAML: []byte("kistype: flow\nflow_name: Put\nstatus: 1\nshard_key: key\ntimeout: 2s\nflows: [{fname: Put}]\n")},
		{Kind: definition.KindFunc, Name: "Put", YAML: []byte("kistype: func\nfname: Put\nfmode: Save\noption: {cname: Store, save: {key: \"{key}\", set: {n: n}}}\n")},
	})
	type put struct {
		Key string `json:"key"`
		N   int    `json:"n"`
	}
	puts := g.Stream(t.Context(), g.Dial(), "Put")
	save := func() *client.Result {
		p, err := puts.Send(t.Context(), client.Rows(put{"a", 1}, put{"b", 2}))
		if err != nil {
			t.Fatal(err)
		}
		result, err := p.Wait(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return result
	}
	if err := r.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	result := save()
	if len(result.NotDone) != 2 {
		t.Errorf("not done are %+v", result.NotDone)
	}
	for _, o := range result.NotDone {
		if o.Code != batch.CodeConnectorUnavailable || !strings.Contains(o.Reason, "OOM command not allowed") || !strings.Contains(o.Reason, "raise maxmemory") {
			t.Errorf("%+v", o)
		}
	}
	if err := r.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	if result := save(); len(result.NotDone) > 0 {
		t.Errorf("not done are %+v", result.NotDone)
	}
}
