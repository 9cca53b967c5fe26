package casefile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/kisgrid/kisgrid/pkg/definition"
)

// The schema takes every test file of the repository and the cases that pass here, and refuses a key that is not known.
func TestSchemaFitsTestFiles(t *testing.T) {
	text, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("tests.json", text); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("tests.json")
	if err != nil {
		t.Fatal(err)
	}
	validate := func(text []byte) error {
		var v any
		if err := yaml.Unmarshal(text, &v); err != nil {
			t.Fatal(err)
		}
		// Keys such as 101 are texts in JSON.
		asText, err := json.Marshal(texts(v))
		if err != nil {
			t.Fatal(err)
		}
		row, err := jsonschema.UnmarshalJSON(bytes.NewReader(asText))
		if err != nil {
			t.Fatal(err)
		}
		return s.Validate(row)
	}
	files := map[string][]byte{"here": []byte(rightCases)}
	for _, dir := range []string{"../../examples", "../../cmd"} {
		err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !definition.IsTestFile(strings.TrimSuffix(path, ".tmpl")) {
				return err
			}
			files[path], err = os.ReadFile(path)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(files) < 3 {
		t.Fatalf("there are %d test files", len(files))
	}
	for name, text := range files {
		if err := validate(text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	const head = "tests:\n  - name: x\n    flow: F\n"
	for text, right := range map[string]bool{
		head + "    rows: [1]\n": true, head + "    rows_file: x\n": true, head: false, head + "    rows: [1]\n    rows_file: x\n": false, head + "    rows: []\n": false, "tests: []\n": false, "test: []\n": false,
		head + "    rows: [1]\n    outputs: []\n": false, head + "    rows: [1]\n    output:\n": false, head + "    rows: [1]\n    outcomes: [{row: 1, outcome: dead, code: X}]\n": false,
		head + "    rows: [1]\n    outcomes: [{row: 1, outcome: dead, code: DROPPED, reason: ''}]\n": true, head + "    rows: [1]\n    outcomes: [{row: 0, outcome: dead}]\n": false,
		head + "    rows: [1]\n    outcomes: [{row: 1, outcome: dead, reasn: x}]\n": false, head + "    rows: [1]\n    after: {C: {}}\n": true, head + "    rows: [1]\n    after: {C: {k: {}}}\n": false,
		head + "    rows: [1]\n    before: {C: {k: 5}}\n": false, head + "    rows: [1]\n    before: {C: {k: [5], l: {a: 1}}}\n": true,
	} {
		if err := validate([]byte(text)); (err == nil) != right {
			t.Errorf("the schema says %v of\n%s", err, text)
		}
	}
}

// texts turns the keys of all mappings into texts.
func texts(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = texts(v[k])
		}
	case map[any]any:
		m := map[string]any{}
		for k, value := range v {
			m[fmt.Sprint(k)] = texts(value)
		}
		return m
	case []any:
		for i := range v {
			v[i] = texts(v[i])
		}
	}
	return v
}
