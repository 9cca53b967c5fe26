package definition

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// typed are documents with a place for one value, and its line.
var typed = map[string]struct {
	yaml string
	line int
	kind string // which spellings it has
}{
	"status":            {"kistype: flow\nflow_name: F\nstatus: %s\nflows: [{fname: a}]\n", 3, "status"},
	"copies":            {"kistype: flow\nflow_name: F\nflows: [{fname: a}]\ncopies: %s\n", 4, "number"},
	"flow timeout":      {"kistype: flow\nflow_name: F\nflows: [{fname: a}]\ntimeout: %s\n", 4, "duration"},
	"shard_key":         {"kistype: flow\nflow_name: F\nflows: [{fname: a}]\nshard_key: %s\n", 4, "text"},
	"flow params":       {"kistype: flow\nflow_name: F\nflows:\n- fname: a\n  params:\n    p: %s\n", 6, "text"},
	"retry_times":       {"kistype: func\nfname: f\nfmode: Verify\noption:\n  retry_times: %s\n", 5, "number"},
	"return_duration":   {"kistype: func\nfname: f\nfmode: Verify\noption:\n  return_duration: %s\n", 5, "number"},
	"retry_duration":    {"kistype: func\nfname: f\nfmode: Verify\noption:\n  retry_duration: %s\n", 5, "number"},
	"default_params":    {"kistype: func\nfname: f\nfmode: Verify\noption:\n  default_params: {p: %s}\n", 5, "text"},
	"source.name":       {"kistype: func\nfname: f\nfmode: Verify\nsource:\n  name: %s\n", 5, "text"},
	"delete":            {"kistype: func\nfname: f\nfmode: Save\noption:\n  cname: c\n  save:\n    key: k\n    delete: %s\n", 8, "delete"},
	"tls":               {"kistype: conn\ncname: c\ntype: memory\ntls: %s\n", 4, "flag"},
	"replicas":          {"kistype: conn\ncname: c\ntype: memory\nreplicas: %s\n", 4, "number"},
	"key":               {"kistype: conn\ncname: c\ntype: memory\nkey: %s\n", 4, "text"},
	"username":          {"kistype: conn\ncname: c\ntype: memory\nusername: %s\n", 4, "text"},
	"conn params":       {"kistype: conn\ncname: c\ntype: memory\nparams:\n  mine: %s\n", 5, "text"},
	"prometheus_enable": {"kistype: global\nprometheus_enable: %s\n", 2, "flag"},
	"prometheus_listen": {"kistype: global\nprometheus_listen: %s\n", 2, "flag"},
}

// Spellings that people, or readers of YAML, take for different values are refused when a document is taken in, with their line.
// Parsing takes them as it ever did, and nothing that has one reading is refused.
func TestDoubtfulSpellings(t *testing.T) {
	nulls := []string{"~", "null", "Null", "NULL"}
	spellings := map[string]struct{ right, doubtful, wrong []string }{
		"number": {
			[]string{"1", "8", "10", "100", ""},
			append([]string{"010", "1_0", "0x10", "0X1f", "0o10", "0b11", "+1", "1_", "01", "!!int '010'"}, nulls...),
			[]string{"1e3", "1E3", ".5", "5.", "1.0", "1:30", "yes", "2026-01-01", "'10'", "x"},
		},
		"status": {[]string{"0", "1"}, append([]string{"01", "00", "0x1", "+1", "0b1", "0o1", "-0"}, nulls...), []string{"on", "true", "'1'", "1.0"}},
		"flag": {
			[]string{"true", "false", "True", "FALSE"},
			append([]string{"'on'", "on", "off", "yes", "No", "y", "n", "\"yes\"", "Off"}, nulls...),
			[]string{"1", "0", "'true'", "t", "maybe"},
		},
		"delete":   {[]string{"true"}, []string{"on", "'yes'", "y"}, []string{"1", "no", "false"}},
		"duration": {[]string{"30s", "1m30s", "'2s'"}, nulls, []string{"10", "010", "1_0", "1e3", ".5", "1:30", "on", "2026-01-01", "0x10"}},
		"text": {
			[]string{"a", "on", "yes", "010", "1_0", "0x10", "true", ".5", "2026-01-01", "'null'", "\"~\"", ""},
			nulls, nil,
		},
	}
	for name, c := range typed {
		s := spellings[c.kind]
		if name == "shard_key" {
			s.right = []string{"a", "on", "010", "1_0", "'null'"}
		}
		parse := func(value string) (Parsed, error) { return Parse(Document{YAML: fmt.Appendf(nil, c.yaml, value)}) }
		for _, value := range s.right {
			p, err := parse(value)
			if err == nil {
				err = p.Intake(MaxSteps)
			}
			if err != nil {
				t.Errorf("%s: %s is refused: %v", name, value, err)
			}
		}
		for _, value := range s.doubtful {
			p, err := parse(value)
			if err != nil {
				t.Errorf("%s: %s does not parse as it did: %v", name, value, err)
				continue
			}
			mistakes, _ := errors.AsType[Mistakes](p.Intake(MaxSteps))
			if len(mistakes) != 1 || mistakes[0].Line != c.line || !strings.Contains(mistakes[0].Problem, "write") && !strings.Contains(mistakes[0].Problem, "take") {
				t.Errorf("%s: %s is taken in with %q, want one mistake of line %d", name, value, mistakes, c.line)
			}
		}
		for _, value := range s.wrong {
			if _, err := parse(value); err == nil {
				t.Errorf("%s: %s parses", name, value)
			}
		}
	}
}

// A Load's null is a value: it has one spelling. Where a list or keys are wanted, null is none, as KisFlow's documents have it.
func TestDoubtfulNulls(t *testing.T) {
	const load = "kistype: func\nfname: f\nfmode: Load\noption:\n  on_missing: "
	for yaml, line := range map[string]int{
		load + "null\n": 0, load + "'null'\n": 0, load + "\n": 0, load + "~\n": 5, load + "Null\n": 5, load + "NULL\n": 5,
		"kistype: conn\ncname: c\ntype: memory\nparams: null\nload: null\nsave: ~\n":                      0,
		"kistype: func\nfname: f\nfmode: Verify\nsource: null\noption: {default_params: null, cname: }\n": 0,
		"kistype: flow\nflow_name: F\nflows: [{fname: a, params: ~}]\n":                                   0,
		"kistype: flow\nflow_name: F\nflows:\n- fname: a\n  params: {a: ~}\n":                             5,
	} {
		p, err := Parse(Document{YAML: []byte(yaml)})
		if err != nil {
			t.Errorf("%s: %v", yaml, err)
			continue
		}
		mistakes, _ := errors.AsType[Mistakes](p.Intake(MaxSteps))
		if line == 0 && len(mistakes) > 0 || line > 0 && (len(mistakes) != 1 || mistakes[0].Line != line) {
			t.Errorf("%s: %q, want a mistake of line %d", yaml, mistakes, line)
		}
	}
}

// A text that begins with = kept its meaning, a template or a field, where it is no expression. New documents with it are refused.
func TestTextsThatBeganWithEquals(t *testing.T) {
	document := func(key, value string) Document {
		return Document{Path: "s.yml", YAML: []byte("kistype: func\nfname: S\nfmode: Save\noption:\n  cname: C\n  save:\n    key: \"" + key + "\"\n    set: {a: \"" + value + "\"}\n")}
	}
	for _, c := range []struct{ key, value, parse, intake string }{
		{"= string(id)", "= a + 1", "", ""},
		{"=id", "=a+1", "", ""},
		{"={id}", "b", "", `s.yml:7:15: option.save.key: : is expected behind the field's name`},
		{"{id}", "=%", "", "s.yml:8:16: option.save.set.a: "},
		{"= {id}", "b", `s.yml:7:16: option.save.key: : is expected behind the field's name`, ""},
		{"{id}", "= a +", `s.yml:8:20: option.save.set.a: `, ""},
	} {
		p, err := Parse(document(c.key, c.value))
		if c.parse != "" {
			if err == nil || !strings.Contains(err.Error(), c.parse) {
				t.Errorf("%+v: parsing gives %v", c, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%+v: %v", c, err)
			continue
		}
		if err := p.Intake(10); (err == nil) != (c.intake == "") || err != nil && !strings.Contains(err.Error(), c.intake) {
			t.Errorf("%+v: intake gives %v", c, err)
		}
		if expressions := p.Function.Save.KeyExpression != nil || p.Function.Save.Expressions["a"].Text != ""; expressions != (c.intake == "") {
			t.Errorf("%+v: it is read as an expression: %v", c, expressions)
		}
	}
}
