package expr

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Source is the text of an expression, and where it stands.
type Source struct {
	// Text is the expression. White space and line breaks mean nothing in it, so a block of YAML may be given as it is written, not folded.
	Text string
	// Document names the document, such as conf/func/AvgStuScore12.yml. Path names the key, such as option.calculate.avg_score. Function is the
	// function's name. Each may be empty, and messages leave it out then.
	Document, Path, Function string
	// Line and Column are where the text begins in the document, counted from 1, in characters. 0 means that nobody knows.
	Line, Column int
	// Margin is the column where each later line of the text begins. 0 means 1.
	Margin int
}

// at returns the line and the column in the document of the character at an offset.
func (s *Source) at(offset int) (line, column int) {
	before := s.Text[:min(offset, len(s.Text))]
	line, column = max(s.Line, 1), max(s.Column, 1)
	if i := strings.LastIndexByte(before, '\n'); i >= 0 {
		line += strings.Count(before, "\n")
		column, before = max(s.Margin, 1), before[i+1:]
	}
	return line, column + utf8.RuneCountInString(before)
}

// place returns the beginning of a message: document, line, column and path, as far as they are known.
func (s *Source) place(offset int) string {
	var b strings.Builder
	line, column := s.at(offset)
	switch {
	case s.Document != "" && s.Line > 0:
		fmt.Fprintf(&b, "%s:%d:%d: ", s.Document, line, column)
	case s.Document != "":
		fmt.Fprintf(&b, "%s: ", s.Document)
	case s.Line > 0:
		fmt.Fprintf(&b, "line %d, column %d: ", line, column)
	}
	if s.Path != "" {
		b.WriteString(s.Path + ": ")
	}
	return b.String()
}

// caret returns the line of the text that has the offset from, and below it a line with carets under the characters between both offsets. It ends with
// a line break.
func (s *Source) caret(from, to int) string {
	const most = 100 // characters of a line that are shown
	from = min(from, len(s.Text))
	to = min(max(to, from), len(s.Text))
	begin := strings.LastIndexByte(s.Text[:from], '\n') + 1
	end := len(s.Text)
	if i := strings.IndexByte(s.Text[begin:], '\n'); i >= 0 {
		end = begin + i
	}
	text := strings.TrimRight(s.Text[begin:end], " \t\r")
	before := utf8.RuneCountInString(s.Text[begin:from])
	marked := max(utf8.RuneCountInString(s.Text[from:max(from, min(to, end))]), 1)
	runes := []rune(strings.ToValidUTF8(strings.ReplaceAll(text, "\t", " "), "�"))
	if len(runes) > most {
		first := max(min(before-most/4, len(runes)-most), 0)
		runes, before = runes[first:min(first+most, len(runes))], before-first
		marked = max(min(marked, len(runes)-before), 1)
	}
	return "    " + string(runes) + "\n    " + strings.Repeat(" ", before) + strings.Repeat("^", marked) + "\n"
}

// Check checks only the syntax, for a document that is read before anybody knows the types of its rows. The error is Mistakes.
func (s *Source) Check() error {
	if _, mistake := parse(s); mistake != nil {
		return Mistakes{mistake}
	}
	return nil
}

// Mistake is a mistake in an expression, found before any row runs.
type Mistake struct {
	Source *Source
	// From and To are the offsets of the part of the text that is wrong.
	From, To int
	// Message says what is wrong, and Edit how to write it instead. Edit may be empty.
	Message, Edit string
}

// Position returns where the wrong part begins in the document.
func (m *Mistake) Position() (line, column int) { return m.Source.at(m.From) }

// Explain returns the message, the edit, and the expression with carets, without the place in the document: for a list of mistakes that tells the
// place in another way.
func (m *Mistake) Explain() string {
	text := m.Message
	if m.Edit != "" {
		text += ": " + m.Edit
	}
	return text + "\n" + strings.TrimSuffix(m.Source.caret(m.From, m.To), "\n")
}

// Error returns place, message, the edit, and the expression with carets under the wrong part.
func (m *Mistake) Error() string {
	text := m.Source.place(m.From) + m.Message
	if m.Edit != "" {
		text += ": " + m.Edit
	}
	return text + "\n" + strings.TrimSuffix(m.Source.caret(m.From, m.To), "\n")
}

// Mistakes are all mistakes of an expression, in the order of the text. It is an error with at least one.
type Mistakes []*Mistake

// Error returns all messages, each beginning on a new line.
func (m Mistakes) Error() string {
	texts := make([]string, len(m))
	for i, mistake := range m {
		texts[i] = mistake.Error()
	}
	return strings.Join(texts, "\n")
}
