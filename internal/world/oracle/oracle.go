package oracle

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/kisgrid/kisgrid/internal/world/history"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Check is one promise that histories are held against.
type Check struct {
	Name string
	// Judge reports every breach of the promise that it finds in a life.
	Judge func(*Life)
}

// All are all checks, in the order in which Judge makes them.
var All = []Check{
	{"OutcomeOnce", OutcomeOnce},
	{"LedgerAddsUp", LedgerAddsUp},
	{"NothingRan", NothingRan},
	{"DoneMeansEffect", DoneMeansEffect},
	{"EffectsOnce", EffectsOnce},
	{"OrderPerKey", OrderPerKey},
	{"OneRevision", OneRevision},
	{"AllDocuments", AllDocuments},
	{"RowByRow", RowByRow},
	{"OneAfterTheOther", OneAfterTheOther},
	{"Codes", Codes},
	{"NoPanic", NoPanic},
	{"NoSecret", NoSecret},
	{"MemoryBounded", MemoryBounded},
	{"Answered", Answered},
	{"WindowsFull", WindowsFull},
	{"SessionsUp", SessionsUp},
	{"NothingLeft", NothingLeft},
	{"Definitions", Definitions},
	{"StatusTrue", StatusTrue},
	{"Independence", Independence},
}

// Subject is the thing that a breach is about. Fields that are zero say nothing.
type Subject struct {
	Flow, Key string
	Batch     batch.ID
	Row       int // counts only where Batch is given and OneRow is true
	OneRow    bool
	Process   string
	Revisions bool // the flow's revisions are the subject
}

// String returns the subject in a few words.
func (s Subject) String() string {
	var parts []string
	add := func(name, value string) {
		if value != "" {
			parts = append(parts, name+" "+value)
		}
	}
	add("flow", s.Flow)
	add("key", s.Key)
	if !s.Batch.IsZero() {
		add("batch", s.Batch.String())
	}
	if s.OneRow {
		add("row", fmt.Sprint(s.Row))
	}
	add("process", s.Process)
	return strings.Join(parts, ", ")
}

// Breach is one promise that was not kept.
type Breach struct {
	Oracle  string // the check's name
	Text    string // what is wrong
	Subject Subject
}

// String returns the breach in one line.
func (b Breach) String() string { return fmt.Sprintf("%s: %s [%s]", b.Oracle, b.Text, b.Subject) }

// Story tells from a history what happened to the breach's subject.
func (b Breach) Story(h *history.History) string {
	s := b.Subject
	switch {
	case s.Revisions:
		return h.RevisionStory(s.Flow)
	case s.Key != "":
		return h.KeyStory(s.Flow, s.Key)
	case s.OneRow:
		return h.RowStory(s.Batch, s.Row)
	case !s.Batch.IsZero():
		return h.BatchStory(s.Batch)
	}
	return h.Surroundings()
}

// maxBreaches is how many breaches of one check a report has at most. The number of the others is counted.
const maxBreaches = 20

// Report is what the checks found in a history.
type Report struct {
	Breaches []Breach
	More     map[string]int // by check: breaches that are not in Breaches
	// Checked is how many subjects each check looked at. Excused is how many it let pass for a reason, by the reason.
	Checked map[string]int
	Excused map[string]map[string]int
}

// Judge holds a history against all checks.
func Judge(h *history.History) *Report { return JudgeBy(h, All) }

// JudgeBy holds a history against some checks.
func JudgeBy(h *history.History, checks []Check) *Report {
	l := newLife(h)
	for _, c := range checks {
		l.check = c.Name
		c.Judge(l)
	}
	return l.report
}

// Broken returns the names of the checks that found a breach, in the order of All.
func (r *Report) Broken() []string {
	var names []string
	for _, b := range r.Breaches {
		if !slices.Contains(names, b.Oracle) {
			names = append(names, b.Oracle)
		}
	}
	return names
}

// String returns the report as text: breaches first, then the number of excuses.
func (r *Report) String() string {
	var b strings.Builder
	for _, breach := range r.Breaches {
		fmt.Fprintln(&b, breach)
	}
	for _, c := range All {
		if n := r.More[c.Name]; n > 0 {
			fmt.Fprintf(&b, "%s: %d more\n", c.Name, n)
		}
	}
	return b.String()
}

// Excuses returns the counts of excuses as text, a line for each check that has some.
func (r *Report) Excuses() string {
	var b strings.Builder
	for _, c := range All {
		reasons := r.Excused[c.Name]
		if len(reasons) == 0 {
			continue
		}
		var names []string
		for reason := range reasons {
			names = append(names, reason)
		}
		slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(reasons[b], reasons[a]), cmp.Compare(a, b)) })
		fmt.Fprintf(&b, "%s: %d checked", c.Name, r.Checked[c.Name])
		for _, reason := range names {
			fmt.Fprintf(&b, "; %d %s", reasons[reason], reason)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// breach reports that the promise of the check under way was not kept.
func (l *Life) breach(s Subject, format string, args ...any) {
	n := 0
	for _, b := range l.report.Breaches {
		if b.Oracle == l.check {
			n++
		}
	}
	if n >= maxBreaches {
		l.report.More[l.check]++
		return
	}
	l.report.Breaches = append(l.report.Breaches, Breach{Oracle: l.check, Text: fmt.Sprintf(format, args...), Subject: s})
}

// checked counts subjects that the check under way looked at.
func (l *Life) checked(n int) { l.report.Checked[l.check] += n }

// excused counts a subject that the check under way lets pass for a reason.
func (l *Life) excused(reason string) {
	if l.report.Excused[l.check] == nil {
		l.report.Excused[l.check] = map[string]int{}
	}
	l.report.Excused[l.check][reason]++
}
