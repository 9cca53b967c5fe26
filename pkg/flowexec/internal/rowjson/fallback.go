package rowjson

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"sync"
)

// unmarshal calls json.Unmarshal for the pointer into. A panic in a type's own code becomes an error.
func unmarshal(text []byte, into reflect.Value) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("reading it panicked: %v", p)
		}
	}()
	return json.Unmarshal(text, into.Interface())
}

// AppendAny appends a value of any type to dst, as encoding/json writes it. A panic in a type's own MarshalJSON becomes an error. After an
// error it returns dst as it was. The error says in the words of JSON why the value can't be written.
func AppendAny(dst []byte, row any) (out []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			out, err = dst, fmt.Errorf("writing it panicked: %v", p)
		}
	}()
	e, ok := encoders.Get().(*encoder)
	if !ok {
		e = newEncoder()
	}
	e.text.Reset()
	if err := e.json.Encode(row); err != nil {
		encoders.Put(e)
		return dst, &Misfit{Cause: err}
	}
	text := e.text.Bytes()
	out = append(dst, text[:len(text)-1]...) // Encode writes a line feed at the end
	if e.text.Cap() <= maxKept {
		encoders.Put(e)
	}
	return out, nil
}

// encoder is a json.Encoder with its buffer. It leaves '<', '>' and '&' as they are. One goroutine uses it at a time. It is used again,
// unless a row's code panicked in it.
type encoder struct {
	text bytes.Buffer
	json *json.Encoder
}

// newEncoder makes an encoder.
func newEncoder() *encoder {
	e := new(encoder)
	e.json = json.NewEncoder(&e.text)
	e.json.SetEscapeHTML(false)
	return e
}

// encoders has the encoders that no goroutine uses at the moment.
var encoders sync.Pool // of *encoder

// maxKept is the largest buffer, in bytes, that an encoder may have to be kept for another row.
const maxKept = 64 << 10
