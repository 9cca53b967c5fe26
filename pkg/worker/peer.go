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
	server          *server
	key             string // in the server's peers
	coordinator     string // its id
	maxOutputPerRow int    // bytes of what comes of one row; set before the first session
	backlog         *clientBacklog

	// session is the latest; it may be over. Written with the lock held.
	session atomic.Pointer[session]

	// What follows is guarded by mu, which is taken before the budget's lock and that of flows, and never with another peer's.
	mu         sync.Mutex
	hadSession bool // a session has begun
	dropped    bool // nobody will ask for results any more
	plans      map[revisionKey]*plan
	credits    map[string]*credit // by flow

	lastPart   uint64               // the number of the last part
	parts      map[uint64]*heldPart // until their last result is acknowledged
	unreported []*heldPart          // of which rows have ended, and others not yet; the longest waiting first

	results          []result // that the coordinator does not have yet, by number
	lastAcknowledged uint64   // the number of the last result that the coordinator has
	lastTaken        uint64   // the number of the last result that the latest session's sender took
	lastSent         uint64   // the number of the last result that any session's sender took
}

// credit is the account of one flow.
type credit struct {
	*account
	due   atomic.Bool // there may be something to grant
	renew bool        // a session began: all that is left is to be told; guarded by the peer's lock
}

func newPeer(s *server, key, coordinator string) *peer {
	return &peer{
		server: s, key: key, coordinator: coordinator, backlog: newClientBacklog(s.output),
		plans: map[revisionKey]*plan{}, credits: map[string]*credit{}, parts: map[uint64]*heldPart{},
	}
}

// wakeUp makes the sender of the latest session look at what there is to send. It takes no lock.
func (p *peer) wakeUp() {
	if sess := p.session.Load(); sess != nil {
		select {
		case sess.wake <- struct{}{}:
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
	c.account.output = &outputAccount{memory: p.server.output, backlog: p.backlog, flow: flow}
	return c
}

// defines reports whether the coordinator has a plan of the flow. The caller holds the lock.
func (p *peer) hasPlan(flow string) bool {
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
		<-sess.readerDone // so that its reader enqueues nothing behind the release
	}
	p.releaseAll()
}

// forsake forgets a coordinator as drop does, from within the handshake of the latest session, which goes on without the peer.
// It returns false where k is not the latest session any more, and does nothing.
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

// clear gives back all that a peer holds that is gone, and has no reader any more.
func (p *peer) releaseAll() {
	p.mu.Lock()
	plans, credits, parts, results := p.plans, p.credits, p.parts, p.results
	p.plans, p.credits, p.parts, p.results, p.unreported = nil, nil, nil, nil, nil
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

// release hands rows back that have not begun: those of these slots, nil for all, of one flow or, with "", of all flows.
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
