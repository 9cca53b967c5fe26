package scenario

import (
	"reflect"
	"slices"
	"strings"
	"time"
)

// String returns the scenario as a script, a line for each element. Changes and faults stand together, in the order of their times.
// Parse reads it.
func (s *Scenario) String() string {
	var b strings.Builder
	for _, l := range s.lines() {
		b.WriteString(l.String())
		b.WriteByte('\n')
	}
	return b.String()
}

// line is a line of a script: its first word, and the element of the scenario that it describes.
type line struct {
	word string
	// list and index say which element it is: the index in the scenario's list of this name. list is "" for lines outside of lists.
	list  string
	index int
	// value is the struct, or the single value, that the line gives.
	value reflect.Value
	at    time.Duration // of a change or a fault
	lasts time.Duration // of a fault
}

// String returns the line as it stands in a script.
func (l line) String() string {
	words := []string{l.word}
	if l.word == "at" {
		words = append(words, duration(l.at))
		if l.lasts > 0 {
			words = append(words, "for", duration(l.lasts))
		}
	}
	if l.value.Kind() != reflect.Struct {
		return strings.Join(field{word: l.word, value: l.value}.print(nil), " ")
	}
	for _, f := range fields(l.value) {
		words = f.print(words)
	}
	return strings.Join(words, " ")
}

// lines returns the lines of the scenario. Their values are fields of the scenario and can be changed. Elements without any setting have
// no line.
func (s *Scenario) lines() []line {
	var all, events []line
	top := reflect.ValueOf(s).Elem()
	for i := range top.NumField() {
		word, value := top.Type().Field(i).Tag.Get("script"), top.Field(i)
		switch {
		case value.Kind() == reflect.Slice:
			name := listName(top.Type().Field(i).Name)
			for j := range value.Len() {
				l := line{word: word, list: name, index: j, value: value.Index(j)}
				switch element := value.Index(j).Interface().(type) {
				case Change:
					l.at = element.At
				case Fault:
					l.at, l.lasts = element.At, element.For
				}
				if word == "at" {
					events = append(events, l)
				} else {
					all = append(all, l)
				}
			}
		case word == "seed" || !value.IsZero():
			all = append(all, line{word: word, value: value})
		}
	}
	slices.SortStableFunc(events, func(a, b line) int { return int(a.at - b.at) })
	return append(all, events...)
}

// listName returns the name of a list of the scenario in errors and keys: "coordinator" for Coordinators.
func listName(fieldName string) string {
	return strings.ToLower(strings.TrimSuffix(fieldName, "s"))
}

// sort puts changes and faults in the order of their times, as a script has them.
func (s *Scenario) sort() {
	slices.SortStableFunc(s.Changes, func(a, b Change) int { return int(a.At - b.At) })
	slices.SortStableFunc(s.Faults, func(a, b Fault) int { return int(a.At - b.At) })
}
