package worker

import (
	"sync"
	"sync/atomic"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
)

// peer is what the worker keeps of one coordinator from session to session: parts and results are numbered across them, so
// that a broken connection repeats no work. It lives until its coordinator has had no session for a lease time, or says
// itself that it starts anew.
type peer struct {
	server      *server
	key         string // in the server's peers
	coordinator string // its id
	takes       int    // bytes of what comes of one row; set before the first session
	outlet      *outlet

	// session is the latest; it may be over. Written with the lock held.
	session atomic.Pointer[session]

	// What follows is guarded by mu, which is taken before the budget's lock and that of flows, and never with another peer's.
	mu      sync.Mutex
	met     bool // a session has begun
	gone    bool // nobody will ask for results any more
	plans   map[revisionKey]*plan
	credits map[string]*credit // by flow

	received uint64           // the number of the last part
	parts    map[uint64]*part // until their last result is acknowledged
	waiting  []*part          // of which rows have ended, and others not yet; the longest waiting first

	results []result // that the coordinator does not have yet, by number
	known   uint64   // the number of the last result that the coordinator has
	taken   uint64   // the number of the last result that the latest session's sender took
	sent    uint64   // the number of the last result that any session's sender took
}

// credit is the account of one flow.
type credit struct {
	*account
	due   atomic.Bool // there may be something to grant
	renew bool        // a session began: all that is left is to be told; guarded by the peer's lock
}

func newPeer(s *server, key, coordinator string) *peer {
	return &peer{
		server: s, key: key, coordinator: coordinator, outlet: newOutlet(s.room),
		plans: map[revisionKey]*plan{}, credits: map[string]*credit{}, parts: map[uint64]*part{},
	}
}

// wakeUp makes the sender of the latest session look at what there is to send. It takes no lock.
func (p *peer) wakeUp() {
	if k := p.session.Load(); k != nil {
		select {
		case k.wake <- struct{}{}:
		default:
		}
	}
}

// openCredit makes the account of a flow.
func (p *peer) openCredit(flow string) *credit {
	c := &credit{}
	c.due.Store(true)
	c.account = p.server.budget.open(func() {
		c.due.Store(true)
		p.wakeUp()
	})
	c.account.tenant = &tenant{room: p.server.room, outlet: p.outlet, flow: flow}
	return c
}

// defines reports whether the coordinator has a plan of the flow. The caller holds the lock.
func (p *peer) defines(flow string) bool {
	for key := range p.plans {
		if key.flow == flow {
			return true
		}
	}
	return false
}

// drop forgets a coordinator: its session ends, what has not begun never does, and what runs ends unheard.
func (p *peer) drop(why error) {
	p.mu.Lock()
	if p.gone {
		p.mu.Unlock()
		return
	}
	p.gone = true
	k := p.session.Load()
	p.mu.Unlock()
	if k != nil {
		close(k.replaced)
		k.end(why)
		<-k.read // so that its reader enqueues nothing behind the release
	}
	p.clear()
}

// forsake forgets a coordinator as drop does, from within the handshake of the latest session, which goes on without the peer.
// It returns false where k is not the latest session any more, and does nothing.
func (p *peer) forsake(k *session) bool {
	p.mu.Lock()
	if p.gone || p.session.Load() != k {
		p.mu.Unlock()
		return false
	}
	p.gone = true
	p.session.Store(nil)
	p.mu.Unlock()
	p.clear()
	return true
}

// clear gives back all that a peer holds that is gone, and has no reader any more.
func (p *peer) clear() {
	p.mu.Lock()
	plans, credits, parts, results := p.plans, p.credits, p.parts, p.results
	p.plans, p.credits, p.parts, p.results, p.waiting = nil, nil, nil, nil, nil
	running := map[*flow]map[*flowexec.Part]bool{}
	for _, t := range parts {
		if t.Part == nil {
			t.free(t.size)
			continue
		}
		if running[t.flow] == nil {
			running[t.flow] = map[*flowexec.Part]bool{}
		}
		running[t.flow][t.Part] = true
	}
	p.mu.Unlock()

	p.outlet.close()
	for _, r := range results {
		r.part.account.releaseOutput(r.bytes)
		if r.heard != nil {
			close(r.heard)
		}
	}
	p.server.metrics.resultsKept.Sub(float64(len(results)))
	p.server.metrics.partsHeld.Sub(float64(len(parts)))
	for flow, mine := range running {
		p.server.flows.release(flow, nil, func(t *flowexec.Part) bool { return mine[t] })
	}
	for _, c := range credits {
		c.close()
	}
	for _, made := range plans {
		p.server.flows.lose(made)
	}
}

// release hands rows back that have not begun: those of these slots, nil for all, of one flow or, with "", of all flows.
func (p *peer) release(name string, slots []batch.Range) {
	p.mu.Lock()
	mine, tenants := map[*flow]map[*flowexec.Part]bool{}, map[*tenant]bool{}
	for _, t := range p.parts {
		if t.Part == nil || (name != "" && t.flow.name != name) {
			continue
		}
		if mine[t.flow] == nil {
			mine[t.flow] = map[*flowexec.Part]bool{}
		}
		mine[t.flow][t.Part] = true
		tenants[t.account.tenant] = true
	}
	p.mu.Unlock()
	for flow, parts := range mine {
		p.server.flows.release(flow, slots, func(t *flowexec.Part) bool { return parts[t] })
	}
	for t := range tenants {
		t.recall()
	}
}
