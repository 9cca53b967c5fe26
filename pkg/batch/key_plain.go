package batch

import (
	"encoding/binary"
	"math/bits"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// hashPlain is Hash for most rows: an object whose first field is the key, a whole number or a string that stands as it is, and
// in which nothing else can be the field. False leaves a row to Hash, which must find the same in it if it is JSON.
func (k *KeyField) hashPlain(row []byte) (hash uint64, ok bool) {
	start := len(`{"`) + len(k.closed) + len(`:`)
	if len(k.closed) == 0 || !k.ascii || len(row) < start+len(`1}`) || row[0] != '{' || row[1] != '"' || row[start-1] != ':' || string(row[2:start-1]) != k.closed {
		return 0, false
	}
	end := start
	if row[start] == '"' {
		for end++; row[end] != '"'; end++ {
			if c := row[end]; c < ' ' || c >= 0x80 || c == '\\' || end+2 >= len(row) {
				return 0, false
			}
		}
		hash = xxhash.Sum64(row[start+1 : end])
		if end++; end == len(row) {
			return 0, false
		}
	} else {
		for row[end]-'0' <= 9 {
			if end++; end == len(row) {
				return 0, false
			}
		}
		if n := end - start; n == 0 || n > maxPlainDigits || n > 1 && row[start] == '0' {
			return 0, false
		}
		hash = ^xxhash.Sum64(row[start:end])
	}
	last := len(row) - 1
	switch {
	case row[last] != '}':
		return 0, false
	case end == last:
		return hash, true
	}
	return hash, row[end] == ',' && row[last-1] != ',' && !k.mayBeIn(row[:last], end+1)
}

// mayBeIn reports whether a name in the row, from some byte behind its first field, can be the field's, however it is spelled: it
// looks for quotes that are as far apart as the field's are, eight bytes at a time.
func (k *KeyField) mayBeIn(row []byte, from int) bool {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	apart := len(k.closed)
	if len(row)-from <= apart {
		return false // no room for it, let alone with escapes
	}
	odd := uint64(0) // has a high bit for a name with escapes, or for one that folds to ASCII
	last := len(row) - 8
	for at := from; ; at += 8 {
		fresh := ^uint64(0)
		if at > last {
			fresh <<= 8 * (at - last) // the others were looked at, or are of the first field
			at = last
		}
		w := binary.LittleEndian.Uint64(row[at:])
		slashes := w ^ '\\'*ones
		odd |= (slashes-ones)&^slashes | w
		// A byte is zero where a quote stands, and another one as far before it; one above it may seem to be.
		pairs := w ^ '"'*ones | binary.LittleEndian.Uint64(row[at-apart:]) ^ '"'*ones
		for found := (pairs - ones) &^ pairs & highs & fresh; found != 0; found &= found - 1 {
			end := at + bits.TrailingZeros64(found)/8
			if strings.EqualFold(string(row[end-apart+1:end]), k.closed[:apart-1]) {
				return true
			}
		}
		if at >= last {
			return odd&highs != 0
		}
	}
}
