package figures

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/internal/sketch"
	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// Question says which figures somebody wants.
type Question struct {
	// Sees reports whether a flow is wanted, and may be seen. Keys reports whether keys of its rows may be seen.
	Sees, Keys func(flow string) bool
	// Step is the length of a step of the history: that of a resolution; 0 means that no history is wanted. Since leaves out steps that
	// began before it.
	Step  time.Duration
	Since time.Time
	// WithoutFunctions leaves out the functions.
	WithoutFunctions bool
}

// Steps returns the lengths of steps that a Question may have, besides 0.
func Steps() []time.Duration {
	return []time.Duration{resolutions[fine].every, resolutions[coarse].every}
}

// Read returns the figures of flows, by name, and the coordinators whose counts are missing in them.
func (b *Book) Read(now time.Time, q Question) *pb.FiguresResponse {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := &pb.FiguresResponse{
		Coordinator: b.id, AtUnixMilliseconds: now.UnixMilli(), CountsSinceUnixMilliseconds: b.began.UnixMilli(), WithoutHistory: uint32(b.without),
	}
	for _, name := range slices.Sorted(maps.Keys(b.flows)) {
		if q.Sees(name) {
			out.Flows = append(out.Flows, b.readFlow(now, name, b.flows[name], q))
		}
	}
	return out
}

// Missing returns why the counts of other registered coordinators are missing or not up to date, by id.
func (b *Book) Missing() map[string]string {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := map[string]string{}
	for id, c := range b.others.by {
		if c.gone.IsZero() && c.why != "" {
			all[id] = c.why
		}
	}
	return all
}

// Windows returns the windows of the workers that have a session and have told theirs, by id.
func (b *Book) Windows() map[string]*pb.WorkerWindow {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := map[string]*pb.WorkerWindow{}
	for _, p := range b.processes.by {
		if p.session != 0 && p.window != nil {
			all[p.worker] = p.window
		}
	}
	return all
}

// measured returns how many seconds the recent steps have lasted. The caller holds mu.
func (b *Book) measured(now time.Time) float64 {
	from := time.UnixMilli(resolutions[fine].begins(b.current[fine] - recentSteps + 1))
	if b.began.After(from) {
		from = b.began
	}
	return now.Sub(from).Seconds()
}

// least is the shortest time over which a rate is computed, in seconds: after less, one row would look like many a second.
const least = 1.0

// readFlow makes the message about a flow. The caller holds mu.
func (b *Book) readFlow(now time.Time, name string, f *flow, q Question) *pb.FlowFigure {
	total := f.total()
	m := &pb.FlowFigure{Flow: name, Rows: total.message(), PerSecond: &pb.RowRates{}}
	inFlight, oldest := b.waitingRows(f, now)
	m.InFlight, m.OldestMilliseconds = inFlight, uint64(max(0, oldest.Milliseconds()))
	m.ParkedRows, m.ParkedKeys = f.parked()
	if q.Keys != nil && q.Keys(name) {
		m.Keys = f.mostParked()
	}
	seconds := max(b.measured(now), least)
	if f.recent != nil {
		var sum Counts
		for i := range f.recent {
			sum.add(&f.recent[i])
		}
		rate := func(kind int) float64 { return float64(sum[kind]) / seconds }
		m.PerSecond = &pb.RowRates{
			In: rate(in), Done: rate(int(batch.Done)), Filtered: rate(int(batch.Filtered)), Aborted: rate(int(batch.Aborted)),
			Dead: rate(int(batch.Dead)), Failed: rate(int(batch.Failed)),
		}
	}
	history(q, &f.fine, &f.hour, func(begins int64, s *flowStep) {
		var rows Counts
		for i, n := range s.rows {
			rows[i] = uint64(n)
		}
		m.Steps = append(m.Steps, &pb.FlowStep{
			BeginsUnixMilliseconds: begins, Rows: rows.message(), InFlight: uint64(s.inFlight), ParkedRows: uint64(s.parked),
			OldestMilliseconds: uint64(s.oldest * 1000),
		})
	})
	if q.WithoutFunctions {
		return m
	}
	for _, function := range slices.Sorted(maps.Keys(f.functions)) {
		m.Functions = append(m.Functions, f.functions[function].read(function, seconds, q))
	}
	return m
}

// keysShown is how many keys with parked rows are shown for a flow.
const keysShown = 5

// mostParked returns the keys with the most parked rows. A key's rows may be in several workers while it moves.
func (f *flow) mostParked() []*pb.ParkedKey {
	rows := map[uint64]uint64{}
	for _, w := range f.waiting {
		for _, k := range w.GetKeys() {
			rows[k.GetKey()] += k.GetRows()
		}
	}
	var all []*pb.ParkedKey
	for key, n := range rows {
		all = append(all, &pb.ParkedKey{Key: key, Rows: n})
	}
	slices.SortFunc(all, func(a, c *pb.ParkedKey) int {
		return cmp.Or(cmp.Compare(c.GetRows(), a.GetRows()), cmp.Compare(a.GetKey(), c.GetKey()))
	})
	return all[:min(len(all), keysShown)]
}

// read makes the message about a function. seconds is how long the recent steps have lasted.
func (fn *function) read(name string, seconds float64, q Question) *pb.FunctionFigure {
	m := &pb.FunctionFigure{Function: name, Rows: fn.rows, Runs: fn.runs, Errors: fn.errors, Retries: fn.retries}
	if fn.recorded == nil {
		return m
	}
	var sum growth
	for i := range fn.recent {
		sum.add(&fn.recent[i])
	}
	m.RowsPerSecond, m.ErrorsPerSecond, m.RetriesPerSecond = float64(sum.rows)/seconds, float64(sum.errors)/seconds, float64(sum.retries)/seconds
	m.P50Seconds, m.P99Seconds = sketch.Quantile(&sum.times, 0.5).Seconds(), sketch.Quantile(&sum.times, 0.99).Seconds()
	history(q, &fn.fine, &fn.hour, func(begins int64, s *functionStep) {
		m.Steps = append(m.Steps, &pb.FunctionStep{
			BeginsUnixMilliseconds: begins, Rows: uint64(s.rows), Errors: uint64(s.errors), Retries: uint64(s.retries),
			P50Seconds: float64(s.p50), P99Seconds: float64(s.p99),
		})
	})
	return m
}

// history calls f with the steps of the history that are wanted, and when each begins.
func history[Step any](q Question, fineRing, hourRing *ring[Step], f func(begins int64, s *Step)) {
	of, ring := resolutions[fine], fineRing
	switch q.Step {
	case resolutions[fine].every:
	case resolutions[coarse].every:
		of, ring = resolutions[coarse], hourRing
	default:
		return
	}
	since := int64(0)
	if !q.Since.IsZero() {
		since = (q.Since.UnixMilli() + of.every.Milliseconds() - 1) / of.every.Milliseconds()
	}
	ring.since(since, func(number int64, s *Step) { f(of.begins(number), s) })
}
