package scenario

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Parse reads a script. Empty lines, and everything from a # on, say nothing. The error lists all mistakes, each with its line; words that
// are spelled wrong come with the nearest right one. The scenario has passed Check.
func Parse(script string) (*Scenario, error) {
	p := parser{lines: map[string][]int{}, once: map[string]int{}}
	number := 0
	for text := range strings.Lines(script) {
		number++
		text, _, _ = strings.Cut(text, "#")
		if words := strings.Fields(text); len(words) > 0 {
			if err := p.line(number, words); err != nil {
				p.errs = append(p.errs, fmt.Errorf("line %d: %w", number, err))
			}
		}
	}
	if len(p.errs) == 0 {
		for _, problem := range p.s.problems() {
			p.errs = append(p.errs, p.place(problem))
		}
	}
	if len(p.errs) > 0 {
		return nil, errors.Join(p.errs...)
	}
	p.s.sort()
	return &p.s, nil
}

// parser is the state of Parse.
type parser struct {
	s     Scenario
	lines map[string][]int // of each list of the scenario, the lines of its elements
	once  map[string]int   // the lines of words that may stand only once
	errs  []error
}

// place returns a problem as an error that names the problem's line, if it has one.
func (p *parser) place(problem Problem) error {
	if lines := p.lines[problem.List]; problem.Index < len(lines) {
		return fmt.Errorf("line %d: %s", lines[problem.Index], problem.Text)
	}
	return errors.New(problem.Text)
}

// line reads one line.
func (p *parser) line(number int, words []string) error {
	top := reflect.ValueOf(&p.s).Elem()
	if words[0] == "at" {
		return p.event(number, words)
	}
	var known []string
	for i := range top.NumField() {
		structField := top.Type().Field(i)
		word := structField.Tag.Get("script")
		if word != words[0] {
			known = append(known, word)
			continue
		}
		value := top.Field(i)
		if value.Kind() == reflect.Slice {
			element := reflect.New(value.Type().Elem()).Elem()
			if err := read(words[1:], fields(element), true); err != nil {
				return fmt.Errorf("%s: %w", word, err)
			}
			value.Set(reflect.Append(value, element))
			name := listName(structField.Name)
			p.lines[name] = append(p.lines[name], number)
			return nil
		}
		if before, twice := p.once[word]; twice {
			return fmt.Errorf("%s stands in line %d already", word, before)
		}
		p.once[word] = number
		if value.Kind() == reflect.Struct {
			if err := read(words[1:], fields(value), true); err != nil {
				return fmt.Errorf("%s: %w", word, err)
			}
			return nil
		}
		return read(words, []field{{word: word, value: value}}, true)
	}
	return fmt.Errorf("%q begins no line%s", words[0], nearest(words[0], known))
}

// event reads a line that begins with "at": a change or a fault.
func (p *parser) event(number int, words []string) error {
	var at, lasts time.Duration
	words = words[1:]
	if len(words) == 0 {
		return errors.New("at: a time is missing")
	}
	if err := (field{word: "at", value: reflect.ValueOf(&at).Elem()}).set(words[0]); err != nil {
		return err
	}
	if words = words[1:]; len(words) > 1 && words[0] == "for" {
		if err := (field{word: "for", value: reflect.ValueOf(&lasts).Elem()}).set(words[1]); err != nil {
			return err
		}
		words = words[2:]
	}
	if len(words) == 0 {
		return errors.New("at: the kind of change or fault is missing")
	}
	kind := words[0]
	if k, found := faultKind(kind); found {
		f := Fault{At: at, For: lasts}
		if err := read(words, fields(reflect.ValueOf(&f).Elem()), k.Who != Nobody); err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
		p.s.Faults = append(p.s.Faults, f)
		p.lines["fault"] = append(p.lines["fault"], number)
		return nil
	}
	k, found := changeKind(kind)
	if !found {
		var known []string
		for _, k := range FaultKinds {
			known = append(known, k.Name)
		}
		for _, k := range ChangeKinds {
			known = append(known, k.Name)
		}
		return fmt.Errorf("%q is no kind of change or fault%s", kind, nearest(kind, known))
	}
	if lasts > 0 {
		return fmt.Errorf("%s: a change of documents lasts; leave out 'for'", kind)
	}
	c := Change{At: at}
	if err := read(words, fields(reflect.ValueOf(&c).Elem()), !k.NoFlow); err != nil {
		return fmt.Errorf("%s: %w", kind, err)
	}
	p.s.Changes = append(p.s.Changes, c)
	p.lines["change"] = append(p.lines["change"], number)
	return nil
}

// read gives fields the values that stand in words: first those of the leading fields, then the others behind their words, each at most
// once. Unless every leading field is given, the last of them is missing.
func read(words []string, all []field, everyLead bool) error {
	leads := 0
	for _, f := range all {
		if f.lead {
			leads++
		}
	}
	if !everyLead {
		leads--
	}
	given := map[string]bool{}
	for _, f := range all[:leads] {
		if len(words) == 0 {
			return errors.New("the line ends too early")
		}
		if err := f.set(words[0]); err != nil {
			return err
		}
		words = words[1:]
	}
	for len(words) > 0 {
		i := slices.IndexFunc(all, func(f field) bool { return !f.lead && f.word == words[0] })
		if i < 0 {
			var known []string
			for _, f := range all {
				if !f.lead {
					known = append(known, f.word)
				}
			}
			return fmt.Errorf("unknown word %q%s", words[0], nearest(words[0], known))
		}
		f := all[i]
		if given[f.word] {
			return fmt.Errorf("%s stands twice", f.word)
		}
		given[f.word] = true
		words = words[1:]
		if f.value.Kind() == reflect.Bool {
			f.value.SetBool(true)
			continue
		}
		if len(words) == 0 {
			return fmt.Errorf("%s: a value is missing", f.word)
		}
		text := words[0]
		if f.rest {
			text, words = strings.Join(words, " "), words[:1]
		}
		if err := f.set(text); err != nil {
			return err
		}
		words = words[1:]
	}
	return nil
}

// With returns the process with other settings, which stand in text as in the line of a process: "build row2 lease 2s".
func (p Process) With(text string) (Process, error) {
	all := fields(reflect.ValueOf(&p).Elem())
	all = slices.DeleteFunc(all, func(f field) bool { return f.lead || f.word == "absent" })
	return p, read(strings.Fields(text), all, true)
}

// faultKind returns the kind of fault with a name, and false when there is none.
func faultKind(name string) (FaultKind, bool) {
	i := slices.IndexFunc(FaultKinds, func(k FaultKind) bool { return k.Name == name })
	if i < 0 {
		return FaultKind{}, false
	}
	return FaultKinds[i], true
}

// changeKind returns the kind of change with a name, and false when there is none.
func changeKind(name string) (ChangeKind, bool) {
	i := slices.IndexFunc(ChangeKinds, func(k ChangeKind) bool { return k.Name == name })
	if i < 0 {
		return ChangeKind{}, false
	}
	return ChangeKinds[i], true
}
