package flowexec

import (
	"context"
	"testing"

	"github.com/kisgrid/kisgrid/pkg/definition"
)

// TestTracingOffAllocatesNothing goes through everything that a run would trace.
func TestTracingOffAllocatesNothing(t *testing.T) {
	x := &executor{lane: &lane{lanes: &Lanes{}}, ctx: context.Background()}
	w, s, result := &work{part: &Part{}}, &step{connector: &definition.Connector{}}, &RunResult{}
	if n := testing.AllocsPerRun(100, func() {
		x.traceRun(w)
		x.traceFunction(s, 1)
		if ctx, span := x.traceConnector(x.ctx, s); span != nil || ctx != x.ctx {
			t.Fatal("there is a span")
		}
		x.endFunction()
		x.endRun(result, nil)
	}); n != 0 {
		t.Errorf("%g allocations", n)
	}
}
