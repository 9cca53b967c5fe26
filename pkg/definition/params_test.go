package definition

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// What a connector to Redis can't be opened with is refused when it is taken in, with its line; what can be opened is not.
func TestConnectorIntake(t *testing.T) {
	intake := func(t *testing.T, addrs, params string) Mistakes {
		t.Helper()
		p, err := Parse(Document{YAML: fmt.Appendf(nil, "kistype: conn\ncname: c\ntype: redis\naddrs: %q\nparams:\n  other: x\n%s", addrs, params)})
		if err != nil {
			t.Fatal(err)
		}
		mistakes, _ := errors.AsType[Mistakes](p.Intake(MaxSteps))
		return mistakes
	}
	const good = "localhost:6379"
	for addrs, wrong := range map[string]int{
		good: 0, "127.0.0.1:1": 0, "[::1]:6379": 0, ":6379": 0, "/run/redis.sock": 0, "a:1, b:2": 0, "h:redis": 0, "${ADDR}": 0, "${HOST}:6379": 0,
		"${HOST:h}": 0, "my_host:65535": 0, "[fe80::1%eth0]:1": 0,
		"127.0.0.1": 1, "redis://h:p": 1, "redis://h:6379": 1, "rediss://u:p@h:1": 1, "tcp://h:1": 1, "localhost": 1, "::1": 1, "[::1]": 1,
		"h:": 1, "h:0": 1, "h:65536": 1, "h:-1": 1, "h:6379/0": 1, "h h:1": 1, "u@h:1": 1, "unix:/run/redis.sock": 1, "a:1, b": 1, "a, b": 2,
	} {
		mistakes := intake(t, addrs, "")
		if len(mistakes) != wrong || wrong > 0 && (mistakes[0].Line != 4 || mistakes[0].Key != "addrs") {
			t.Errorf("addrs %s: %q, want %d mistakes of line 4", addrs, mistakes, wrong)
		}
		if strings.Contains(mistakes.Error(), "u:p") {
			t.Errorf("a password stands in %q", mistakes)
		}
	}
	var numbers, times, flags = []string{"db", "retries", "pool_size"}, []string{"dial_timeout", "read_timeout", "write_timeout", "retry_min", "retry_max", "replica_timeout", "once_window"}, []string{"cluster", "tls", "tls_skip_verify"}
	for _, c := range []struct{ names, right, wrong []string }{
		{numbers, []string{"1", "16", "''", "${N}", "${N:x}", "'2'"}, []string{"x", "-1", "010", "1_0", "+1", "1.5", "0x10", "1e3", "99999999999999999999", "' 1'"}},
		{times, []string{"3s", "500ms", "1h30m", "''", "${T}"}, []string{"3000", "0", "0s", "-1s", "3 s", "x", "1d", "3seconds"}},
		{flags, []string{"true", "false", "1", "0", "''", "${B}"}, []string{"yes", "on", "x", "2"}},
		{[]string{"pool_size"}, nil, []string{"0"}},
		{[]string{"db", "retries"}, []string{"0"}, nil},
		{[]string{"master", "password", "sentinel_username", "sentinel_password", "tls_server_name", "unheard_of"}, []string{"x", "3000", "-1"}, nil},
	} {
		for _, name := range c.names {
			for _, value := range c.right {
				other := ""
				if name == "retry_min" {
					other = "\n  retry_max: 2h"
				}
				if mistakes := intake(t, good, "  "+name+": "+value+other); len(mistakes) > 0 {
					t.Errorf("%s: %s is refused: %q", name, value, mistakes)
				}
			}
			for _, value := range c.wrong {
				mistakes := intake(t, good, "  "+name+": "+value)
				if len(mistakes) != 1 || mistakes[0].Line != 7 || mistakes[0].Key != "params."+name || !strings.Contains(mistakes[0].Problem, "write") {
					t.Errorf("%s: %s: %q, want one mistake of line 7", name, value, mistakes)
				}
			}
		}
	}
}

// Values that are right by themselves and can't be together are refused, with the line of one of them; what a worker puts in is not judged.
func TestConnectorIntakeTogether(t *testing.T) {
	for more, want := range map[string]string{
		"params: {retry_min: 3s, retry_max: 2s}":         "params.retry_min",
		"params: {retry_min: 2s, retry_max: 2s}":         "",
		"params: {retry_min: \"${MIN}\", retry_max: 2s}": "",
		"params: {retry_min: 3s}":                        "params.retry_min",
		"params: {retry_max: 10ms}":                      "params.retry_max",
		"params: {retry_min: 3s, retry_max: \"${MAX}\"}": "",
		"params: {master: m, cluster: true}":             "params.master",
		"params: {master: m, cluster: false}":            "",
		"params: {master: \"${M}\", cluster: true}":      "",
		"params: {db: 1, cluster: true}":                 "params.db",
		"params: {db: 1, cluster: \"${C}\"}":             "",
		"params: {db: 0, cluster: true}":                 "",
		"params: {db: 1}":                                "",
		"params: {db: 1, master: m}":                     "",
		"params: {cluster: true}\nreplicas: 1":           "replicas",
		"replicas: 1\nparams: {replica_timeout: 3s}":     "params.replica_timeout",
		"replicas: 1\nparams: {read_timeout: 1s}":        "params.read_timeout",
		"replicas: 1\nparams: {read_timeout: \"${T}\"}":  "",
		"replicas: 1": "",
		"password_file: /run/p\nparams: {password: x}":                              "password_file",
		"params: {tls_cert: /run/c}":                                                "params.tls_cert",
		"params: {tls_key: /run/c}":                                                 "params.tls_key",
		"params: {tls_key: /run/c, tls_cert: /run/c}":                               "",
		"addrs: a:1,b:1\nparams: {db: 1}":                                           "params.db",
		"addrs: a:1,b:1\nreplicas: 1":                                               "replicas",
		"addrs: a:1,b:1\nparams: {db: 1, master: m}":                                "",
		"addrs: \"${A:a:1},b:1\"\nparams: {db: 1}":                                  "",
		"params: {retry_min: 3s, retry_max: 2s, pool_size: 0}":                      "params.pool_size",
		"params: {cluster: true, db: 2, password: \"${P}\"}\npassword_file: /run/p": "password_file params.db",
	} {
		if !strings.Contains(more, "addrs") {
			more = "addrs: a:1\n" + more
		}
		p, err := Parse(Document{YAML: []byte("kistype: conn\ncname: c\ntype: redis\n" + more)})
		if err != nil {
			t.Fatal(err)
		}
		mistakes, _ := errors.AsType[Mistakes](p.Intake(MaxSteps))
		var keys []string
		for _, m := range mistakes {
			if keys = append(keys, m.Key); m.Line == 0 || m.Line != p.Connector.Document.LineOf(m.Key) {
				t.Errorf("%s: line %d", more, m.Line)
			}
		}
		if got := strings.Join(keys, " "); got != want {
			t.Errorf("%s\nis refused for %q: %v, want %q", more, got, mistakes, want)
		}
	}
}

// An unknown parameter is a warning, with the name that may be meant; other types' parameters are their users' own.
func TestUnknownParams(t *testing.T) {
	set, err := NewSet([]Document{
		{YAML: []byte("kistype: conn\ncname: a\ntype: redis\naddrs: h:1\nparams:\n  pool_sise: 3\n  mine: x\n  db: 1\n"), Path: "a.yml"},
		{YAML: []byte("kistype: conn\ncname: b\ntype: kafka\naddrs: h\nparams:\n  db: x\n"), Path: "b.yml"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := set.Intake(MaxSteps); err != nil {
		t.Errorf("they are refused: %v", err)
	}
	const means = "is not a parameter of KisGrid, and is left to your own code"
	want := []string{"a.yml:7: params.mine: " + means, "a.yml:6: params.pool_sise: " + means + `; did you mean "pool_size"?`}
	if got := set.Warnings(); !slices.Equal(got, want) {
		t.Errorf("warnings %q, want %q", got, want)
	}
}
