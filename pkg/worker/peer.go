package worker

import (
	"sync"
	"sync/atomic"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
)

// peer is what this worker knows of one coordinator, from session to session. Parts and results are numbered across sessions,
// so that a broken connection repeats no work: in the handshake each side says which number it has last, and the other sends
// on from there.
//
//	          Hello                   connection ends
//	(none) ─────────► in session ──────────────────────► without a session
//	                   │  ▲                                │  │
//	                   │  └──── Hello, numbers agree ──────┘  │
//	                   │                                      │ a lease time is over
//	                   │ numbers disagree, the coordinator    │
//	                   │ begins anew, the worker has drained  │
//	                   ▼                                      ▼
//	                dropped ◄─────────────────────────────────┘
//
// The queued rows of a dropped peer never run, and the results of its running rows are thrown away.
type peer struct {
	server          *server
	key             string         // its key in server.peers
	coordinator     string         // the coordinator's id
	maxOutputPerRow int            // the most bytes of output of one row that the coordinator accepts; set before the first session
	backlog         *clientBacklog // the output that the coordinator's clients have not taken

	// session is the current session, which may have ended; nil before the first one. It is written with mu held, and read
	// without it.
	session atomic.Pointer[session]

	// mu guards the fields below. It is taken before the locks of the budget, of outputMemory and of flows, and never together
	// with the lock of another peer.
	mu         sync.Mutex
	hadSession bool                  // a session has begun
	dropped    bool                  // the coordinator is forgotten: results go nowhere
	plans      map[revisionKey]*plan // the plans that the coordinator has, by its name for the revision
	credits    map[string]*credit    // the coordinator's credits, by the name of the flow
	dueCredits dueCredits            // those of which there may be more to grant; has a lock of its own

	lastPart   uint64               // number of the last part that came
	parts      map[uint64]*heldPart // parts by number; a part goes when its last result is acknowledged
	unreported []*heldPart          // parts that have ended rows in no result, and rows that have not ended; the longest waiting first
	// inOrder has the parts whose ended rows, which no result names yet, include dead rows to keep or rows to hand back; by number.
	inOrder []*heldPart

	// results has the results that the coordinator has not acknowledged, by number. The three numbers below say how far each
	// side is. Example with nine results, of which a session before sent seven, and the current session sends those from 4 on
	// again:
	//
	//	1  2  3 │ 4  5 │ 6  7 │ 8  9
	//	        │      │      └ lastSent = 7
	//	        │      └ lastTaken = 5
	//	        └ lastAcknowledged = 3, so results begins with 4
	results          []result
	lastAcknowledged uint64 // number of the last result that the coordinator has acknowledged
	lastTaken        uint64 // number of the last result that the sender of the current session took
	lastSent         uint64 // number of the last result that the sender of any session took; the coordinator may have those up to it
}

// credit is the account of one flow in the worker's budget, for one coordinator. Out of it the coordinator is granted leave to
// send rows.
type credit struct {
	*account
	peer  *peer
	flow  string
	due   atomic.Bool // the credit is in peer.dueCredits
	renew bool        // a session began, and must be told the whole credit instead of an increase; guarded by the peer's lock
}

// dueCredits are the credits of a peer of which there may be more to grant. So the sender need not look at those of all flows, most of which
// may be idle.
type dueCredits struct {
	mu   sync.Mutex // held for a moment only, and no other lock is taken under it, so it can be taken with any lock held
	list []*credit  // guarded by mu
}

// look makes the sender look, with the next messages that it takes, whether there is more credit to grant. It can be called with any lock
// held. It does not wake the sender.
func (c *credit) look() {
	if c.due.Swap(true) {
		return
	}
	d := &c.peer.dueCredits
	d.mu.Lock()
	d.list = append(d.list, c)
	d.mu.Unlock()
}

// take takes the credits that are due. One that becomes due from now on is in the next list.
func (d *dueCredits) take() []*credit {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := d.list
	d.list = nil
	for _, c := range all {
		c.due.Store(false)
	}
	return all
}

// newPeer makes the peer of a coordinator that has no session yet.
func newPeer(s *server, key, coordinator string) *peer {
	return &peer{
		server: s, key: key, coordinator: coordinator, backlog: newClientBacklog(s.output),
		plans: map[revisionKey]*plan{}, credits: map[string]*credit{}, parts: map[uint64]*heldPart{},
	}
}

// wakeUp makes the sender of the current session look for new messages. It takes no lock, so it can be called with any lock
// held.
func (p *peer) wakeUp() {
	if sess := p.session.Load(); sess != nil {
		select {
		case sess.wake <- struct{}{}:
		default:
		}
	}
}

// openCredit makes the account of a flow in the worker's budget. From then on the coordinator gets credit for the flow.
func (p *peer) openCredit(flow string) *credit {
	c := &credit{peer: p, flow: flow}
	c.account = p.server.budget.open(func() {
		c.look()
		p.wakeUp()
	})
	c.look()
	c.account.output = &outputAccount{memory: p.server.output, backlog: p.backlog, flow: flow}
	return c
}

// hasPlan reports whether the coordinator has a plan of the flow. The caller holds p.mu.
func (p *peer) hasPlan(flow string) bool {
	for key := range p.plans {
		if key.flow == flow {
			return true
		}
	}
	return false
}

// drop forgets a coordinator. Its session ends with the error why, its queued rows never run, and the results of its running
// rows are thrown away. drop waits until the session's reader has ended. A second call does nothing.
func (p *peer) drop(why error) {
	p.mu.Lock()
	if p.dropped {
		p.mu.Unlock()
		return
	}
	p.dropped = true
	sess := p.session.Load()
	p.mu.Unlock()
	if sess != nil {
		close(sess.replaced)
		sess.end(why)
		<-sess.readerDone // after this the reader can't enqueue rows that releaseAll would miss
	}
	p.releaseAll()
}

// dropInHandshake forgets a coordinator within the handshake of its current session, which goes on and gets a new peer. It
// returns false, and does nothing, where sess is not the current session any more.
func (p *peer) dropInHandshake(sess *session) bool {
	p.mu.Lock()
	if p.dropped || p.session.Load() != sess {
		p.mu.Unlock()
		return false
	}
	p.dropped = true
	p.session.Store(nil)
	p.mu.Unlock()
	p.releaseAll()
	return true
}

// releaseAll gives back everything that a dropped peer holds: results, queued rows, credit and plans. The peer's reader has
// ended.
func (p *peer) releaseAll() {
	pointDropped.Hit()
	p.mu.Lock()
	plans, credits, parts, results := p.plans, p.credits, p.parts, p.results
	p.plans, p.credits, p.parts, p.results, p.unreported, p.inOrder = nil, nil, nil, nil, nil, nil
	running := map[*flow]map[*flowexec.Part]bool{}
	for _, part := range parts {
		if part.Part == nil {
			part.releaseCredit(part.size)
			continue
		}
		if running[part.flow] == nil {
			running[part.flow] = map[*flowexec.Part]bool{}
		}
		running[part.flow][part.Part] = true
	}
	p.mu.Unlock()

	p.backlog.close()
	for _, r := range results {
		r.part.account.releaseOutput(r.bytes)
		if r.acknowledged != nil {
			close(r.acknowledged)
		}
	}
	p.server.metrics.resultsKept.Sub(float64(len(results)))
	p.server.metrics.partsHeld.Sub(float64(len(parts)))
	for flow, mine := range running {
		p.server.flows.handBack(flow, nil, func(t *flowexec.Part) bool { return mine[t] })
	}
	for _, c := range credits {
		c.close()
	}
	for _, plan := range plans {
		p.server.flows.releaseLostPlan(plan)
	}
}

// handBack hands back rows of the coordinator's parts that have not begun: those in the given slots of the flow with this
// name. nil slots mean all slots, and the name "" means all flows. The rows soon come to addEnded as returned.
func (p *peer) handBack(name string, slots []batch.Range) {
	p.mu.Lock()
	mine, tenants := map[*flow]map[*flowexec.Part]bool{}, map[*outputAccount]bool{}
	for _, part := range p.parts {
		if part.Part == nil || (name != "" && part.flow.name != name) {
			continue
		}
		if mine[part.flow] == nil {
			mine[part.flow] = map[*flowexec.Part]bool{}
		}
		mine[part.flow][part.Part] = true
		tenants[part.account.output] = true
	}
	p.mu.Unlock()
	for flow, parts := range mine {
		p.server.flows.handBack(flow, slots, func(t *flowexec.Part) bool { return parts[t] })
	}
	for a := range tenants {
		a.handBack()
	}
}
