package cluster_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/pkg/cluster"
)

// TestWatchesBeginAfterTokensExpired begins watches long after the first one, whose token nobody has used since.
func TestWatchesBeginAfterTokensExpired(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		s := simulated(t)
		s.etcd.AddUser("root", "secret")
		file := filepath.Join(t.TempDir(), "password")
		if err := os.WriteFile(file, []byte("secret\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		log := newJournal()
		store := s.open(t, cluster.Config{Username: "root", PasswordFile: file, Logger: log})
		<-followDocuments(t, store).states
		time.Sleep(time.Second) // so that what comes next has another token
		register(t, store, "a-1", leaseTime)
		time.Sleep(20 * time.Minute)
		l := lead(t, store, "c-1")
		workers := followWorkers(t, store)
		<-workers.states
		from := time.Now()
		register(t, store, "a-2", leaseTime)
		workers.await(t, "the second worker", has("a-1", "a-2"))
		if after := time.Since(from); after > time.Second {
			t.Errorf("a change was shown after %v", after)
		}
		time.Sleep(10 * time.Second)
		if away, why := store.Outage(); away {
			t.Errorf("it waits for etcd: %s", why)
		}
		if err := l.Resign(context.Background()); err != nil {
			t.Error(err)
		}
		if n := log.count("out of reach"); n != 0 {
			t.Errorf("told %d times that etcd is out of reach:\n%s", n, log.text)
		}
	})
}
