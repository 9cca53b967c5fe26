package coordinator

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/deadletter"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// letterKeeper puts dead rows into the store of dead letters, before their client is answered. The goroutines that answer clients call it;
// the scheduler's loop does not, because the store may be slow. Any goroutine may use it.
type letterKeeper struct {
	store *deadletter.Store // nil means that this cluster keeps no dead letters
	log   hclog.Logger

	kept, notKept, redriven *prometheus.CounterVec

	counted letterCounts // the numbers of letters that the store gave last, for metrics

	mu      sync.Mutex
	away    bool            // guarded by mu: the last request to the store failed
	retryAt time.Time       // guarded by mu: when the store is asked again
	full    map[string]bool // guarded by mu: flows for which the store had no room the last time
}

// awayFor is for how long the store is not asked after a request to it has failed. Otherwise each answer to a client would wait until
// another request fails.
const awayFor = time.Second

// newLetterKeeper makes a letterKeeper and its counters. A nil store means that dead rows are not kept.
func newLetterKeeper(store *deadletter.Store, log hclog.Logger) *letterKeeper {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	return &letterKeeper{
		store: store, log: log, full: map[string]bool{},
		kept: counter("kisgrid_dead_rows_kept_total",
			"Dead rows of clients that this coordinator keeps as dead letters.", "flow"),
		notKept: counter("kisgrid_dead_rows_not_kept_total",
			"Dead rows of clients that are only reported, by why: their own clients were told.", "flow", "reason"),
		redriven: counter("kisgrid_dead_letters_redriven_total",
			"Dead letters that this coordinator ran again, by how that ended: dead and failed ones stay.", "flow", "outcome"),
	}
}

// lossReasons are the reasons for which a dead row may not be kept although its client wants it to be kept and the cluster has a store.
var lossReasons = []batch.NotKept{batch.StoreFull, batch.StoreAway, batch.TooLarge, batch.Unwritable, batch.Held}

// initCounters makes a flow's counters of kept and not kept dead rows appear in the metrics with 0, if there is a store. Monitoring that
// computes how fast a counter rises would miss the first increase of a counter that appears with a value.
func (k *letterKeeper) initCounters(flow string) {
	if k.store == nil {
		return
	}
	k.kept.WithLabelValues(flow)
	for _, reason := range lossReasons {
		k.notKept.WithLabelValues(flow, reason.Name())
	}
}

// forget drops the counters, and the other memory, of a flow that was deleted.
func (k *letterKeeper) forget(flow string) {
	for _, counts := range []*prometheus.CounterVec{k.kept, k.notKept, k.redriven} {
		counts.DeletePartialMatch(prometheus.Labels{"flow": flow})
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.full, flow)
}

// checkStore asks the store once, and logs a warning if it can't be reached, or is configured so that it may lose letters.
func (k *letterKeeper) checkStore(ctx context.Context) {
	if k.store == nil {
		return
	}
	warning, err := k.store.Ping(ctx)
	switch {
	case err != nil && ctx.Err() == nil:
		k.log.Warn("dead rows are not kept: their store can't be reached", "error", err)
	case warning != "":
		k.log.Warn("the store of dead letters may lose them", "warning", warning)
	}
}

// deadCase is a dead row whose client is to be told whether the row is kept. letters are the letters that keep it; decide is called with
// the reason why they are not in the store, or with 0 if all of them are.
type deadCase struct {
	letters []*deadletter.Letter
	refused int // instead of letters: how many letters have no room, as is known without asking the store
	decide  func(batch.NotKept)
}

// keep puts the dead rows of endings into the store, and notes in each ending which of its rows are kept. All endings must be of
// one flow. It blocks until the store has answered: many rows need several requests, but after one that fails it makes no more.
func (k *letterKeeper) keep(ctx context.Context, endings []ending) {
	var cases []deadCase
	flow, full := "", false
	for i := range endings {
		if e := &endings[i]; e.submission.revision != nil {
			if flow == "" {
				flow = e.submission.Flow
				full = k.store != nil && k.store.Full(flow)
			}
			cases = append(cases, e.dead(full && e.submission.first)...)
		}
	}
	if len(cases) == 0 {
		return
	}
	refused, n := 0, 0
	for i := range cases {
		n += len(cases[i].letters)
		refused += cases[i].refused
	}
	letters := make([]*deadletter.Letter, 0, n)
	for i := range cases {
		letters = append(letters, cases[i].letters...)
	}
	if refused > 0 {
		k.store.Refuse(flow, refused)
	}
	kept, why := k.put(ctx, flow, letters)
	for i := range cases {
		c := &cases[i]
		if c.refused > 0 {
			c.decide(batch.StoreFull)
			continue
		}
		own := min(len(c.letters), len(kept))
		verdict := batch.NotKept(0)
		for _, ok := range kept[:own] {
			if !ok {
				verdict = batch.StoreFull
			}
		}
		if own < len(c.letters) {
			verdict = why
		}
		kept = kept[own:]
		c.decide(verdict)
	}
}

// put puts letters of one flow into the store. kept says, for the first letters, whether each is kept; it may be shorter than letters. why
// is the reason why the letters beyond kept are not kept.
func (k *letterKeeper) put(ctx context.Context, flow string, letters []*deadletter.Letter) (kept []bool, why batch.NotKept) {
	switch {
	case k.store == nil:
		return nil, batch.NoStore
	case len(letters) == 0:
		return nil, 0
	}
	k.mu.Lock()
	closed := k.away && time.Now().Before(k.retryAt)
	k.mu.Unlock()
	if closed {
		pointStoreAway.Hit()
		return nil, batch.StoreAway
	}
	kept, err := k.store.Keep(ctx, flow, letters)
	k.noteStoreState(ctx, flow, kept, err)
	if batch.CodeOf(err) == batch.CodeOverloaded {
		return kept, batch.StoreFull
	}
	return kept, batch.StoreAway
}

// noteStoreState notes how a request to the store has ended, with kept and err, and logs if the store has gone away, has come back, or has
// no more room for a flow.
func (k *letterKeeper) noteStoreState(ctx context.Context, flow string, kept []bool, err error) {
	if ctx.Err() != nil {
		return // the request failed because the client left
	}
	refused := 0
	for _, ok := range kept {
		if !ok {
			refused++
		}
	}
	k.mu.Lock()
	wentAway, cameBack := err != nil && !k.away, err == nil && k.away
	if k.away = err != nil; k.away {
		k.retryAt = time.Now().Add(awayFor)
	}
	nowFull := refused > 0 && !k.full[flow]
	k.full[flow] = refused > 0
	k.mu.Unlock()
	switch {
	case wentAway:
		pointStoreLost.Hit()
		k.log.Warn("dead rows are not kept", "error", err)
	case cameBack:
		pointStoreBack.Hit()
		k.log.Info("dead rows are kept again")
	}
	if nowFull {
		pointStoreFull.Hit()
		k.log.Warn("dead rows are not kept: the flow has as many dead letters as it may", "flow", flow, "limit", k.store.Max())
	}
}

// dead returns a deadCase for each dead row of the ending. With the batch's first ending it also returns the rows that were dead before the
// batch reached the scheduler (Ended). If full is true, the store has no room for the batch's letters, so they are counted and not made.
func (e *ending) dead(full bool) (cases []deadCase) {
	s := e.submission
	if !s.ownDecided {
		s.ownDecided, s.ownOutcomes = true, slices.Clone(s.Ended)
		for i := range s.ownOutcomes {
			cases = s.outsideFunctions(cases, &s.ownOutcomes[i], full)
		}
	}
	if len(e.rows) > 0 {
		e.failed = s.outcomesOf(e)
		for i := range e.failed {
			cases = s.outsideFunctions(cases, &e.failed[i], full)
		}
	}
	if e.part == nil {
		return cases
	}
	r := e.result
	letters := s.lettersOf(e.part.Row, r.GetDead(), full)
	if cases == nil {
		cases = make([]deadCase, 0, len(letters))
	}
	for _, o := range r.GetNotDone() {
		if o.GetOutcome() != pb.Outcome_OUTCOME_DEAD || !e.counts(o.GetRow()) {
			continue
		}
		own := letters[o.GetRow()]
		if len(own.letters) == 0 && own.refused == 0 && o.GetNotKept() == 0 {
			o.NotKept = pb.NotKept_NOT_KEPT_NOTHING_LEFT // the worker is of a build that gives no reason
		}
		own.decide = func(why batch.NotKept) {
			if own := batch.NotKept(o.GetNotKept()); own != 0 && s.keepsDead {
				why = own // the worker says why it could not describe the row
			}
			why = s.countKept(why)
			o.Kept, o.NotKept = why == 0, pb.NotKept(why)
			if o.Letter = nil; o.GetKept() && len(own.letters) > 0 {
				o.Letter = own.letters[0].ID[:]
			}
		}
		cases = append(cases, own)
	}
	return cases
}

// counts reports whether the ending's result counts for a row of its part, by its place in the part. It does not count if another worker
// has answered the row before.
func (e *ending) counts(row uint32) bool {
	return row < uint32(e.part.Len()) && (e.only == nil || e.only.Has(row))
}

// outsideFunctions appends the deadCase of a row that no function has seen, if o says that the row is dead, and returns the result. The
// letter has the row as it was submitted. full is as for dead.
func (s *submission) outsideFunctions(cases []deadCase, o *batch.RowOutcome, full bool) []deadCase {
	if o.Outcome != batch.Dead {
		return cases
	}
	var c deadCase
	c.decide = func(why batch.NotKept) {
		o.NotKept = s.countKept(why)
		if o.Kept = o.NotKept == 0; o.Kept && len(c.letters) > 0 {
			o.Letter = c.letters[0].ID
		}
	}
	switch {
	case !s.keepsDead:
	case full:
		c.refused = 1
	default:
		c.letters = []*deadletter.Letter{s.letter(o.Row, batch.DeadRow{
			Code: o.Code, Reason: o.Reason, Encoding: s.columns.Encoding, Data: s.columns.Row(int(o.Row)),
		})}
	}
	return append(cases, c)
}

// countKept counts, in metrics, a dead row that is kept (why is 0) or is not kept for the reason why. It returns the reason that the client
// is told: why, or a reason that goes before it.
func (s *submission) countKept(why batch.NotKept) batch.NotKept {
	switch {
	case s.reportOnly:
		why = batch.ReportOnly
	case s.letters.store == nil:
		why = batch.NoStore
	}
	if why == 0 {
		s.letters.kept.WithLabelValues(s.Flow).Inc()
	} else {
		s.letters.notKept.WithLabelValues(s.Flow, why.Name()).Inc()
	}
	return why
}

// lettersOf makes the letters of a part's dead rows, and returns them by the row's number in the part, each row's as a deadCase that has no
// decide yet. place returns the number in the batch of a row of the part. full is as for dead. If the batch's dead rows are not kept, there
// are no letters.
func (s *submission) lettersOf(place func(uint32) uint32, dead []*pb.DeadRow, full bool) map[uint32]deadCase {
	if !s.keepsDead || len(dead) == 0 {
		return nil
	}
	rows, err := wire.ToDeadRows(dead, maxRows)
	if err != nil {
		return nil // receiveResult has checked the rows
	}
	all := make(map[uint32]deadCase, len(rows))
	for i := range rows {
		d := &rows[i]
		if int(d.Row) >= s.Rows() {
			continue
		}
		c := all[d.Row]
		if full {
			c.refused++
		} else {
			c.letters = append(c.letters, s.letter(place(d.Row), *d))
		}
		all[d.Row] = c
	}
	return all
}

// letter makes the dead letter of d, a row that died in the batch. row is the number in the batch of the row that it comes from.
func (s *submission) letter(row uint32, d batch.DeadRow) *deadletter.Letter {
	origin := batch.RowID{Batch: s.id, Row: row}
	if s.log != nil {
		origin = s.log.Log.RowID(s.columns.Positions[row])
	}
	l := &deadletter.Letter{
		ID: deadletter.NewID(s.Flow, origin, d.Path, d.Visit, d.Function, d.Use), Sequence: 1,
		Flow: s.Flow, Revision: s.Revision, Function: d.Function, Use: d.Use, Code: d.Code, Reason: d.Reason, Attempts: d.Attempts,
		Encoding: d.Encoding, Row: d.Data, Origin: origin, Path: d.Path, Visit: d.Visit, First: s.first,
	}
	if s.origin != nil {
		l.Source, l.Line = s.origin.GetSource(), lineOf(s.origin.GetLines(), row)
	}
	if int(row) < len(s.columns.Keys) {
		l.ShardKey, l.Key = s.revision.ShardKey, s.columns.Keys[row]
	}
	return l
}

// lineOf returns the line of a batch's row, by its number, as lines of pb.Origin has it. 0 means that it is not known.
func lineOf(lines []*pb.Range, row uint32) uint64 {
	left := uint64(row)
	for _, run := range lines {
		if left < uint64(run.GetCount()) {
			return uint64(run.GetFirst()) + left
		}
		left -= uint64(run.GetCount())
	}
	return 0
}

// maxSource is the limit for the bytes of the name of a source; longer names are cut.
const maxSource = 1024

// originOf returns the origin that a client gave for a batch; nil means that it gave none. The codec has bounded its size.
func originOf(in *pb.Origin) *pb.Origin {
	if in.GetSource() == "" && len(in.GetLines()) == 0 {
		return nil
	}
	source := in.GetSource()
	source = strings.ToValidUTF8(source[:min(len(source), maxSource)], "")
	return &pb.Origin{Source: strings.Clone(source), Lines: in.GetLines()}
}
