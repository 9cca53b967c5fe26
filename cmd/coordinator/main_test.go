package main

import (
	"bytes"
	"context"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestFlags reads every flag from the command line, from the environment, and by default; the command line wins.
func TestFlags(t *testing.T) {
	read := func(args ...string) *cobra.Command {
		cmd := root()
		cmd.SetArgs(args)
		cmd.RunE = func(*cobra.Command, []string) error { return nil }
		if err := cmd.Execute(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	for _, c := range []struct{ flag, byDefault, given, variable, inEnvironment string }{
		{"listen", ":7700", "1.2.3.4:1", "KISGRID_LISTEN", "1.2.3.4:2"},
		{"advertise", "", "grid:1", "KISGRID_ADVERTISE", "grid:2"},
		{"http", ":7702", "", "KISGRID_HTTP", ":9"},
		{"etcd", "[127.0.0.1:2379]", "[a:1,b:2]", "KISGRID_ETCD", "[c:3]"},
		{"etcd-prefix", "/kisgrid/", "/a/", "KISGRID_ETCD_PREFIX", "/b/"},
		{"etcd-username", "", "me", "KISGRID_ETCD_USERNAME", "you"},
		{"etcd-password-file", "", "p", "KISGRID_ETCD_PASSWORD_FILE", "q"},
		{"etcd-tls-ca", "", "ca", "KISGRID_ETCD_TLS_CA", "ca2"},
		{"lease", "10s", "3s", "KISGRID_LEASE", "4s"},
		{"no-worker", "10s", "1s", "KISGRID_NO_WORKER", "2s"},
		{"drain-timeout", "30s", "5s", "KISGRID_DRAIN_TIMEOUT", "6s"},
		{"budget-bytes", "100663296", "1000", "KISGRID_BUDGET_BYTES", "2000"},
		{"max-txn-ops", "128", "10", "KISGRID_MAX_TXN_OPS", "20"},
		{"max-row-bytes", "1048576", "10", "KISGRID_MAX_ROW_BYTES", "20"},
		{"max-batch-bytes", "8388608", "30", "KISGRID_MAX_BATCH_BYTES", "40"},
		{"max-batch-rows", "65536", "50", "KISGRID_MAX_BATCH_ROWS", "60"},
		{"max-connections", "1000", "70", "KISGRID_MAX_CONNECTIONS", "80"},
		{"max-calls", "4096", "90", "KISGRID_MAX_CALLS", "100"},
		{"max-receive-bytes", "67108864", "110", "KISGRID_MAX_RECEIVE_BYTES", "120"},
		{"tls-cert", "", "c", "KISGRID_TLS_CERT", "d"},
		{"tls-key", "", "k", "KISGRID_TLS_KEY", "l"},
		{"tls-ca", "", "a", "KISGRID_TLS_CA", "b"},
		{"tls-server-name", "", "n", "KISGRID_TLS_SERVER_NAME", "m"},
		{"tls-require-client-cert", "false", "true", "KISGRID_TLS_REQUIRE_CLIENT_CERT", "true"},
		{"access-file", "", "a.yml", "KISGRID_ACCESS_FILE", "b.yml"},
		{"access-plaintext", "false", "true", "KISGRID_ACCESS_PLAINTEXT", "true"},
		{"refuse-direct-changes", "false", "true", "KISGRID_REFUSE_DIRECT_CHANGES", "true"},
		{"pprof", "false", "true", "KISGRID_PPROF", "true"},
		{"log-level", "info", "debug", "KISGRID_LOG_LEVEL", "warn"},
		{"log-format", "text", "json", "KISGRID_LOG_FORMAT", "json"},
	} {
		t.Run(c.flag, func(t *testing.T) {
			value := func(args ...string) string { return read(args...).Flags().Lookup(c.flag).Value.String() }
			given := "--" + c.flag + "=" + strings.Trim(c.given, "[]")
			if got := value(); got != c.byDefault {
				t.Errorf("by default it is %q, want %q", got, c.byDefault)
			}
			if got := value(given); got != c.given {
				t.Errorf("given, it is %q, want %q", got, c.given)
			}
			t.Setenv(c.variable, strings.Trim(c.inEnvironment, "[]"))
			if got := value(); got != c.inEnvironment {
				t.Errorf("from %s it is %q, want %q", c.variable, got, c.inEnvironment)
			}
			if got := value(given); got != c.given {
				t.Errorf("given beside %s, it is %q, want %q", c.variable, got, c.given)
			}
		})
	}
}

// TestWrongFlags refuses what can't work, naming what to mend.
func TestWrongFlags(t *testing.T) {
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	here := []string{"--listen", "127.0.0.1:0", "--http", ""}
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"level":          {[]string{"--log-level", "loud"}, "--log-level"},
		"a port taken":   {[]string{"--listen", taken.Addr().String()}, taken.Addr().String()},
		"pages' port":    {[]string{"--http", taken.Addr().String()}, `--http ""`},
		"advertise":      {[]string{"--advertise", "nowhere"}, "--advertise"},
		"half of TLS":    {[]string{"--tls-cert", "tls.crt"}, "--tls-key"},
		"no such file":   {[]string{"--tls-cert", "no.crt", "--tls-key", "no.key"}, "no.crt"},
		"etcd's CA":      {[]string{"--etcd-tls-ca", filepath.Join(t.TempDir(), "no-ca.crt")}, "no-ca.crt"},
		"few operations": {[]string{"--max-txn-ops", "0"}, "--max-txn-ops"},
		"small budget":   {[]string{"--budget-bytes", "1000"}, "budget"},
		"too many words": {[]string{"serve"}, "serve"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := root()
			cmd.SetArgs(append(here, c.args...))
			cmd.SetErr(&bytes.Buffer{})
			if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want an error that says %q", err, c.says)
			}
		})
	}
	t.Setenv("KISGRID_LEASE", "soon")
	cmd := root()
	cmd.SetArgs(here)
	if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), "KISGRID_LEASE") {
		t.Errorf("got %v, want an error that names the variable", err)
	}
}

// logged is what a command has written so far, and wakes who waits for more.
type logged struct {
	mu      sync.Mutex
	text    strings.Builder
	changed chan struct{}
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.changed <- struct{}{}:
	default:
	}
	return l.text.Write(p)
}

func (l *logged) await(t *testing.T, line string) {
	t.Helper()
	timeout := time.After(time.Minute)
	for {
		l.mu.Lock()
		text := l.text.String()
		l.mu.Unlock()
		if strings.Contains(text, line) {
			return
		}
		select {
		case <-l.changed:
		case <-timeout:
			t.Fatalf("it did not log %q:\n%s", line, text)
		}
	}
}

// TestWaitsForEtcd starts without an etcd: it says so, and what it waits for, and ends when it is told to.
func TestWaitsForEtcd(t *testing.T) {
	free, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	etcd := free.Addr().String()
	_ = free.Close()
	out := &logged{changed: make(chan struct{}, 1)}
	cmd := root()
	cmd.SetArgs([]string{"--listen", ":0", "--http", "", "--etcd", etcd})
	cmd.SetErr(out)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- cmd.ExecuteContext(ctx) }()
	out.await(t, "advertise=127.0.0.1:")
	out.await(t, "waiting for etcd")
	out.await(t, etcd)
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestPortsInUse starts a coordinator without a word about ports where others hold the usual ones: it takes free ones, and says so. One
// that is told a port, or that advertises one, does not.
func TestPortsInUse(t *testing.T) {
	for _, port := range []string{":7700", ":7702"} {
		if l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", port); err == nil { // else somebody else holds it
			defer l.Close()
		}
	}
	begin := func(args ...string) (log *logged, ended chan error, cancel func()) {
		log, ended = &logged{changed: make(chan struct{}, 1)}, make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		cmd := root()
		cmd.SetArgs(append(args, "--etcd", "127.0.0.1:1"))
		cmd.SetErr(log)
		go func() { ended <- cmd.ExecuteContext(ctx) }()
		return log, ended, cancel
	}
	log, ended, cancel := begin()
	defer cancel()
	log.await(t, "wanted=:7700")
	log.await(t, "wanted=:7702")
	log.await(t, "starting")
	cancel()
	<-ended // as etcd never was there, it need not end well
	for _, args := range [][]string{{"--listen", ":7700"}, {"--http", ":7702"}, {"--advertise", "somewhere:7700"}} {
		_, ended, cancel := begin(args...)
		select {
		case err := <-ended:
			if err == nil || !strings.Contains(err.Error(), "choose another address, or end the process that has it") {
				t.Errorf("with %q it ended with %v", args, err)
			}
		case <-time.After(time.Minute):
			cancel()
			t.Fatalf("with %q it does not end", args)
		}
		cancel()
	}
}
