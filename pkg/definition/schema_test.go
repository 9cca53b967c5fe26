package definition_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/kisgrid/kisgrid/pkg/definition"
)

// schemaOfDocuments compiles the schema.
func schemaOfDocuments(t *testing.T) *jsonschema.Schema {
	t.Helper()
	text, err := jsonschema.UnmarshalJSON(bytes.NewReader(definition.Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("documents.json", text); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("documents.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// asJSON returns a YAML document as a validator takes it.
func asJSON(t *testing.T, document []byte) any {
	t.Helper()
	var v any
	if err := yaml.Unmarshal(document, &v); err != nil {
		t.Fatalf("%v in\n%s", err, document)
	}
	return plain(t, v)
}

// plain turns a value that YAML gives into one that JSON gives.
func plain(t *testing.T, v any) any {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	back, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return back
}

// documentsOfRepository returns all documents in files of the repository, and in blocks of code of its pages, that the parser takes.
func documentsOfRepository(t *testing.T) (docs []definition.Document) {
	t.Helper()
	add := func(path string, text []byte) {
		if !definition.HasKind(text) {
			return
		}
		for _, d := range definition.Split(path, text) {
			if _, err := definition.Parse(d); err == nil {
				docs = append(docs, d)
			}
		}
	}
	err := filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			if err == nil && (strings.HasPrefix(entry.Name(), ".") && len(entry.Name()) > 2) {
				return fs.SkipDir
			}
			return err
		}
		name := strings.TrimSuffix(path, ".tmpl")
		if strings.HasSuffix(name, ".md") {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for _, block := range strings.Split(string(text), "\n```yaml")[1:] {
				_, block, _ = strings.Cut(block, "\n") // behind the line of the fence
				block, _, _ = strings.Cut(block, "\n```")
				add(path, []byte(block+"\n"))
			}
			return nil
		}
		if !strings.HasSuffix(name, ".yml") && !strings.HasSuffix(name, ".yaml") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		add(path, text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return docs
}

// Every document of the repository fits the schema. With a key that is not known, at any place, it fits neither schema nor parser.
func TestSchemaFitsEveryDocument(t *testing.T) {
	s := schemaOfDocuments(t)
	docs := documentsOfRepository(t)
	kinds := map[definition.Kind]int{}
	refused := 0
	for _, d := range docs {
		p, err := definition.Parse(d)
		if err != nil {
			t.Fatal(err)
		}
		kinds[p.Document().Kind]++
		if err := s.Validate(asJSON(t, d.YAML)); err != nil {
			t.Errorf("%s:%d: %v", d, d.Line, err)
		}
		var root yaml.Node
		if err := yaml.Unmarshal(d.YAML, &root); err != nil {
			t.Fatal(err)
		}
		eachMapping(root.Content[0], func(n *yaml.Node) {
			n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: "no_such_key"}, &yaml.Node{Kind: yaml.ScalarNode, Value: "x"})
			defer func() { n.Content = n.Content[:len(n.Content)-2] }()
			text, err := yaml.Marshal(&root)
			if err != nil {
				t.Fatal(err)
			}
			_, wrong := definition.Parse(definition.Document{YAML: text})
			err = s.Validate(asJSON(t, text))
			if (wrong == nil) != (err == nil) {
				t.Errorf("the parser says %v, and the schema %v, of\n%s", wrong, err, text)
			}
			if err != nil {
				refused++
			}
		})
	}
	if kinds[definition.KindFlow] < 10 || kinds[definition.KindFunc] < 20 || kinds[definition.KindConn] < 4 || kinds[definition.KindGlobal] < 1 || refused < 60 {
		t.Errorf("the repository has %v documents, and %d unknown keys were refused", kinds, refused)
	}
}

// eachMapping calls do for each mapping of a document.
func eachMapping(n *yaml.Node, do func(*yaml.Node)) {
	if n.Kind == yaml.MappingNode {
		do(n)
	}
	for _, c := range n.Content {
		eachMapping(c, do)
	}
}

// The schema refuses what the parser refuses, as far as one document tells, and takes what the parser takes.
func TestSchemaAgreesWithTheParser(t *testing.T) {
	s := schemaOfDocuments(t)
	const (
		flow   = "kistype: flow\nflow_name: F\nflows: [{fname: A}]\n"
		verify = "kistype: func\nfname: A\nfmode: Verify\n"
		save   = "kistype: func\nfname: A\nfmode: Save\n"
		load   = "kistype: func\nfname: A\nfmode: Load\n"
		calc   = "kistype: func\nfname: A\nfmode: Calculate\n"
		expand = "kistype: func\nfname: A\nfmode: Expand\n"
		conn   = "kistype: conn\ncname: C\ntype: redis\naddrs: a:1\n"
	)
	for text, right := range map[string]bool{
		flow: true, verify: true, conn: true, "kistype: global\n": true, "kistype: gloabl\n": false, "fname: A\nfmode: Verify\n": false, "kistype: 5\n": false,
		flow + "status: 1\ncopies: 3\ntimeout: 1m30s\nshard_key: id\n": true, flow + "status: 2\n": false, flow + "status: on\n": false, flow + "status:\n": true, flow + "copies: 0\n": false,
		flow + "timeout: 30\n": false, flow + "timeout: 30 s\n": false, flow + "timeout: 1.5h\n": true, flow + "shard_key: 7\n": true, flow + "shard_key: [a]\n": false,
		"kistype: flow\nflow_name: F\n": false, "kistype: flow\nflow_name: F\nflows: []\n": false, "kistype: flow\nflow_name: F\nflows: [A]\n": false, "kistype: flow\nflow_name: F\nflows: [{params: {a: 1}}]\n": false,
		"kistype: flow\nflow_name: F\nflows: [{fname: A, params: {a: 1, b: true, c: x, d: }}]\n": true, "kistype: flow\nflow_name: a/b\nflows: [{fname: A}]\n": false, "kistype: flow\nflow_name: 7\nflows: [{fname: A}]\n": true,
		"kistype: func\nfname: A\n": false, "kistype: func\nfname: A\nfmode: verify\n": false, verify + "option:\n": true, verify + "option: {verify: a > 1, reason: '\"x\"'}\n": true, verify + "option: {verify: true}\n": true,
		verify + "option: {verify: [a]}\n": false, verify + "option: {wait: 3s}\n": false, verify + "option: {calculate: {a: b}}\n": false, verify + "option: {cname: c, save: {key: a, delete: true}}\n": false,
		verify + "source: {name: s, must: [a, 7], fields: {a: int, b: [string], c: {x: 'int?'}}}\n": true, verify + "source: {fields: int}\n": false, verify + "source: {fields: {a: [int, int]}}\n": false, verify + "source: {must: a}\n": false,
		verify + "option: {retry_times: 3, retry_duration: 500ms}\n": true, verify + "option: {retry_duration: 500}\n": true, verify + "option: {retry_duration: -5}\n": false, verify + "option: {retry_times: -1}\n": false,
		calc + "option: {calculate: {a: b, c: 1}, keep: all}\n": true, calc + "option: {calculate: {a: b}, keep: [x]}\n": true, calc + "option: {calculate: {a: b}, keep: some}\n": false, calc + "option: {calculate: a}\n": false,
		expand + "option: {expand: {each: items, where: item.n > 0, set: {a: item}}}\n": true, expand + "option: {expand: {as: x}}\n": false, expand + "option: {expand: {each: a, from: b}}\n": false,
		save + "option: {cname: c, save: {key: a, set: {a: b}}}\n": true, save + "option: {cname: c, save: {key: a, set: {a: b}, incr: {a: b}}}\n": false, save + "option: {cname: c, save: {key: a}}\n": false, save + "option: {cname: c, save: }\n": true,
		save + "option: {cname: c, save: {key: a, delete: false}}\n": false, save + "option: {cname: c, save: {key: a, delete: true}}\n": true, save + "option: {cname: c, save: {set: {a: b}}}\n": false, save + "option: {save: {key: a, delete: true}}\n": false,
		save + "option: {cname: c, save: {key: a, set: {}}}\n": false, save + "option: {cname: c, save: {key: '= a', set: {a: '= b'}}}\n": true, save + "option: {on_missing: wait}\n": false,
		load + "option: {cname: c, on_missing: null, load: {key: a, set: {a: b}, types: {a: int}}}\n": true, load + "option: {on_missing: dead, wait: 3s}\n": true, load + "option: {on_missing: never}\n": false,
		load + "option: {cname: c, load: {key: a}}\n": false, load + "option: {cname: c, load: {key: a, set: {a: b}, types: {a: number}}}\n": false,
		conn + "tls: true\nparams: {pool_size: 3, own: x}\nkey: k_\nreplicas: 2\nload: [a]\nsave:\n": true, conn + "tls: maybe\n": false, conn + "replicas: -1\n": false, "kistype: conn\ncname: C\ntype: memory\n": true, "kistype: conn\ncname: C\ntype: redis\n": false,
		"kistype: conn\ncname: C\ntype: redi\naddrs: a:1\n": false, "kistype: global\nprometheus_enable: true\nprometheus_serve: ':1'\n": true, "kistype: global\nprometheus_enable: 1\n": false,
	} {
		_, wrong := definition.Parse(definition.Document{YAML: []byte(text)})
		if (wrong == nil) != right {
			t.Errorf("the parser says %v of\n%s", wrong, text)
		}
		if err := s.Validate(asJSON(t, []byte(text))); (err == nil) != right {
			t.Errorf("the schema says %v of\n%s", err, text)
		}
	}
}

// Every key has an explanation, a sentence.
func TestSchemaExplainsEveryKey(t *testing.T) {
	var root map[string]any
	if err := json.Unmarshal(definition.Schema(), &root); err != nil {
		t.Fatal(err)
	}
	keys := 0
	var look func(path string, v any)
	look = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			if closed, ok := v["additionalProperties"].(bool); ok && !closed {
				for name, key := range v["properties"].(map[string]any) {
					about, _ := key.(map[string]any)["description"].(string)
					if keys++; !strings.HasSuffix(about, ".") && !strings.HasSuffix(about, "}") {
						t.Errorf("%s.%s has the explanation %q", path, name, about)
					}
				}
			}
			for name, part := range v {
				look(path+"."+name, part)
			}
		case []any:
			for _, part := range v {
				look(path, part)
			}
		}
	}
	look("", root)
	if keys < 50 {
		t.Errorf("the schema has %d keys", keys)
	}
}
