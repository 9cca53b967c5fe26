package expr

import (
	"strings"
)

// ReadField sets input i of the frame from the JSON of its field. Empty text means that the row does not have the field. The value does not share the
// memory of text. The error is a *Failure.
func (s *Scope) ReadField(fr *Frame, i int, text string) error {
	if text == "" {
		fr.inputs[i] = Missing
		return nil
	}
	if '0' <= text[0] && text[0] <= '9' || text[0] == '-' {
		r := reader{text: text, fr: fr, at: rowSite}
		if n, ok := r.shortInt(); ok && r.next == len(text) {
			switch s.inputs[i].Type.kind {
			case KindAny, KindInt:
				fr.inputs[i] = IntValue(n)
				return nil
			}
		}
	}
	r := reader{text: text, fr: fr, at: rowSite}
	if c := r.space(); c == '"' || c == '{' || c == '[' {
		t := fr.room(len(text)) // texts of the value are parts of the text that is read
		from := t.Len()
		t.WriteString(text)
		r.text = t.String()[from:]
	}
	v, ok := r.document()
	if ok {
		v, ok = r.fit(v, s.inputs[i].Type, fieldText(s.inputs[i].Name))
	}
	if !ok {
		return fr.failed()
	}
	if v.kind == KindNumber {
		v.text = strings.Clone(v.text)
	}
	fr.inputs[i] = v
	return nil
}

// EachField calls yield for each field of a JSON object, in their order, with the name and with the value as it is written. The error is a
// *Failure: the text is no object of JSON.
func EachField(row string, yield func(name, value string)) error {
	fr := &Frame{steps: int64(len(row)) + 1, bytes: 100*int64(len(row)) + 100, text: new(strings.Builder)}
	r := reader{text: row, fr: fr, at: rowSite}
	if r.space() != '{' {
		fr.fail(r.at, ReasonType, "the row is no object of JSON")
		return fr.failed()
	}
	r.next++
	var ok bool
	if r.space() == '}' {
		r.next++
		ok = r.end()
	} else {
		ok = r.eachField(yield)
	}
	if !ok {
		return fr.failed()
	}
	return nil
}

// eachField reads the fields of an object, behind its opening brace, to the end of the text.
func (r *reader) eachField(yield func(name, value string)) bool {
	for {
		name, ok := r.key()
		if !ok {
			return false
		}
		r.space()
		from := r.next
		if !r.skip() {
			return false
		}
		yield(name, r.text[from:r.next])
		switch r.space() {
		case ',':
			r.next++
		case '}':
			r.next++
			return r.end()
		default:
			return r.fail()
		}
	}
}
