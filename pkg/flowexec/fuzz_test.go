package flowexec_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/typepb"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// looked, scored and kept are what rows are read as on their way through FuzzRows' flow.
type looked struct {
	ID int `json:"id"`
}

type scored struct {
	ID    int     `json:"id"`
	Score float64 `json:"score"`
	Name  string  `json:"name"`
	Small int8    `json:"small"`
}

type kept struct {
	ID    float64         `json:"id"`
	Name  string          `json:"name"`
	Score float64         `json:"score"`
	Small uint16          `json:"small"`
	Raw   json.RawMessage `json:"raw,omitempty"`
}

// FuzzRows: whatever is submitted, its outcome and what comes out are what encoding/json makes of it from function to
// function. The first function looks at rows that a later one reads as a wider type, and has fields that must be there.
func FuzzRows(f *testing.F) {
	for _, seed := range []string{
		`{"id":1,"score":2.5,"name":"x","small":3}`, `{"id":1,"score":2.5,"name":"x","small":-3}`, `{"id":1}`, `{"name":"a"}`, `null`, ``, `[]`, `{`,
		`{"ID":1,"Name":"x"}`, `{"id":1,"id":null,"name":"n"}`, `{"id":null,"Id":2,"NAME":"n"}`, `{"name":null,"Name":"x","id":1}`, `{"id":1.0,"name":"n"}`,
		`{"id":9007199254740993,"name":"n"}`, `{"id":9223372036854775807,"name":""}`, `{"id":1,"name":"\ud800"}`, "{\"id\":1,\"name\":\"\xff\"}",
		`{"id":1,"name":"<&>\u2028"}`, `{"id":1,"name":"n","score":1e300,"raw":{"a":[1,2]}}`, `{"id":1,"name":"n","small":128}`, `{"\u0069d":7,"n\u0061me":"n"}`,
		`{"id":1,"name":"n","score":-0}`, "{\"id\":1,\"name\":\"n\",\"\xc5\xbfcore\":3}", `{"id":"1","name":"n"}`, `{"id":1,"name":"n"}{}`, `{"id":1,"name":"n","name":null}`,
	} {
		f.Add([]byte(seed))
	}
	register := func(r *kis.Registry) {
		r.Func("look", kis.Verify(func(context.Context, looked) error { return nil }))
		r.Func("count", kis.Calculate(func(_ context.Context, c scored) (scored, error) { return c, nil }))
		r.Func("keep", kis.Calculate(func(_ context.Context, k kept) (*kept, error) { return &k, nil }))
		r.Func("pass", kis.Verify(func(context.Context, *scored) error { return nil }))
	}
	const must = "; source: {must: [id, name]}"
	through := local(f, chain("", "look Verify"+must, "count Calculate", "keep Calculate"), register)
	past := local(f, chain("", "look Verify", "pass Verify"+must, "keep Calculate"), register)
	kisflow := local(f, chain("", "look Verify"+must, "count Calculate", "keep Calculate"), func(r *kis.Registry) {
		r.FaaS("look", func(_ context.Context, flow kis.Flow, _ []*looked) error { return flow.Next(kis.ActionDataReuse) })
		r.FaaS("count", func(_ context.Context, flow kis.Flow, rows []*scored) error { return flow.CommitRowBatch(rows) })
		r.FaaS("keep", func(_ context.Context, flow kis.Flow, rows []*kept) error { return flow.CommitRowBatch(rows) })
	})
	f.Fuzz(func(t *testing.T, row []byte) {
		if len(row) > 1<<16 {
			t.Skip()
		}
		want, code := wantedOf(t, row)
		check(t, through, row, want, code)
		check(t, kisflow, row, want, code)
		if text, ok := plainJSON(row); ok {
			want, code := wantedOf(t, text)
			checkPacked(t, through, row, want, code)
			checkPacked(t, kisflow, row, want, code)
		}

		var p scored
		var k kept
		switch {
		case code == batch.CodeConversionFailed: // nothing is converted on this way
			return
		case code != 0:
		case json.Unmarshal(row, &p) != nil || json.Unmarshal(row, &k) != nil:
			want, code = "", batch.CodeRowUndecodable
		default:
			want = written(t, k)
		}
		check(t, past, row, want, code)
	})
}

// plainJSON is a row as json.Marshal writes what it is read as; false: it has no such form, or names that only case tells apart,
// of which the last counts.
func plainJSON(row []byte) ([]byte, bool) {
	var value any
	if json.Unmarshal(row, &value) != nil {
		return nil, false
	}
	if fields, ok := value.(map[string]any); ok {
		names := make(map[string]bool)
		for name := range fields {
			folded := strings.ToLower(strings.ToUpper(name))
			if names[folded] {
				return nil, false
			}
			names[folded] = true
		}
	}
	text, err := json.Marshal(value)
	return text, err == nil
}

// checkPacked is check for the row in MessagePack.
func checkPacked(t *testing.T, l *flowexec.Local, row []byte, want string, code batch.Code) {
	t.Helper()
	var value any
	if err := json.Unmarshal(row, &value); err != nil {
		t.Fatal(err)
	}
	if code != 0 {
		code = batch.CodeInternal // which of several reasons is found first is not promised
	}
	checkRow(t, l, batch.MessagePack, messagePack(t, value), messagePack(t, map[string]any{"id": 5, "name": "good", "score": 1, "small": 1}), want, code)
}

// FuzzProtobufRows: rows that package proto reads are done, and come out as what it reads; the others are dead.
func FuzzProtobufRows(f *testing.F) {
	for _, seed := range []*typepb.EnumValue{{}, {Name: "a", Number: -1}, {Name: "\u2028<é", Number: 1 << 30, Options: []*typepb.Option{{Name: "o"}}}} {
		row, err := proto.Marshal(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(row)
		f.Add(append(row, 0x78, 0x01)) // a field that the message does not know
	}
	f.Add([]byte("\x0a\x05abc"))
	f.Add([]byte("\x0a\x01\xff"))
	f.Add([]byte("\x10"))
	through := local(f, chain("", "look Verify", "again Calculate", "commit Expand"), func(r *kis.Registry) {
		r.Func("look", kis.Verify(func(context.Context, struct {
			Name string `json:"name"`
		}) error {
			return nil
		}))
		r.Func("again", kis.Calculate(func(_ context.Context, v *typepb.EnumValue) (*typepb.EnumValue, error) {
			return &typepb.EnumValue{Name: v.Name, Number: v.Number}, nil
		}))
		r.FaaS("commit", func(_ context.Context, flow kis.Flow, rows []*typepb.EnumValue) error {
			return flow.CommitRowBatch(rows)
		})
	})
	f.Fuzz(func(t *testing.T, row []byte) {
		var v typepb.EnumValue
		want, code := "", batch.CodeRowUndecodable
		if proto.Unmarshal(row, &v) == nil {
			want, code = string(enum(t, v.Name, v.Number)), 0
		}
		checkRow(t, through, batch.Protobuf, row, enum(t, "good", 5), want, code)
	})
}

// FuzzShardedRows: of rows without a type of their own, as maps and as what a FaaS function commits, those are done that
// encoding/json reads, and that have a shard key; they come out as encoding/json writes them.
func FuzzShardedRows(f *testing.F) {
	for _, seed := range []string{
		`{"id":1,"a":[1,2.50,"x",null,{"b":true}]}`, `{"id":"x","b":1e400}`, `{"ID":1}`, `{"id":null}`, `{"id":null,"Id":2}`, `{"id":[1]}`, `{"id":{}}`, `{"id":true}`,
		`{"id":1}x`, ``, `null`, `[1]`, `"id"`, `{"id":1,"id":2,"a":"\ud800"}`, "{\"id\":\"\xff\"}", `{"\u0069d":1}`, "{\"id\":1,\"\":\"\\u0000<\"}", `{"id":1,}`, `{"id":01}`,
	} {
		f.Add([]byte(seed))
	}
	register := func(r *kis.Registry) {
		r.Func("map", kis.Calculate(func(_ context.Context, m map[string]any) (map[string]any, error) { return m, nil }))
		r.FaaS("commit", func(_ context.Context, flow kis.Flow, rows []map[string]any) error { return flow.CommitRowBatch(rows) })
	}
	ways := []*flowexec.Local{
		local(f, chain("shard_key: id\n", "map Calculate"), register),
		local(f, chain("shard_key: id\n", "commit Calculate", "map Calculate"), register),
	}
	f.Fuzz(func(t *testing.T, row []byte) {
		if len(row) > 1<<16 {
			t.Skip()
		}
		var m map[string]any
		var key struct {
			ID notNull `json:"id"`
		}
		want, code := "", batch.CodeInternal // it is dead, for whichever of the reasons is found first
		if json.Unmarshal(row, &m) == nil && m != nil && json.Unmarshal(row, &key) == nil && key.ID != nil && key.ID[0] != '{' && key.ID[0] != '[' {
			want, code = written(t, m), 0
		}
		for _, l := range ways {
			check(t, l, row, want, code)
		}
	})
}

// notNull is the last value that is put into it: nulls change nothing.
type notNull []byte

func (n *notNull) UnmarshalJSON(raw []byte) error {
	if string(raw) != "null" {
		*n = bytes.Clone(raw)
	}
	return nil
}

// wantedOf takes a row through look, count and keep by way of encoding/json.
func wantedOf(t *testing.T, row []byte) (want string, code batch.Code) {
	t.Helper()
	var l looked
	var c scored
	if bytes.Equal(bytes.TrimSpace(row), []byte("null")) || json.Unmarshal(row, &l) != nil {
		return "", batch.CodeRowUndecodable
	}
	var there struct {
		ID   notNull `json:"id"`
		Name notNull `json:"name"`
	}
	if err := json.Unmarshal(row, &there); err != nil {
		return "", batch.CodeRowUndecodable
	}
	if there.ID == nil || there.Name == nil {
		// Which of the two is told first is not promised.
		if json.Unmarshal(row, &c) != nil {
			return "", batch.CodeInternal
		}
		return "", batch.CodeMissingField
	}
	if json.Unmarshal(row, &c) != nil {
		return "", batch.CodeRowUndecodable
	}
	var k kept
	if json.Unmarshal([]byte(written(t, c)), &k) != nil {
		return "", batch.CodeConversionFailed
	}
	return written(t, k), 0
}

func written(t *testing.T, row any) string {
	t.Helper()
	var text strings.Builder
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	if err := e.Encode(row); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(text.String(), "\n")
}

// check submits a row twice beside one that is good, and compares both. code 0 is done; CodeInternal is dead, for whatever reason.
func check(t *testing.T, l *flowexec.Local, row []byte, want string, code batch.Code) {
	t.Helper()
	checkRow(t, l, batch.JSON, row, []byte(`{"id":5,"name":"good","score":1,"small":1}`), want, code)
}

// checkRow is check for rows of whatever encoding.
func checkRow(t *testing.T, l *flowexec.Local, encoding string, row, fine []byte, want string, code batch.Code) {
	t.Helper()
	c := batch.Columns{Encoding: encoding}
	for _, r := range [][]byte{row, fine, row} {
		c.Append(r)
	}
	good := string(fine)
	if encoding == batch.MessagePack {
		good = `{"id":5,"name":"good","score":1,"small":1}` // output is JSON
	}
	result, err := l.Submit(t.Context(), "F", batch.Pack(c))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i := range result.Output.Rows.Len() {
		got = append(got, string(result.Output.Rows.Row(i)))
	}
	wanted := []string{want, good, want}
	if code != 0 {
		wanted = []string{good}
	}
	if !reflect.DeepEqual(got, wanted) {
		t.Fatalf("%q: the flow passes on %q, encoding/json %q; not done: %+v", row, got, wanted, result.NotDone)
	}
	if code == 0 {
		return
	}
	if len(result.NotDone) != 2 {
		t.Fatalf("%q: not done are %+v, want rows 0 and 2", row, result.NotDone)
	}
	for _, o := range result.NotDone {
		if o.Outcome != batch.Dead || o.Code != code && code != batch.CodeInternal {
			t.Fatalf("%q: row %d is %s, want dead with %s", row, o.Row, fmt.Sprint(o.Outcome, o.Code, o.Reason), code)
		}
	}
}
