// Package e2e drives the built programs as an operator does: as processes, against a real etcd and a real Redis where they
// are installed, else against embedded ones.
package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/internal/devcluster"
	"github.com/kisgrid/kisgrid/internal/testprocess"
)

func TestMain(m *testing.M) { os.Exit(testprocess.Main(m, "../cmd/...")) }

// must runs a program that has to succeed.
func must(t *testing.T, stdin, program string, args ...string) (out string) {
	t.Helper()
	code, out, log := testprocess.Run(t, testprocess.Config{Stdin: stdin}, program, args...)
	if code != 0 {
		t.Fatalf("%s %s ended with %d:\n%s%s", program, strings.Join(args, " "), code, out, log)
	}
	return out
}

// startEtcd starts an etcd at the address with its data in dir.
func startEtcd(t *testing.T, address, dir string) (stop func()) {
	t.Helper()
	return testprocess.StartEtcd(t, "http://"+address, dir, func() (io.Closer, error) {
		return devcluster.StartEtcd(t.Context(), devcluster.EtcdConfig{Address: address, DataDir: dir})
	})
}

// startRedis starts a Redis at the address.
func startRedis(t *testing.T, address string) (stop func()) {
	t.Helper()
	return testprocess.StartRedis(t, address, func() (io.Closer, error) {
		return devcluster.StartRedis(devcluster.RedisConfig{Address: address})
	})
}

// metric reads one value from a process's metrics; labels as they are printed, or empty.
func metric(address, name, labels string) (float64, error) {
	r, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		return 0, err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return 0, err
	}
	if labels != "" {
		name += "{" + labels + "}"
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("no metric %s", name)
}
