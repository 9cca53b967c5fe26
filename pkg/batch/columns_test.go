package batch

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func pack(rows ...string) Columns {
	var c Columns
	for _, r := range rows {
		c.Append([]byte(r))
	}
	return c
}

func TestColumns(t *testing.T) {
	c := pack("abc", "", "de")
	if got, want := fmt.Sprintf("%q %v", c.Data, c.Ends), `"abcde" [3 3 5]`; got != want {
		t.Errorf("packed %s, want %s", got, want)
	}
	for i, want := range []string{"abc", "", "de"} {
		row := c.Row(i)
		if string(row) != want {
			t.Errorf("row %d is %q, want %q", i, row, want)
		}
		_ = append(row, "xxx"...) // must not reach the next row
	}
	if string(c.Data) != "abcde" {
		t.Errorf("appending to a row changed the rows to %q", c.Data)
	}
	if (&Columns{}).Len() != 0 || c.Len() != 3 {
		t.Errorf("lengths %d and %d, want 0 and 3", (&Columns{}).Len(), c.Len())
	}
}

func TestSelect(t *testing.T) {
	c := pack("a", "bb", "", "dddd")
	c.Encoding = "msgpack"
	for _, tt := range []struct {
		name string
		keys []uint64
		rows []uint32
		want Columns
	}{
		{"none", nil, nil, Columns{Data: []byte{}, Ends: []uint32{}, Encoding: "msgpack"}},
		{"some, in the order asked for", nil, []uint32{3, 0, 2}, Columns{Data: []byte("dddda"), Ends: []uint32{4, 5, 5}, Encoding: "msgpack"}},
		{"with keys", []uint64{10, 11, 12, 13}, []uint32{1, 3, 1}, Columns{Data: []byte("bbddddbb"), Ends: []uint32{2, 6, 8}, Keys: []uint64{11, 13, 11}, Encoding: "msgpack"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c.Keys = tt.keys
			got := c.Select(tt.rows)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if len(got.Data) > 0 {
				got.Data[0] = 'X'
			}
			if string(c.Data) != "abbdddd" {
				t.Errorf("the copy shares its bytes: %q", c.Data)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	limits := Limits{BatchBytes: 10, BatchRows: 3}
	for _, tt := range []struct {
		name    string
		columns Columns
		limits  Limits
		want    string // empty: nothing is wrong
	}{
		{"good", pack("abc", "", "d"), limits, ""},
		{"at the limits", pack("abcdefgh", "i", "j"), limits, ""},
		{"good with keys", Columns{Data: []byte("ab"), Ends: []uint32{1, 2}, Keys: []uint64{7, 8}}, limits, ""},
		{"empty rows", pack("", ""), limits, ""},
		{"no rows", Columns{}, limits, "EMPTY_BATCH: the batch has no rows: send at least one"},
		{"no rows but data", Columns{Data: []byte("a")}, limits, "EMPTY_BATCH: the batch has no rows: send at least one"},
		{"too many rows", pack("", "", "", ""), limits, "TOO_MANY_ROWS: the batch has 4 rows, over the limit of 3 rows: split it"},
		{"too many rows by default", Columns{Ends: make([]uint32, 65537)}, Limits{}, "TOO_MANY_ROWS: the batch has 65537 rows, over the limit of 65536 rows: split it"},
		{"too many bytes", pack("abcdefgh", "ijk"), limits, "BATCH_TOO_LARGE: the batch has 11 bytes, over the limit of 10 bytes: split it"},
		{"too many bytes by default", pack(strings.Repeat("x", 8<<20+1)), Limits{}, "BATCH_TOO_LARGE: the batch has 8388609 bytes, over the limit of 8388608 bytes: split it"},
		{"fewer keys than rows", Columns{Data: []byte("ab"), Ends: []uint32{1, 2}, Keys: []uint64{7}}, limits, "BAD_COLUMNS: the batch has 1 keys for 2 rows: send one key for each row, or none"},
		{"more keys than rows", Columns{Data: []byte("a"), Ends: []uint32{1}, Keys: []uint64{7, 8}}, limits, "BAD_COLUMNS: the batch has 2 keys for 1 rows: send one key for each row, or none"},
		{"a long encoding", Columns{Data: []byte("a"), Ends: []uint32{1}, Encoding: strings.Repeat("x", 65)}, limits,
			"BAD_COLUMNS: the name of the batch's encoding has 65 bytes, over the limit of 64 bytes"},
		{"ends that fall", Columns{Data: []byte("abc"), Ends: []uint32{2, 1, 3}}, limits, "BAD_COLUMNS: row 1 ends at byte 1, before its start at 2"},
		{"ends short of the data", Columns{Data: []byte("abc"), Ends: []uint32{1, 2}}, limits, "BAD_COLUMNS: the rows end at byte 2 of 3 bytes of data"},
		{"ends past the data", Columns{Data: []byte("abc"), Ends: []uint32{1, 4}}, limits, "BAD_COLUMNS: the rows end at byte 4 of 3 bytes of data"},
		{"an end far past the data", Columns{Ends: []uint32{math.MaxUint32}}, limits, "BAD_COLUMNS: the rows end at byte 4294967295 of 0 bytes of data"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.columns.Check(tt.limits)
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestLimitsWithDefaults(t *testing.T) {
	if got, want := (Limits{BatchRows: 5}).WithDefaults(), (Limits{RowBytes: 1 << 20, BatchBytes: 8 << 20, BatchRows: 5}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestIDs(t *testing.T) {
	var zero ID
	if !zero.IsZero() {
		t.Error("the zero id is one")
	}
	stream, err := StreamIDFrom([]byte("0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	id := RowID{Batch: ID{Stream: stream, Sequence: 7}, Row: 3}
	if id.Batch.IsZero() {
		t.Error("an id is zero")
	}
	if got, want := id.String(), "30313233343536373839616263646566-7-3"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := stream.String(), "30313233343536373839616263646566"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for n, want := range map[int]string{
		0:  "BAD_BATCH_ID: a stream id has 16 bytes, not 0: draw 16 random bytes once per producer",
		17: "BAD_BATCH_ID: a stream id has 16 bytes, not 17: draw 16 random bytes once per producer",
	} {
		if _, err := StreamIDFrom(make([]byte, n)); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if first, second := NewStreamID(), NewStreamID(); first == second {
		t.Error("two stream ids are the same")
	}
}

func TestRows(t *testing.T) {
	type student struct {
		ID int `json:"stu_id"`
	}
	for _, tt := range []struct {
		name  string
		batch *Batch
		want  []string
	}{
		{"structs", Rows(student{1}, student{2}), []string{`{"stu_id":1}`, `{"stu_id":2}`}},
		{"pointers", Rows(&student{1}, nil), []string{`{"stu_id":1}`, `null`}},
		{"maps", Rows(map[string]any{"a": "é"}), []string{`{"a":"é"}`}},
		{"strings", Rows(`{"stu_id": 1}`, ``), []string{`{"stu_id": 1}`, ``}},
		{"bytes", Rows([]byte(`{}`)), []string{`{}`}},
		{"raw messages", Rows(json.RawMessage(`{ }`)), []string{`{ }`}},
		{"mixed", Rows[any](`{"a":1}`, student{2}, 3), []string{`{"a":1}`, `{"stu_id":2}`, `3`}},
		{"none", Rows[student](), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := tt.batch.Columns()
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for i := range c.Len() {
				got = append(got, string(c.Row(i)))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if tt.batch.Len() != len(tt.want) {
				t.Errorf("length %d, want %d", tt.batch.Len(), len(tt.want))
			}
		})
	}
}

func TestRowsThatCannotBeEncoded(t *testing.T) {
	_, err := Rows[any](1, math.Inf(1)).Columns()
	var unsupported *json.UnsupportedValueError
	if want := "encode row 1 (float64) as JSON: json: unsupported value: +Inf"; err == nil || err.Error() != want || !errors.As(err, &unsupported) {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestPack(t *testing.T) {
	want := Columns{Data: []byte("ab"), Ends: []uint32{2}, Keys: []uint64{1}, Encoding: "msgpack"}
	got, err := Pack(want).Columns()
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
}

func TestUseAndPin(t *testing.T) {
	b := Rows(1)
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	if !b.ID().IsZero() || b.Revision() != 0 || b.Age(start) != 0 {
		t.Errorf("before its first use: id %v, revision %d, age %v", b.ID(), b.Revision(), b.Age(start))
	}
	calls := 0
	next := func() ID {
		calls++
		return ID{Sequence: uint64(calls)}
	}
	first := b.Use(start, next)
	again := b.Use(start.Add(time.Hour), next)
	if first != again || first != b.ID() || first.Sequence != 1 || calls != 1 {
		t.Errorf("ids %v, %v and %v after %d calls; the first is to stay", first, again, b.ID(), calls)
	}
	if got := b.Age(start.Add(3 * time.Second)); got != 3*time.Second {
		t.Errorf("age %v, want 3s since the first use", got)
	}
	if got := b.Age(start.Add(-time.Second)); got != 0 {
		t.Errorf("age %v on a clock that went back, want 0", got)
	}
	b.Pin(5)
	b.Pin(6)
	if b.Revision() != 5 {
		t.Errorf("revision %d, want the first, 5", b.Revision())
	}
}
