//go:build linux

package upgrade

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/internal/testgrid"
	"github.com/kisgrid/kisgrid/internal/testprocess"
	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

var (
	lostRounds = flag.Int("lost.rounds", 3, "how often TestEtcdLost loses etcd's data")
	lostWait   = flag.Duration("lost.wait", 200*time.Millisecond, "how long after an apply begins etcd is lost at the most")
	lostSeed   = flag.Uint64("lost.seed", 1, "of what is random in it")
)

// version is one version of the documents of a flow. It differs from the one before in one document.
type version struct {
	conn     int    // a number in the connector's key
	fields   [2]int // by function: a number in the name of the field that it saves
	function int    // which of the two functions the flow has
}

// next makes the n-th version: it changes the connector, a function or the flow.
func (v *version) next(n int) {
	switch n % 3 {
	case 0:
		v.fields[v.function] = n
	case 1:
		v.conn = n
	case 2:
		v.function = 1 - v.function
		v.fields[v.function] = n
	}
}

// documents are all documents of the version.
func (v *version) documents() []definition.Document {
	all := []definition.Document{
		testgrid.Document(definition.KindConn, "Lost", fmt.Sprintf("type: redis\naddrs: ${REDIS_ADDR}\nkey: \"lost%d:\"\n", v.conn)),
		testgrid.Document(definition.KindFlow, "Lost", fmt.Sprintf("status: 1\nshard_key: k\nflows:\n  - fname: Keep%d\n", v.function)),
	}
	for i, n := range v.fields {
		all = append(all, testgrid.Document(definition.KindFunc, fmt.Sprintf("Keep%d", i),
			fmt.Sprintf("fmode: Save\noption:\n  cname: Lost\n  save: {key: \"{id}\", set: {f%d_%d: one}}\n", i, n)))
	}
	return all
}

// TestEtcdLost has processes of both builds run one version of a flow after the other. While a version is applied, etcd loses its
// data, or goes back to a copy of earlier data, so that it gives numbers of revisions a second time. Whatever became of that version:
// when `kisgrid apply` says that the next one is active, rows must run on it, at each coordinator that says so.
func TestEtcdLost(t *testing.T) {
	t.Logf("-lost.rounds %d -lost.wait %v -lost.seed %d", *lostRounds, *lostWait, *lostSeed)
	random := rand.New(rand.NewPCG(*lostSeed, 0))
	g := startStores(t)
	g.addCoordinator("")
	g.addCoordinator("")
	g.startWorker("")
	g.startWorker(g.earlier)
	server := g.Coordinators[0].Address
	var clients []*client.Client
	for _, c := range g.Coordinators {
		c, err := client.Dial(c.Address, client.WithRetryFor(testprocess.Patience))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		clients = append(clients, c)
	}
	store := redis.NewClient(&redis.Options{Addr: g.Redis})
	defer store.Close()

	var v version
	n, rowsSent := 0, 0
	write := func() (dir string) {
		v.next(n)
		n++
		dir = t.TempDir()
		for _, d := range v.documents() {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%s.yaml", d.Kind, d.Name)), d.YAML, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	// submit sends rows, which must run on the version that was applied last.
	submit := func(c *client.Client) {
		rows := make([]row, 40)
		for i := range rows {
			rows[i] = row{ID: fmt.Sprintf("%d", rowsSent), Key: rowsSent, One: 1}
			rowsSent++
		}
		result, err := c.Submit(t.Context(), "Lost", client.Rows(rows...))
		if err != nil {
			t.Fatalf("version %d: %v", n, err)
		}
		if len(result.NotDone) > 0 {
			t.Fatalf("version %d: %d rows are not done, such as %+v", n, len(result.NotDone), result.NotDone[0])
		}
		field := fmt.Sprintf("f%d_%d", v.function, v.fields[v.function])
		for _, r := range rows {
			key := fmt.Sprintf("lost%d:%s", v.conn, r.ID)
			saved, err := store.HGetAll(t.Context(), key).Result()
			if err != nil || len(saved) != 1 || saved[field] != "1" {
				elsewhere, _ := store.Keys(t.Context(), "lost*:"+r.ID).Result()
				t.Fatalf("version %d, row %s: %s is %v, %v, want %s of it; there are %v", n, r.ID, key, saved, err, field, elsewhere)
			}
		}
	}
	// runs applies the next version, and has rows run on it at each coordinator.
	runs := func() {
		dir := write()
		testprocess.Until(t, fmt.Sprintf("version %d is applied", n), func() error {
			if code, out, log := testprocess.Run(t, testprocess.Config{}, "kisgrid", "apply", "-f", dir, "--server", server); code != 0 {
				return errors.New(out + log)
			}
			return nil
		})
		g.awaitSessions()
		for i, c := range clients {
			if code, out, log := testprocess.Run(t, testprocess.Config{}, "kisgrid", "rollout", "status", "Lost", "--server", g.Coordinators[i].Address); code != 0 {
				t.Fatalf("version %d does not run at coordinator %d: %s%s", n, i, out, log)
			}
			submit(c)
		}
	}
	runs()
	copied := ""
	for round := range *lostRounds {
		began := time.Now()
		what := []string{"loses its data", "is set back to a copy", "is away"}[round%3]
		if copied == "" || what == "is set back to a copy" {
			g.stopEtcd()
			copied = filepath.Join(t.TempDir(), "copy")
			copyDir(t, copied, g.etcdDir)
			g.startEtcd(g.etcdDir)
			runs()
		}
		dir := write()
		wait := time.Duration(random.Int64N(int64(*lostWait)))
		apply := testprocess.Start(t, testprocess.Config{Name: fmt.Sprintf("apply-%d", n)}, "kisgrid", "apply", "-f", dir, "--server", server, "--timeout", "20s")
		time.Sleep(wait) // etcd is lost at a random moment of the apply
		g.stopEtcd()
		switch dir := g.etcdDir; what {
		case "loses its data":
			g.startEtcd(t.TempDir())
		case "is set back to a copy":
			again := filepath.Join(t.TempDir(), "copy") // a later round may need copied again
			copyDir(t, again, copied)
			g.startEtcd(again)
		default:
			g.startEtcd(dir)
		}
		apply.Kill() // its result does not matter
		runs()
		t.Logf("round %d: etcd %s %v after the apply of version %d began; %v", round, what, wait, n-1, time.Since(began).Round(100*time.Millisecond))
	}
}

// copyDir copies a folder.
func copyDir(t *testing.T, to, from string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}
