package scenario

import (
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// TestScriptKeepsAll parses what String prints of generated scenarios: nothing is lost, and a second print is the same.
func TestScriptKeepsAll(t *testing.T) {
	for seed := range uint64(500) {
		checkRoundTrip(t, Generate(seed))
	}
}

// TestScriptKeepsAnyValue does the same with any values in the fields of scenarios, which the generator would not choose.
func TestScriptKeepsAnyValue(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := Generate(rapid.Uint64().Draw(rt, "seed"))
		for _, l := range s.lines() {
			if l.value.Kind() != reflect.Struct {
				continue
			}
			for _, f := range fields(l.value) {
				if !rapid.Bool().Draw(rt, "change "+f.word) || f.lead {
					continue
				}
				switch {
				case f.value.Kind() == reflect.Bool:
					f.value.SetBool(!f.value.Bool())
				case f.value.CanInt():
					f.value.SetInt(rapid.Int64Range(0, 1<<31).Draw(rt, f.word))
				case f.value.CanUint():
					f.value.SetUint(rapid.Uint64().Draw(rt, f.word))
				}
				if s.Check() != nil { // such a value is not allowed there
					f.value.SetZero()
					if s.Check() != nil {
						rt.Skip("the field is needed")
					}
				}
			}
		}
		s.sort()
		checkRoundTrip(rt, s)
	})
}

// checkRoundTrip prints a scenario, and reads it again.
func checkRoundTrip(t rapid.TB, s *Scenario) {
	t.Helper()
	script := s.String()
	again, err := Parse(script)
	if err != nil {
		t.Fatalf("%v\nin the script\n%s", err, script)
	}
	if diff := cmp.Diff(s, again); diff != "" {
		t.Fatalf("Parse(String()) differs (-before +after):\n%s\n%s", diff, script)
	}
	if printed := again.String(); printed != script {
		t.Fatalf("a second print differs:\n%s", cmp.Diff(script, printed))
	}
}

// aScript uses each form of a line.
const aScript = `
# A comment.
seed 7
lasts 1m30s
calm 20s
tls
etcd members 3 delay 2ms
redis replicas 1 lag 200ms # another comment
coordinator c1 on h1 lease 4s budget 4MiB
worker w1 on h2 listen :7701 advertise 127.0.0.1:7701 row-budget 2048
worker w2 on h2 absent
flow set0 set copies 2
flow loads load wait 3s for set0
client a stream of loads on h9 rows 500 batch 20 every 10ms keys 10 hot 30 results bad 10 slow 3
client b watch on h9
at 1s start w2
at 5s revise loads by etcdctl
at 12s for 3s cut w2 from c1
at 12s for 100ms delay w1 by 20ms
at 13s for 1s kill w2 then build row2,more lease 2s
at 14s many n 20
at 15s for 2s redis-error n 100 with LOADING
`

// TestParse reads a script by hand.
func TestParse(t *testing.T) {
	s, err := Parse(aScript)
	if err != nil {
		t.Fatal(err)
	}
	if s.Clients[0].Mix.Slow != 3 || s.Coordinators[0].Budget != 4<<20 || s.Faults[3].Then != "build row2,more lease 2s" || s.Changes[0].By != "etcdctl" {
		t.Errorf("read:\n%s", s)
	}
	p, err := s.Workers[1].With(s.Faults[3].Then)
	if err != nil || p.Build != "row2,more" || p.Host != "h2" {
		t.Errorf("With() = %+v, %v", p, err)
	}
	checkRoundTrip(t, s)
}

// TestParseErrors puts mistakes into a script. Each error names the line, and the nearest word.
func TestParseErrors(t *testing.T) {
	for _, test := range []struct{ before, after, want string }{
		{"worker w1", "wroker w1", `line 10: "wroker" begins no line, did you mean worker?`},
		{"lease 4s", "leese 4s", `line 9: coordinator: unknown word "leese", did you mean lease?`},
		{"lease 4s", "lease 4", `line 9: coordinator: lease: "4" is no duration`},
		{"lease 4s", "lease 4s lease 5s", "line 9: coordinator: lease stands twice"},
		{"lease 4s", "lease", "line 9: coordinator: lease"},
		{"budget 4MiB", "budget 4MB", `line 9: coordinator: budget: "4MB" is no number of bytes`},
		{"budget 4MiB", "row-budget 7", "line 9: row-budget and build are settings of workers"},
		{"tls", "tls yes", `line 6: unknown word "yes"`},
		{"tls", "tls\ntls", "line 7: tls stands in line 6 already"},
		{"calm 20s", "", "needs the lines lasts and calm"},
		{"flow set0 set", "flow set0 sett", `line 12: "sett" is no form of a flow, did you mean set?`},
		{"flow set0 set copies 2", "flow set0", "line 12: flow: the line ends too early"},
		{"wait 3s for set0", "wait 3s", "line 13: 'for' names the flow"},
		{"wait 3s for set0", "for set", "line 13: for: there is no flow set, did you mean set0?"},
		{"a stream", "a steam", `line 14: "steam" is no way to submit rows, did you mean stream?`},
		{"bad 10", "bad 999", "line 14: of a thousand rows, 1002 are said to be special"},
		{"b watch", "c1 watch", "line 15: the name c1 is used already"},
		{"cut w2", "cot w2", `line 18: "cot" is no kind of change or fault, did you mean cut?`},
		{"cut w2", "cut w3", `line 18: cut: it can't concern "w3", did you mean w1?`},
		{"for 3s cut", "cut", "line 18: 'for' is missing"},
		{"12s for 3s", "89s for 3s", "line 18: it ends at 1m32s, after the scenario's end at 1m30s"},
		{"by 20ms", "", "line 19: by: the kind delay needs it"},
		{"row2,more", "raw2", `line 20: then: build: unknown word "raw2", did you mean row2?`},
		{"n 100 with LOADING", "n 100 with Loading", `with: "Loading" is no word for redis-error`},
		{"start w2", "start w1", "line 16: start: w1 is not absent"},
		{"revise loads", "revise load", `line 17: there is no flow "load", did you mean loads?`},
	} {
		if !strings.Contains(aScript, test.before) {
			t.Fatalf("the script has no %q", test.before)
		}
		_, err := Parse(strings.Replace(aScript, test.before, test.after, 1))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q in place of %q: %v\nwant %s", test.after, test.before, err, test.want)
		}
	}
}

// TestFieldsHaveWords makes sure that a new field of a scenario has a place in the script.
func TestFieldsHaveWords(t *testing.T) {
	var look func(reflect.Type)
	look = func(of reflect.Type) {
		words := map[string]bool{}
		for i := range of.NumField() {
			f := of.Field(i)
			tag := f.Tag.Get("script")
			if tag == "" && f.Name != "At" && f.Name != "For" {
				t.Errorf("%s.%s has no tag", of.Name(), f.Name)
			}
			if tag != "at" && !strings.HasPrefix(tag, ",") && words[tag] && tag != "" {
				t.Errorf("%s: %s stands at two fields", of.Name(), tag)
			}
			words[tag] = true
			switch element := f.Type; {
			case element.Kind() == reflect.Struct:
				look(element)
			case element.Kind() == reflect.Slice:
				look(element.Elem())
			}
		}
	}
	look(reflect.TypeFor[Scenario]())
	kinds := map[string]bool{}
	for _, k := range FaultKinds {
		kinds[k.Name] = true
	}
	for _, k := range ChangeKinds {
		if kinds[k.Name] {
			t.Errorf("%s is both a fault and a change", k.Name)
		}
	}
}
