package redis

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOptionsDefaults(t *testing.T) {
	o, err := readOptions(document("localhost:6379"), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := o.client
	if o.retries != 10 || o.retryMin != 50*time.Millisecond || o.retryMax != 2*time.Second || o.replicaTimeout != time.Second ||
		c.PoolSize != 8 || c.DialTimeout != 5*time.Second || c.ReadTimeout != 3*time.Second || c.WriteTimeout != 3*time.Second ||
		c.DB != 0 || c.TLSConfig != nil || c.Password != "" {
		t.Errorf("the defaults are not those of the package's documentation: %+v %+v", o, c)
	}
}

func TestOptionsChooseTheClient(t *testing.T) {
	for name, test := range map[string]struct {
		addrs  []string
		params map[string]string
		is     func(goredis.UniversalClient) bool
	}{
		"one":     {[]string{"a:1"}, nil, func(c goredis.UniversalClient) bool { _, ok := c.(*goredis.Client); return ok }},
		"several": {[]string{"a:1", "b:1"}, nil, func(c goredis.UniversalClient) bool { _, ok := c.(*goredis.ClusterClient); return ok }},
		"cluster": {[]string{"a:1"}, map[string]string{"cluster": "true"}, func(c goredis.UniversalClient) bool { _, ok := c.(*goredis.ClusterClient); return ok }},
		"sentinel": {[]string{"a:1", "b:1"}, map[string]string{"master": "m"}, func(c goredis.UniversalClient) bool {
			return strings.Contains(c.(*goredis.Client).String(), "Failover")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			doc := document(test.addrs...)
			doc.Params = test.params
			o, err := readOptions(doc, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			c := goredis.NewUniversalClient(o.client)
			defer c.Close()
			if !test.is(c) {
				t.Errorf("got %T %v", c, c)
			}
		})
	}
}

func TestOptionsAreRead(t *testing.T) {
	doc := document("localhost:6379")
	doc.Username, doc.PasswordFile = "worker", file(t, "secret \n")
	doc.Params = map[string]string{
		"db": "3", "pool_size": "2", "retries": "0", "retry_min": "1ms", "retry_max": "1ms", "read_timeout": "7s",
		"replica_timeout": "2s", "tls_server_name": "redis.example", "sentinel_username": "s", "sentinel_password": "p",
	}
	o, err := readOptions(doc, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := o.client
	if c.Username != "worker" || c.Password != "secret " || c.DB != 3 || c.PoolSize != 2 || o.retries != 0 || o.retryMax != time.Millisecond ||
		c.ReadTimeout != 7*time.Second || o.replicaTimeout != 2*time.Second || c.TLSConfig == nil || c.TLSConfig.ServerName != "redis.example" ||
		c.SentinelUsername != "s" || c.SentinelPassword != "p" {
		t.Errorf("got %+v %+v", o, c)
	}
}

// TestOptionsOfOthers keeps KisFlow's documents loading, whose params are the user's own.
func TestOptionsOfOthers(t *testing.T) {
	doc := document("localhost:6379")
	doc.Params = map[string]string{"poolsize": "1", "args1": "x", "db": "1"}
	o, err := readOptions(doc, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(o.ignored, []string{"args1", "poolsize"}) || !slices.Contains(o.known, "pool_size") {
		t.Errorf("ignored are %v of %v", o.ignored, o.known)
	}
}

func TestOptionsMistakes(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*definition.Connector)
		says   []string
	}{
		"values": {func(c *definition.Connector) {
			c.Params = map[string]string{"db": "-1", "pool_size": "0", "retries": "x", "read_timeout": "3", "retry_max": "-1s", "cluster": "perhaps"}
		}, []string{`db is "-1"`, `pool_size is "0"`, "whole number from 1", `retries is "x"`, `read_timeout is "3", but must be a time like`, "retry_max", "cluster"}},
		"no server":       {func(c *definition.Connector) { c.Addrs = nil }, []string{"addrs names no server"}},
		"retry":           {func(c *definition.Connector) { c.Params = map[string]string{"retry_min": "3s"} }, []string{"retry_min (3s) is over retry_max (2s)"}},
		"replica_timeout": {func(c *definition.Connector) { c.Replicas = 1; c.Params = map[string]string{"replica_timeout": "3s"} }, []string{"replica_timeout (3s) must be under read_timeout (3s)"}},
		"two kinds":       {func(c *definition.Connector) { c.Params = map[string]string{"cluster": "1", "master": "m"} }, []string{"exclude each other"}},
		"cluster's db": {func(c *definition.Connector) {
			c.Addrs = []string{"a:1", "b:1"}
			c.Params = map[string]string{"db": "1"}
		}, []string{"database 0 only"}},
		"cluster's replica": {func(c *definition.Connector) { c.Addrs = []string{"a:1", "b:1"}; c.Replicas = 1 }, []string{"min-replicas-to-write"}},
		"two passwords": {func(c *definition.Connector) {
			c.PasswordFile = file(t, "a")
			c.Params = map[string]string{"password": "hidden"}
		}, []string{"exclude each other"}},
		"no password file": {func(c *definition.Connector) { c.PasswordFile = "/nonexistent/password" }, []string{"password_file", "no such file"}},
		"no ca":            {func(c *definition.Connector) { c.Params = map[string]string{"tls_ca": "/nonexistent/ca"} }, []string{"tls_ca", "no such file"}},
		"empty ca":         {func(c *definition.Connector) { c.Params = map[string]string{"tls_ca": file(t, "x")} }, []string{"tls_ca", "no PEM certificate"}},
		"no key":           {func(c *definition.Connector) { c.Params = map[string]string{"tls_cert": file(t, "x")} }, []string{"tls_cert and tls_key"}},
	} {
		t.Run(name, func(t *testing.T) {
			doc := document("localhost:6379")
			test.change(doc)
			_, err := Open(t.Context(), doc)
			if batch.CodeOf(err) != batch.CodeBadDocument {
				t.Fatalf("got %v", err)
			}
			for _, text := range test.says {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("the error does not say %q:\n%v", text, err)
				}
			}
			if strings.Contains(err.Error(), "hidden") {
				t.Errorf("the error gives the password away: %v", err)
			}
		})
	}
}

// A document is taken in by a list of parameters that is kept with documents: it is the connector's.
func TestParamsAreThoseOfIntake(t *testing.T) {
	o, err := readOptions(document("localhost:6379"), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if known := definition.RedisParams(); !slices.Equal(o.known, known) {
		t.Errorf("the connector knows %q, and documents may have %q", o.known, known)
	}
}

// What documents are refused for when they are taken in is what the connector can't be opened with, also of values that are right by
// themselves.
func TestIntakeIsTheConnectors(t *testing.T) {
	refused := 0
	rapid.Check(t, func(r *rapid.T) {
		yaml := "kistype: conn\ncname: c\ntype: redis\naddrs: " + rapid.SampledFrom([]string{"h:1", "h:1,h:2", "/run/r.sock"}).Draw(r, "addrs") + "\n"
		if replicas := rapid.IntRange(0, 1).Draw(r, "replicas"); replicas > 0 {
			yaml += "replicas: 1\n"
		}
		yaml += "params:\n  other: x\n"
		times := []string{"1ms", "40ms", "2s", "3s", "1h"}
		for name, values := range map[string][]string{
			"retry_min": times, "retry_max": times, "read_timeout": times, "replica_timeout": times, "once_window": times,
			"db": {"0", "1", "x"}, "cluster": {"true", "false", "1"}, "master": {"m", "''"}, "pool_size": {"0", "1"}, "retries": {"0"},
		} {
			if rapid.IntRange(0, 2).Draw(r, "has "+name) == 0 {
				yaml += "  " + name + ": " + rapid.SampledFrom(values).Draw(r, name) + "\n"
			}
		}
		p, err := definition.Parse(definition.Document{YAML: []byte(yaml)})
		if err != nil {
			r.Fatal(err)
		}
		_, opened := readOptions(p.Connector, nil, nil)
		taken := p.Intake(definition.MaxSteps)
		if (opened == nil) != (taken == nil) {
			r.Fatalf("%s\nis taken in with %v, and opened with %v", yaml, taken, opened)
		}
		if taken != nil {
			refused++
		}
	})
	if refused == 0 {
		t.Error("nothing was refused")
	}
}
