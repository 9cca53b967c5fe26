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
	return hash, row[end] == ',' && row[last-1] != ',' && !k.mayBeIn(row[end+1:last])
}

// mayBeIn reports whether a name in what is left of a row can be the field's, however it is spelled: it looks at what stands
// between quotes that are as far apart as the field's are, eight bytes at a time.
func (k *KeyField) mayBeIn(row []byte) bool {
	const ones, lows, highs = 0x0101010101010101, 0x7f7f7f7f7f7f7f7f, 0x8080808080808080
	apart := len(k.closed)
	if apart >= 64 {
		return true
	}
	var quotes, before uint64 // a bit for each of 64 bytes, and of the 64 before these
	for at := 0; at < len(row); at += 8 {
		var w uint64
		if at+8 <= len(row) {
			w = binary.LittleEndian.Uint64(row[at:])
		} else {
			for i := len(row) - 1; i >= at; i-- {
				w = w<<8 | uint64(row[i])
			}
		}
		slashes := w ^ ('\\' * ones)
		if ((slashes-ones)&^slashes|w)&highs != 0 {
			return true // a name with escapes, or one that folds to ASCII
		}
		// Without bytes above ASCII the sum carries nothing over, and finds each quote for itself.
		found := ^((w ^ '"'*ones) + lows) & highs
		if at%64 == 0 {
			quotes, before = 0, quotes
		}
		fresh := found >> 7 * 0x0102040810204080 >> 56 << (at % 64)
		quotes |= fresh
		for closing := fresh & (quotes<<apart | before>>(64-apart)); closing != 0; closing &= closing - 1 {
			end := at&^63 + bits.TrailingZeros64(closing)
			if strings.EqualFold(string(row[end-apart+1:end]), k.closed[:apart-1]) {
				return true
			}
		}
	}
	return false
}
