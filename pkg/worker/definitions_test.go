package worker

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// TestRowsOfARevisionThatDoesNotCompile sends rows that began on a revision which this build can't run: they fail, and neither the
// session nor the rows of the other revision suffer.
func TestRowsOfARevisionThatDoesNotCompile(t *testing.T) {
	inBubble(t, wideBudget, func(t *testing.T, r *rig) {
		b := r.dial()
		b.hello("c-1", false)
		b.define("sharded")
		if errs := b.defineAs("sharded", 6, documents("sharded", "id", "nobody", 1)); len(errs) == 0 {
			t.Fatal("a function that nobody has compiles")
		}
		p := batchOf(1, "sharded", "a", "b")
		p.Revision = 6
		b.sendPart(p)
		result := b.result()
		if len(result.GetNotDone()) != 2 || !result.GetLast() {
			t.Fatalf("the rows ended as %v", result)
		}
		for _, o := range result.GetNotDone() {
			if o.GetOutcome() != pb.Outcome_OUTCOME_FAILED || o.GetCode() != pb.Code_CODE_NO_CAPABLE_WORKER ||
				!strings.Contains(o.GetReason(), "revision 6") || !strings.Contains(o.GetReason(), "nobody") {
				t.Errorf("row %d ended as %v", o.GetRow(), o)
			}
		}
		b.sendPart(batchOf(2, "sharded", "c"))
		if result := b.result(); len(result.GetNotDone()) > 0 || !result.GetLast() {
			t.Errorf("the rows of the other revision ended as %v", result)
		}
		b.ack()
	})
}

// What documents may not read by default refuses those that are fresh, and no others: they run already.
func TestFreshDocuments(t *testing.T) {
	for name, conn := range map[string]string{
		"a program's name": "kistype: conn\ncname: Store\ntype: memory\nkey: ${KISGRID_ETCD_PASSWORD:x}\n",
	} {
		for _, fresh := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, fresh %v", name, fresh), func(t *testing.T) {
				inBubble(t, wideBudget, func(t *testing.T, r *rig) {
					docs := append(documents("x", "", "nobody", 1), &pb.Document{Kind: "conn", Name: "Store", Yaml: []byte(conn), Fresh: fresh})
					for _, d := range docs {
						if d.GetKind() == "func" {
							d.Yaml = append(d.Yaml, "\noption: {cname: Store}\n"...)
						}
					}
					b := r.dial()
					b.hello("c-1", false)
					b.send(&pb.CoordinatorMessage{Kind: &pb.CoordinatorMessage_Definition{Definition: &pb.Definition{Flow: "x", Revision: 5, Documents: docs}}})
					got := b.must().GetCompiled()
					if refused := strings.Contains(strings.Join(got.GetErrors(), ""), "documents may not"); got == nil || refused != fresh {
						t.Errorf("the answer is %v", got)
					}
				})
			})
		}
	}
}

// TestUnfit tells a build whose functions don't fit from documents, or an environment, that are wrong.
func TestUnfit(t *testing.T) {
	function := func(docs []*pb.Document, more string) []*pb.Document {
		for _, d := range docs {
			if d.GetKind() == "func" {
				d.Yaml = append(d.Yaml, more...)
			}
		}
		return docs
	}
	for name, c := range map[string]struct {
		docs  []*pb.Document
		unfit bool
	}{
		"a function that nobody has": {documents("x", "", "nobody", 1), true},
		"a document that is wrong":   {function(documents("x", "", "nobody", 1), "\nnonsense: 1\n"), false},
		"a name that is missing": {append(function(documents("x", "", "nobody", 1), "\noption: {cname: Store}\n"),
			&pb.Document{Kind: "conn", Name: "Store", Yaml: []byte("kistype: conn\ncname: Store\ntype: memory\nkey: ${NO_SUCH_NAME}\n")}), false},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, wideBudget, func(t *testing.T, r *rig) {
				b := r.dial()
				b.hello("c-1", false)
				b.send(&pb.CoordinatorMessage{Kind: &pb.CoordinatorMessage_Definition{Definition: &pb.Definition{Flow: "x", Revision: 5, Documents: c.docs}}})
				if got := b.must().GetCompiled(); got == nil || len(got.GetErrors()) == 0 || got.GetUnfit() != c.unfit {
					t.Errorf("the answer is %v, want errors, and unfit %v", got, c.unfit)
				}
			})
		})
	}
}

// TestRevisionsOfOneNumber defines two revisions that have the same number: the digest says which one a part runs on, and which one
// is forgotten. For a coordinator that goes by the number alone it is the last that it defined.
func TestRevisionsOfOneNumber(t *testing.T) {
	inBubble(t, wideBudget, func(t *testing.T, r *rig) {
		b := r.dial()
		b.hello("c-1", false)
		define := func(digest string, docs []*pb.Document) *pb.Compiled {
			t.Helper()
			d := &pb.Definition{Flow: "sharded", Revision: 5, Digest: []byte(digest), Documents: docs}
			b.send(&pb.CoordinatorMessage{Kind: &pb.CoordinatorMessage_Definition{Definition: d}})
			for {
				if c := b.must().GetCompiled(); c != nil {
					return c
				}
			}
		}
		runs := func(number uint64, digest string, done bool) {
			t.Helper()
			p := batchOf(number, "sharded", "a")
			p.Revision, p.Digest = 5, []byte(digest)
			b.sendPart(p)
			if result := b.result(); (len(result.GetNotDone()) == 0) != done {
				t.Errorf("part %d of digest %.1q ended as %v", number, digest, result)
			}
			b.ack()
		}
		good, bad := strings.Repeat("g", 32), strings.Repeat("b", 32)
		right := documents("sharded", "id", "echo", 1)
		if c := define(good, right); len(c.GetErrors()) > 0 || string(c.GetDigest()) != good {
			t.Fatalf("compiled %v", c)
		}
		if c := define(bad, documents("sharded", "id", "nobody", 1)); len(c.GetErrors()) == 0 || string(c.GetDigest()) != bad {
			t.Fatalf("compiled %v", c)
		}
		runs(1, good, true)
		runs(2, bad, false)
		b.send(&pb.CoordinatorMessage{Kind: &pb.CoordinatorMessage_Forget{Forget: &pb.Forget{Flow: "sharded", Revision: 5, Digest: []byte(bad)}}})
		runs(3, good, true)
	})
}

// TestForgottenFlowLeavesNoMetrics forgets a flow that has run: no metric tells of it any more. Nor does one tell of a function that
// no flow has any more, while another flow's still does.
func TestForgottenFlowLeavesNoMetrics(t *testing.T) {
	inBubble(t, wideBudget, func(t *testing.T, r *rig) {
		b := r.dial()
		b.hello("c-1", false)
		b.define("sharded")
		b.sendPart(batchOf(1, "sharded", "a"))
		b.result()
		b.ack()
		told := func(name string) bool {
			synctest.Wait()
			families, err := r.metrics.Gather()
			if err != nil {
				t.Fatal(err)
			}
			return strings.Contains(fmt.Sprint(families), `"`+name+`"`)
		}
		forget := func(flow string, revision int64) {
			b.send(&pb.CoordinatorMessage{Kind: &pb.CoordinatorMessage_Forget{Forget: &pb.Forget{Flow: flow, Revision: revision}}})
		}
		b.define("whole")
		b.sendPart(batchOf(2, "whole", "a"))
		b.result()
		b.ack()
		if !told("sharded") || !told("echo") {
			t.Error("no metric tells of a flow that runs")
		}
		if errs := b.defineAs("sharded", 6, documents("sharded", "id", "repeat", 2)); len(errs) > 0 {
			t.Fatal(errs)
		}
		next := batchOf(3, "sharded", "a")
		next.Revision = 6
		b.sendPart(next)
		b.result()
		b.ack()
		forget("sharded", 5)
		if !told("echo") || !told("repeat") {
			t.Error("no metric tells of functions that are there")
		}
		of, err := r.metrics.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, family := range of {
			for _, metric := range family.GetMetric() {
				if labels := fmt.Sprint(metric.GetLabel()); strings.Contains(labels, `"sharded"`) && strings.Contains(labels, `"echo"`) {
					t.Errorf("%s tells of a function that the flow has no more", family.GetName())
				}
			}
		}
		forget("whole", 5)
		if told("echo") || !told("sharded") {
			t.Error("metrics tell of a function that no flow has, or of a flow no more")
		}
		forget("sharded", 6)
		if told("sharded") || told("repeat") {
			t.Error("metrics tell of a flow that is forgotten")
		}
	})
}
