package expr

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

// Variables win over fields, params keep their types, and the scope knows what is read.
func TestScope(t *testing.T) {
	params, err := ValueOf(map[string]any{"limit": 60, "factor": 1.5, "names": []any{"a", "b"}, "on": true, "none": nil, "at": time.Unix(0, 0), "wait": time.Minute, "big": uint64(5)})
	if err != nil {
		t.Fatal(err)
	}
	scope := NewScope(Names{
		Row:       Object(Field{"item", Int}, Field{"score", Int}, Field{"let", Int}, Field{"unused", Int}),
		Variables: []Field{{"item", Object(Field{"n", Int})}, {"row_id", String}},
		Params:    params,
	})
	program, err := scope.Compile(Source{Text: `[item.n, row.item, row["let"], score > params.limit, row_id, params.names[1], params.factor, params.on, params.none, params.wait, params["big"]]`}, Any)
	if err != nil {
		t.Fatal(err)
	}
	fr := scope.NewFrame(Budget{})
	if err := scope.ReadJSON(fr, `{"let": 3, "item": 2, "score": 61}`); err != nil {
		t.Fatal(err)
	}
	read := ""
	for i, in := range scope.Inputs() {
		read += fmt.Sprint(in.Name, " ", in.Variable, " ", in.Type, "; ")
		switch in.Name {
		case "item":
			if in.Variable {
				fr.Set(i, ObjectValue(map[string]Value{"n": IntValue(1)}))
			}
		case "row_id":
			fr.Set(i, StringValue("id"))
		}
	}
	if want := "item true {n: int}; item false int; let false int; score false int; row_id true string; "; read != want {
		t.Errorf("the scope reads %s, want %s", read, want)
	}
	v, err := program.Value(fr)
	if err != nil {
		t.Fatal(err)
	}
	b, err := fr.AppendJSON(nil, v)
	if want := `[1,2,3,true,"id","b",1.5,true,null,"1m0s",5]`; err != nil || string(b) != want {
		t.Errorf("got %s, %v, want %s", b, err, want)
	}
	for _, wrong := range []any{uint64(1 << 63), struct{}{}, []any{complex(1, 1)}, map[string]any{"a": make(chan int)}} {
		if v, err := ValueOf(wrong); err == nil {
			t.Errorf("%v is the value %v", wrong, v)
		}
	}
}

// An expression without names is known when it is compiled.
func TestConstants(t *testing.T) {
	scope := NewScope(Names{Row: Any, Params: ObjectValue(map[string]Value{"n": IntValue(20)})})
	for text, constant := range map[string]bool{
		"1 + 2 * params.n": true, `upper("a") + "b"`: true, "[1, 2][0]": true, `time("2026-11-30T14:00:00Z")`: true, "a + 1": false, "let x = 2; x * x": true, "true ? 1 : a": true, "{a: [1]}.a[0]": true,
	} {
		program, err := scope.Compile(Source{Text: text}, Any)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := program.Constant(); ok != constant {
			t.Errorf("%s is constant: %v", text, ok)
		}
	}
}

// All expressions of a row share its budget, and the next row has it again.
func TestBudgetOfARow(t *testing.T) {
	scope := NewScope(Names{Row: Any})
	record, err := scope.CompileRecord([]RecordSource{{"a", Source{Text: "len(repeat(s, 300))"}}, {"b", Source{Text: "len(repeat(s, 300))"}}})
	if err != nil {
		t.Fatal(err)
	}
	fr := scope.NewFrame(Budget{Steps: 1000, Bytes: 1000})
	for _, c := range []struct {
		row  string
		want string
	}{{`{"s": "x"}`, `{"a":300,"b":300}`}, {`{"s": "xx"}`, ""}, {`{"s": "y"}`, `{"a":300,"b":300}`}} {
		fr.Next()
		if err := scope.ReadJSON(fr, c.row); err != nil {
			t.Fatal(err)
		}
		b, err := record.AppendJSON(nil, fr)
		failure, failed := errors.AsType[*Failure](err)
		if failed != (c.want == "") || !failed && string(b) != c.want || failed && failure.Reason != ReasonBudget {
			t.Errorf("%s: %s, %v", c.row, b, err)
		}
	}
}

// A field that the last row had is missing in the next row.
func TestNextRowBeginsEmpty(t *testing.T) {
	scope := NewScope(Names{Row: Any})
	record, err := scope.CompileRecord([]RecordSource{{"a", Source{Text: "a"}}, {"b", Source{Text: "b"}}})
	if err != nil {
		t.Fatal(err)
	}
	fr := scope.NewFrame(Budget{})
	for _, c := range [][2]string{{`{"a": 1, "b": 2}`, `{"a":1,"b":2}`}, {`{"b": null, "c": [{}]}`, `{"b":null}`}, {`{"a": "x", "a": "y"}`, `{"a":"y"}`}, {" { } ", "{}"}} {
		fr.Next()
		if err := scope.ReadJSON(fr, c[0]); err != nil {
			t.Fatal(err)
		}
		if b, err := record.AppendJSON(nil, fr); err != nil || string(b) != c[1] {
			t.Errorf("%s gives %s, %v, want %s", c[0], b, err, c[1])
		}
	}
}

// Several goroutines run the same program, each on its own frame. Texts that were made for one row stay as they are.
func TestProgramsAreShared(t *testing.T) {
	scope := NewScope(Names{Row: Any})
	program, err := scope.Compile(Source{Text: `"row " + string(n) + find(string(n), "1")`}, Any)
	if err == nil {
		t.Fatal("a value that may be missing was added to a text")
	}
	program, err = scope.Compile(Source{Text: "\"row \" + string(n) + (find(\"abc\", `b.`) ?? \"\") + string(hour(from_unix(n), \"Asia/Tokyo\"))"}, String)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			fr := scope.NewFrame(Budget{})
			var texts []string
			for n := range int64(2000) {
				fr.Next()
				fr.Set(0, IntValue(n))
				v, err := program.Value(fr)
				if err != nil {
					t.Error(err)
					return
				}
				texts = append(texts, v.Text())
			}
			for n, text := range texts {
				if want := fmt.Sprintf("row %dbc9", n); text != want {
					t.Errorf("row %d has the text %q", n, text)
					return
				}
			}
		})
	}
	all.Wait()
}

// Format writes one form of an expression.
func TestFormat(t *testing.T) {
	for text, want := range map[string]string{
		"a+b*c": "a + b * c", "(a+b)*c": "(a + b) * c", "a-(b-c)": "a - (b - c)", "(a-b)-c": "a - b - c", "not a and b or c": "!a && b || c", "a??b??c": "a ?? b ?? c", "(a??b)??c": "(a ?? b) ?? c",
		"a?b:c?d:e": "a ? b : c ? d : e", "(a?b:c)?d:e": "(a ? b : c) ? d : e", "'x'": `"x"`, "`\\d`": `"\\d"`, "{a:1,'b c':2,}": `{a: 1, "b c": 2}`, "x=>x": "x => x", "f((a,b)=>a,[1,],)": "f((a, b) => a, [1])",
		"let x=1;x": "let x = 1; x", "(let x=1;x)+1": "(let x = 1; x) + 1", "-(-a)": "--a", "-(a+b)": "-(a + b)", "(-a).b": "(-a).b", "a?.b?.[0]['c']": `a?.b?.[0]["c"]`, "0x1F+1_000+1.0+2e3": "31 + 1000 + 1.0 + 2000.0",
		"(a<b)==c": "(a < b) == c", "a not  in b": "a not in b", "!(a in b)": "!(a in b)", "missing": "missing", "(x=>x)": "x => x", "1 .a": "1.a",
	} {
		got, err := Format(text)
		if err != nil || got != want {
			t.Errorf("%s is %q, %v; want %s", text, got, err, want)
		}
	}
	if _, err := Format("a +"); err == nil {
		t.Error("half an expression has a form")
	}
}

// A program that has decoded a row by itself sets single fields from their JSON.
func TestReadField(t *testing.T) {
	row, err := ParseType("{at: time, list: [float], o: int?, any: any}")
	if err != nil {
		t.Fatal(err)
	}
	scope := NewScope(Names{Row: row})
	program, err := scope.Compile(Source{Text: "{at: unix(at), list: list, o: o, any: any}"}, Any)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		fields map[string]string
		want   string // or the error
	}{
		{map[string]string{"at": `"1970-01-01T00:00:07Z"`, "list": "[1, 2.5]", "o": "null", "any": ` {"b": [1], "a": 2} `}, `{"any":{"a":2,"b":[1]},"at":7,"list":[1,2.5],"o":null}`},
		{map[string]string{"at": `"1970-01-01T00:00:07Z"`, "list": "[]"}, `{"at":7,"list":[]}`},
		{map[string]string{"at": `"yesterday"`}, "at is a string and was declared as time, and it is not a time of RFC 3339"},
		{map[string]string{"at": "5"}, "at is an int and was declared as time"},
		{map[string]string{"list": `["x"]`}, `a part of list is a string and was declared as float`},
		{map[string]string{"list": `[9007199254740993]`}, `a part of list is an int and was declared as float, which can't hold it exactly`},
		{map[string]string{"any": "{"}, "the text is not JSON"},
		{map[string]string{"o": `1 2`}, "the text is not JSON"},
	} {
		fr := scope.NewFrame(Budget{})
		var got string
		var failed error
		for i, in := range scope.Inputs() {
			if err := scope.ReadField(fr, i, c.fields[in.Name]); err != nil && failed == nil {
				failed = err
			}
		}
		v, err := program.Value(fr)
		switch b, err2 := fr.AppendJSON(nil, v); {
		case failed != nil:
			got = failed.Error()
		case err != nil:
			got = err.Error()
		case err2 == nil:
			got = string(b)
		}
		if got != c.want {
			t.Errorf("%v give %s, want %s", c.fields, got, c.want)
		}
	}
}

// The fields of a row are given with their values as they are written.
func TestEachField(t *testing.T) {
	for row, want := range map[string]string{
		`{"a": 1.50, "é\n" : [ 1,{"x":null} ] ,"a":"\u00e9"}`: `a=1.50;` + "é\n" + `=[ 1,{"x":null} ];a="\u00e9";`,
		` { } `: "", `{}`: "", `[1]`: "the row is no object of JSON", `{"a"}`: "the text is not JSON", `{"a":1`: "the text is not JSON", `{"a":01}`: "the text is not JSON", ``: "the row is no object of JSON",
		`{"a": tru}`: "the text is not JSON", `{"a":1,}`: "the text is not JSON", `{"a":1} x`: "the text is not JSON", `{} x`: "the text is not JSON",
	} {
		got := ""
		if err := EachField(row, func(name, value string) { got += name + "=" + value + ";" }); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", row, got, want)
		}
	}
}
