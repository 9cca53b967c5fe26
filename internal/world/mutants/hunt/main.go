// Command hunt shows that the simulated world finds faults. It builds the test of package world with one mutant after the other, runs its
// seeds until one of them breaks a promise, and prints a table: by which oracles each mutant was found, at which seed, and how long that
// took. It exits with 1 if a mutant was not found. The make target world-mutants runs it.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kisgrid/kisgrid/internal/world/mutants"
	"github.com/kisgrid/kisgrid/internal/world/scenario"
)

// hunt is what the flags ask for.
type hunt struct {
	root   string // the module
	names  *regexp.Regexp
	seeds  uint64
	seed   uint64
	within time.Duration // for the seeds of one mutant; 0 means no limit
	missed bool          // hunt also mutants that are known to be missed
	check  bool          // only build the packages that each mutant changes
	write  bool          // only write the files for -overlay
	base   string        // the test without a mutant, with which breaches are compared; empty means that they are not
	out    string        // where the output of the tests goes
}

func main() {
	var h hunt
	var names string
	var compare bool
	flag.StringVar(&h.root, "root", ".", "the `folder` of the module")
	flag.StringVar(&names, "run", ".", "hunt only mutants whose name matches this `regexp`")
	flag.Uint64Var(&h.seeds, "seeds", 500, "the most seeds that are run for one mutant")
	flag.Uint64Var(&h.seed, "seed", 1, "the first seed")
	flag.DurationVar(&h.within, "time", 0, "the most time that the seeds of one mutant may take; 0 means no limit")
	flag.BoolVar(&h.missed, "missed", false, "hunt also mutants of which their files say that no seed has found them so far")
	flag.BoolVar(&h.check, "check", false, "only build the packages that each mutant changes")
	flag.BoolVar(&h.write, "write", false, "only write the changed files, and overlay.json for go build -overlay, into a folder of -out for each mutant")
	flag.BoolVar(&compare, "compare", false, "pass over breaches that the same seed has without the mutant, too")
	flag.StringVar(&h.out, "out", "", "a `folder` for the output of the tests, one file for each mutant; none is kept without it")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	var err error
	if h.names, err = regexp.Compile(names); err == nil {
		err = h.start(ctx, compare)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "hunt:", err)
		os.Exit(1)
	}
}

// start builds the test without a mutant, if breaches are to be compared, and hunts.
func (h *hunt) start(ctx context.Context, compare bool) error {
	if compare {
		folder, err := os.MkdirTemp("", "mutants-")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(folder) }()
		h.base = filepath.Join(folder, "world.test")
		if err := h.build(ctx, h.base); err != nil {
			return err
		}
	}
	return h.all(ctx, os.Stdout)
}

// row is the form of a line of the table.
const row = "%-28s %-34s %8v %6v %8v  %s\n"

// all hunts each mutant that the flags name, and writes a line for each. The error says which were not found.
func (h *hunt) all(ctx context.Context, table io.Writer) error {
	all, err := mutants.Load(os.DirFS(filepath.Join(h.root, "internal/world/mutants/testdata")))
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(m mutants.Mutant) bool {
		return !h.names.MatchString(m.Name) || m.Missed != "" && !h.missed && !h.check
	})
	if len(all) == 0 {
		return fmt.Errorf("no mutant has a name like %s", h.names)
	}
	fmt.Fprintf(table, row, "mutant", "found by", "seed", "seeds", "time", "")
	var missed []string
	for i := range all {
		m := &all[i]
		if h.write {
			overlay, err := h.overlay(m)
			if err != nil {
				return fmt.Errorf("%s: %w", m.Name, err)
			}
			fmt.Fprintf(table, "%-28s %s\n", m.Name, overlay)
			continue
		}
		found, err := h.one(ctx, m)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return fmt.Errorf("%s: %w", m.Name, err)
		case h.check:
			fmt.Fprintf(table, "%-28s builds\n", m.Name)
		case len(found.by) == 0 && found.kept != "":
			fmt.Fprintf(table, row, m.Name, "kept script "+found.kept, "", found.seeds, found.took.Round(time.Second), "no seed")
		case len(found.by) == 0:
			missed = append(missed, m.Name)
			fmt.Fprintf(table, row, m.Name, "NOT FOUND", "", found.seeds, found.took.Round(time.Second), "it breaks: "+m.Breaks)
		default:
			note := ""
			if !m.Expected(found.by) {
				note = "expected: " + strings.Join(m.FoundBy, ", ")
			}
			fmt.Fprintf(table, row, m.Name, strings.Join(found.by, ","), found.seed, found.seeds, found.took.Round(time.Second), note)
		}
	}
	if len(missed) > 0 {
		return fmt.Errorf("%d of %d mutants were not found: %s", len(missed), len(all), strings.Join(missed, ", "))
	}
	return nil
}

// overlay writes the files of a mutant into its folder of -out, and returns the path of overlay.json.
func (h *hunt) overlay(m *mutants.Mutant) (string, error) {
	folder := filepath.Join(h.out, m.Name)
	if err := os.MkdirAll(folder, 0o750); err != nil {
		return "", err
	}
	return m.WriteOverlay(h.root, folder)
}

// found is how the hunt for one mutant ended.
type found struct {
	by    []string      // the oracles that found it; none if it was not found
	seed  uint64        // the seed that found it
	kept  string        // the kept script that found it, if no seed did; empty means none
	seeds uint64        // how many seeds were looked at until then
	took  time.Duration // without the time to build it
}

// one builds one mutant, and runs seeds on it.
func (h *hunt) one(ctx context.Context, m *mutants.Mutant) (f found, err error) {
	folder, err := os.MkdirTemp("", "mutant-")
	if err != nil {
		return f, err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	overlay, err := m.WriteOverlay(h.root, folder)
	if err != nil {
		return f, err
	}
	if h.check {
		var changed []string
		for _, e := range m.Edits {
			changed = append(changed, "./"+path.Dir(e.File))
		}
		return f, h.run(ctx, nil, append([]string{"go", "build", "-overlay", overlay}, changed...)...)
	}
	program := filepath.Join(folder, "world.test")
	if err := h.build(ctx, program, "-overlay", overlay); err != nil {
		return f, err
	}
	began := time.Now()
	defer func() { f.took = time.Since(began) }()
	for from, to := h.next(m, h.seed); from < to; from, to = h.next(m, from) {
		if f.seeds = from - h.seed; h.within > 0 && time.Since(began) > h.within {
			return f, nil
		}
		to = min(to, from+20) // so that the limit of time is looked at
		seed, broken, err := h.live(ctx, program, from, to-from, m.Name)
		if err != nil {
			return f, err
		}
		if len(broken) == 0 {
			from = to
		} else if from = seed + 1; h.base != "" {
			_, without, err := h.live(ctx, h.base, seed, 1, "")
			if err != nil {
				return f, err
			}
			broken = slices.DeleteFunc(broken, func(oracle string) bool { return slices.Contains(without, oracle) })
		}
		if f.seeds = from - h.seed; len(broken) > 0 {
			f.by, f.seed = broken, seed
			return f, nil
		}
	}
	f.seeds = h.seeds
	f.kept, err = h.kept(ctx, program)
	return f, err
}

// failed is the line of the test's output that names a kept script which broke a promise.
var failed = regexp.MustCompile(`(?m)^ *--- FAIL: TestKept/(\S+)`)

// kept lives through the scripts that were kept, and returns the name of one that breaks a promise; empty means that none does.
func (h *hunt) kept(ctx context.Context, program string) (string, error) {
	var output bytes.Buffer
	err := h.run(ctx, &output, program, "-test.run=^TestKept$", "-test.timeout=0", "-world.jobs=1")
	if name := failed.FindStringSubmatch(output.String()); name != nil {
		return name[1], nil
	}
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, output.String())
	}
	return "", nil
}

// next returns the next seeds, from at the earliest, that may show a mutant: those up to to, which is left out. Other seeds can't show it,
// because their scenarios lack what the mutant needs. If none is left, from and to are equal.
func (h *hunt) next(m *mutants.Mutant, at uint64) (from, to uint64) {
	end := h.seed + h.seeds
	if m.ShowsIn == nil {
		return at, end
	}
	may := func(seed uint64) bool { return m.ShowsIn.MatchString(scenario.Generate(seed).String()) }
	for from = at; from < end && !may(from); from++ {
	}
	for to = from; to < end && may(to); to++ {
	}
	return from, to
}

// build builds the test of package world.
func (h *hunt) build(ctx context.Context, program string, flags ...string) error {
	return h.run(ctx, nil, slices.Concat([]string{"go", "test", "-c", "-vet=off", "-o", program}, flags, []string{"./internal/world"})...)
}

// Lines of the test's output: a seed that broke promises, and the end of all seeds.
var (
	broke = regexp.MustCompile(`(?m)^world: seed (\d+) broke (.+) after (\d+) seeds`)
	none  = regexp.MustCompile(`(?m)^world: (\d+) seeds, no breach`)
)

// live lives through n seeds, until one of them breaks a promise. It returns that seed, and the oracles that saw it; none means that no seed
// broke one. The output goes to a file of -out, if a name is given.
func (h *hunt) live(ctx context.Context, program string, first, n uint64, name string) (seed uint64, broken []string, err error) {
	var output bytes.Buffer
	failed := h.run(ctx, &output, program, "-test.run=^TestWorld$", "-test.timeout=0", "-world.first", "-world.jobs=1", "-world.shrink=0",
		"-world.seeds="+strconv.FormatUint(n, 10), "-world.seed="+strconv.FormatUint(first, 10))
	if h.out != "" && name != "" {
		if err := os.WriteFile(filepath.Join(h.out, name+".txt"), output.Bytes(), 0o600); err != nil {
			return 0, nil, err
		}
	}
	text := output.String()
	if parts := broke.FindStringSubmatch(text); parts != nil {
		seed, err = strconv.ParseUint(parts[1], 10, 64)
		return seed, strings.Split(parts[2], ", "), err
	}
	if !none.MatchString(text) {
		return 0, nil, errors.Join(failed, fmt.Errorf("the test has said neither that a seed broke something nor that none did:\n%s", text))
	}
	return 0, nil, nil
}

// run runs a command in the module, and returns an error with its output if it fails. A command with an output of its own writes there.
func (h *hunt) run(ctx context.Context, output *bytes.Buffer, command ...string) error {
	var own bytes.Buffer
	if output == nil {
		output = &own
	}
	c := exec.CommandContext(ctx, command[0], command[1:]...) //nolint:gosec // the program is go, or the test that it has built
	c.Stdout, c.Stderr = output, output
	if c.Dir = h.root; command[0] != "go" { // the test, which go test would run so
		c.Dir = filepath.Join(h.root, "internal/world")
		c.Env = append(os.Environ(), "GOMAXPROCS=1")
	}
	if err := c.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(command, " "), err, own.String())
	}
	return nil
}
