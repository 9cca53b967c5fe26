package yamltext_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/kisgrid/kisgrid/internal/yamltext"
)

// A ? within a plain text is part of it, wherever YAML 1.2 says so; all other texts are read as the library does.
func TestUnmarshal(t *testing.T) {
	type object = map[string]any
	for text, want := range map[string]any{
		"f: {name: string?}":                      object{"f": object{"name": "string?"}},
		"f: {a: int?, b: [int?], c: [x?, y]}":     object{"f": object{"a": "int?", "b": []any{"int?"}, "c": []any{"x?", "y"}}},
		"f: {a: x?.y, b: x ?? 0, c: x?.[0] }":     nil, // [ begins a list
		"f: {a: x?.y, b: x ?? 0}":                 object{"f": object{"a": "x?.y", "b": "x ?? 0"}},
		"f: {a: int?, # really? \n b: 'c?'}":      object{"f": object{"a": "int?", "b": "c?"}},
		"f: {a: int?, b: \"c?\\n\"}\ng: |\n a?\n": object{"f": object{"a": "int?", "b": "c?\n"}, "g": "a?\n"},
		"f: {a: -x ?? 1}":                         object{"f": object{"a": "-x ?? 1"}},
		"{ a? : b?}":                              object{"a?": "b?"},
		"f: {a: b ? c : d}":                       nil,
		"f: {a: \ue03f, b: int?}":                 nil, // the text has the stand-in already
		"f: {? a : b}":                            object{"f": object{"a": "b"}},
		"f: {? a : b?}":                           object{"f": object{"a": "b?"}},
		"? a\n: b ? c":                            object{"a": "b ? c"},
		"- ? a\n  : b\n- {c: d?}":                 []any{object{"a": "b"}, object{"c": "d?"}},
		"f: {a: 1, b: true?, c: 2?}":              object{"f": object{"a": 1, "b": "true?", "c": "2?"}},
		"f: {a: b?":                               nil,
		"f: string?":                              object{"f": "string?"},
	} {
		var got any
		if err := yamltext.Unmarshal([]byte(text), &got); (err != nil) != (want == nil) {
			t.Errorf("%q: %v", text, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (- want, + got):\n%s", text, diff)
		}
	}
}

// Texts behind a ? have the columns that they have in the file.
func TestNodesKeepPlaces(t *testing.T) {
	nodes, err := yamltext.Nodes([]byte("f: {a: int?, b: x}\n---\ng: {c?: d}\n---\nh: 1\n"), 2)
	if err != nil || len(nodes) != 2 {
		t.Fatalf("%d nodes, %v", len(nodes), err)
	}
	if b := nodes[0].Content[0].Content[1].Content[3]; b.Value != "x" || b.Column != 17 {
		t.Errorf("the text %q has the column %d, want x at 17", b.Value, b.Column)
	}
	if key := nodes[1].Content[0].Content[1].Content[0]; key.Value != "c?" {
		t.Errorf("the key is %q, want c?", key.Value)
	}
	if nodes, err := yamltext.Nodes([]byte("a: 1\n---\n}"), 2); err == nil || len(nodes) != 1 {
		t.Errorf("%d nodes and error %v, want the first document and the error of the second one", len(nodes), err)
	}
	if nodes, err := yamltext.Nodes([]byte("# nothing\n"), 2); err != nil || len(nodes) != 0 {
		t.Errorf("%d nodes and error %v of a text without a document", len(nodes), err)
	}
}

// Each text that the library reads is read the same here.
func FuzzUnmarshal(f *testing.F) {
	for _, text := range []string{"a: {b: c?}", "a: [b ?? c, d?.e]", "? a\n: b", "{? a : b?}", "a: 'b?' # c?", "a: |\n  b?\n"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var want yaml.Node
		if yaml.Unmarshal(text, &want) != nil {
			_, _ = yamltext.Nodes(text, 2) // it must not panic
			return
		}
		nodes, err := yamltext.Nodes(text, 1)
		if err != nil {
			t.Fatal(err)
		}
		if len(nodes) == 0 {
			nodes = append(nodes, new(yaml.Node))
		}
		if diff := cmp.Diff(&want, nodes[0]); diff != "" {
			t.Fatal(diff)
		}
	})
}
