package flow_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/kis"
	"github.com/kisgrid/kisgrid/pkg/kis/common"
	"github.com/kisgrid/kisgrid/pkg/kis/config"
)

// store is a connector's client.
type store struct{ closed int }

func (s *store) Close() error {
	s.closed++
	return nil
}

// However many functions, flows and forks use a connector, it is opened once, and closed with the registry.
func TestConnectorOpensOnce(t *testing.T) {
	k := newKit(t)
	var opened []*store
	k.registry.CaaSInit("store", func(c kis.Connector) error {
		opened = append(opened, new(store))
		c.SetMetaData("client", opened[len(opened)-1])
		return nil
	})
	k.registry.CaaS("store", "save", common.S, func(_ context.Context, c kis.Connector, fn kis.Function, f kis.Flow, args any) (any, error) {
		return fmt.Sprint(c.GetName(), c.GetConfig().Key, fn.GetConfig().FName, f.GetName(), args, c.GetMetaData("client") == opened[0]), nil
	})
	connector := config.NewConnConfig("store", "${STORE_ADDR:localhost:1}", common.REDIS, "key_", nil)
	for _, name := range []string{"save", "other"} {
		c := config.NewFuncConfig(name, common.S, nil, nil)
		if err := c.AddConnConfig(connector); err != nil {
			t.Fatal(err)
		}
		k.linkAs(c, func(ctx context.Context, f kis.Flow) error {
			conn, err := f.GetConnector()
			if err != nil {
				return err
			}
			conf, err := f.GetConnConf()
			if err != nil {
				return err
			}
			answer, err := conn.Call(ctx, f, 7)
			k.seen = append(k.seen, fmt.Sprint(conf.AddrString, " ", conn.GetConfig().AddrString, " ", answer, " ", err))
			return f.Next(kis.ActionForceEntryNext)
		})
	}
	if got := connector.Save; len(got) != 2 {
		t.Errorf("the connector lists %q", got)
	}
	k.run()
	const none = "UNKNOWN_CONNECTOR: nothing is registered for calls of connector store by the Save other: register it with CaaS"
	k.saw("${STORE_ADDR:localhost:1} localhost:1 storekey_saveF7 true <nil>", "${STORE_ADDR:localhost:1} localhost:1 <nil> "+none)
	for range 100 {
		if err := k.flow.Fork(context.Background()).Run(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if len(opened) != 1 {
		t.Fatalf("the connector was opened %d times", len(opened))
	}
	for range 2 {
		if err := k.registry.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if opened[0].closed != 1 {
		t.Errorf("the client was closed %d times", opened[0].closed)
	}
}

// A connector that can't be opened is an error, and is tried again.
func TestConnectorIsTriedAgain(t *testing.T) {
	k := newKit(t)
	tries, errs := 0, []error{errBroken, errors.New("still"), nil}
	k.registry.CaaSInit("store", func(kis.Connector) error {
		tries++
		if errs[tries-1] == nil && tries == 3 {
			return nil
		}
		return errs[tries-1]
	})
	k.registry.FaaS("save", func(_ context.Context, f kis.Flow) error {
		_, err := f.GetConnector()
		return err
	})
	c := config.NewFuncConfig("save", common.S, nil, nil)
	if err := c.AddConnConfig(config.NewConnConfig("store", "localhost:1", common.REDIS, "", nil)); err != nil {
		t.Fatal(err)
	}
	if err := k.flow.Link(c, nil); !errors.Is(err, errBroken) || batch.CodeOf(err) != batch.CodeConnectorUnavailable {
		t.Errorf("Link returned %v", err)
	}
	if err := k.flow.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "open connector store: still") {
		t.Errorf("Run returned %v", err)
	}
	k.run()
	k.run()
	if tries != 3 {
		t.Errorf("it was tried %d times", tries)
	}
}

func TestConnectorWithoutInit(t *testing.T) {
	k := newKit(t)
	k.registry.CaaSInit("panics", func(kis.Connector) error { panic("oh") })
	for name, want := range map[string]string{"none": "register it with CaaSInit", "panics": "panic: oh"} {
		conn := kis.NewConnector(k.registry, config.NewConnConfig(name, "localhost:1", common.REDIS, "", nil))
		for range 2 {
			if err := conn.Init(); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("Init of %s returned %v", name, err)
			}
		}
	}
	k.registry.CaaSInit("panics", func(kis.Connector) error { return nil })
	k.registry.CaaS("store", "f", common.S, nil)
	if err := k.registry.Err(); err == nil || !strings.Contains(err.Error(), "is registered already") || !strings.Contains(err.Error(), "(nil)") {
		t.Errorf("Err returned %v", err)
	}
}

// endless can't be closed, and says so in a way that can't be printed.
type endless struct{}

func (endless) Close() error { panic("no end") }

type silent struct{}

func (silent) Error() string { panic("no text") }
func (silent) Close() error  { return silent{} }

// What a program keeps with a connector may panic when it is closed: that is an error of Close, not the end of the process.
func TestPanicsWhenConnectorsClose(t *testing.T) {
	k := newKit(t)
	k.registry.CaaSInit("store", func(c kis.Connector) error {
		c.SetMetaData("client", endless{})
		c.SetMetaData("other", silent{})
		return nil
	})
	c := config.NewFuncConfig("f", common.S, nil, nil)
	if err := c.AddConnConfig(config.NewConnConfig("store", "localhost:1", common.REDIS, "", nil)); err != nil {
		t.Fatal(err)
	}
	k.linkAs(c, func(_ context.Context, f kis.Flow) error {
		_, err := f.GetConnector()
		return err
	})
	k.run()
	if err := k.registry.Close(); err == nil || !strings.Contains(err.Error(), "no end") {
		t.Errorf("Close returned %v", err)
	}
}

// What Redis remembers of a flow's runs is that of the last ones, however many there were: nobody asks for those before again.
func TestRunsAreForgotten(t *testing.T) {
	const runs = 300
	server := miniredis.RunT(t)
	k := newKit(t)
	k.registry.Func("count", kis.Save(func(_ context.Context, to kis.Writer, row in) error {
		to.Incr("sum", "n", row.ID)
		return nil
	}))
	c := config.NewFuncConfig("count", common.S, nil, nil)
	if err := c.AddConnConfig(config.NewConnConfig("counts", server.Addr(), common.REDIS, "", nil)); err != nil {
		t.Fatal(err)
	}
	k.linkAs(c, nil)
	most := 0
	for range runs {
		k.commit(in{1}, in{2})
		k.run()
		for _, key := range server.Keys() {
			if fields, err := server.HKeys(key); err == nil && strings.HasPrefix(key, "kisgrid:once:") {
				most = max(most, len(fields))
			}
		}
	}
	if most == 0 || most > runs/3 {
		t.Errorf("of %d runs %d fields are remembered", runs, most)
	}
	if got := server.HGet("sum", "n"); got != fmt.Sprint(3*runs) {
		t.Errorf("the sum is %s", got)
	}
}
