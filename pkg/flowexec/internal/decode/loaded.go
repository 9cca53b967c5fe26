package decode

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/kisgrid/kisgrid/internal/jsonrule"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rowjson"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
)

// LoadedFields are the fields of a row that a declared Load sets (option.load in its document).
type LoadedFields struct {
	Fields []LoadedField // in the order of their names
	// OwnCode means that setting them may run code of row types.
	OwnCode bool
}

// LoadedField is one field of a row that a declared Load sets from a field in the store.
type LoadedField struct {
	// Name is the field's name in the row, From its name in the store.
	Name, From string
	// Reader is the field of the row type of the first later function that reads this field: its type decides what the stored text means. nil
	// means that no later function reads it. Read reads a stored text as that type.
	Reader *rowjson.Field
	Read   func(text string, into reflect.Value) error
	// As is the type that the document gives the stored text. It counts only if Reader is nil. If As is "" too, the text is taken for JSON if it is
	// valid JSON, and for a string if it is not.
	As definition.LoadType
}

// WithFields returns row i as a JSON object in which the fields of load are set from value, the fields in the store. A field that the store does
// not have is null. It is an error if the row is no JSON object; the error is an *UnfitError if a stored text is not of the type that the document
// gives it.
func (r *Reader) WithFields(rs *rows.Set, i int, load *LoadedFields, value connector.Value) (json.RawMessage, error) {
	row, err := r.Object(rs, i)
	if err != nil {
		return nil, err
	}
	if row == nil {
		return nil, errors.New("it is null")
	}
	fields := row.byName()
	for n := range load.Fields {
		set := &load.Fields[n]
		row.replace(fields, set.Name)
		fields[set.Name] = json.RawMessage("null")
		for _, f := range value.Fields {
			if f.Name == set.From {
				if fields[set.Name], err = set.asJSON(f.Value); err != nil {
					return nil, err
				}
			}
		}
	}
	return rowjson.AppendAny(nil, fields)
}

// FieldOf returns the field of the row type in, or of the map type in, into which encoding/json reads a JSON field called name. It returns false if
// the type has no field for it, or has code of its own to read itself.
func FieldOf(in reflect.Type, name string) (rowjson.Field, bool) {
	if t := elem(in); t.Kind() == reflect.Map && t.Key().Kind() == reflect.String && !hasOwnCode(t, nil) {
		return rowjson.Field{Name: name, Type: t.Elem()}, true
	}
	fields, _ := FieldsOf(in)
	return rowjson.Find(fields, name)
}

// UnfitError says that a stored text is not of the type that a document gives it (option.load.types).
type UnfitError struct {
	field string
	as    definition.LoadType
}

// Error names the field and the type, and says what to correct.
func (e *UnfitError) Error() string {
	return fmt.Sprintf("what is stored for the field %s is no %s, as option.load.types says: correct the type, or what is saved", e.field, e.as)
}

// asJSON converts a stored text to the JSON value of this field in the row. It returns an *UnfitError if the text is not of the type that the
// document gives it.
func (set *LoadedField) asJSON(text string) (json.RawMessage, error) {
	if set.Reader != nil {
		value := set.forReader(text)
		if set.Reader.Quoted && !bytes.Equal(value, []byte("null")) {
			return quotedJSON(string(value)), nil
		}
		return value, nil
	}
	raw := []byte(text)
	number := isNumber(text)
	var fits bool
	switch set.As {
	case definition.LoadString:
		return quotedJSON(text), nil
	case definition.LoadInt:
		fits = number && !bytes.ContainsAny(raw, ".eE \t\r\n")
	case definition.LoadFloat:
		fits = number && !bytes.ContainsAny(raw, " \t\r\n")
	case definition.LoadBool:
		fits = text == "true" || text == "false"
	case definition.LoadJSON:
		fits = json.Valid(raw)
	default:
		return guessedJSON(text), nil
	}
	if !fits {
		return nil, &UnfitError{set.Name, set.As}
	}
	return raw, nil
}

var bytesType = reflect.TypeFor[[]byte]()

// forReader converts a stored text to JSON from which the type of set.Reader reads the value that was saved.
func (set *LoadedField) forReader(text string) json.RawMessage {
	t := set.Reader.Type
	base := t
	for base.Kind() == reflect.Pointer {
		base = base.Elem()
	}
	switch own := readsOrWritesItself(base) || readsOrWritesItself(t); {
	case t == bytesType:
		// A declared Save stores base64, as it stands in the row's JSON, and a function the bytes themselves.
		if decoded, err := base64.StdEncoding.Strict().DecodeString(text); err == nil && base64.StdEncoding.EncodeToString(decoded) == text {
			return quotedJSON(text)
		}
		return quotedJSON(base64.StdEncoding.EncodeToString([]byte(text)))
	case t.Kind() == reflect.String && !own && t != numberType:
		return quotedJSON(text)
	case own || base != t && base.Kind() == reflect.String:
		value := reflect.New(t)
		if set.Read(text, value.Elem()) == nil {
			if written, err := rowjson.AppendAny(nil, value.Interface()); err == nil {
				return written
			}
		}
	}
	if base.Kind() == reflect.String && !(base == numberType && isNumber(text)) || reflect.PointerTo(base).Implements(textUnmarshalerType) {
		return quotedJSON(text)
	}
	return guessedJSON(text)
}

// isNumber reports whether a text is a JSON number. Space around the number is allowed.
func isNumber(text string) bool {
	if text == "" || !json.Valid([]byte(text)) {
		return false
	}
	first := strings.TrimLeft(text, " \t\r\n")[0]
	return first == '-' || first-'0' <= 9
}

// readsOrWritesItself reports whether t or *t has methods by which encoding/json reads or writes it, such as MarshalJSON or UnmarshalText.
func readsOrWritesItself(t reflect.Type) bool {
	return jsonrule.HasMethods(reflect.PointerTo(t)) || jsonrule.HasMethods(t)
}
