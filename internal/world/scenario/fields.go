package scenario

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// field is a field of a line of a script, as the tag "script" describes it.
type field struct {
	word  string // stands before the value; "" for a field that stands at the beginning of its line
	lead  bool   // stands at the beginning of its line, without a word
	bytes bool   // is written with KiB or MiB where that is shorter
	rest  bool   // takes the rest of the line
	value reflect.Value
}

// fields returns the fields of a struct, in the order of their declaration. value must be addressable if the fields are to be set.
func fields(value reflect.Value) []field {
	var all []field
	for i := range value.NumField() {
		tag, tagged := value.Type().Field(i).Tag.Lookup("script")
		if !tagged {
			continue
		}
		word, options, _ := strings.Cut(tag, ",")
		f := field{word: word, value: value.Field(i)}
		switch options {
		case "":
		case "lead":
			f.lead = true
		case "bytes":
			f.bytes = true
		case "rest":
			f.rest = true
		case "inline":
			all = append(all, fields(value.Field(i))...)
			continue
		default:
			panic(fmt.Sprintf("scenario: tag %q of a field", tag))
		}
		all = append(all, f)
	}
	return all
}

// print appends the field to a line, with its word. A zero value is left out.
func (f field) print(line []string) []string {
	if f.value.IsZero() {
		return line
	}
	if !f.lead {
		line = append(line, f.word)
	}
	if f.value.Kind() == reflect.Bool {
		return line
	}
	return append(line, f.text())
}

// text returns the value as a script has it.
func (f field) text() string {
	switch v := f.value.Interface().(type) {
	case string:
		return v
	case time.Duration:
		return duration(v)
	case uint64:
		return strconv.FormatUint(v, 10)
	}
	n := f.value.Int()
	switch {
	case f.bytes && n >= 1<<20 && n%(1<<20) == 0:
		return strconv.FormatInt(n>>20, 10) + "MiB"
	case f.bytes && n >= 1<<10 && n%(1<<10) == 0:
		return strconv.FormatInt(n>>10, 10) + "KiB"
	}
	return strconv.FormatInt(n, 10)
}

// set gives the field the value that a script has.
func (f field) set(text string) error {
	switch f.value.Interface().(type) {
	case string:
		f.value.SetString(text)
		return nil
	case time.Duration:
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 {
			return fmt.Errorf("%s: %q is no duration such as 1m30s or 20ms", f.name(), text)
		}
		f.value.SetInt(int64(d))
		return nil
	case uint64:
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return fmt.Errorf("%s: %q is no whole number", f.name(), text)
		}
		f.value.SetUint(n)
		return nil
	}
	digits, unit := text, int64(1)
	if f.bytes {
		if short, found := strings.CutSuffix(text, "KiB"); found {
			digits, unit = short, 1<<10
		} else if short, found := strings.CutSuffix(text, "MiB"); found {
			digits, unit = short, 1<<20
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/unit || f.value.OverflowInt(n*unit) {
		if f.bytes {
			return fmt.Errorf("%s: %q is no number of bytes such as 4096, 512KiB or 4MiB", f.name(), text)
		}
		return fmt.Errorf("%s: %q is no whole number", f.name(), text)
	}
	f.value.SetInt(n * unit)
	return nil
}

// name returns the field's word, for an error.
func (f field) name() string {
	if f.word == "" {
		return "the first words of the line"
	}
	return f.word
}

// duration returns a duration without the zeros at its end: 1m, not 1m0s.
func duration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// nearest returns the word that is spelled most like a wrong one, as the end of an error: ", did you mean …?". It returns "" when none is
// near.
func nearest(wrong string, words []string) string {
	best, least := "", 1+max(1, len(wrong)/3)
	for _, w := range words {
		if d := distance(wrong, w); d < least {
			best, least = w, d
		}
	}
	if best == "" {
		return ""
	}
	return ", did you mean " + best + "?"
}

// distance returns how many letters must be added, taken away or changed to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
