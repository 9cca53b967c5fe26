package k8s

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/authority"
)

// production starts the cluster with the overlay for production, and with certificates of a new authority.
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

// secrets makes the secrets that cert-manager would make.
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
		if name == "client" {
			o.client = f
		}
		o.do("create", "secret", "generic", name+"-tls", "--from-file", f.Cert, "--from-file", f.Key, "--from-file", f.CA)
	}
	o.do("create", "secret", "generic", "redis", "--from-literal", "address=redis:6379")
}

// TestAutoscaler sends load in waves. With each wave the number of workers must rise, in any number of steps, and fall again, in one
// period.
func TestAutoscaler(t *testing.T) {
	o := newOperator(t)
	if *waveFlag == 0 {
		t.Skip("no waves asked for: -k8s.wave 2m makes five of them, of a minute of load and one of none")
	}
	o.apply("waves", "data-etcd-0", "data-redis-0")
	replicas, rising, turns := 2, false, 0
	var changes []string
	begin := time.Now()
	watch := func(until time.Time) {
		for time.Now().Before(until) {
			now, err := strconv.Atoi(o.do("get", "deployment", "worker", "-o", "jsonpath={.spec.replicas}"))
			if err != nil {
				t.Fatal(err)
			}
			if now != replicas {
				changes = append(changes, fmt.Sprintf("%d after %s", now, time.Since(begin).Round(time.Second)))
				if now > replicas != rising {
					rising = !rising
					turns++
				}
				replicas = now
			}
			time.Sleep(time.Second)
		}
	}
	for wave := range 5 {
		before := turns
		if err := o.ask(fmt.Sprintf("start?rate=%d", *rateFlag), &struct{}{}); err != nil {
			t.Fatal(err)
		}
		watch(time.Now().Add(*waveFlag / 2))
		var r Report
		if err := o.ask("stop", &r); err != nil {
			t.Fatal(err)
		}
		watch(begin.Add(time.Duration(wave+1) * *waveFlag))
		t.Logf("wave %d: %+v, workers: %s", wave+1, r, strings.Join(changes, ", "))
		if r.Open+r.Errors+r.Failed+r.Dead+r.Lost+r.Doubled+r.Disordered > 0 {
			t.Errorf("wave %d: a promise was broken: %v", wave+1, r.Problems)
		}
		if n := turns - before; n > 2 {
			t.Errorf("wave %d: the number of workers turned %d times", wave+1, n)
		}
	}
	if turns == 0 {
		t.Error("the autoscaler did nothing")
	}
}
