package behindfailed_test

import (
	"strings"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/behindfailed"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

func TestRows(t *testing.T) {
	var r behindfailed.Rows
	now := time.Now()
	log := batch.LogIDOf("a")
	at := func(floor uint64) *batch.Positions { return &batch.Positions{Log: log, Term: 1, Floor: floor} }
	begin := func(floor, key, position uint64, held bool) {
		t.Helper()
		if failed, got := r.Begin("F", at(floor), key, position); got != held || held && failed != 10 {
			t.Errorf("position %d of key %d, with floor %d: held back by %d is %v", position, key, floor, failed, got)
		}
	}
	begin(0, 1, 5, false)
	r.Failed("F", at(0), 1, 20, now)
	r.Failed("F", at(0), 1, 10, now)
	r.Failed("F", at(0), 1, 30, now)
	begin(0, 1, 11, true)
	begin(10, 1, 40, true)
	begin(0, 2, 11, false) // another key
	if _, held := r.Begin("G", at(0), 1, 11); held {
		t.Error("a row of another flow is held back")
	}
	if _, held := r.Begin("F", &batch.Positions{Log: batch.LogIDOf("b")}, 1, 11); held {
		t.Error("a row of another log is held back")
	}
	begin(0, 1, 10, false) // the failed row comes again
	begin(0, 1, 11, false)
	r.Failed("F", at(0), 1, 10, now)
	begin(0, 1, 9, false) // the row before it comes again
	begin(0, 1, 11, false)
	r.Failed("F", at(0), 1, 10, now)
	earlier, later := &batch.Positions{Log: log}, &batch.Positions{Log: log, Term: 2}
	if _, held := r.Begin("F", earlier, 1, 9); held {
		t.Error("a superseded reader is held back")
	}
	begin(0, 1, 11, true) // and it ended nothing
	r.Failed("F", later, 1, 10, now)
	r.Failed("F", at(0), 1, 5, now)
	begin(0, 1, 7, false)
	if failed, held := r.Begin("F", later, 1, 11); !held || failed != 10 {
		t.Errorf("in the later term, held back by %d is %v", failed, held)
	}
	if _, held := r.Begin("F", &batch.Positions{Log: log, Term: 3}, 1, 11); held {
		t.Error("the reader of the next term is held back")
	}
	r.Failed("F", at(0), 1, 10, now)
	begin(11, 1, 12, false) // the failed row was settled elsewhere
	begin(0, 1, 12, false)
	if o := behindfailed.Outcome(3, 10); o.Row != 3 || o.Outcome != batch.Failed || o.Code != batch.CodeBehindFailed || !strings.Contains(o.Reason, "position 10") {
		t.Errorf("the outcome is %+v", o)
	}

	// Failed rows that never come again are forgotten.
	r.Failed("F", at(0), 7, 10, now)
	for key := range uint64(5000) {
		r.Failed("F", at(0), 100+key, 1, now.Add(2*time.Hour))
	}
	begin(0, 7, 11, false)
}
