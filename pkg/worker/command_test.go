package worker_test

import (
	"bytes"
	"context"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/kisgrid/kisgrid/internal/devcluster"
	"github.com/kisgrid/kisgrid/internal/testgrid"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/kis"
	"github.com/kisgrid/kisgrid/pkg/worker"
)

func register(r *kis.Registry) {
	r.Func("positive", kis.Verify(func(_ context.Context, in number) error {
		if in.N < 0 {
			return kis.Drop("%d is negative", in.N)
		}
		return nil
	}))
	r.Func("double", kis.Calculate(func(_ context.Context, in number) (number, error) { return number{2 * in.N}, nil }))
}

// folder writes documents.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

var goodDocuments = map[string]string{
	"flow.yml":     "kistype: flow\nstatus: 1\nflow_name: f\nshard_key: n\nflows:\n  - fname: positive\n  - fname: double\n",
	"positive.yml": "kistype: func\nfname: positive\nfmode: Verify\nsource:\n  name: numbers\n",
	"double.yml":   "kistype: func\nfname: double\nfmode: Calculate\nsource:\n  name: numbers\n",
}

func changed(name, text string) map[string]string {
	files := maps.Clone(goodDocuments)
	files[name] = text
	return files
}

func TestCommands(t *testing.T) {
	good := folder(t, goodDocuments)
	bad := folder(t, changed("more.yml", "kistype: flow\nstatus: 1\nflow_name: g\nflows:\n  - fname: triple\n  - fname: halve\n---\n"+
		"kistype: func\nfname: triple\nfmode: Calculate\nsource:\n  name: numbers\n---\n"+
		"kistype: func\nfname: halve\nfmode: Calculate\nsource:\n  name: numbers\n"))
	reading := folder(t, map[string]string{
		"flow.yml": "kistype: flow\nstatus: 1\nflow_name: f\nflows:\n  - fname: save\n",
		"save.yml": "kistype: func\nfname: save\nfmode: Save\noption:\n  cname: Store\n  save: {key: \"{n}\", set: {n: n}}\n",
		"conn.yml": "kistype: conn\ncname: Store\ntype: redis\naddrs: ${REDIS_ADDR}\nkey: ${KISGRID_STAGE:x}\npassword_file: /secrets/redis\nparams:\n  tls_ca: ${DIR}/ca.pem\n",
	})
	rows := filepath.Join(folder(t, map[string]string{"rows.ndjson": "{\"n\":4}\n"}), "rows.ndjson")
	many := strings.Repeat("{\"n\":1}\n", 2500) + "{\"n\":-1}\n" + strings.Repeat("x\n", 12)
	for _, c := range []struct {
		name   string
		args   []string
		in     string
		status int
		out    string   // all of it, unless it ends in "…"
		says   []string // on standard error
	}{
		{"lint", []string{"lint", good}, "", 0, "1 flows are right…", nil},
		{"lint with mistakes", []string{"lint", bad}, "", 1, "", []string{"triple", "halve"}},
		{"lint of what may not be read", []string{"lint", reading}, "", 1, "", []string{"conn.yml:5: key: reads ${KISGRID_STAGE}", "conn.yml:6: password_file: names the file /secrets/redis"}},
		{"lint of what may be read", []string{"lint", reading, "--document-env", "REDIS_*,KISGRID_STAGE,DIR", "--document-files", "/secrets"}, "", 0, "1 flows are right…", nil},
		{"lint of other names", []string{"lint", reading, "--document-env=REDIS_ADDR", "--document-files=/secrets"}, "", 1, "", []string{"reads ${KISGRID_STAGE}", "reads ${DIR}"}},
		{"no names", []string{"lint", reading, "--document-env=", "--document-files=/"}, "", 1, "", []string{"reads ${REDIS_ADDR}"}},
		{"a name that is none", []string{"--document-env", "A*B"}, "", 1, "", []string{`"A*B" names no environment variable`}},
		{"run of what may not be read", []string{"run", reading, "f"}, "{\"n\":1}\n", 1, "", []string{"BAD_DOCUMENT", "reads ${KISGRID_STAGE}"}},
		{"run of what may be read", []string{"run", reading, "f", "--document-env", "*"}, "{\"n\":1}\n", 0, "{\"n\":1}\n", nil},
		{"lint of nothing", []string{"lint", filepath.Join(good, "nowhere")}, "", 1, "", []string{"nowhere"}},
		{"lint without a folder", []string{"lint"}, "", 1, "", []string{"lint needs a folder of documents, but the arguments are []: write w lint DIR"}},
		{"run", []string{"run", good, "f"}, "{\"n\":1}\n\n{\"n\":2}", 0, "{\"n\":2}\n{\"n\":4}\n", []string{"f: 2 rows", "2 done 0 filtered 0 aborted 0 dead 0 failed"}},
		{"run of a file", []string{"run", good, "f", "-f", rows}, "", 0, "{\"n\":8}\n", []string{"1 done"}},
		{"run of a file that is not there", []string{"run", good, "f", "-f", rows + "x"}, "", 1, "", []string{"open rows", "rows.ndjsonx"}},
		{"run with a dropped row", []string{"run", good, "f"}, "{\"n\":1}\n{\"n\":-2}\n", 0, "{\"n\":2}\n", []string{"line 2: filtered in positive: DROPPED: -2 is negative", "1 done 1 filtered"}},
		{"run with a dead row", []string{"run", good, "f"}, "{\"n\":\"a\"}\n{\"n\":3}\n", 1, "{\"n\":6}\n", []string{"line 1: dead", "ROW_UNDECODABLE", "1 done 0 filtered 0 aborted 1 dead"}},
		{"run of many rows", []string{"run", good, "f"}, many, 1, "{\"n\":2}\n{\"n\":2}\n…", []string{"line 2501: filtered", "line 2510: dead", "and 3 more rows", "2513 rows", "2500 done 1 filtered 0 aborted 12 dead"}},
		{"run of nothing", []string{"run", good, "f"}, "", 0, "", []string{"f: 0 rows"}},
		{"run of another flow", []string{"run", good, "g"}, "", 1, "", []string{"UNKNOWN_FLOW", `"g"`}},
		{"run of bad documents", []string{"run", bad, "f"}, "", 1, "", []string{"triple", "halve"}},
		{"help", []string{"--help"}, "", 0, "w is a worker of a KisGrid cluster. …", nil},
		{"help of serve", []string{"serve", "--help"}, "", 0, "Serve the cluster…", nil},
		{"version", []string{"--version"}, "", 0, "w version …", nil},
		{"a verb that does not exist", []string{"sevre"}, "", 1, "", []string{`unknown command "sevre"`}},
		{"a flag that does not exist", []string{"--adress", "x"}, "", 1, "", []string{"--adress"}},
		{"a log level that does not exist", []string{"--log-level", "loud"}, "", 1, "", []string{`--log-level "loud"`}},
		{"half of what etcd's TLS needs", []string{"--etcd-tls-cert", "x"}, "", 1, "", []string{"--etcd-tls-key"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			status := worker.Execute(register, append([]string{"/bin/w"}, c.args...), strings.NewReader(c.in), &out, &errs)
			start, cut := strings.CutSuffix(c.out, "…")
			if status != c.status || !strings.HasPrefix(out.String(), start) || (!cut && out.String() != c.out) {
				t.Errorf("exit %d, out %.200q; want %d, %q; on standard error:\n%.1000s", status, out.String(), c.status, c.out, errs.String())
			}
			for _, s := range c.says {
				if !strings.Contains(errs.String(), s) {
					t.Errorf("standard error does not say %q:\n%.1000s", s, errs.String())
				}
			}
		})
	}
}

// synced is a buffer that a process writes to while a test looks on.
type synced struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (s *synced) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *synced) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// The program serves with its defaults where nothing else is said, takes flags from the environment, and drains at SIGTERM.
func TestServeUntilSIGTERM(t *testing.T) {
	etcd := testgrid.EmbeddedEtcd(t, devcluster.EtcdConfig{})
	members := follow(t, etcd.Address())
	t.Setenv("KISGRID_ETCD", etcd.Address())
	t.Setenv("KISGRID_NAME", "from-the-environment")
	t.Setenv("KISGRID_LEASE", "3s")
	var errs synced
	status := make(chan int)
	go func() {
		status <- worker.Execute(register, []string{"w", "--http", "", "--log-format", "json"}, strings.NewReader(""), &bytes.Buffer{}, &errs)
	}()
	record := members.awaitWorker()
	if record.Name != "from-the-environment" || !strings.HasPrefix(record.Address, "127.0.0.1:") || len(record.Functions) != 2 {
		t.Errorf("record %+v", record)
	}
	s := dial(t, record)
	s.double(1, 8)
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if s.next().GetDraining() == nil {
		t.Error("the coordinator is not told")
	}
	members.await("the end of the record, with the result unacknowledged until the session is cut", func(all map[string]cluster.Worker) bool {
		if all[record.ID].Draining {
			if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil { // the second one cuts it off
				t.Fatal(err)
			}
		}
		return len(all) == 0
	})
	if got := <-status; got != 0 {
		t.Errorf("exit %d:\n%s", got, errs.String())
	}
	for _, want := range []string{`"@message":"registered"`, `"@message":"draining"`, `"@message":"worker ended"`} {
		if !strings.Contains(errs.String(), want) {
			t.Errorf("the log has no %s:\n%s", want, errs.String())
		}
	}
}
