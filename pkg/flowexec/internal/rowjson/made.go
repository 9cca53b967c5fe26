package rowjson

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
)

// Exact is a float that JSON gives exactly: a whole number that no float equals can't be read as one. A -0 is read as 0.
type Exact float64

var (
	dynamicType = reflect.TypeFor[Dynamic]()
	exactType   = reflect.TypeFor[Exact]()
)

// errExact is the error for a number that is not one that a float holds exactly.
var errExact = errors.New("is not a number that a float can hold exactly")

// UnmarshalJSON implements json.Unmarshaler. Null leaves the float as it is, as encoding/json does for plain floats.
func (e *Exact) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		return nil
	}
	f, err := strconv.ParseFloat(string(text), 64)
	if err != nil || !isExact(f, text) {
		return errExact
	}
	*e = Exact(f + 0)
	return nil
}

// isExact reports whether a float is exactly the number that was read as it: text has its digits. A number with a fraction or an exponent counts
// as exact.
func isExact(f float64, text []byte) bool {
	const most = 1 << 53
	if -most <= f && f <= most && (f < most && f > -most || len(text) < 16) {
		return true
	}
	for _, c := range text {
		if c == '.' || c == 'e' || c == 'E' {
			return !math.IsInf(f, 0)
		}
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	return err == nil && exactly(n)
}

// exactly reports whether a float can hold a whole number exactly.
func exactly(n int64) bool {
	f := float64(n)
	return f < math.MaxInt64 && int64(f) == n
}

// madeTag is the key of the tag that fields of made structs have. Its value is the type of the field, as documents write types.
const madeTag = "kisgrid"

// MadeField is a field of a struct that Made makes.
type MadeField struct {
	// Name is its name in JSON, and Text its type as documents write it, for messages.
	Name, Text string
	// Type is int64, Exact, bool, string or Dynamic. A field of another type than Dynamic has to be there, and not null, in rows that are
	// converted to the struct. A Dynamic field may be absent.
	Type reflect.Type
}

// Made makes a struct type for rows of expressions.
func Made(fields []MadeField) reflect.Type {
	all := make([]reflect.StructField, len(fields))
	for i, f := range fields {
		name := f.Name
		if f.Type == dynamicType {
			name += ",omitzero"
		}
		all[i] = reflect.StructField{
			Name: "F" + strconv.Itoa(i), Type: f.Type, Tag: reflect.StructTag(fmt.Sprintf("json:%q %s:%q", name, madeTag, f.Text)),
		}
	}
	return reflect.StructOf(all)
}

// TypeName returns the name of a row type for messages: that of Go, or for a made struct its fields as documents write them.
func TypeName(t reflect.Type) string {
	if t == nil || t.Kind() != reflect.Struct || t.Name() != "" {
		return fmt.Sprint(t)
	}
	var parts []string
	for i := range t.NumField() {
		text, made := t.Field(i).Tag.Lookup(madeTag)
		if !made {
			return t.String()
		}
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		parts = append(parts, name+": "+text)
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// needs returns the fields that a made struct needs, as a set and by name. The set is complete only if the struct has at most 64 fields.
func (c *Codec) needs() (set Must, names []string) {
	for i := range c.fields {
		if c.fields[i].needed {
			set |= 1 << i
			names = append(names, c.fields[i].name)
		}
	}
	if c.fields == nil && c.row.Kind() == reflect.Struct { // encoding/json reads the rows
		for _, f := range Fields(c.row) {
			if f.made && kindOf(f.Type).plain() {
				names = append(names, f.Name)
			}
		}
	}
	return set, names
}
