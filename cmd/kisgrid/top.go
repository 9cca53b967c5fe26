package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/kisgrid/kisgrid/internal/command"
	"github.com/kisgrid/kisgrid/internal/terminal"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// topCommand makes the command kisgrid top, which shows how fast flows run.
func topCommand() *cobra.Command {
	var s server
	var o output
	var every time.Duration
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Show how many rows flows take and end each second, and how workers are",
		Long: `top asks all coordinators for the rows that they have counted, again after --every, and shows the rows per second between the two answers.
The busiest flow comes first. Rows of coordinators that do not answer from this machine are missing; top says so.

On a terminal it goes on until q or Ctrl-C. In a pipe, or with -o, it prints once.`,
		Example: "  kisgrid top -o json\n  kisgrid top --every 5s",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if every < minEvery {
				return command.Usage("--every %s: give %s or more", every, minEvery)
			}
			if err := s.resolve(); err != nil {
				return err
			}
			t := top{server: &s, every: every}
			out := cmd.OutOrStdout()
			if o.format == "" && terminal.Is(out) && terminal.Is(cmd.InOrStdin()) {
				return t.live(cmd.Context(), terminal.Unwrap(out))
			}
			v, err := t.once(cmd.Context())
			if err != nil {
				return err
			}
			if o.data() {
				return o.print(out, &list{value: v})
			}
			for _, table := range v.tables() {
				if err := table.Write(out); err != nil {
					return err
				}
			}
			_, err = fmt.Fprint(out, v.notes())
			return err
		},
	}
	cmd.Flags().DurationVar(&every, "every", 2*time.Second, "time between two looks")
	o.bind(cmd, "json", "yaml", "jsonpath=…")
	s.bind(cmd)
	return cmd
}

// minEvery is the least time between two looks: rates over less mean little.
const minEvery = 200 * time.Millisecond

// top looks at a cluster again and again.
type top struct {
	server *server
	every  time.Duration
}

// counted are the rows that all coordinators have counted, at one moment.
type counted struct {
	at           time.Time
	flows        map[string]flowCount
	workers      []workerLine
	coordinators int
	leader       string
	missing      []string // coordinators that did not answer
	etcdAway     bool
	answered     []string // the ids of the coordinators whose counts are in
}

// flowCount is the state of a flow, with its rows by outcome, and "in" and "in_flight".
type flowCount struct {
	state string
	rows  map[string]uint64
}

// workerLine is the line of one worker.
type workerLine struct {
	ID        string `json:"id"`
	State     string `json:"state"`
	Lanes     int    `json:"lanes"`
	Functions int    `json:"functions"`
	Build     string `json:"build,omitempty"`
}

// topView is one screen: the rates between two moments.
type topView struct {
	At           time.Time    `json:"at"`
	Seconds      float64      `json:"seconds"` // between the two looks
	Coordinators int          `json:"coordinators"`
	Leader       string       `json:"leader,omitempty"`
	Missing      []string     `json:"missing,omitempty"` // coordinators whose rows are not counted here
	EtcdAway     bool         `json:"etcd_away,omitempty"`
	Flows        []flowRate   `json:"flows"`
	Workers      []workerLine `json:"workers"`
}

// flowRate is how many rows of a flow came in and ended, each second.
type flowRate struct {
	Flow      string             `json:"flow"`
	State     string             `json:"state"`
	PerSecond map[string]float64 `json:"per_second"` // in, done, filtered, aborted, dead, failed
	InFlight  uint64             `json:"in_flight"`
	In        uint64             `json:"in"` // since the coordinators began to count
}

// once looks twice, and returns the rates between.
func (t *top) once(ctx context.Context) (*topView, error) {
	before, err := t.look(ctx)
	if err != nil {
		return nil, err
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(t.every):
	}
	now, err := t.look(ctx)
	if err != nil {
		return nil, err
	}
	return rates(before, now), nil
}

// look asks all coordinators. A coordinator that does not answer in time is missing; the one that the command line names must answer.
func (t *top) look(ctx context.Context) (*counted, error) {
	now := &counted{flows: map[string]flowCount{}}
	var coordinators []cluster.Coordinator
	err := t.server.call(func(a pb.AdminClient) error {
		all, got, err := get[cluster.Coordinator](ctx, a, "coordinators")
		if err != nil {
			return err
		}
		coordinators, now.etcdAway = all, got.GetKnownUnixMilliseconds() != 0
		workers, err := a.Get(ctx, &pb.GetRequest{Kind: "workers", Known: true})
		if err != nil {
			return err
		}
		for _, r := range workers.GetResources() {
			cells, err := row("workers", r)
			if err != nil {
				return fmt.Errorf("read the status of worker %s: %w", r.GetName(), err)
			}
			lanes, _ := strconv.Atoi(cells[2]) // row has made it of a number
			functions, _ := strconv.Atoi(cells[3])
			now.workers = append(now.workers, workerLine{ID: cells[0], Lanes: lanes, Functions: functions, State: cells[4], Build: strings.TrimPrefix(cells[6], "-")})
		}
		flows, _, err := get[coordinator.FlowView](ctx, a, "flows")
		now.add(flows)
		return err
	})
	if err != nil {
		return nil, err
	}
	now.coordinators = len(coordinators)
	answers := make([][]coordinator.FlowView, len(coordinators))
	var asking sync.WaitGroup
	for i, c := range coordinators {
		if c.Leader {
			now.leader = c.ID
		}
		if slices.Contains(now.answered, c.ID) {
			continue
		}
		asking.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, t.every)
			defer cancel()
			own := *t.server
			own.address = c.Address
			_ = own.call(func(a pb.AdminClient) (err error) { // a coordinator without answer is missing below
				answers[i], _, err = get[coordinator.FlowView](ctx, a, "flows")
				return err
			})
		})
	}
	asking.Wait()
	now.at = time.Now()
	for i, flows := range answers {
		if len(flows) > 0 {
			now.add(flows)
		} else if id := coordinators[i].ID; len(now.flows) > 0 && !slices.Contains(now.answered, id) {
			now.missing = append(now.missing, id)
		}
	}
	return now, nil
}

// add adds the counts of one coordinator.
func (c *counted) add(flows []coordinator.FlowView) {
	for _, f := range flows {
		if by := f.Counted.By; by != "" && !slices.Contains(c.answered, by) {
			c.answered = append(c.answered, by)
		}
		of, known := c.flows[f.Flow]
		if !known {
			of = flowCount{state: flowState(f), rows: map[string]uint64{}}
		}
		for outcome, n := range f.Rows {
			of.rows[outcome] += n
		}
		c.flows[f.Flow] = of
	}
}

// rates computes the rows per second between two moments. A count that has fallen, because a coordinator ended, counts as no rows.
func rates(before, now *counted) *topView {
	v := &topView{At: now.at.UTC(), Seconds: now.at.Sub(before.at).Seconds(), Coordinators: now.coordinators, Leader: now.leader,
		Missing: now.missing, EtcdAway: now.etcdAway, Flows: []flowRate{}, Workers: now.workers}
	slices.Sort(before.answered)
	slices.Sort(now.answered)
	same := slices.Equal(before.answered, now.answered)
	for _, name := range slices.Sorted(maps.Keys(now.flows)) {
		f := now.flows[name]
		r := flowRate{Flow: name, State: f.state, PerSecond: map[string]float64{}, InFlight: f.rows["in_flight"], In: f.rows["in"]}
		for _, outcome := range []string{"in", "done", "filtered", "aborted", "dead", "failed"} {
			r.PerSecond[outcome] = 0
			was := before.flows[name].rows[outcome]
			if n := f.rows[outcome]; same && n > was && v.Seconds > 0 {
				r.PerSecond[outcome] = float64(n-was) / v.Seconds
			}
		}
		v.Flows = append(v.Flows, r)
	}
	slices.SortStableFunc(v.Flows, func(a, b flowRate) int { return cmp.Compare(b.PerSecond["in"], a.PerSecond["in"]) })
	return v
}

// tables are the two tables of the screen.
func (v *topView) tables() []*terminal.Table {
	perSecond := func(n float64) string { return strconv.FormatFloat(n, 'f', 0, 64) }
	state := func(column int) func(_, c int, cell string) terminal.Color {
		return func(_, c int, cell string) terminal.Color {
			if c == column {
				return stateColor(cell)
			}
			return terminal.Plain
		}
	}
	flows := &terminal.Table{Heading: strings.Split("FLOW\tIN/S\tDONE/S\tFILTERED/S\tABORTED/S\tDEAD/S\tFAILED/S\tIN FLIGHT\tIN\tSTATE", "\t"), Color: state(9)}
	for _, f := range v.Flows {
		p := f.PerSecond
		flows.Rows = append(flows.Rows, []string{f.Flow, perSecond(p["in"]), perSecond(p["done"]), perSecond(p["filtered"]), perSecond(p["aborted"]),
			perSecond(p["dead"]), perSecond(p["failed"]), strconv.FormatUint(f.InFlight, 10), strconv.FormatUint(f.In, 10), f.State})
	}
	workers := &terminal.Table{Heading: []string{"WORKER", "LANES", "FUNCTIONS", "BUILD", "STATE"}, Color: state(4)}
	for _, w := range v.Workers {
		workers.Rows = append(workers.Rows, []string{w.ID, strconv.Itoa(w.Lanes), strconv.Itoa(w.Functions), or(w.Build, "-"), w.State})
	}
	return []*terminal.Table{flows, workers}
}

// notes are the lines below the tables.
func (v *topView) notes() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d coordinators, the leader is %s; rates are those of the last %.1f s\n", v.Coordinators, or(v.Leader, "none"), v.Seconds)
	if v.EtcdAway {
		b.WriteString("etcd does not answer: states are those of before\n")
	}
	if len(v.Missing) > 0 {
		fmt.Fprintf(&b, "without the rows of %s, which do not answer from here\n", strings.Join(v.Missing, ", "))
	}
	return b.String()
}

// live shows one screen after the other, until a key ends it.
func (t *top) live(ctx context.Context, out io.Writer) (err error) {
	before, err := t.look(ctx)
	if err != nil {
		return err
	}
	keys, err := openKeys()
	if err != nil {
		return err
	}
	fmt.Fprint(out, "\x1b[?1049h\x1b[?25l") // another screen, without the cursor
	defer func() {
		fmt.Fprint(out, "\x1b[?25h\x1b[?1049l")
		err = errors.Join(err, keys.close())
	}()
	said := "looking …"
	for {
		t.show(out, nil, said)
		if end, err := keys.wait(ctx, t.every); end || err != nil {
			return err
		}
		now, err := t.look(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			said = "no answer: " + err.Error()
			continue
		}
		v := rates(before, now)
		before = now
		t.show(out, v, "")
		said = ""
	}
}

// show draws one screen. Without a view it only writes a message on the first line; an empty message leaves the screen as it is.
func (t *top) show(out io.Writer, v *topView, message string) {
	if v == nil && message == "" {
		return
	}
	width, height, err := term.GetSize(int(os.Stdout.Fd()))
	if err != nil || width < 1 || height < 2 {
		width, height = 80, 24
	}
	lines := []string{terminal.Line(message)}
	if v != nil {
		var b strings.Builder
		for _, table := range v.tables() {
			_ = table.Write(&b) // a strings.Builder takes everything
			b.WriteString("\n")
		}
		b.WriteString(v.notes())
		lines = append([]string{fmt.Sprintf("KisGrid at %s, %s; q ends", terminal.Line(t.server.address), time.Now().Format(time.TimeOnly)), ""},
			strings.Split(strings.TrimRight(b.String(), "\n"), "\n")...)
	}
	if len(lines) > height {
		lines = append(lines[:height-1], "…")
	}
	fmt.Fprint(out, "\x1b[H")
	for i, line := range lines {
		if i > 0 {
			fmt.Fprint(out, "\r\n")
		}
		if runes := []rune(line); len(runes) > width {
			line = string(runes[:width-1]) + "…"
		}
		fmt.Fprint(out, line, "\x1b[K")
	}
	if v != nil {
		fmt.Fprint(out, "\x1b[J")
	}
}
