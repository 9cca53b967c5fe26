package rowfile

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
)

var (
	tag       = regexp.MustCompile(`^<[!?a-zA-Z]`)
	name      = regexp.MustCompile(`^"?[\pL_][\pL\pN _.\-]*"?$`)
	singleKey = regexp.MustCompile(`^\{\s*'`)
	yamlField = regexp.MustCompile(`^\w+:( |$)`)
	bareKey   = regexp.MustCompile(`^\{\s*[A-Za-z_]\w*\s*:`)
)

// recognize returns what the input is whose first line is no JSON value, or nil if that line may just be a broken row. in stands behind the
// line; only bytes that it has already read are looked at.
func recognize(line []byte, in *bufio.Reader) *NotRows {
	is, advice := kindOf(line, in)
	if is == "" {
		return nil
	}
	return &NotRows{Is: is, Reason: fmt.Sprintf("the input is %s, not one JSON value a line: %s", is, advice)}
}

// kindOf returns what a first line that is no JSON value tells of the input, and what to do then. Empty means that it tells nothing.
func kindOf(line []byte, in *bufio.Reader) (is, advice string) {
	switch {
	case looksLikeUTF16(line):
		return "UTF-16", utf16Advice
	case bytes.IndexByte(line, 0) >= 0:
		return "binary", "write its rows as one JSON object a line"
	case singleKey.Match(line):
		return "text with single quotes, as Python prints it", "write it with json.dumps"
	case bareKey.Match(line):
		return "text with names that have no quotes", `write names in quotes, as in {"id": 1}`
	case line[0] == '{' && unfinished(line):
		return "JSON over several lines", "write each row on one line: jq -c . FILE | …"
	case tag.Match(line):
		return "XML or HTML", "write its rows as one JSON object a line"
	case bytes.Equal(line, []byte("---")) || bytes.HasPrefix(line, []byte("- ")) || yamlField.Match(line):
		return "YAML", "write its rows as one JSON object a line"
	case line[0] != '{' && looksLikeCSV(line, peekLine(in)):
		return "CSV", "give its format as csv (--format csv, or a file name that ends in .csv)"
	}
	return "", ""
}

// looksLikeUTF16 reports whether every second byte of the line's beginning is zero.
func looksLikeUTF16(line []byte) bool {
	if len(line) < 4 {
		return false
	}
	even, odd := 0, 0
	for i, c := range line[:min(len(line), 64)] {
		if c == 0 && i%2 == 0 {
			even++
		} else if c == 0 {
			odd++
		}
	}
	quarter := min(len(line), 64) / 4
	return even > quarter && odd == 0 || odd > quarter && even == 0
}

// unfinished reports whether a line is the beginning of a JSON value that goes on in the next line.
func unfinished(line []byte) bool {
	var value any
	syntax, ok := errors.AsType[*json.SyntaxError](json.Unmarshal(line, &value))
	return ok && syntax.Error() == "unexpected end of JSON input" && (line[len(line)-1] == '{' || line[len(line)-1] == ',' || line[len(line)-1] == '[')
}

// separator returns the character that separates the cells of a line of CSV: a comma, else a tab or a semicolon. 0 means that there is none.
func separator(line []byte) byte {
	for _, c := range []byte(",\t;") {
		if bytes.IndexByte(line, c) >= 0 {
			return c
		}
	}
	return 0
}

// looksLikeCSV reports whether a line may be the header or a record of CSV. Its cells are names, or the next line has as many cells. A line of
// one cell counts only as a header with a number behind it, since it may as well be a message of a program.
func looksLikeCSV(line, next []byte) bool {
	records := len(next) > 0 && next[0] != '{'
	if separator(line) == 0 {
		return name.Match(line) && records && next[0] >= '0' && next[0] <= '9'
	}
	comma := []byte{separator(line)}
	names := true
	for cell := range bytes.SplitSeq(line, comma) {
		names = names && name.Match(bytes.TrimSpace(cell))
	}
	return names || records && bytes.Count(line, comma) == bytes.Count(next, comma)
}
