package batch

import (
	"encoding/binary"
	"math/bits"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// hashPlain does what Hash does for the most common rows, faster: the key is the first field of the object, it is a whole
// number or a string without escapes, and no other name in the row can be the field's. It returns false for any other row,
// which is left to Hash. In a row that is valid JSON both find the same.
func (k *KeyField) hashPlain(row []byte) (hash uint64, ok bool) {
	start := len(`{"`) + len(k.nameAndQuote) + len(`:`)
	if len(k.nameAndQuote) == 0 || !k.ascii || len(row) < start+len(`1}`) || row[0] != '{' || row[1] != '"' || row[start-1] != ':' || string(row[2:start-1]) != k.nameAndQuote {
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
		if n := end - start; n == 0 || n > maxWrittenDigits || n > 1 && row[start] == '0' {
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
	return hash, row[end] == ',' && row[last-1] != ',' && !k.mayHaveNameIn(row[:last], end+1)
}

// mayHaveNameIn reports whether a name in row, from index from on, could be the field's name in any spelling. It may
// return true by mistake, but not false. It looks for two quotes as far apart as those of the name, eight bytes at a
// time.
func (k *KeyField) mayHaveNameIn(row []byte, from int) bool {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	apart := len(k.nameAndQuote)
	if len(row)-from <= apart {
		return false // the name does not fit in, and with escapes it is longer still
	}
	odd := uint64(0) // has a high bit where there may be escapes, or characters that fold to ASCII letters
	last := len(row) - 8
	for at := from; ; at += 8 {
		fresh := ^uint64(0)
		if at > last {
			fresh <<= 8 * (at - last) // the low bytes were looked at before, or belong to the first field
			at = last
		}
		w := binary.LittleEndian.Uint64(row[at:])
		slashes := w ^ '\\'*ones
		odd |= (slashes-ones)&^slashes | w
		// A byte of pairs is zero where a quote stands here and another one before it, as far away as those of the name. A byte
		// just above may be found by mistake, so the name is compared.
		pairs := w ^ '"'*ones | binary.LittleEndian.Uint64(row[at-apart:]) ^ '"'*ones
		for found := (pairs - ones) &^ pairs & highs & fresh; found != 0; found &= found - 1 {
			end := at + bits.TrailingZeros64(found)/8
			if strings.EqualFold(string(row[end-apart+1:end]), k.nameAndQuote[:apart-1]) {
				return true
			}
		}
		if at >= last {
			return odd&highs != 0
		}
	}
}
