package deadletter

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
	"unicode/utf8"
)

// appendRecord appends the JSON of a letter to b: what encoding/json makes of a record, in a fifth of its time. id is the letter's id as
// text.
func (l *Letter) appendRecord(b []byte, id string) []byte {
	member := func(name string) {
		if len(b) > 0 && b[len(b)-1] != '{' {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), name...), '"', ':')
	}
	text := func(name, value string) {
		member(name)
		b = appendText(b, value)
	}
	number := func(name string, value uint64) {
		member(name)
		b = strconv.AppendUint(b, value, 10)
	}
	quoted := func(name string, value uint64) { // a number of more than 53 bits may lose digits in other programs
		member(name)
		b = append(strconv.AppendUint(append(b, '"'), value, 10), '"')
	}
	b = append(b, '{')
	text("id", id)
	number("sequence", l.Sequence)
	if l.Revision != 0 {
		member("revision")
		b = strconv.AppendInt(b, l.Revision, 10)
	}
	if l.Function != "" {
		text("function", l.Function)
	}
	if l.Use != 0 {
		number("use", uint64(l.Use))
	}
	text("code", l.Code.String())
	member("code_number")
	b = strconv.AppendInt(b, int64(l.Code), 10)
	text("reason", l.Reason)
	if l.Attempts != 0 {
		number("attempts", uint64(l.Attempts))
	}
	if l.Redrives != 0 {
		number("redrives", uint64(l.Redrives))
	}
	if l.Encoding != "" {
		text("encoding", l.Encoding)
	}
	switch {
	case utf8.Valid(l.Row):
		text("row", string(l.Row))
	default:
		member("row_base64")
		b = append(base64.StdEncoding.AppendEncode(append(b, '"'), l.Row), '"')
	}
	text("stream", l.Origin.Batch.Stream.String())
	number("batch", l.Origin.Batch.Sequence)
	number("place", uint64(l.Origin.Row))
	if l.Path != 0 {
		quoted("path", l.Path)
	}
	if l.Visit != 0 {
		number("visit", uint64(l.Visit))
	}
	if l.Source != "" {
		text("source", l.Source)
	}
	if l.Line != 0 {
		number("line", l.Line)
	}
	if l.ShardKey != "" {
		text("shard_key", l.ShardKey)
	}
	if l.Key != 0 {
		quoted("key", l.Key)
	}
	if l.Edited {
		member("edited")
		b = append(b, "true"...)
	}
	return append(b, '}')
}

// appendText appends a text to b as a string of JSON. It writes printable ASCII itself, and lets encoding/json write other texts.
func appendText(b []byte, text string) []byte {
	start := len(b)
	b = append(b, '"')
	from := 0
	for i := range len(text) {
		switch c := text[i]; {
		case c == '"' || c == '\\':
			b = append(append(b, text[from:i]...), '\\')
			from = i
		case c < ' ' || c >= 0x7f || c == '<' || c == '>' || c == '&':
			whole, _ := json.Marshal(text) //nolint:errchkjson // a string can always be written
			return append(b[:start], whole...)
		}
	}
	return append(append(b, text[from:]...), '"')
}
