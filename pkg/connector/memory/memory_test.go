package memory

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/connector/conformance"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(tb testing.TB, s *Store, name, prefix string) connector.Connection {
	tb.Helper()
	c, err := s.Open(tb.Context(), &definition.Connector{Name: name, Type: "memory", Key: prefix})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

func TestConformance(t *testing.T) {
	s := New()
	conformance.Run(t, conformance.Store{
		Open: func(tb testing.TB, prefix string) connector.Connection { tb.Helper(); return open(tb, s, "c", prefix) },
		List: func(_ testing.TB, key string) []string {
			lists, _ := s.Data("c")
			return lists[key]
		},
		Pairs: 20_000,
	})
	if n := len(s.table("c").watchers); n != 0 {
		t.Errorf("%d keys still have waiters", n)
	}
}

func TestConnectorsDoNotShare(t *testing.T) {
	s := New()
	if _, err := open(t, s, "a", "").Save(t.Context(), connector.Cause{}, []connector.Effect{{Op: connector.Set, Key: "k", Field: "f", Value: "v"}}); err != nil {
		t.Fatal(err)
	}
	for name, missing := range map[string]bool{"a": false, "b": true} {
		values, err := open(t, s, name, "").Load(t.Context(), []string{"k"})
		if err != nil || values[0].Missing() != missing {
			t.Errorf("connector %s: %v, error %v", name, values, err)
		}
	}
}

func TestData(t *testing.T) {
	s := New()
	c := open(t, s, "c", "p:")
	if _, err := c.Save(t.Context(), connector.Cause{}, []connector.Effect{
		{Op: connector.Set, Key: "h", Field: "f", Value: "v"}, {Op: connector.Append, Key: "l", Value: "a"}, {Op: connector.Append, Key: "l", Value: "b"},
	}); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	lists, hashes := s.Data("c")
	lists2, hashes2 := c.(*connection).Data()
	if diff := cmp.Diff([]any{lists, hashes}, []any{lists2, hashes2}); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]any{map[string][]string{"p:l": {"a", "b"}}, map[string]map[string]string{"p:h": {"f": "v"}}}, []any{lists, hashes}); diff != "" {
		t.Error(diff)
	}
}

func TestParamsAreRefused(t *testing.T) {
	_, err := New().Open(t.Context(), &definition.Connector{Name: "c", Params: map[string]string{"db": "1", "a": "2"}})
	if batch.CodeOf(err) != batch.CodeBadDocument || !strings.Contains(err.Error(), "remove a, db") {
		t.Errorf("got %v", err)
	}
}
