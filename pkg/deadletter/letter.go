package deadletter

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Letter is a row that could not be done, as it was when it entered the function in which it died.
type Letter struct {
	// ID names the letter for ever; it is the stream id of its redrives.
	ID batch.StreamID
	// Sequence is the number of the batch in that stream that its next redrive is. It rises when the row is edited: that is
	// another batch.
	Sequence uint64
	Flow     string
	// Revision is that on which the row died.
	Revision int64
	// Function is where it died and where a redrive begins, Use which of its places in the flow, counted from 0. "": the row is
	// as it was submitted, and begins with the first function.
	Function string
	Use      uint32
	Code     batch.Code
	Reason   string
	Attempts uint32
	// Redrives is how often it was redriven and died again.
	Redrives uint32
	// Row is the row in Encoding; "" means JSON.
	Encoding string
	Row      []byte
	// Origin is the row's id, Path and Visit tell apart what it became.
	Origin batch.RowID
	Path   uint64
	Visit  uint32
	// ShardKey is the field that the flow was sharded by, Key the hash of its value. "" and 0 where there was none.
	ShardKey string
	Key      uint64
	Edited   bool

	// Kept is when it was kept, by the store's clock; Begun when a redrive of it began of which nobody knows how it ended. The
	// store fills them in.
	Kept, Begun time.Time

	place string // in the flow's stream
}

// NewID is the id of the letter of a row that died in a function. It does not change when the row runs again.
func NewID(flow string, row batch.RowID, path uint64, visit uint32, function string, use uint32) batch.StreamID {
	h := sha256.New()
	var numbers [32]byte
	binary.BigEndian.PutUint64(numbers[0:], row.Batch.Sequence)
	binary.BigEndian.PutUint64(numbers[8:], path)
	for i, n := range []uint32{row.Row, visit, use, uint32(len(flow))} {
		binary.BigEndian.PutUint32(numbers[16+4*i:], n)
	}
	h.Write(row.Batch.Stream[:])
	h.Write(numbers[:])
	h.Write([]byte(flow))
	h.Write([]byte(function))
	return batch.StreamID(h.Sum(nil)[:16])
}

// record is a letter as it stands in Redis: JSON, for people and other programs to read.
type record struct {
	ID       string     `json:"id"`
	Sequence uint64     `json:"sequence"`
	Revision int64      `json:"revision,omitempty"`
	Function string     `json:"function,omitempty"`
	Use      uint32     `json:"use,omitempty"`
	Code     string     `json:"code"`
	Number   batch.Code `json:"code_number"`
	Reason   string     `json:"reason"`
	Attempts uint32     `json:"attempts,omitempty"`
	Redrives uint32     `json:"redrives,omitempty"`
	Encoding string     `json:"encoding,omitempty"`
	Row      *string    `json:"row,omitempty"`
	RowBytes []byte     `json:"row_base64,omitempty"` // in place of Row, where that is no text
	Stream   string     `json:"stream"`
	Batch    uint64     `json:"batch"`
	Place    uint32     `json:"place"`
	Path     uint64     `json:"path,omitempty,string"` // more than a float holds, as Key
	Visit    uint32     `json:"visit,omitempty"`
	ShardKey string     `json:"shard_key,omitempty"`
	Key      uint64     `json:"key,omitempty,string"`
	Edited   bool       `json:"edited,omitempty"`
}

func (l *Letter) encode() (string, error) {
	r := record{
		ID: l.ID.String(), Sequence: l.Sequence, Revision: l.Revision, Function: l.Function, Use: l.Use, Code: l.Code.String(), Number: l.Code,
		Reason: l.Reason, Attempts: l.Attempts, Redrives: l.Redrives, Encoding: l.Encoding,
		Stream: l.Origin.Batch.Stream.String(), Batch: l.Origin.Batch.Sequence, Place: l.Origin.Row, Path: l.Path, Visit: l.Visit,
		ShardKey: l.ShardKey, Key: l.Key, Edited: l.Edited,
	}
	if utf8.Valid(l.Row) {
		text := string(l.Row)
		r.Row = &text
	} else {
		r.RowBytes = l.Row
	}
	text, err := json.Marshal(r)
	return string(text), err
}

func decode(flow, text string) (*Letter, error) {
	var r record
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return nil, fmt.Errorf("read a dead letter of flow %s: %w", flow, err)
	}
	l := &Letter{
		Sequence: max(1, r.Sequence), Flow: flow, Revision: r.Revision, Function: r.Function, Use: r.Use, Code: r.Number, Reason: r.Reason,
		Attempts: r.Attempts, Redrives: r.Redrives, Encoding: r.Encoding, Row: r.RowBytes, Path: r.Path, Visit: r.Visit,
		ShardKey: r.ShardKey, Key: r.Key, Edited: r.Edited,
	}
	if r.Row != nil {
		l.Row = []byte(*r.Row)
	}
	var err error
	if l.ID, err = ParseID(r.ID); err != nil {
		return nil, fmt.Errorf("read a dead letter of flow %s: %w", flow, err)
	}
	if l.Origin.Batch.Stream, err = ParseID(r.Stream); err != nil {
		return nil, fmt.Errorf("read dead letter %s of flow %s: its stream: %w", l.ID, flow, err)
	}
	l.Origin.Batch.Sequence, l.Origin.Row = r.Batch, r.Place
	return l, nil
}

// ParseID reads a letter's id; the error is CodeNotFound.
func ParseID(text string) (batch.StreamID, error) {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != len(batch.StreamID{}) {
		return batch.StreamID{}, batch.Errorf(batch.CodeNotFound, "%q is no letter's id: that has 32 hexadecimal digits, as kisgrid dead list shows them", text)
	}
	return batch.StreamID(raw), nil
}
