//go:build unix

package tutorial

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// step is one block of a page, which tells the reader to do something.
type step struct {
	line int // the line of the document where the block begins
	text string
	file string // the file into which the text is written; empty means that a shell runs it
	diff bool   // the text is a diff, which changes the file

	terminal string   // the name of the shell; empty means the first one. In the others a program runs until the end of the page
	fails    bool     // the last command is expected to fail
	again    bool     // the block is repeated until it prints the expected lines
	prints   []string // the expected lines of output; nil means that the output is not compared

	notRun string // why the block is only shown; empty means that it is run, or written to a file
}

var (
	fence    = regexp.MustCompile("^```([a-z]*)(.*)$")
	fileName = regexp.MustCompile("`([^`]+)`:$")
)

// notRun begins the part of an opening fence that gives the reason why a block is only shown.
const notRun = "not run: "

// parse reads the blocks of a page. A block that is not run gives the reason after its language: ```sh not run: it takes ten minutes.
// It is an error when a block is indented and not fenced: such a block would not be run, and nobody would notice.
func parse(document string) (steps []step, err error) {
	lines := strings.Split(document, "\n")
	before := "" // the last line of text before the block
	for i := 0; i < len(lines); i++ {
		opening := fence.FindStringSubmatch(lines[i])
		if opening == nil {
			if i > 0 && strings.TrimSpace(lines[i-1]) == "" && strings.HasPrefix(lines[i], "    ") && strings.TrimSpace(lines[i]) != "" {
				return nil, fmt.Errorf("line %d: a block is indented: put it between fences, as sh, text, go, python, js, yaml or diff", i+1)
			}
			if strings.TrimSpace(lines[i]) != "" {
				before = strings.TrimSpace(lines[i])
			}
			continue
		}
		s := step{line: i + 1}
		var block []string
		for i++; i < len(lines) && lines[i] != "```"; i++ {
			block = append(block, lines[i])
		}
		s.text = strings.Join(block, "\n") + "\n"
		if why, ok := strings.CutPrefix(strings.TrimSpace(opening[2]), strings.TrimSpace(notRun)); ok {
			if s.notRun = strings.TrimSpace(why); s.notRun == "" {
				return nil, fmt.Errorf("line %d: the block is not run: say why behind the colon", s.line)
			}
			steps = append(steps, s)
			continue
		}
		switch opening[1] {
		case "sh":
			for flag := range strings.FieldsSeq(opening[2]) {
				switch name, value, _ := strings.Cut(flag, "="); name {
				case "terminal":
					s.terminal = value
				case "fails":
					s.fails = true
				case "again":
					s.again = true
				default:
					return nil, fmt.Errorf("line %d: a block is %q: it may be terminal=NAME, fails, again, or not run: WHY", s.line, flag)
				}
			}
			steps = append(steps, s)
		case "text":
			if len(steps) == 0 || steps[len(steps)-1].file != "" || steps[len(steps)-1].prints != nil || steps[len(steps)-1].notRun != "" {
				return nil, fmt.Errorf("line %d: nothing that was run can print this", s.line)
			}
			steps[len(steps)-1].prints = block
		case "go", "python", "js", "yaml", "diff":
			name := fileName.FindStringSubmatch(before)
			if name == nil {
				return nil, fmt.Errorf("line %d: say before it into which file it goes, in a line that ends with its name and a colon, such as This is `conf/flows.yml`: and nothing more", s.line)
			}
			s.file, s.diff = name[1], opening[1] == "diff"
			steps = append(steps, s)
		default:
			return nil, fmt.Errorf("line %d: a block of %q: write sh, text, go, python, js, yaml or diff", s.line, opening[1])
		}
	}
	return steps, nil
}

// patched returns a text after a diff. The lines of a diff begin with a blank where they stay, with a minus where they are deleted,
// and with a plus where they are new. A line that stays may be only the end of a line of the text. The place must be unique: the
// lines that stay or are deleted stand in the text once.
func patched(text, diff string) (string, error) {
	var before, after []string
	for line := range strings.Lines(diff) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "-"):
			before = append(before, line[1:])
		case strings.HasPrefix(line, "+"):
			after = append(after, line[1:])
		default:
			line = strings.TrimPrefix(line, " ")
			before, after = append(before, line), append(after, line)
		}
	}
	old := strings.Join(before, "\n")
	if n := strings.Count(text, old); n != 1 {
		return "", fmt.Errorf("these lines are there %d times:\n%s", n, old)
	}
	return strings.Replace(text, old, strings.Join(after, "\n"), 1), nil
}

// pattern is the regular expression that the output of a block must match. In the page, … stands for anything in a line, or for any
// number of lines where it stands alone. The number of blanks, and empty lines, do not matter.
func pattern(lines []string, whole bool) *regexp.Regexp {
	var out strings.Builder
	for _, line := range lines {
		switch line = blank(line); line {
		case "":
		case "…":
			out.WriteString(`(?:.*\n)*?`)
		default:
			out.WriteString(strings.ReplaceAll(regexp.QuoteMeta(line), "…", ".*") + `\n`)
		}
	}
	if whole {
		return regexp.MustCompile(`\A` + out.String() + `\z`)
	}
	return regexp.MustCompile(`(?m)^` + out.String())
}

func blank(line string) string { return strings.Join(strings.Fields(line), " ") }

// squeeze returns a text in the form that pattern compares: without empty lines, and with single blanks.
func squeeze(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		if line = blank(line); line != "" {
			out.WriteString(line + "\n")
		}
	}
	return out.String()
}

// A diff must change only the one place that it shows.
func TestPatched(t *testing.T) {
	for diff, want := range map[string]string{
		" b\n+x\n c\n": "a\nb\nx\nc\na\n", "-b\n+x\n": "a\nx\nc\na\n", "+x\n b": "a\nx\nb\nc\na\n", "-c\n-a\n+d\n": "a\nb\nd\n",
		" a\n+x\n": "", "-d\n+x\n": "", // twice, never
	} {
		if got, err := patched("a\nb\nc\na\n", diff); got != want || (err == nil) != (want != "") {
			t.Errorf("%q makes %q, %v", diff, got, err)
		}
	}
}

// Output is compared line by line, and only matching output passes.
func TestPattern(t *testing.T) {
	for _, c := range []struct {
		want, got string
		alike     bool
	}{
		{"a  b", "a b\n", true},
		{"a b", "a b\n\nc\n", false},
		{"a b\n…", "a   b\nc\nd\n", true},
		{"…\nd", "a\nd\n", true},
		{"…\nd", "a\nde\n", false},
		{"in … s: 1 done", "in 0.1 s: 1 done\n", true},
		{"in … s: 1 done", "in 0.1 s: 0 done\n", false},
		{"(x)", "x\n", false},
	} {
		if got := pattern(strings.Split(c.want, "\n"), true).MatchString(squeeze(c.got)); got != c.alike {
			t.Errorf("%q is like %q: %v", c.got, c.want, got)
		}
	}
	for _, bad := range []string{"```sh twice\nls\n```", "```text\nx\n```", "Some `file`\n\n```go\nx\n```", "```python\n```", "Text\n\n    ls\n", "```sh not run:\nls\n```", "```sh not run: so\nls\n```\n\n```text\nx\n```"} {
		if steps, err := parse(bad); err == nil {
			t.Errorf("%q was read as %+v", bad, steps)
		}
	}
}
