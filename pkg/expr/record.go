package expr

import (
	"errors"
	"strconv"
)

// Record is an object with one expression for each field, such as the new row of a Calculate.
type Record struct {
	fields []RecordField
	names  []string // as JSON, with the colon
}

// RecordField is a field of a Record.
type RecordField struct {
	Name    string
	Program *Program
}

// RecordSource is the name of a field and its expression.
type RecordSource struct {
	Name   string
	Source Source
}

// CompileRecord compiles an expression for each field. It returns the Mistakes of all of them.
func (s *Scope) CompileRecord(fields []RecordSource) (*Record, error) {
	r := &Record{}
	var mistakes Mistakes
	for _, f := range fields {
		program, err := s.Compile(f.Source, Any)
		if found, ok := errors.AsType[Mistakes](err); ok {
			mistakes = append(mistakes, found...)
			continue
		}
		r.fields = append(r.fields, RecordField{f.Name, program})
		r.names = append(r.names, string(appendQuoted(nil, f.Name))+":")
	}
	if len(mistakes) > 0 {
		return nil, mistakes
	}
	return r, nil
}

// Fields returns the fields in their order. The caller must not change them.
func (r *Record) Fields() []RecordField { return r.fields }

// Type returns the type of the object.
func (r *Record) Type() Type {
	fields := make([]Field, len(r.fields))
	for i, f := range r.fields {
		fields[i] = Field{f.Name, f.Program.kind}
	}
	return Object(fields...)
}

// AppendJSON evaluates all expressions for the values in a frame, and appends the object as JSON, with the fields in the order of the record. A
// field whose value is missing is left out. The error is a *Failure; the bytes behind b mean nothing then.
func (r *Record) AppendJSON(b []byte, fr *Frame) ([]byte, error) {
	first := len(b)
	b = append(b, '{')
	for i := range r.fields {
		p := r.fields[i].Program
		if !fr.start(p) {
			return b, fr.failed()
		}
		before := len(b)
		if before > first+1 {
			b = append(b, ',')
		}
		b = append(b, r.names[i]...)
		var ok, missing bool
		if b, missing, ok = p.append(b, fr); !ok {
			return b, fr.failed()
		}
		if missing {
			b = b[:before]
		}
	}
	return append(b, '}'), nil
}

// AppendJSON evaluates the expression for the values in a frame, and appends its value as JSON. missing says that the value is missing, and nothing was
// appended. The error is a *Failure; the bytes behind b mean nothing then.
func (p *Program) AppendJSON(b []byte, fr *Frame) (out []byte, missing bool, err error) {
	if !fr.start(p) {
		return b, false, fr.failed()
	}
	out, missing, ok := p.append(b, fr)
	if !ok {
		return out, false, fr.failed()
	}
	return out, missing, nil
}

// append evaluates the expression and appends its value as JSON.
func (p *Program) append(b []byte, fr *Frame) (out []byte, missing, ok bool) {
	o := &p.operand
	switch {
	case o.i != nil:
		n, ok := o.i(fr)
		return strconv.AppendInt(b, n, 10), false, ok
	case o.f != nil:
		f, ok := o.f(fr)
		return appendFloat(b, f), false, ok
	}
	v, ok := o.value(fr)
	if !ok || v.kind == KindMissing {
		return b, true, ok
	}
	b, ok = appendJSON(b, v, &writer{fr, p.site})
	return b, false, ok
}
