package flowexec_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/vmihailenco/msgpack/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/typepb"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// submitPacked runs rows of some encoding, and returns what their output is encoded in, too.
func submitPacked(t *testing.T, l *flowexec.Local, encoding string, keys []uint64, rows ...[]byte) (string, string) {
	t.Helper()
	c := batch.Columns{Encoding: encoding, Keys: keys}
	for _, row := range rows {
		c.Append(row)
	}
	result, err := l.Submit(context.Background(), "F", batch.Pack(c))
	if err != nil {
		t.Fatal(err)
	}
	return tell(result), result.Output.Rows.Encoding
}

func messagePack(t *testing.T, v any) []byte {
	t.Helper()
	var b bytes.Buffer
	e := msgpack.NewEncoder(&b)
	e.SetCustomStructTag("json")
	e.SetSortMapKeys(true)
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// MessagePack rows end as the same rows in JSON do, and their output is JSON.
func TestMessagePack(t *testing.T) {
	docs := chain("shard_key: k\n", "look Verify; source: {must: [n]}", "double Calculate")
	l := local(t, docs, func(r *kis.Registry) {
		r.Func("look", kis.Verify(ctxErr(func(k key) error {
			if k.K == "drop" {
				return kis.Drop("asked for")
			}
			return nil
		})))
		r.Func("double", kis.Calculate(double))
	})
	got, encoding := submitPacked(t, l, batch.MessagePack, []uint64{1, 2, 3, 4, 5, 6},
		messagePack(t, in{"a", 1}), messagePack(t, in{"drop", 2}), messagePack(t, map[string]any{"k": "b"}), messagePack(t, map[string]any{"k": "c", "n": "x"}),
		[]byte("\xc1"), messagePack(t, map[string]any{"k": "d", "n": 3, "more": []any{nil, 1.5}}))
	expect(t, got, `
		1 filtered DROPPED look: asked for
		2 dead MISSING_FIELD look: the row lacks n, which source.must of look asks for
		3 dead ROW_UNDECODABLE double: the row does not fit double: n must be a whole number, it is a string
		4 dead ROW_UNDECODABLE look: the row is no MessagePack that JSON can hold: byte 0xc1 begins no value
		0 → {"k":"a","m":2}
		5 → {"k":"d","m":6}`)
	if encoding != "" {
		t.Errorf("the output is encoded as %q, want JSON", encoding)
	}
	c := batch.Columns{Encoding: batch.MessagePack}
	c.Append(messagePack(t, in{"a", 1}))
	if _, err := l.Submit(context.Background(), "F", batch.Pack(c)); batch.CodeOf(err) != batch.CodeMissingKeys {
		t.Errorf("without keys: %v, want MISSING_KEYS", err)
	}
}

func enum(t *testing.T, name string, number int32) []byte {
	t.Helper()
	b, err := proto.Marshal(&typepb.EnumValue{Name: name, Number: number})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Protobuf rows are read into the generated message that functions take, and come out as such, or as JSON.
func TestProtobuf(t *testing.T) {
	type named struct {
		Name string `json:"name"`
	}
	register := func(r *kis.Registry) {
		r.Func("look", kis.Verify(ctxErr(func(n named) error {
			if n.Name == "drop" {
				return kis.Drop("asked for")
			}
			return nil
		})))
		r.Func("double", kis.Calculate(func(_ context.Context, v *typepb.EnumValue) (*typepb.EnumValue, error) {
			return &typepb.EnumValue{Name: v.Name, Number: 2 * v.Number}, nil
		}))
		r.Func("plain", kis.Calculate(func(_ context.Context, v *typepb.EnumValue) (out, error) { return out{v.Name, int(v.Number)}, nil }))
	}
	rows := [][]byte{enum(t, "a", 1), enum(t, "drop", 2), []byte("\xff"), enum(t, "z", 0)}

	l := local(t, chain("", "look Verify; source: {must: [number]}", "double Calculate"), register)
	got, encoding := submitPacked(t, l, batch.Protobuf, nil, rows...)
	expect(t, got, `
		1 filtered DROPPED look: asked for
		2 dead ROW_UNDECODABLE look: the row is no message google.protobuf.EnumValue, which functions of flow F read: …
		0 → `+string(enum(t, "a", 2))+`
		3 → `+string(enum(t, "z", 0)))
	if encoding != batch.Protobuf {
		t.Errorf("the output is encoded as %q, want protobuf", encoding)
	}

	l = local(t, chain("", "look Verify; source: {must: [number]}", "plain Calculate"), register)
	got, encoding = submitPacked(t, l, batch.Protobuf, nil, rows...)
	expect(t, got, `
		1 filtered DROPPED look: asked for
		2 dead ROW_UNDECODABLE look: the row is no message google.protobuf.EnumValue…
		0 → {"k":"a","m":1}
		3 → {"k":"z","m":0}`)
	if encoding != "" {
		t.Errorf("the output is encoded as %q, want JSON", encoding)
	}
	expect(t, submit(t, l, `{"name":"a","number":3}`, `{"name":"b"}`), `
		1 dead MISSING_FIELD look: the row lacks number, which source.must of look asks for
		0 → {"k":"a","m":3}`)

	l = local(t, chain("", "look Verify"), register)
	got, _ = submitPacked(t, l, batch.Protobuf, nil, rows[0])
	expect(t, got, `0 dead ROW_UNDECODABLE look: the row is protobuf, but no function of flow F from look on reads a generated message: take a pointer to one in look, or send JSON`)
}

func TestUnknownEncoding(t *testing.T) {
	l := local(t, chain("", "double Calculate"), func(r *kis.Registry) { r.Func("double", kis.Calculate(double)) })
	got, _ := submitPacked(t, l, "avro", nil, []byte("x"), []byte("y"))
	expect(t, got, `
		0 dead ROW_UNDECODABLE double: the row is encoded as "avro", which is not known here: send json, protobuf or msgpack
		1 dead ROW_UNDECODABLE double: the row is encoded as "avro", which is not known here: send json, protobuf or msgpack`)
}
