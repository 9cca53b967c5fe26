//go:build linux

package upgrade

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/authority"
	"github.com/kisgrid/kisgrid/internal/testgrid"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// roles is the access file of TestRoles. The certificate other.svc is one of the authority, and is not in it.
const roles = `roles:
  sender: [{flows: [Roles], rights: [view, submit]}]
identities:
  - {name: client, roles: [sender], certificates: [{san: client.svc}]}
coordinators: [{san: coordinator.svc}]
workers: [{san: worker.svc}]
`

// TestRoles rolls a cluster with TLS and without roles, of the earlier build, to this build: first with the settings that it has, then with an
// access file, workers first and coordinators then, so that each kind of process stands beside processes without the file. The file is
// given by a variable, which the earlier build does not know. All the time a client submits rows; each must end done and be counted once. At
// the end a certificate that is not in the file is refused.
func TestRoles(t *testing.T) {
	g := startStores(t)
	g.Lease = "2s"
	a, err := authority.New("grid", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	certificate := func(name string) authority.Files {
		f, err := a.Write(t.TempDir(), authority.Leaf{Hosts: []string{name, "127.0.0.1"}})
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	file := filepath.Join(t.TempDir(), "access.yml")
	if err := os.WriteFile(file, []byte(roles), 0o600); err != nil {
		t.Fatal(err)
	}
	settings := func(f authority.Files, more ...string) []string {
		return append([]string{"KISGRID_TLS_CERT=" + f.Cert, "KISGRID_TLS_KEY=" + f.Key, "KISGRID_TLS_CA=" + f.CA, "KISGRID_TLS_REQUIRE_CLIENT_CERT=true"}, more...)
	}
	ofCoordinator, ofWorker := settings(certificate("coordinator.svc")), settings(certificate("worker.svc"), g.Worker.Env...)
	withFile := "KISGRID_ACCESS_FILE=" + file

	p := &producer{t: t, flow: "Roles", news: make(chan struct{}, 1)}

	startWorker := func(build string, env ...string) {
		g.Worker.Path, g.Worker.Env = program(build, "worker"), append(env, ofWorker...)
		g.StartWorker("").Await("session began")
	}
	startCoordinator := func(c *testgrid.Coordinator, build string, env ...string) {
		g.Coordinator.Env = append(env, ofCoordinator...)
		g.startCoordinator(c, build)
	}
	replaceWorkers := func(env ...string) {
		for range len(g.Workers) {
			startWorker("", env...)
			g.TakeWorker(0).Stop()
		}
	}
	replaceCoordinators := func(env ...string) {
		for _, c := range g.Coordinators {
			c.Stop()
			startCoordinator(c, "", env...)
			p.awaitProgress() // through the other one at least
		}
	}
	for range 2 {
		g.Coordinator.Env = ofCoordinator
		g.addCoordinator(g.earlier)
	}
	startWorker(g.earlier, withFile) // it does not know the variable
	startWorker(g.earlier)

	g.definitions.Put(testgrid.Document(definition.KindConn, "Counts", "type: redis\naddrs: ${REDIS_ADDR}\nkey: \"upgrade:\"\nsave: [Count]\n"),
		testgrid.Document(definition.KindFunc, "Count", "fmode: Save\noption:\n  cname: Counts\n  save: {key: \"{id}\", incr: {n: one}}\n"),
		flow("Roles"))
	g.definitions.Await("Roles", "is active", isActive)
	own := certificate("client.svc")
	p.client = g.Dial(client.WithTLSFiles(own.CA, own.Cert, own.Key))
	load, calm := context.WithCancel(t.Context())
	defer calm()
	var producing sync.WaitGroup
	producing.Go(func() { p.produce(load) })
	for _, step := range []struct {
		name string
		do   func()
	}{
		{"the beginning", func() {}},
		{"new workers", func() { replaceWorkers() }},
		{"new coordinators", func() { replaceCoordinators() }},
		{"workers with roles", func() { replaceWorkers(withFile) }},
		{"an old coordinator beside them", func() {
			g.Coordinators[0].Stop()
			startCoordinator(g.Coordinators[0], g.earlier, withFile)
		}},
		{"coordinators with roles", func() { replaceCoordinators(withFile) }},
		{"an old worker beside them", func() { startWorker(g.earlier, withFile) }},
	} {
		began := time.Now()
		step.do()
		p.awaitProgress()
		t.Logf("%s took %v", step.name, time.Since(began).Round(100*time.Millisecond))
	}
	calm()
	producing.Wait()
	for i, n := range g.counted("Roles", p.rows) {
		if n != "1" {
			t.Errorf("row %d was counted %q times", i, n)
		}
	}
	other := certificate("other.svc")
	_, err = g.Dial(client.WithTLSFiles(other.CA, other.Cert, other.Key)).Submit(t.Context(), "Roles", client.Rows(row{ID: "other", One: 1}))
	if batch.CodeOf(err) != batch.CodeUnauthenticated {
		t.Errorf("a certificate that is not in the file gets %v", err)
	}
}
