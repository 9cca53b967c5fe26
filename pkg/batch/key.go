package batch

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math"
	"math/bits"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/cespare/xxhash/v2"
)

// KeyField hashes the shard key of JSON rows: the value of one field of the row's object. It goes by value, not by spelling,
// and finds the value that encoding/json would decode into a struct with a plain field of that tag: names match whatever
// their case, of several the last one that is not null counts.
//
//   - A string's hash is the xxhash64 of its UTF-8 text, unescaped.
//   - A number's is the complement of the xxhash64 of its canonical text, so that 101, 101.0 and 1.01e2 are one key and the
//     string "101" is another. A whole number of up to 32 digits is its digits; any other is its digits without zeros at
//     either end, the letter e and the power of ten. Nothing is rounded.
//   - A boolean's is the complement of the xxhash64 of true or false.
//
// NewKeyField makes one. It does not change after that, and is safe for concurrent use.
type KeyField struct {
	name   []byte
	ascii  bool
	closed string // the name and the quote behind it; empty for a name that JSON spells with escapes only

	// The errors are made once: rows are many.
	undecodable, missing, notScalar *Error
}

// NewKeyField is for rows whose shard key is the field name, as a flow's shard_key has it.
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
		k.closed = name + `"`
	}
	return k
}

// Hash is the hash of a row's shard key. The error is a *Error, CodeMissingShardKey or CodeRowUndecodable. It looks no
// closer at the rest of the row than it must: one that is not quite JSON may have a hash all the same, and is left to
// whoever decodes it.
func (k *KeyField) Hash(row []byte) (hash uint64, err error) {
	if hash, ok := k.hashPlain(row); ok {
		return hash, nil
	}
	i := skipSpace(row, 0)
	if i == len(row) || row[i] != '{' {
		if string(bytes.TrimSpace(row)) == "null" { // which encoding/json takes for an object without fields
			return 0, k.missing
		}
		return 0, k.undecodable
	}
	var key []byte
	i = skipSpace(row, i+1)
	if i < len(row) && row[i] == '}' {
		return k.hashLast(nil, row[i+1:])
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
			return k.hashLast(key, row[i+1:])
		default:
			return 0, k.undecodable
		}
	}
}

// hashLast hashes the key that counts, once the row's object is over.
func (k *KeyField) hashLast(key, rest []byte) (uint64, error) {
	if skipSpace(rest, 0) != len(rest) {
		return 0, k.undecodable
	}
	if key == nil {
		return 0, k.missing
	}
	return k.hashScalar(key)
}

// HashValue is the hash of a shard key that is given by itself, as JSON: 101, "a string", true. The error is as Hash's.
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

// Fill gives c.Keys a new slice with the hash of each row's shard key. Rows that have none get 0, and an outcome: Dead.
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

// skipName is where the quoted name that begins at i ends, negative if it does not, and whether it is the field's.
func (k *KeyField) skipName(row []byte, i int) (end int, matches bool) {
	start := i
	if end := i + 1 + len(k.closed); end <= len(row) && row[end-1] == '"' && k.closed != "" && string(row[i+1:end]) == k.closed {
		return end, true
	}
	var all byte // the bits of all bytes of the name
	escaped := false
	i++
	if i += plainBytes(row, i); i < len(row) && row[i] == '"' {
		// Mostly the length tells at once that it is another one.
		return i + 1, (i-start-1 == len(k.name) || !k.ascii) && k.matches(row[start:i+1], false, true)
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
	return i + 1, k.matches(row[start:i+1], escaped, all < utf8.RuneSelf)
}

// matches decides like encoding/json whether a quoted name is the field's.
func (k *KeyField) matches(quoted []byte, escaped, ascii bool) bool {
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

// hashScalar hashes a value that skipValue has found and that is not null.
func (k *KeyField) hashScalar(value []byte) (uint64, error) {
	switch value[0] {
	case '"':
		text := value[1 : len(value)-1]
		if plain(text) {
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
	if isPlainInteger(value) {
		return ^xxhash.Sum64(value), nil
	}
	var buffer [128]byte
	canonical, ok := appendNumber(buffer[:0], value)
	if !ok {
		return 0, k.undecodable
	}
	return ^xxhash.Sum64(canonical), nil
}

// plain reports whether a string's text stands in JSON as it is, and is ASCII.
func plain(text []byte) bool {
	for _, c := range text {
		if c < ' ' || c >= utf8.RuneSelf || c == '\\' || c == '"' {
			return false
		}
	}
	return true
}

func isASCII(text []byte) bool {
	for _, c := range text {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// maxPlainDigits is how long a whole number is written out in canonical text.
const maxPlainDigits = 32

// isPlainInteger reports whether a number is its own canonical text.
func isPlainInteger(number []byte) bool {
	if number[0] == '-' {
		number = number[1:]
		if len(number) > 0 && number[0] == '0' {
			return false // -0
		}
	}
	if len(number) == 0 || len(number) > maxPlainDigits || number[0] == '0' && len(number) > 1 {
		return false
	}
	for _, c := range number {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// appendNumber appends the canonical text of a JSON number; false if it is none. Numbers that only exponents of 18 digits
// and more can write share one text for the huge and one for the tiny, whatever their digits: that keeps one value one key.
func appendNumber(dst, number []byte) (canonical []byte, ok bool) {
	negative := number[0] == '-'
	if negative {
		number = number[1:]
	}
	whole, rest := cutDigits(number)
	if len(whole) == 0 || whole[0] == '0' && len(whole) > 1 {
		return nil, false
	}
	var fraction []byte
	if len(rest) > 0 && rest[0] == '.' {
		if fraction, rest = cutDigits(rest[1:]); len(fraction) == 0 {
			return nil, false
		}
	}
	exponent, ok := parseExponent(rest)
	if !ok {
		return nil, false
	}

	fraction = bytes.TrimRight(fraction, "0")
	exponent -= int64(len(fraction))
	if len(fraction) == 0 {
		trimmed := bytes.TrimRight(whole, "0")
		exponent += int64(len(whole) - len(trimmed))
		whole = trimmed
	}
	if whole = bytes.TrimLeft(whole, "0"); len(whole) == 0 {
		fraction = bytes.TrimLeft(fraction, "0")
	}
	digits := len(whole) + len(fraction)
	if digits == 0 {
		return append(dst, '0'), true
	}

	if negative {
		dst = append(dst, '-')
	}
	if magnitude := exponent + int64(digits); magnitude > maxExponent/2 {
		return append(dst, "huge"...), true
	} else if magnitude < -maxExponent/2 {
		return append(dst, "tiny"...), true
	}
	dst = append(append(dst, whole...), fraction...)
	if exponent >= 0 && exponent+int64(digits) <= maxPlainDigits {
		return append(dst, "00000000000000000000000000000000"[:exponent]...), true
	}
	return strconv.AppendInt(append(dst, 'e'), exponent, 10), true
}

// maxExponent bounds the exponents that are told apart. A row's length moves one by far less than half of it.
const maxExponent = math.MaxInt64 / 16

// parseExponent reads what follows a number's digits: nothing, or e and a whole number, held to ±maxExponent.
func parseExponent(text []byte) (exponent int64, ok bool) {
	if len(text) == 0 {
		return 0, true
	}
	if text[0] != 'e' && text[0] != 'E' {
		return 0, false
	}
	text = text[1:]
	negative := false
	if len(text) > 0 && (text[0] == '+' || text[0] == '-') {
		negative, text = text[0] == '-', text[1:]
	}
	digits, rest := cutDigits(text)
	if len(digits) == 0 || len(rest) > 0 {
		return 0, false
	}
	for _, c := range digits {
		exponent = min(exponent*10+int64(c-'0'), maxExponent)
	}
	if negative {
		exponent = -exponent
	}
	return exponent, true
}

func cutDigits(text []byte) (digits, rest []byte) {
	i := 0
	for i < len(text) && '0' <= text[i] && text[i] <= '9' {
		i++
	}
	return text[:i], text[i:]
}

func skipSpace(row []byte, i int) int {
	for i < len(row) && row[i] <= ' ' && isSpace(row[i]) {
		i++
	}
	return i
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

// skipString is where the string that begins at i ends; negative if it does not.
func skipString(row []byte, i int) int {
	i++
	for i += plainBytes(row, i); i < len(row); i++ {
		switch row[i] {
		case '"':
			return i + 1
		case '\\':
			i++
		}
	}
	return -1
}

// plainBytes counts the bytes from i that are ASCII and neither a quote nor a backslash, eight at a time; at the end of the
// row it leaves some uncounted.
func plainBytes(row []byte, i int) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	start := i
	for ; i+8 <= len(row); i += 8 {
		w := binary.LittleEndian.Uint64(row[i:])
		// A byte of the difference has its high bit set, and one of w not, where the byte is zero; wrongly so only above such a
		// byte.
		quotes, slashes := w^('"'*ones), w^('\\'*ones)
		if found := ((quotes-ones)&^quotes | (slashes-ones)&^slashes | w) & highs; found != 0 {
			return i - start + bits.TrailingZeros64(found)/8
		}
	}
	return i - start
}

// skipValue is where the value that begins at i ends; negative if there is none. It takes anything up to the next comma,
// bracket or space for a number or a literal.
func skipValue(row []byte, i int) int {
	if i == len(row) {
		return -1
	}
	switch row[i] {
	case '"':
		return skipString(row, i)
	case '{', '[':
		return skipNested(row, i)
	}
	start := i
	for i < len(row) && row[i] != ',' && row[i] != '}' && row[i] > ' ' {
		i++
	}
	if i == start {
		return -1
	}
	return i
}

// skipNested is where the object or array that begins at i ends; negative if it does not. It does not tell brackets apart.
func skipNested(row []byte, i int) int {
	for depth := 0; i >= 0 && i < len(row); {
		switch row[i] {
		case '"':
			i = skipString(row, i)
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
		i++
	}
	return -1
}
