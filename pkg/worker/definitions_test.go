package worker

import (
	"fmt"
	"strings"
	"testing"

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
