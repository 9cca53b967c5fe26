package connector_test

import (
	"testing"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// A document that a cluster accepted before its key was refused goes on, but for the keys that are KisGrid's.
func TestGuardOfAcceptedDocuments(t *testing.T) {
	for _, test := range []struct {
		prefix   string
		revision int64
		key      string
		refused  bool
	}{
		{"kisgrid:app:", 7, "k", false}, {"kisgrid:app:", 0, "k", true}, {"kisgrid:", 7, "app:k", false}, {"kisgrid:", 0, "app:k", true}, {"kisgrid:", 7, "dead:{Vic}:letters", true},
		{"kisgrid:", 7, "once:0:1:F:s", true}, {"kisgrid:", 7, "window", true}, {"kisgrid:once:mine:", 7, "k", true},
		{"kisgrid:de", 7, "fg", false}, {"kisgrid:de", 7, "ad:fg", true}, {"kisgrid:dead:", 7, "k", true}, {"kisgrid:windows:", 7, "k", true}, {"kisgrid:deaf:", 7, "k", false},
		{"kis", 7, "grid:app:k", true}, {"", 7, "kisgrid:app:k", true}, {"app:", 7, "kisgrid:dead:", false},
		{"", 7, connector.ProbeKey(""), true}, {"", 0, "app:" + connector.ProbeKey("3x"), true}, {"app:{}:kis", 0, "grid:probe", true}, {"app:", 0, "kisgrid:probe", false},
		{"kisgrid:app:", 7, connector.ProbeKey(""), true},
	} {
		g := connector.NewGuard(&definition.Connector{Name: "C", Key: test.prefix, Document: definition.Document{Revision: test.revision}})
		saved := false
		verdicts, err := g.Save([]connector.Effect{{Op: connector.Delete, Key: test.key}}, func([]connector.Effect) ([]error, error) {
			saved = true
			return nil, nil
		})
		if err != nil || saved == test.refused || test.refused != (len(verdicts) == 1 && batch.CodeOf(verdicts[0]) == batch.CodeSaveFailed) {
			t.Errorf("%+v: saved %v, verdicts %v, error %v", test, saved, verdicts, err)
		}
	}
}
