package k8s

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/authority"
)

// production brings the overlay for production up, with certificates of an authority of its own.
func (o *operator) production() {
	o.t.Helper()
	o.do("delete", "namespace", namespace, "--ignore-not-found")
	o.do("create", "namespace", namespace)
	o.secrets()
	claims := []string{"data-redis-0"}
	for i := range 3 {
		claims = append(claims, fmt.Sprintf("data-etcd-%d", i))
	}
	if *volumesFlag != "" {
		o.volumes(claims)
	}
	o.do("apply", "-k", filepath.Join("manifests", "production"))
	o.do("wait", "--for=condition=complete", "job/apply", "--timeout", patience.String())
	o.calm()
}

// secrets makes what cert-manager would make.
func (o *operator) secrets() {
	o.t.Helper()
	a, err := authority.New("kisgrid", 24*time.Hour)
	if err != nil {
		o.t.Fatal(err)
	}
	hosts := map[string][]string{"worker": {"worker"}, "client": {"client"}, "etcd": {"etcd", "etcd-0.etcd", "etcd-1.etcd", "etcd-2.etcd", "127.0.0.1"}}
	for _, service := range []string{"coordinator", "coordinators"} {
		hosts["coordinator"] = append(hosts["coordinator"], service, service+"."+namespace, service+"."+namespace+".svc")
	}
	for name, names := range hosts {
		f, err := a.Write(filepath.Join(o.t.TempDir(), name), authority.Leaf{Hosts: names})
		if err != nil {
			o.t.Fatal(err)
		}
		o.do("create", "secret", "generic", name+"-tls", "--from-file", f.Cert, "--from-file", f.Key, "--from-file", f.CA)
	}
	o.do("create", "secret", "generic", "redis", "--from-literal", "address=redis:6379")
}

// TestAutoscaler lets load come and go in waves: each makes the workers more once, and fewer once.
func TestAutoscaler(t *testing.T) {
	o := newOperator(t)
	if *waveFlag == 0 {
		t.Skip("no waves asked for: -k8s.wave 2m makes five of them, of a minute of load and one of none")
	}
	o.apply("waves", "data-etcd-0", "data-redis-0")
	type change struct {
		at       time.Duration
		replicas string
	}
	var changes []change
	begin := time.Now()
	watch := func(until time.Time) {
		for time.Now().Before(until) {
			replicas := o.do("get", "deployment", "worker", "-o", "jsonpath={.spec.replicas}")
			if len(changes) == 0 || changes[len(changes)-1].replicas != replicas {
				changes = append(changes, change{time.Since(begin).Round(time.Second), replicas})
			}
			time.Sleep(time.Second)
		}
	}
	for wave := range 5 {
		before := len(changes)
		if err := o.ask(fmt.Sprintf("start?rate=%d", *rateFlag), &struct{}{}); err != nil {
			t.Fatal(err)
		}
		watch(time.Now().Add(*waveFlag / 2))
		var r Report
		if err := o.ask("stop", &r); err != nil {
			t.Fatal(err)
		}
		watch(begin.Add(time.Duration(wave+1) * *waveFlag))
		t.Logf("wave %d: %+v, replicas %v", wave+1, r, changes)
		if r.Open+r.Errors+r.Failed+r.Dead+r.Lost+r.Doubled+r.Disordered > 0 {
			t.Errorf("wave %d: a promise was broken: %v", wave+1, r.Problems)
		}
		if n := len(changes) - before; wave > 0 && n > 2 {
			t.Errorf("wave %d: the number of workers changed %d times", wave+1, n)
		}
	}
}
