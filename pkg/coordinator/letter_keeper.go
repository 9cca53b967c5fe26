package coordinator

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/deadletter"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// keeper keeps dead rows as dead letters before their client is answered. Whoever takes endings calls it, never the loop.
type letterKeeper struct {
	store *deadletter.Store // nil: there is none
	log   hclog.Logger

	kept, notKept, redriven *prometheus.CounterVec

	counted letterCounts // for metrics

	mu      sync.Mutex
	away    bool            // the last call failed; guarded by mu
	retryAt time.Time       // when the store is asked again; guarded by mu
	full    map[string]bool // flows that had no room the last time; guarded by mu
}

// awayFor is how long a store that was away is not asked: each answer would wait for it.
const awayFor = time.Second

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

// lossReasons are why a dead row is not kept that should have been.
var lossReasons = []batch.NotKept{batch.StoreFull, batch.StoreAway, batch.TooLarge, batch.Unwritable, batch.Held}

// expect makes the counters of a flow that is there begin at 0: who looks how far a counter rises does not see the step to its first value.
func (k *letterKeeper) initCounters(flow string) {
	if k.store == nil {
		return
	}
	k.kept.WithLabelValues(flow)
	for _, reason := range lossReasons {
		k.notKept.WithLabelValues(flow, reason.Name())
	}
}

// forget drops what is counted of a flow that was deleted.
func (k *letterKeeper) forget(flow string) {
	for _, counts := range []*prometheus.CounterVec{k.kept, k.notKept, k.redriven} {
		counts.DeletePartialMatch(prometheus.Labels{"flow": flow})
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.full, flow)
}

// look tells the log where the store is away, or may lose letters. Rows are reported meanwhile.
func (k *letterKeeper) checkStore(ctx context.Context) {
	if k.store == nil {
		return
	}
	warning, err := k.store.Ping(ctx)
	switch {
	case err != nil && ctx.Err() == nil:
		k.log.Warn("dead rows are not kept as long as their store is away", "error", err)
	case warning != "":
		k.log.Warn("the store of dead letters may lose them", "warning", warning)
	}
}

// deadCase is a dead row whose client is to be told whether it is kept.
type deadCase struct {
	letters []*deadletter.Letter
	decide  func(batch.NotKept)
}

// keep decides of each dead row that the endings bring, all of one flow, whether it is kept. It blocks for the store's time
// at the longest.
func (k *letterKeeper) keep(ctx context.Context, endings []ending) {
	var cases []deadCase
	flow := ""
	for i := range endings {
		if e := &endings[i]; e.submission.revision != nil {
			flow = e.submission.Flow
			cases = append(cases, e.dead()...)
		}
	}
	if len(cases) == 0 {
		return
	}
	var letters []*deadletter.Letter
	for _, c := range cases {
		letters = append(letters, c.letters...)
	}
	kept, why := k.put(ctx, flow, letters)
	for _, c := range cases {
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

// put puts letters into the store. why is what is true of those that it says nothing of.
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
		return nil, batch.StoreAway
	}
	kept, err := k.store.Keep(ctx, flow, letters)
	k.noteStoreState(ctx, flow, kept, err)
	if batch.CodeOf(err) == batch.CodeOverloaded {
		return kept, batch.StoreFull
	}
	return kept, batch.StoreAway
}

// note tells the log when the store goes, comes back, or has no room for a flow any more.
func (k *letterKeeper) noteStoreState(ctx context.Context, flow string, kept []bool, err error) {
	if ctx.Err() != nil {
		return // the client left
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
		k.log.Warn("dead rows are not kept", "error", err)
	case cameBack:
		k.log.Info("dead rows are kept again")
	}
	if nowFull {
		k.log.Warn("dead rows are not kept: the flow has as many dead letters as it may", "flow", flow, "limit", k.store.Max())
	}
}

// dead are the dead rows among those that the ending tells of, which the keeper decides about; of the others it says why they
// are not kept.
func (e *ending) dead() (cases []deadCase) {
	s := e.submission
	if !s.counted {
		s.counted, s.ended = true, slices.Clone(s.Ended)
		for i := range s.ended {
			cases = s.outsideFunctions(cases, &s.ended[i])
		}
	}
	if len(e.rows) > 0 {
		e.failed = s.outcomes(e)
		for i := range e.failed {
			cases = s.outsideFunctions(cases, &e.failed[i])
		}
	}
	if e.part == nil {
		return cases
	}
	r := e.result
	var rows map[uint32][]*deadletter.Letter
	for _, o := range r.GetNotDone() {
		if o.GetOutcome() != pb.Outcome_OUTCOME_DEAD || !e.counts(o.GetRow()) {
			continue
		}
		if rows == nil {
			rows = s.lettersOf(e.part.Row, r.GetDead())
		}
		letters := rows[o.GetRow()]
		if len(letters) == 0 && o.GetNotKept() == 0 {
			o.NotKept = pb.NotKept_NOT_KEPT_NOTHING_LEFT // the worker is of a build that does not say
		}
		cases = append(cases, deadCase{letters, func(why batch.NotKept) {
			if own := batch.NotKept(o.GetNotKept()); own != 0 && s.keepsDead {
				why = own // the worker's word about what could not be kept
			}
			why = s.countKept(why)
			o.Kept, o.NotKept = why == 0, pb.NotKept(why)
		}})
	}
	return cases
}

// counts reports whether the ending says how a row of its part ended.
func (e *ending) counts(row uint32) bool {
	return row < uint32(e.part.Len()) && (e.only == nil || e.only.Has(row))
}

// outsideFunctions adds a row that was in no function when it died: it is kept as it was submitted.
func (s *submission) outsideFunctions(cases []deadCase, o *batch.RowOutcome) []deadCase {
	if o.Outcome != batch.Dead {
		return cases
	}
	c := deadCase{decide: func(why batch.NotKept) { o.NotKept = s.countKept(why); o.Kept = o.NotKept == 0 }}
	if s.keepsDead {
		c.letters = []*deadletter.Letter{s.letter(o.Row, batch.DeadRow{
			Code: o.Code, Reason: o.Reason, Encoding: s.columns.Encoding, Data: s.columns.Row(int(o.Row)),
		})}
	}
	return append(cases, c)
}

// verdict is what is told of a dead row, and counted.
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

// lettersOf are the letters of dead rows of a part, by their row there.
func (s *submission) lettersOf(place func(uint32) uint32, dead []*pb.DeadRow) map[uint32][]*deadletter.Letter {
	if !s.keepsDead || len(dead) == 0 {
		return map[uint32][]*deadletter.Letter{}
	}
	rows, err := wire.ToDeadRows(dead, maxRows)
	if err != nil {
		return map[uint32][]*deadletter.Letter{} // link has checked them
	}
	all := make(map[uint32][]*deadletter.Letter, len(rows))
	for _, d := range rows {
		if int(d.Row) < s.Rows() {
			all[d.Row] = append(all[d.Row], s.letter(place(d.Row), d))
		}
	}
	return all
}

// letter is that of a row of the batch, as what it died.
func (s *submission) letter(row uint32, d batch.DeadRow) *deadletter.Letter {
	origin := batch.RowID{Batch: s.id, Row: row}
	l := &deadletter.Letter{
		ID: deadletter.NewID(s.Flow, origin, d.Path, d.Visit, d.Function, d.Use), Sequence: 1,
		Flow: s.Flow, Revision: s.Revision, Function: d.Function, Use: d.Use, Code: d.Code, Reason: d.Reason, Attempts: d.Attempts,
		Encoding: d.Encoding, Row: d.Data, Origin: origin, Path: d.Path, Visit: d.Visit,
	}
	if int(row) < len(s.columns.Keys) {
		l.ShardKey, l.Key = s.revision.ShardKey, s.columns.Keys[row]
	}
	return l
}
