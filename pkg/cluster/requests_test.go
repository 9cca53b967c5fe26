package cluster_test

import (
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/pkg/cluster"
)

// testRequests keeps requests under one lease, through two keepers as in two processes. The age of each counts from when it was kept, by etcd,
// whatever the clocks say, and to a second.
func testRequests(t *testing.T, s *server) {
	store := s.open(t, cluster.Config{})
	first, second := store.Requests(), s.open(t, cluster.Config{}).Requests()
	request := cluster.KeptRequest{Revision: 7, Stream: "aa", Body: "bb"}
	keep := func(r *cluster.Requests, hash string) (*cluster.KeptRequest, time.Duration) {
		t.Helper()
		earlier, age, err := r.Keep(t.Context(), hash, request)
		if err != nil {
			t.Fatal(err)
		}
		return earlier, age
	}
	began := time.Now()
	if earlier, _ := keep(first, "one"); earlier != nil {
		t.Fatalf("a new request is known as %+v", earlier)
	}
	var age time.Duration
	for age < time.Second { // etcd counts the lease down in seconds
		var earlier *cluster.KeptRequest
		if earlier, age = keep(second, "one"); earlier == nil || earlier.Revision != 7 || earlier.Stream != "aa" || earlier.Body != "bb" {
			t.Fatalf("the kept request is %+v", earlier)
		}
		if passed := time.Since(began); passed > time.Minute {
			t.Fatalf("after %v the age is %v", passed, age)
		}
		time.Sleep(10 * time.Millisecond) // nothing tells that a second of the lease has passed
	}
	if passed := time.Since(began); age > passed+time.Second {
		t.Errorf("after %v the age is %v", passed, age)
	}
	if earlier, _ := keep(first, "two"); earlier != nil { // under the same lease, and younger than that
		t.Fatalf("a new request is known as %+v", earlier)
	}
	kept := time.Now()
	if _, age := keep(second, "two"); age > time.Since(kept)+time.Second {
		t.Errorf("the age of the second request is %v, as that of its lease", age)
	}
}
