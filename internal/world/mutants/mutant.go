package mutants

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Mutant is one fault that can be built into the programs.
type Mutant struct {
	Name    string   // of its file, without .txt
	Breaks  string   // the promise that it breaks, in a few words
	FoundBy []string // the names of the oracles that should find it; any of them will do
	// ShowsIn matches the scripts of scenarios in which the fault can show; nil means any. It saves the time of the others.
	ShowsIn *regexp.Regexp
	// Missed says why no seed has found the mutant so far; empty means that one has.
	Missed string
	Why    string // what the fault is, in sentences
	Edits  []Edit
}

// Edit replaces some lines of a file.
type Edit struct {
	File     string // its path in the module
	Old, New string // whole lines, each with its newline
}

// Load reads all mutants of a folder, sorted by name.
func Load(folder fs.FS) ([]Mutant, error) {
	names, err := fs.Glob(folder, "*.txt")
	if err != nil {
		return nil, err
	}
	var all []Mutant
	for _, name := range names {
		text, err := fs.ReadFile(folder, name)
		if err != nil {
			return nil, err
		}
		m, err := Parse(string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if m.Name+".txt" != name {
			return nil, fmt.Errorf("%s: its mutant is called %q", name, m.Name)
		}
		all = append(all, m)
	}
	return all, nil
}

// showsIn begins the line of Mutant.ShowsIn, which need not be there.
const showsIn = "shows in: "

// missed begins the line of Mutant.Missed, which need not be there either.
const missed = "missed: "

// Parse reads the file of one mutant. The package's comment shows its form.
func Parse(text string) (m Mutant, err error) {
	lines := strings.SplitAfter(text, "\n")
	next := func() string {
		if len(lines) == 0 {
			return ""
		}
		line := lines[0]
		lines = lines[1:]
		return line
	}
	for _, field := range []struct {
		key string
		to  func(string)
	}{
		{"name", func(s string) { m.Name = s }},
		{"breaks", func(s string) { m.Breaks = s }},
		{"found by", func(s string) { m.FoundBy = strings.Split(s, ", ") }},
	} {
		value, ok := strings.CutPrefix(strings.TrimSpace(next()), field.key+": ")
		if !ok {
			return m, fmt.Errorf("a line that begins with %q is missing", field.key+": ")
		}
		field.to(value)
	}
	if len(lines) > 0 && strings.HasPrefix(lines[0], showsIn) {
		if m.ShowsIn, err = regexp.Compile(strings.TrimSpace(strings.TrimPrefix(next(), showsIn))); err != nil {
			return m, err
		}
	}
	if len(lines) > 0 && strings.HasPrefix(lines[0], missed) {
		m.Missed = strings.TrimSpace(strings.TrimPrefix(next(), missed))
	}
	var why strings.Builder
	for len(lines) > 0 && !strings.HasPrefix(lines[0], "-- ") {
		why.WriteString(next())
	}
	m.Why = strings.TrimSpace(why.String())
	file := ""
	for len(lines) > 0 {
		switch line := next(); {
		case strings.HasPrefix(line, "-- "):
			file = strings.TrimSpace(strings.TrimPrefix(line, "-- "))
		case line == "<<<\n":
			e := Edit{File: file}
			if e.Old, err = until("===\n", next); err == nil {
				e.New, err = until(">>>\n", next)
			}
			if err != nil {
				return m, err
			}
			m.Edits = append(m.Edits, e)
		case strings.TrimSpace(line) != "":
			return m, fmt.Errorf("the line %q is neither a file nor a change", line)
		}
	}
	switch {
	case m.Why == "":
		return m, errors.New("it does not say what the fault is")
	case len(m.Edits) == 0:
		return m, errors.New("it changes nothing")
	case m.Edits[0].File == "":
		return m, errors.New("its first change names no file")
	}
	return m, nil
}

// until returns the lines up to the line end, which it takes, too.
func until(end string, next func() string) (string, error) {
	var text strings.Builder
	for line := next(); line != ""; line = next() {
		if line == end {
			return text.String(), nil
		}
		text.WriteString(line)
	}
	return "", fmt.Errorf("the line %q is missing", strings.TrimSpace(end))
}

// Apply returns the contents of the files that the mutant changes, by their paths in the module, as the mutant has them. root is the module.
// It fails if the lines that an edit replaces do not stand in their file exactly once, or if the changed file is no Go.
func (m *Mutant) Apply(root fs.FS) (map[string]string, error) {
	files := map[string]string{}
	for _, e := range m.Edits {
		text, changed := files[e.File]
		if !changed {
			bytes, err := fs.ReadFile(root, e.File)
			if err != nil {
				return nil, err
			}
			text = string(bytes)
		}
		places := placesOf(e.Old, text)
		if len(places) != 1 {
			return nil, fmt.Errorf("%s has these lines %d times, and must have them once: change the mutant as the code has changed\n%s", e.File, len(places), e.Old)
		}
		files[e.File] = text[:places[0]] + e.New + text[places[0]+len(e.Old):]
	}
	for name, text := range files {
		if !strings.HasSuffix(name, ".go") {
			continue
		}
		if _, err := parser.ParseFile(token.NewFileSet(), name, text, parser.SkipObjectResolution); err != nil {
			return nil, fmt.Errorf("the changed file is no Go: %w", err)
		}
	}
	return files, nil
}

// placesOf returns where the lines stand in a text, as offsets in bytes.
func placesOf(lines, text string) (places []int) {
	for at := 0; at < len(text); {
		if strings.HasPrefix(text[at:], lines) {
			places = append(places, at)
		}
		end := strings.IndexByte(text[at:], '\n')
		if end < 0 {
			break
		}
		at += end + 1
	}
	return places
}

// WriteOverlay writes the mutant's files into a folder, and returns the path of a file for go build's flag -overlay, which makes it read
// them in place of those of the module. root is the path of the module.
func (m *Mutant) WriteOverlay(root, folder string) (overlay string, err error) {
	files, err := m.Apply(os.DirFS(root))
	if err != nil {
		return "", err
	}
	absolute, err := filepath.Abs(root)
	if err != nil {
		return "", err
	}
	if folder, err = filepath.Abs(folder); err != nil {
		return "", err
	}
	var replaced struct {
		Replace map[string]string `json:"Replace"`
	}
	replaced.Replace = map[string]string{}
	for name, text := range files {
		mutated := filepath.Join(folder, strings.ReplaceAll(name, "/", "_"))
		if err := os.WriteFile(mutated, []byte(text), 0o600); err != nil {
			return "", err
		}
		replaced.Replace[filepath.Join(absolute, filepath.FromSlash(name))] = mutated
	}
	content, err := json.Marshal(replaced)
	if err != nil {
		return "", err
	}
	overlay = filepath.Join(folder, "overlay.json")
	return overlay, os.WriteFile(overlay, content, 0o600)
}

// Expected reports whether one of the oracles in broken is among those that should find the mutant.
func (m *Mutant) Expected(broken []string) bool {
	return slices.ContainsFunc(broken, func(oracle string) bool { return slices.Contains(m.FoundBy, oracle) })
}
