package rowjson

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// maxDepth is the largest number of lists and maps within each other in a row of MessagePack.
const maxDepth = 1000

// FromMessagePack converts a row of MessagePack to JSON. Binary data becomes a base64 string, and a timestamp a string as RFC 3339
// has it, in UTC. It is an error if the row is not exactly one value, or has a value that JSON can't hold, such as NaN or a map with
// keys that are no strings.
func FromMessagePack(row []byte) (text []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			text, err = nil, fmt.Errorf("reading it panicked: %v", p)
		}
	}()
	from := bytes.NewReader(row)
	d := msgpack.GetDecoder()
	defer msgpack.PutDecoder(d)
	d.Reset(from)
	if text, err = appendMessagePack(make([]byte, 0, 2*len(row)), d, 0); err != nil {
		return nil, err
	}
	if from.Len() > 0 {
		return nil, fmt.Errorf("%d bytes follow its value", from.Len())
	}
	return text, nil
}

// appendMessagePack reads the next value from d and appends it to dst as JSON. depth is the number of lists and maps that the value
// is in.
func appendMessagePack(dst []byte, d *msgpack.Decoder, depth int) ([]byte, error) {
	code, err := d.PeekCode()
	switch c := code; {
	case err != nil:
		return dst, err
	case depth > maxDepth:
		return dst, fmt.Errorf("it is nested more than %d deep", maxDepth)
	case c == msgpcode.Nil:
		return append(dst, "null"...), d.DecodeNil()
	case c == msgpcode.True || c == msgpcode.False:
		b, err := d.DecodeBool()
		return strconv.AppendBool(dst, b), err
	case c == msgpcode.Float:
		f, err := d.DecodeFloat32()
		return appendAny(dst, f, err)
	case c == msgpcode.Double:
		f, err := d.DecodeFloat64()
		return appendAny(dst, f, err)
	case c <= msgpcode.PosFixedNumHigh || msgpcode.Uint8 <= c && c <= msgpcode.Uint64:
		n, err := d.DecodeUint64()
		return strconv.AppendUint(dst, n, 10), err
	case msgpcode.IsFixedNum(c) || msgpcode.Int8 <= c && c <= msgpcode.Int64:
		n, err := d.DecodeInt64()
		return strconv.AppendInt(dst, n, 10), err
	case msgpcode.IsString(c):
		s, err := d.DecodeString()
		return appendAny(dst, s, err)
	case msgpcode.IsBin(c):
		b, err := d.DecodeBytes()
		return appendAny(dst, b, err)
	case msgpcode.IsFixedArray(c) || c == msgpcode.Array16 || c == msgpcode.Array32:
		n, err := d.DecodeArrayLen()
		return appendList(dst, d, depth, n, err)
	case msgpcode.IsFixedMap(c) || c == msgpcode.Map16 || c == msgpcode.Map32:
		n, err := d.DecodeMapLen()
		return appendMap(dst, d, depth, n, err)
	case msgpcode.IsExt(c):
		t, err := d.DecodeTime()
		return appendAny(dst, t.In(time.UTC), err)
	}
	return dst, fmt.Errorf("byte 0x%x begins no value", code)
}

// appendAny appends value to dst as JSON, unless err is not nil: then it returns err, which is the error of reading the value.
func appendAny(dst []byte, value any, err error) ([]byte, error) {
	if err != nil {
		return dst, err
	}
	return AppendAny(dst, value)
}

// appendList reads the n values of a list and appends the list to dst as JSON; err is the error of reading n.
func appendList(dst []byte, d *msgpack.Decoder, depth, n int, err error) ([]byte, error) {
	dst = append(dst, '[')
	for i := 0; i < n && err == nil; i++ {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst, err = appendMessagePack(dst, d, depth+1)
	}
	return append(dst, ']'), err
}

// appendMap reads the n entries of a map and appends the map to dst as JSON; err is the error of reading n. All keys must be strings.
func appendMap(dst []byte, d *msgpack.Decoder, depth, n int, err error) ([]byte, error) {
	dst = append(dst, '{')
	for i := 0; i < n && err == nil; i++ {
		if i > 0 {
			dst = append(dst, ',')
		}
		code, peeked := d.PeekCode()
		switch {
		case peeked != nil:
			return dst, peeked
		case !msgpcode.IsString(code):
			return dst, errors.New("a map has a key that is no string")
		}
		if dst, err = appendMessagePack(dst, d, depth+1); err == nil {
			dst, err = appendMessagePack(append(dst, ':'), d, depth+1)
		}
	}
	return append(dst, '}'), err
}
