package deadletter

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Letter is a dead row, as it was when it entered the function in which it died. The states of a letter:
//
//	          Keep             Begin: a redrive takes it
//	dead row ──────► kept ──────────────────────────────► begun
//	                 │ ▲ ▲                                 │ │
//	          Edit,  │ │ │  Settle: a row died again, and  │ │
//	          with   └─┘ └─ its letter takes the place ────┘ │
//	          the    │                                       │ Settle: no row died
//	          lock   │ Drop, or older than MaxAge            ▼
//	                 └────────────────────────────────────► gone: the id is remembered for an hour
//
// A letter stays begun when its redrive is cut off, as the coordinator is killed. The next redrive takes it then, as the same batch, so
// that effects take place once. Only the holder of the lock of the flow's letters (Store.WithLock) may call Begin and Settle; Edit takes that
// lock itself.
type Letter struct {
	// ID never changes. It is also the stream id of the batches that redrives of the letter submit.
	ID batch.StreamID
	// Sequence is the sequence, within that stream, of the batch that the next redrive submits. It rises when the row is edited, because the
	// edited row is another batch.
	Sequence uint64
	Flow     string
	// Revision is the flow's revision on which the row died.
	Revision int64
	// Function is the function in which the row died, and where a redrive begins. A flow may have a function at several places: Use is the
	// number of the place, from 0. An empty Function means that the row is as it was submitted, and begins with the first function.
	Function string
	Use      uint32
	Code     batch.Code
	Reason   string
	Attempts uint32
	// Redrives is the number of redrives in which it died again.
	Redrives uint32
	// Row is the row, encoded in Encoding. An empty Encoding means JSON.
	Encoding string
	Row      []byte
	// Origin is the id of the submitted row. Path and Visit tell apart the rows that functions have made of it.
	Origin batch.RowID
	Path   uint64
	Visit  uint32
	// Source and Line say where the submitted row came from, if the client said so: the name of a file or source, and the line in it, from 1.
	// They are empty and 0 otherwise.
	Source string
	Line   uint64
	// ShardKey is the flow's shard key, Key the hash of the row's value of it. They are empty and 0 if the flow had none.
	ShardKey string
	Key      uint64
	Edited   bool
	// First says that the row's batch was sent for the first time, so that no letter of the row can be in the store yet. It is not stored.
	First bool

	// Kept is when the letter was kept. Begun is when a redrive of it began of which the end is not known; zero means none. Both are times of
	// Redis's clock, and set by the Store.
	Kept, Begun time.Time

	place string // the id of the letter's entry in the flow's Redis stream
}

// Place returns the place of a letter that the Store has read, for Page. A letter keeps its place when it is edited, and when its row dies
// again.
func (l *Letter) Place() string { return l.place }

// NewID makes the id of the letter of a row that died in a function. It is a hash of the arguments, so it is the same when the row dies
// there again. row is the submitted row; path, visit and use are as in Letter.
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

// record is the JSON of a letter in Redis, which people and other programs can read.
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
	RowBytes []byte     `json:"row_base64,omitempty"` // instead of Row, if that is no valid UTF-8
	Stream   string     `json:"stream"`
	Batch    uint64     `json:"batch"`
	Place    uint32     `json:"place"`
	Path     uint64     `json:"path,omitempty,string"` // as a string, like Key, because a number in JSON may lose digits
	Visit    uint32     `json:"visit,omitempty"`
	Source   string     `json:"source,omitempty"`
	Line     uint64     `json:"line,omitempty"`
	ShardKey string     `json:"shard_key,omitempty"`
	Key      uint64     `json:"key,omitempty,string"`
	Edited   bool       `json:"edited,omitempty"`
}

// decode parses the JSON of a letter of a flow.
func decode(flow, text string) (*Letter, error) {
	var r record
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return nil, fmt.Errorf("read a dead letter of flow %s: %w", flow, err)
	}
	l := &Letter{
		Sequence: max(1, r.Sequence), Flow: flow, Revision: r.Revision, Function: r.Function, Use: r.Use, Code: r.Number, Reason: r.Reason,
		Attempts: r.Attempts, Redrives: r.Redrives, Encoding: r.Encoding, Row: r.RowBytes, Path: r.Path, Visit: r.Visit,
		Source: r.Source, Line: r.Line, ShardKey: r.ShardKey, Key: r.Key, Edited: r.Edited,
	}
	if r.Row != nil {
		l.Row = []byte(*r.Row)
	}
	var err error
	if l.ID, err = ParseID(r.ID); err != nil {
		return nil, fmt.Errorf("read a dead letter of flow %s: %w", flow, err)
	}
	if l.Origin.Batch.Stream, err = ParseID(r.Stream); err != nil {
		return nil, fmt.Errorf("read dead letter %s of flow %s: the stream of its row: %w", l.ID, flow, err)
	}
	l.Origin.Batch.Sequence, l.Origin.Row = r.Batch, r.Place
	return l, nil
}

// ParseID parses the id of a letter, as kisgrid dead list shows it. The error has CodeNotFound.
func ParseID(text string) (batch.StreamID, error) {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != len(batch.StreamID{}) {
		return batch.StreamID{}, batch.Errorf(batch.CodeNotFound, "%q is not the id of a letter: ids have 32 hexadecimal digits, and kisgrid dead list shows them", text)
	}
	return batch.StreamID(raw), nil
}
