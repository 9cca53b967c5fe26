package drive

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/kisgrid/kisgrid/internal/world/scenario"
)

// Tally adds up the outcomes of many lives.
type Tally struct {
	Seeds    int            `json:"seeds"` // lives that ended
	Broken   int            `json:"broken"`
	Rows     int            `json:"rows"`
	Virtual  time.Duration  `json:"virtual_ns"`
	Real     time.Duration  `json:"real_ns"` // of the whole run
	Longest  time.Duration  `json:"longest_ns"`
	Slowest  uint64         `json:"slowest_seed"` // the seed that took longest
	Faults   map[string]int `json:"faults"`       // that happened, by kind
	Oracles  map[string]int `json:"oracles"`      // seeds that broke them
	Breaches []Found        `json:"breaches"`
	// Points counts the lives that got to each point.
	Points map[string]int `json:"points"`

	processes time.Duration // the sum of the processes' times
}

// Found is a seed that broke a promise.
type Found struct {
	Seed     uint64   `json:"seed"`
	Breaches []Breach `json:"breaches"`
	File     string   `json:"file,omitempty"`   // the file with the shrunk script; "" when it was not shrunk
	Script   string   `json:"script,omitempty"` // the shrunk script
}

// newTally makes an empty Tally.
func newTally() *Tally {
	return &Tally{Faults: map[string]int{}, Oracles: map[string]int{}, Points: map[string]int{}}
}

// add adds a life.
func (t *Tally) add(seed uint64, o *Outcome) {
	t.Seeds++
	t.Rows += o.Rows
	t.Virtual += o.Virtual
	t.processes += o.Real
	if o.Real > t.Longest {
		t.Longest, t.Slowest = o.Real, seed
	}
	for kind, n := range o.Faults {
		t.Faults[kind] += n
	}
	for name, hits := range o.Points {
		t.Points[name] += 0
		if hits > 0 {
			t.Points[name]++
		}
	}
	if len(o.Breaches) > 0 {
		t.Broken++
		broken := map[string]bool{}
		for _, b := range o.Breaches {
			broken[b.Oracle] = true
		}
		for name := range broken {
			t.Oracles[name]++
		}
	}
}

// Unreached returns the points that no life got to, sorted.
func (t *Tally) Unreached() []string {
	var names []string
	for name, n := range t.Points {
		if n == 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Print writes the table for a person.
func (t *Tally) Print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	per := time.Duration(0)
	if t.Seeds > 0 {
		per = t.processes / time.Duration(t.Seeds)
	}
	fmt.Fprintf(w, "seeds\t%d, %d of them broke a promise\n", t.Seeds, t.Broken)
	fmt.Fprintf(w, "virtual time\t%s\n", t.Virtual.Round(time.Second))
	fmt.Fprintf(w, "rows\t%d\n", t.Rows)
	fmt.Fprintf(w, "real time\t%s; %s a seed, the longest %s (seed %d)\n", t.Real.Round(100*time.Millisecond), per.Round(time.Millisecond), t.Longest.Round(time.Millisecond), t.Slowest)
	fmt.Fprintf(w, "points\t%d of %d reached\n", len(t.Points)-len(t.Unreached()), len(t.Points))
	for _, name := range slices.Sorted(maps.Keys(t.Oracles)) {
		fmt.Fprintf(w, "broken\t%s by %d seeds\n", name, t.Oracles[name])
	}
	fmt.Fprintln(w)
	var kinds []string
	for _, k := range scenario.FaultKinds {
		kinds = append(kinds, k.Name)
	}
	for _, k := range scenario.ChangeKinds {
		kinds = append(kinds, k.Name)
	}
	for _, kind := range kinds {
		fmt.Fprintf(w, "%s\t%d\n", kind, t.Faults[kind])
	}
	if unreached := t.Unreached(); len(unreached) > 0 {
		fmt.Fprintf(w, "\nNo life got to these points:\n")
		for _, name := range unreached {
			fmt.Fprintf(w, "%s\n", name)
		}
	}
	return w.Flush()
}

// WriteFile writes the tally as JSON.
func (t *Tally) WriteFile(name string) error {
	text, err := json.MarshalIndent(t, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(text, '\n'), 0o644)
}
