package batch

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/cespare/xxhash/v2"
)

// KeyField hashes the shard key of rows in JSON: the value of one field of the row's object. It finds the value that
// encoding/json would decode into a struct field with that name in its tag: names match whatever their case, and of several
// values the last one that is not null counts. Equal values have equal hashes, however they are spelled:
//
//   - A string has the xxhash64 of its UTF-8 text, without escapes.
//   - A number has the complement of the xxhash64 of its canonical text. So 101, 101.0 and 1.01e2 are one key, and the
//     string "101" is another. The canonical text of a whole number of up to 32 digits is its digits. Any other number is
//     written as its digits without zeros at either end, the letter e and the power of ten. No digit is rounded away. Only
//     a number whose exponent has 18 digits or more may have the text huge or tiny instead of its digits.
//   - A boolean has the complement of the xxhash64 of true or false.
//
// NewKeyField makes one. It does not change after that, and is safe for concurrent use.
type KeyField struct {
	name         []byte // name of the field
	ascii        bool   // name is ASCII only
	nameAndQuote string // the name and a quote; "" for a name that JSON can write only with escapes

	// The errors of rows without a key. They are made only once, since there may be many such rows.
	undecodable, missing, notScalar *Error
}

// NewKeyField makes the KeyField of the field that a flow's shard_key names.
func NewKeyField(name string) KeyField {
	k := KeyField{
		name:  []byte(name),
		ascii: isASCII([]byte(name)),
		undecodable: Errorf(CodeRowUndecodable, "the row is not a JSON object: "+
			"send each row as one, such as {%s: 1}", strconv.Quote(name)),
		missing: Errorf(CodeMissingShardKey, "the row's field %s is missing or null: the flow's shard_key names it, so every row needs it",
			strconv.Quote(name)),
		notScalar: Errorf(CodeMissingShardKey, "the row's field %s is an object or an array: the flow's shard_key names it, so it must be a string, a number or a boolean",
			strconv.Quote(name)),
	}
	if utf8.ValidString(name) && !strings.ContainsFunc(name, func(c rune) bool { return c < ' ' || c == '\\' || c == '"' }) {
		k.nameAndQuote = name + `"`
	}
	return k
}

// Hash returns the hash of a row's shard key. The error is an *Error with CodeMissingShardKey or CodeRowUndecodable. Hash
// checks no more of the row than it must. So it may find a hash in a row that is not valid JSON; the function that
// decodes the row finds the fault.
func (k *KeyField) Hash(row []byte) (hash uint64, err error) {
	if hash, ok := k.hashPlain(row); ok {
		return hash, nil
	}
	i := skipSpace(row, 0)
	if i == len(row) || row[i] != '{' {
		if string(bytes.TrimSpace(row)) == "null" { // encoding/json takes null for an object without fields
			return 0, k.missing
		}
		return 0, k.undecodable
	}
	var key []byte
	i = skipSpace(row, i+1)
	if i < len(row) && row[i] == '}' {
		return k.hashFound(nil, row[i+1:])
	}
	for {
		if i == len(row) || row[i] != '"' {
			return 0, k.undecodable
		}
		end, matches := k.skipName(row, i)
		if end < 0 {
			return 0, k.undecodable
		}
		if i = skipSpace(row, end); i == len(row) || row[i] != ':' {
			return 0, k.undecodable
		}
		start := skipSpace(row, i+1)
		if i = skipValue(row, start); i < 0 {
			return 0, k.undecodable
		}
		if matches && string(row[start:i]) != "null" {
			key = row[start:i]
		}
		if i = skipSpace(row, i); i == len(row) {
			return 0, k.undecodable
		}
		switch row[i] {
		case ',':
			i = skipSpace(row, i+1)
		case '}':
			return k.hashFound(key, row[i+1:])
		default:
			return 0, k.undecodable
		}
	}
}

// hashFound returns the hash of key, the value of the field that Hash has found when the row's object ends; a nil key
// means that the row has none. rest is the text behind the object, which may have nothing but space.
func (k *KeyField) hashFound(key, rest []byte) (uint64, error) {
	if skipSpace(rest, 0) != len(rest) {
		return 0, k.undecodable
	}
	if key == nil {
		return 0, k.missing
	}
	return k.hashScalar(key)
}

// HashValue returns the hash of a shard key that is given alone, as JSON: 101, "a string", true. Errors are those of Hash.
func (k *KeyField) HashValue(value []byte) (hash uint64, err error) {
	value = bytes.TrimSpace(value)
	switch {
	case !json.Valid(value):
		return 0, Errorf(CodeRowUndecodable, "the key %.100q is not JSON: write a number as 101, a string in double quotes", value)
	case string(value) == "null":
		return 0, k.missing
	}
	return k.hashScalar(value)
}

// Fill sets c.Keys to a new slice with the hash of each row's shard key. A row without a valid key gets the hash 0, and
// bad has an outcome Dead for it.
func (k *KeyField) Fill(c *Columns) (bad []RowOutcome) {
	c.Keys = make([]uint64, c.Len())
	for i := range c.Keys {
		hash, err := k.Hash(c.Row(i))
		if err != nil {
			e := err.(*Error)
			bad = append(bad, RowOutcome{Row: uint32(i), Outcome: Dead, Code: e.Code, Reason: e.Message})
			continue
		}
		c.Keys[i] = hash
	}
	return bad
}

// skipName returns the index behind the quoted name that begins at index i, and whether the name is that of the field.
// end is negative if the name has no closing quote.
func (k *KeyField) skipName(row []byte, i int) (end int, matches bool) {
	start := i
	if end := i + 1 + len(k.nameAndQuote); end <= len(row) && row[end-1] == '"' && k.nameAndQuote != "" && string(row[i+1:end]) == k.nameAndQuote {
		return end, true
	}
	var all byte // the bits of all bytes of the name
	escaped := false
	i++
	if i += countPlain(row, i); i < len(row) && row[i] == '"' {
		// In most cases the length alone shows that it is another name.
		return i + 1, (i-start-1 == len(k.name) || !k.ascii) && k.isName(row[start:i+1], false, true)
	}
	for ; i < len(row) && row[i] != '"'; i++ {
		if row[i] == '\\' {
			escaped = true
			i++
			continue
		}
		all |= row[i]
	}
	if i >= len(row) {
		return -1, false
	}
	return i + 1, k.isName(row[start:i+1], escaped, all < utf8.RuneSelf)
}

// isName reports whether a quoted name is that of the field, by the rules of encoding/json. escaped says that the name
// has a backslash, ascii that it has ASCII characters only.
func (k *KeyField) isName(quoted []byte, escaped, ascii bool) bool {
	if escaped {
		var name string
		return json.Unmarshal(quoted, &name) == nil && bytes.EqualFold([]byte(name), k.name)
	}
	name := quoted[1 : len(quoted)-1]
	if ascii && k.ascii {
		const letterCase = 'a' - 'A'
		if len(name) != len(k.name) || len(name) > 0 && (name[0]^k.name[0])&^letterCase != 0 {
			return false
		}
	}
	return bytes.EqualFold(name, k.name)
}

// hashScalar returns the hash of a JSON value that skipValue has found and that is not null. Objects and arrays are
// errors with CodeMissingShardKey.
func (k *KeyField) hashScalar(value []byte) (uint64, error) {
	switch value[0] {
	case '"':
		text := value[1 : len(value)-1]
		if isPlainASCII(text) {
			return xxhash.Sum64(text), nil
		}
		var unescaped string
		if json.Unmarshal(value, &unescaped) != nil {
			return 0, k.undecodable
		}
		return xxhash.Sum64String(unescaped), nil
	case '{', '[':
		return 0, k.notScalar
	case 't', 'f':
		if s := string(value); s != "true" && s != "false" {
			return 0, k.undecodable
		}
		return ^xxhash.Sum64(value), nil
	}
	if isCanonicalInteger(value) {
		return ^xxhash.Sum64(value), nil
	}
	var buffer [128]byte
	canonical, ok := appendNumber(buffer[:0], value)
	if !ok {
		return 0, k.undecodable
	}
	return ^xxhash.Sum64(canonical), nil
}
