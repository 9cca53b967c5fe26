package drive

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Outcome is what is known of one life of a cluster.
type Outcome struct {
	// Breaches are the promises that were broken; none when all were kept.
	Breaches []Breach `json:"breaches,omitempty"`
	// Virtual is how long the life was in the cluster's own time.
	Virtual time.Duration `json:"virtual"`
	// Rows is how many rows clients submitted.
	Rows int `json:"rows"`
	// Faults counts the faults that happened, by kind, and changes likewise.
	Faults map[string]int `json:"faults,omitempty"`
	// Points counts how often the program got to each of its points; 0 for a point that it did not get to.
	Points map[string]int64 `json:"points,omitempty"`
	// Digest is a hash of everything that happened: two lives with the same digest were the same.
	Digest string `json:"digest,omitempty"`
	// Lines are what the digest was made of, if Life was asked for it.
	Lines []string `json:"lines,omitempty"`

	// Real is how long the process ran. The parent sets it.
	Real time.Duration `json:"-"`
}

// Breach is one broken promise.
type Breach struct {
	Oracle  string `json:"oracle"`            // the name of the check, or one of the names below
	Subject string `json:"subject,omitempty"` // the key, revision or process that it is about
	Text    string `json:"text"`              // what is wrong, in a sentence
	Story   string `json:"story,omitempty"`   // what happened to the subject, a line for each event
}

// Names of breaches that no check finds: the process of the life ended in another way than it should.
const (
	Panic    = "Panic"    // a panic, or a fatal error of the Go runtime
	Deadlock = "Deadlock" // everything in the cluster waits, and nothing will ever come
	Hang     = "Hang"     // the life did not end: see Children.Patience
	DataRace = "DataRace" // the race detector reported something
	Failed   = "Failed"   // the test failed without an outcome
)

// crash reports whether the breach is one of a process that ended otherwise than it should.
func (b Breach) crash() bool {
	return slices.Contains([]string{Panic, Deadlock, Hang, DataRace, Failed}, b.Oracle)
}

// like reports whether two breaches are of the same kind: of the same check, or a crash with the same message.
func (b Breach) like(other Breach) bool {
	return b.Oracle == other.Oracle && (!b.crash() || b.Oracle == Hang || b.Subject == other.Subject)
}

// has returns the breach of an outcome that is like another one, and false when there is none.
func (o *Outcome) has(like Breach) (Breach, bool) {
	i := slices.IndexFunc(o.Breaches, like.like)
	if i < 0 {
		return Breach{}, false
	}
	return o.Breaches[i], true
}

// oracles returns the names of the checks that found something, each once, in their order.
func (o *Outcome) oracles() string {
	var names []string
	for _, b := range o.Breaches {
		if !slices.Contains(names, b.Oracle) {
			names = append(names, b.Oracle)
		}
	}
	return strings.Join(names, ", ")
}

// String describes the breach for a person.
func (b Breach) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s", b.Oracle)
	if b.Subject != "" {
		fmt.Fprintf(&text, " (%s)", b.Subject)
	}
	fmt.Fprintf(&text, ": %s\n", b.Text)
	for line := range strings.Lines(b.Story) {
		fmt.Fprintf(&text, "    %s\n", strings.TrimRight(line, "\n"))
	}
	return text.String()
}
