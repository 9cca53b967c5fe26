package deadletter

import (
	"encoding/json"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// TestRecordIsJSON writes letters as encoding/json writes their records, and reads them back.
func TestRecordIsJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := func(name string) string {
			return rapid.OneOf(rapid.String(), rapid.StringMatching(`[ -~]*`)).Draw(t, name)
		}
		id := func(name string) (id batch.StreamID) {
			copy(id[:], rapid.SliceOfN(rapid.Byte(), len(id), len(id)).Draw(t, name))
			return id
		}
		l := &Letter{
			ID: id("id"), Sequence: rapid.Uint64Min(1).Draw(t, "sequence"), Flow: "F", Revision: rapid.Int64().Draw(t, "revision"),
			Function: text("function"), Use: rapid.Uint32().Draw(t, "use"), Code: batch.CodeOverloaded, Reason: text("reason"),
			Attempts: rapid.Uint32().Draw(t, "attempts"), Redrives: rapid.Uint32().Draw(t, "redrives"), Encoding: text("encoding"),
			Row:    []byte(rapid.OneOf(rapid.String(), rapid.Just("\xff\x00"), rapid.Just(`{"a":"\u00e4<&>"}`)).Draw(t, "row")),
			Origin: batch.RowID{Batch: batch.ID{Stream: id("stream"), Sequence: rapid.Uint64().Draw(t, "batch")}, Row: rapid.Uint32().Draw(t, "place")},
			Path:   rapid.Uint64().Draw(t, "path"), Visit: rapid.Uint32().Draw(t, "visit"), ShardKey: text("shard key"), Key: rapid.Uint64().Draw(t, "key"),
			Source: text("source"), Line: rapid.Uint64().Draw(t, "line"), Edited: rapid.Bool().Draw(t, "edited"),
		}
		r := record{
			ID: l.ID.String(), Sequence: l.Sequence, Revision: l.Revision, Function: l.Function, Use: l.Use, Code: l.Code.String(), Number: l.Code,
			Reason: l.Reason, Attempts: l.Attempts, Redrives: l.Redrives, Encoding: l.Encoding,
			Stream: l.Origin.Batch.Stream.String(), Batch: l.Origin.Batch.Sequence, Place: l.Origin.Row, Path: l.Path, Visit: l.Visit,
			Source: l.Source, Line: l.Line, ShardKey: l.ShardKey, Key: l.Key, Edited: l.Edited,
		}
		if row := string(l.Row); utf8.ValidString(row) {
			r.Row = &row
		} else {
			r.RowBytes = l.Row
		}
		want, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		got := string(l.appendRecord(nil, l.ID.String()))
		if got != string(want) {
			t.Fatalf("the record is\n%s\nnot\n%s", got, want)
		}
		back, err := decode("F", got)
		if err != nil || back.ID != l.ID || string(back.Row) != string(l.Row) || back.Key != l.Key || back.Source != l.Source || back.Line != l.Line {
			t.Fatalf("read back: %+v, %v", back, err)
		}
	})
}
