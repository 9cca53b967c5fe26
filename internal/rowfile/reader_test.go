package rowfile

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// scores are the types of the rows of the tests with CSV.
var scores = Types{"id": {Kind: Int}, "score": {Kind: Float}, "name": {Kind: String}, "ok": {Kind: Bool}, "note": {Kind: String, Optional: true}, "tags": {Kind: JSON}}

// readAll returns the rows of an input, each as "number row", and bad rows and the last error as "! message".
func readAll(in io.Reader, o Options) []string {
	r := NewReader(in, o)
	var got []string
	for {
		row, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			return got
		case err == nil:
			got = append(got, fmt.Sprintf("%d %s", r.Number(), row))
			continue
		}
		got = append(got, "! "+err.Error())
		if _, ok := errors.AsType[*BadRow](err); !ok {
			return got
		}
	}
}

func zipped(text string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte(text))
	_ = z.Close()
	return b.String()
}

func TestReader(t *testing.T) {
	typed := Options{Format: CSV, Types: func() (Types, error) { return scores, nil }}
	small := Options{MaxRow: 12}
	for name, c := range map[string]struct {
		in   string
		o    Options
		want []string
	}{
		"nothing":            {"", Options{}, nil},
		"only white space":   {" \n\n\t", Options{}, nil},
		"lines":              {"\n {\"a\":1} \r\n\n[1]\n5\n\"x\"", Options{Format: NDJSON}, []string{`2 {"a":1}`, `4 [1]`, `5 5`, `6 "x"`}},
		"from a line":        {"1\nbroken\n3\n4\n", Options{From: 3}, []string{"3 3", "4 4"}},
		"a byte-order mark":  {"\xef\xbb\xbf{}\n", Options{}, []string{"1 {}"}},
		"gzip":               {zipped("\xef\xbb\xbf1\n2\n"), Options{}, []string{"1 1", "2 2"}},
		"two gzip files":     {zipped("1\n") + zipped("2\n"), Options{}, []string{"1 1", "2 2"}},
		"gzip, cut off":      {zipped("1\n")[:20], Options{}, []string{"1 1", "! read rows after line 1: unexpected EOF"}},
		"a broken line":      {"1\n{\"a\":}\n{\"a\":1\n{} {}\n2\n", Options{}, []string{"1 1", `! line 2: ROW_UNDECODABLE: the line is not one JSON value: invalid character '}' looking for beginning of value, at byte 6`, `! line 3: ROW_UNDECODABLE: the line is not one JSON value: it ends too early`, `! line 4: ROW_UNDECODABLE: the line is not one JSON value: invalid character '{' after top-level value, at byte 4`, "5 2"}},
		"a broken first":     {"{\"a\":1\n2\n", Options{}, []string{`! line 1: ROW_UNDECODABLE: the line is not one JSON value: it ends too early`, "2 2"}},
		"a message first":    {"Starting export\n{}\n", Options{}, []string{`! line 1: ROW_UNDECODABLE: the line is not one JSON value: invalid character 'S' looking for beginning of value, at byte 1`, "2 {}"}},
		"a long line":        {"1\n" + strings.Repeat("1", 200000) + "\n{\"abcd\":123}\n{\"abcd\":1234}\n3\n", small, []string{"1 1", "! line 2: ROW_TOO_LARGE: the row is over 12 bytes", `3 {"abcd":123}`, "! line 4: ROW_TOO_LARGE: the row is over 12 bytes", "5 3"}},
		"array":              {" [ {\"a\":\n \"],}\\\"\"} , 2,\n[3] ]\n", Options{}, []string{`1 {"a":"],}\""}`, "2 2", "3 [3]"}},
		"empty array":        {"[ ]", Options{}, nil},
		"array, broken":      {`[1, {"a":}, , 3,]`, Options{}, []string{"1 1", `! row 2: ROW_UNDECODABLE: the line is not one JSON value: invalid character '}' looking for beginning of value, at byte 6`, "! row 3: ROW_UNDECODABLE: there is no value between two commas", "4 3"}},
		"array, long":        {`["` + strings.Repeat("x", 100) + `",     2]`, small, []string{"! row 1: ROW_TOO_LARGE: the row is over 12 bytes", "2 2"}},
		"array, cut off":     {`[1, {"a":`, Options{}, []string{"1 1", "! row 1: the input ends within the JSON array, behind row 1: its ] is missing"}},
		"arrays in lines":    {"[1]\n[2]\n", Options{}, []string{"1 1", `! row 1: "[" follows the end of the JSON array: where each line is a row, give the format as ndjson`}},
		"array, from":        {`[1, 2, 3]`, Options{From: 2}, []string{"2 2", "3 3"}},
		"CSV":                {"id,score,name,ok,note,tags\n1,2.50,\"a \"\"b\"\", c\",TRUE,x,\"[1, 2]\"\n", typed, []string{`2 {"id":1,"score":2.50,"name":"a \"b\", c","ok":true,"note":"x","tags":[1,2]}`}},
		"CSV, spelled":       {"id,score\n+007,.5\n5.0,5.\n-0,1E+3\n", typed, []string{`2 {"id":7,"score":0.5}`, `3 {"id":5,"score":5}`, `4 {"id":-0,"score":1e+3}`}},
		"CSV, empty cells":   {"id,name,note\n,,\n1,\"\",\"\"\n", typed, []string{`2 {"name":""}`, `3 {"id":1,"name":"","note":""}`}},
		"CSV, wrong values":  {"id,ok\n1.5,no\nx,yes\n1,perhaps\n2,1\n", typed, []string{`! line 2: ROW_UNDECODABLE: id must be a whole number, it is "1.5"`, `! line 3: ROW_UNDECODABLE: id must be a whole number, it is "x"`, `! line 4: ROW_UNDECODABLE: ok must be true or false, it is "perhaps"`, `5 {"id":2,"ok":true}`}},
		"CSV, lines in one":  {"id,name\r\n1,\"a\r\nb\"\r\n2,c\r\n", typed, []string{`2 {"id":1,"name":"a\nb"}`, `4 {"id":2,"name":"c"}`}},
		"CSV, open mark":     {"id,name\n1,\"a\n2,b\n3,c\n", typed, []string{`! line 2: ROW_UNDECODABLE: a quotation mark is opened and never closed`, `3 {"id":2,"name":"b"}`, `4 {"id":3,"name":"c"}`}},
		"CSV, open, limit":   {"id\n\"1\n2\n" + strings.Repeat("3\n", 20), Options{Format: CSV, MaxRow: 12, From: 21}, []string{`21 {"id":3}`, `22 {"id":3}`, `23 {"id":3}`}},
		"CSV, behind mark":   {"id,name\n1,\"a\"b\n2,5\" disk\n", typed, []string{`! line 2: ROW_UNDECODABLE: text follows the closing quotation mark of column 2`, `3 {"id":2,"name":"5\" disk"}`}},
		"CSV, cells":         {"id,name\n1\n\n1,a,b\n", typed, []string{`! line 2: ROW_UNDECODABLE: the record has 1 cells, and the header has 2`, `! line 4: ROW_UNDECODABLE: the record has 3 cells, and the header has 2`}},
		"CSV, unnamed":       {"id,\n1,\n2,x\n", typed, []string{`2 {"id":1}`, `! line 3: ROW_UNDECODABLE: column 2 has a value, and no name in the header`}},
		"CSV, semicolons":    {"id;name\n1;a,b\n", typed, []string{`2 {"id":1,"name":"a,b"}`}},
		"CSV, tabs":          {"id\tname\n1\ta\n", typed, []string{`2 {"id":1,"name":"a"}`}},
		"CSV, Latin-1":       {"id,name\n1,M\xfcller\n", typed, []string{`! line 2: ROW_UNDECODABLE: the line is not UTF-8: convert the file, such as with iconv -f LATIN1 -t UTF-8`}},
		"CSV, no header":     {"1,2\n3,4\n", typed, []string{"! line 1: the first line of CSV has to name the columns, and none of its cells is a field of the flow's rows, which are: id, name, note, ok, score, tags"}},
		"CSV, twice":         {"id,id\n3,4\n", typed, []string{`! line 1: the header has the column "id" twice`}},
		"CSV, without types": {"a,b,c,d,e\n1,007,true,1.50,\"5\"\n", Options{Format: CSV}, []string{`2 {"a":1,"b":"007","c":true,"d":1.50,"e":"5"}`}},
		"CSV, long":          {"id\n" + strings.Repeat("1", 20) + "\n2\n", Options{Format: CSV, MaxRow: 12}, []string{"! line 2: ROW_TOO_LARGE: the row is over 12 bytes", `3 {"id":2}`}},
		"CSV that is JSON":   {"{}", Options{Format: CSV}, []string{"! line 1: the input is JSON, not CSV: leave the format out, or give it as ndjson or array"}},
	} {
		t.Run(name, func(t *testing.T) {
			for way, in := range map[string]io.Reader{"at once": strings.NewReader(c.in), "byte by byte": iotest.OneByteReader(strings.NewReader(c.in))} {
				if diff := cmp.Diff(c.want, readAll(in, c.o)); diff != "" {
					t.Errorf("%s: %s", way, diff)
				}
			}
		})
	}
}

// Input that has no rows is named at its first line, and nothing else is returned.
func TestNotRows(t *testing.T) {
	for in, want := range map[string]string{
		"id,score_1\n1,2\n":         "CSV",
		"1,2,3\n4,5,6\n":            "CSV",
		"id\n1\n":                   "CSV",
		"a;b\n1;2\n":                "CSV",
		"{\n  \"a\": 1\n}\n":        "JSON over several lines",
		"{\"a\": 1,\n\"b\": 2}\n":   "JSON over several lines",
		"{\"a\": [\n1]}\n":          "JSON over several lines",
		"\xff\xfe{\x00}\x00":        "UTF-16",
		"\xfe\xff\x00{\x00}":        "UTF-16",
		"{\x00\"\x00a\x00\"\x00":    "UTF-16",
		"\x00{\x00\"\x00a\x00\"":    "UTF-16",
		"{'a': 1}\n":                "text with single quotes, as Python prints it",
		"{a: 1}\n":                  "text with names that have no quotes",
		"<rows><row/></rows>\n":     "XML or HTML",
		"---\na: 1\n":               "YAML",
		"stu_id: 1\n":               "YAML",
		"\x28\xb5\x2f\xfdabc":       "compressed with zstd",
		"PK\x03\x04abc":             "a zip archive, or a spreadsheet",
		"PAR1abc":                   "Parquet",
		"ab\x00\x01\x02\n":          "binary",
		"\n\nid,score_1\n1,2\n":     "CSV",
		zipped("id,score_1\n1,2\n"): "CSV",
		"\xef\xbb\xbfid,score\n1,2": "CSV",
	} {
		r := NewReader(strings.NewReader(in), Options{})
		row, err := r.Next()
		wrong, ok := errors.AsType[*NotRows](err)
		if !ok || wrong.Is != want || !strings.Contains(wrong.Reason, want) {
			t.Errorf("%q: row %q, %v; want that it is %s", in, row, err, want)
		}
		if _, again := r.Next(); !errors.Is(again, err) {
			t.Errorf("%q: Next goes on with %v", in, again)
		}
	}
}

// A row is returned as soon as its line is there.
func TestReadsNoFurther(t *testing.T) {
	in, out := io.Pipe()
	r := NewReader(in, Options{})
	go func() { _, _ = out.Write([]byte("5\n")) }()
	if row, err := r.Next(); string(row) != "5" || err != nil {
		t.Errorf("%q, %v", row, err)
	}
	_ = out.CloseWithError(errors.New("the disk is gone"))
	if _, err := r.Next(); err == nil || err.Error() != "read rows after line 1: the disk is gone" {
		t.Error(err)
	}
}

// Text is the row as it stands in the input.
func TestText(t *testing.T) {
	r := NewReader(strings.NewReader("id,name\n01,\"a\nb\"\n"), Options{Format: CSV})
	if _, err := r.Next(); err != nil || string(r.Text()) != "01,\"a\nb\"" || string(r.Header()) != "id,name" {
		t.Errorf("%q, %q, %v", r.Text(), r.Header(), err)
	}
}

// Whatever the bytes are, a Reader ends, holds its limit, and returns only JSON on one line.
func TestAnyInput(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		piece := rapid.SampledFrom([]string{"{", "}", "[", "]", ",", `"`, "\n", "\r\n", "a", "1", ":", " ", "\\", `{"a":1}`, "\x00", "\xff"})
		in := strings.Join(rapid.SliceOfN(piece, 0, 60).Draw(t, "input"), "")
		o := Options{MaxRow: 20, Format: Format(rapid.IntRange(0, int(CSV)).Draw(t, "format"))}
		r := NewReader(strings.NewReader(in), o)
		for range 2*len(in) + 2 {
			row, err := r.Next()
			if _, ok := errors.AsType[*BadRow](err); ok {
				continue
			}
			if err != nil {
				return
			}
			if len(row) > o.MaxRow || len(row) == 0 || bytes.ContainsAny(row, "\n") {
				t.Fatalf("the row %q of %q", row, in)
			}
		}
		t.Fatalf("%q does not end", in)
	})
}

func TestParseTypes(t *testing.T) {
	for text, want := range map[string]Types{
		"":    nil,
		"int": nil,
		"students.Avg{stu_id int, avg_score float64}":                             {"stu_id": {Kind: Int}, "avg_score": {Kind: Float}},
		"a.B{n *int, at time.Time, l []string, m map[string]int, x other.T, }":    {"n": {Int, true}, "at": {Kind: String}, "l": {Kind: JSON}, "m": {Kind: JSON}, "x": {}},
		"a.B{s struct { X int; Y []int }, raw json.RawMessage}":                   {"s": {Kind: JSON}, "raw": {}},
		"{id: int, name: string?, tags: [string], in: {x: int, y: any}, b: bool}": {"id": {Kind: Int}, "name": {String, true}, "tags": {Kind: JSON}, "in": {Kind: JSON}, "b": {Kind: Bool}},
		"a.B{x int}, a.C{y int}":                                                  nil,
	} {
		got, err := ParseTypes(text)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v %s", text, err, diff)
		}
	}
	if _, err := ParseTypes("a.B{x int"); err == nil {
		t.Error("a type without its end is read")
	}
}

func TestDeclaredTypes(t *testing.T) {
	got := DeclaredTypes([]byte("kistype: func\nsource:\n  fields: {id: int, name: \"string?\", tags: [string], in: {x: int}}\n"))
	want := Types{"id": {Kind: Int}, "name": {String, true}, "tags": {Kind: JSON}, "in": {Kind: JSON}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	got.Add(Types{"id": {Kind: String}, "more": {Kind: Bool}})
	if got["id"].Kind != Int || got["more"].Kind != Bool {
		t.Errorf("the types are %v", got)
	}
	if got := DeclaredTypes([]byte("kistype: func")); got != nil {
		t.Errorf("types that nobody declared: %v", got)
	}
}

func TestFormats(t *testing.T) {
	for name, want := range map[string]Format{"a.csv": CSV, "A.CSV.GZ": CSV, "a.tsv": CSV, "a.jsonl": NDJSON, "a.json": Detect, "-": Detect} {
		if got := FormatOf(name); got != want {
			t.Errorf("%s is %v", name, got)
		}
	}
	for _, f := range []Format{Detect, NDJSON, Array, CSV} {
		if got, err := ParseFormat(f.String()); got != f || err != nil {
			t.Error(f, got, err)
		}
	}
	if _, err := ParseFormat("xls"); err == nil {
		t.Error("xls is a format")
	}
}

// TestManyColumns: the time for a header grows with the number of its columns, and not with their square.
func TestManyColumns(t *testing.T) {
	t.Parallel()
	const columns = 300_000 // took minutes when each name was compared with all earlier ones
	var header strings.Builder
	for i := range columns {
		fmt.Fprintf(&header, "%x,", i)
	}
	r := NewReader(strings.NewReader(header.String()+"0\n"), Options{Format: CSV, MaxRow: 8 << 20})
	began := time.Now()
	if _, err := r.Next(); err == nil || errors.Is(err, io.EOF) || !strings.Contains(err.Error(), "twice") {
		t.Errorf("got %v", err)
	}
	if took := time.Since(began); took > time.Minute {
		t.Errorf("it took %v", took)
	}
}
