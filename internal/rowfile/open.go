package rowfile

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Format is the form of the input.
type Format uint8

// The formats. Detect decides between an array and NDJSON by the first character of the input. CSV has no character by which it could be
// recognized safely, so the caller says that the input is CSV: see [FormatOf].
const (
	Detect Format = iota
	NDJSON        // one JSON value in each line
	Array         // one JSON array, over as many lines as it likes
	CSV           // a header, and one record for each row, as RFC 4180 says
)

// formats are the names of the formats, as users write them.
var formats = [...]string{Detect: "auto", NDJSON: "ndjson", Array: "array", CSV: "csv"}

// String returns the name of the format: auto, ndjson, array or csv.
func (f Format) String() string { return formats[f] }

// ParseFormat returns the format with a name.
func ParseFormat(name string) (Format, error) {
	for f, n := range formats {
		if n == name {
			return Format(f), nil
		}
	}
	return Detect, fmt.Errorf("there is no format %q: give %s", name, strings.Join(formats[:], ", "))
}

// FormatOf returns the format that the name of a file tells, or Detect. A .gz at the end of the name does not count.
func FormatOf(name string) Format {
	name = strings.TrimSuffix(strings.ToLower(name), ".gz")
	switch {
	case strings.HasSuffix(name, ".csv"), strings.HasSuffix(name, ".tsv"):
		return CSV
	case strings.HasSuffix(name, ".ndjson"), strings.HasSuffix(name, ".jsonl"):
		return NDJSON
	}
	return Detect
}

// signature is the beginning of files that have no rows that this package reads.
type signature struct {
	start, is, advice string
}

// signatures are tried in their order.
var signatures = []signature{
	{"\xff\xfe", "UTF-16", utf16Advice},
	{"\xfe\xff", "UTF-16", utf16Advice},
	{"\x28\xb5\x2f\xfd", "compressed with zstd", "decompress it: zstd -dc FILE | …"},
	{"\xfd7zXZ\x00", "compressed with xz", "decompress it: xz -dc FILE | …"},
	{"BZh", "compressed with bzip2", "decompress it: bzip2 -dc FILE | …"},
	{"PK\x03\x04", "a zip archive, or a spreadsheet", "unpack it, or save the sheet as CSV (UTF-8)"},
	{"PAR1", "Parquet", "write its rows as one JSON object a line"},
	{"Obj\x01", "Avro", "write its rows as one JSON object a line"},
}

// utf16Advice says how UTF-16 becomes UTF-8.
const utf16Advice = "write it as UTF-8: iconv -f UTF-16 -t UTF-8 FILE | …"

// byteOrderMark is the mark at the beginning of UTF-8.
var byteOrderMark = []byte("\xef\xbb\xbf")

// open undoes the compression of the input, skips a byte-order mark, and refuses input that another program has to convert first. It reads
// no more than it needs, so that a person who types rows sees the effect of each line.
func open(in io.Reader) (*bufio.Reader, error) {
	b := bufio.NewReaderSize(in, 64<<10)
	if startsWith(b, []byte("\x1f\x8b")) {
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, fmt.Errorf("decompress the rows: %w", err)
		}
		b = bufio.NewReaderSize(z, 64<<10)
	}
	if startsWith(b, byteOrderMark) {
		if _, err := b.Discard(len(byteOrderMark)); err != nil {
			return nil, err
		}
	}
	for _, s := range signatures {
		if startsWith(b, []byte(s.start)) {
			return nil, &NotRows{Number: 1, Unit: "line", Is: s.is, Reason: fmt.Sprintf("the input is %s: %s", s.is, s.advice)}
		}
	}
	return b, nil
}

// startsWith reports whether the input begins with these bytes, and reads no byte behind the first one that differs.
func startsWith(b *bufio.Reader, start []byte) bool {
	for n := 1; n <= len(start); n++ {
		got, err := b.Peek(n)
		if err != nil || !bytes.Equal(got, start[:n]) {
			return false
		}
	}
	return true
}

// firstCharacter returns the first byte of the input that is no white space, without taking it. The error is io.EOF if there is none. It skips
// lines with white space only, counts them in skipped, and leaves white space before the character on its line in place.
func firstCharacter(b *bufio.Reader) (c byte, skipped int, err error) {
	for n := 1; ; n++ {
		got, err := b.Peek(n)
		if err != nil {
			if errors.Is(err, bufio.ErrBufferFull) { // 64 KiB of spaces: the line is no row
				return ' ', skipped, nil
			}
			return 0, skipped, err
		}
		switch c := got[n-1]; c {
		case ' ', '\t', '\r':
		case '\n':
			if _, err := b.Discard(n); err != nil {
				return 0, skipped, err
			}
			skipped++
			n = 0
		default:
			return c, skipped, nil
		}
	}
}
