package history

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Store is the content of a connector's store: the flows' data, without the records that KisGrid keeps for itself.
type Store struct {
	Connector string
	Kind      string // "redis" or "memory"
	Worker    string // the worker whose memory this is; empty for a store that workers share
	Lists     map[string][]string
	Hashes    map[string]map[string]string
	// Lost are the elements that were appended to lists, and undone by a failover or a restart without data.
	Lost []string
	// Records are the keys that KisGrid keeps for itself, such as the records of effects, with how long they will stay; 0 means forever.
	Records map[string]Record
}

// Record is a key of KisGrid's own in a store.
type Record struct {
	TTL    float64 // seconds; 0 means that it never expires
	Fields int     // the number of its members or fields
	Bytes  int
}

// Entry is an element that the world's functions append to the list of a key: it says which row the effect is of.
type Entry struct {
	ID       batch.RowID
	Function string // the function that saved
	Mark     string // the function's mark
}

// String returns the entry as it stands in a list: stream/sequence/row#output.visit@function:mark.
func (e Entry) String() string {
	b := make([]byte, 0, 96)
	b = hex.AppendEncode(b, e.ID.Batch.Stream[:])
	b = append(b, '/')
	b = strconv.AppendUint(b, e.ID.Batch.Sequence, 10)
	b = append(b, '/')
	b = strconv.AppendUint(b, uint64(e.ID.Row), 10)
	b = append(b, '#')
	b = strconv.AppendUint(b, e.ID.Output, 16)
	b = append(b, '.')
	b = strconv.AppendUint(b, uint64(e.ID.Visit), 10)
	b = append(b, '@')
	b = append(b, e.Function...)
	b = append(b, ':')
	b = append(b, e.Mark...)
	return string(b)
}

// ParseEntry reads the text that String returns.
func ParseEntry(text string) (Entry, error) {
	var e Entry
	bad := fmt.Errorf("%q is no entry: an entry is stream/sequence/row#output.visit@function:mark", text)
	id, rest, ok := strings.Cut(text, "@")
	function, mark, ok2 := strings.Cut(rest, ":")
	if !ok || !ok2 {
		return e, bad
	}
	e.Function, e.Mark = function, mark
	stream, id, _ := strings.Cut(id, "/")
	sequence, id, _ := strings.Cut(id, "/")
	row, id, _ := strings.Cut(id, "#")
	output, visit, _ := strings.Cut(id, ".")
	raw, err := hex.DecodeString(stream)
	if err != nil || len(raw) != len(e.ID.Batch.Stream) {
		return e, bad
	}
	copy(e.ID.Batch.Stream[:], raw)
	var errs [4]error
	e.ID.Batch.Sequence, errs[0] = strconv.ParseUint(sequence, 10, 64)
	r, err1 := strconv.ParseUint(row, 10, 32)
	e.ID.Row, errs[1] = uint32(r), err1
	e.ID.Output, errs[2] = strconv.ParseUint(output, 16, 64)
	v, err3 := strconv.ParseUint(visit, 10, 32)
	e.ID.Visit, errs[3] = uint32(v), err3
	for _, err := range errs {
		if err != nil {
			return e, bad
		}
	}
	return e, nil
}
