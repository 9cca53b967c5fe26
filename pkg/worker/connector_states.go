package worker

import (
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// connectorKey names a connector by its document: the name, and the digest of the text.
type connectorKey struct {
	name   string
	digest batch.Digest // digest of the document
}

// connectorStates opens the connectors of plans before rows need them, keeps them open, and knows whether each of them works.
// Sessions report changes to coordinators. Its methods may be called by several goroutines; watch runs in one.
//
//	opening ──► connected ◄──► degraded
//	   └─────────────────────────▲
type connectorStates struct {
	pool *connector.Pool // opens the connections
	wake chan struct{}   // holds a token when watch should look at once

	mu         sync.Mutex
	connectors map[connectorKey]*heldConnector // guarded by mu

	// states has the last known state of each connector. The map is never changed: a change stores another map.
	states atomic.Pointer[map[connectorKey]*pb.ConnectorState]
}

// heldConnector is a connector that stays open because plans (compiled revisions of flows) need it, with the number of those
// plans.
type heldConnector struct {
	kept  *connector.Kept // keeps the connection open
	plans int             // number of plans that need it
}

// newConnectorStates makes a connectorStates without connectors for a pool of connections. The pool wakes the goroutine of
// watch whenever the state of a connection changes.
func newConnectorStates(pool *connector.Pool) *connectorStates {
	s := &connectorStates{pool: pool, wake: make(chan struct{}, 1), connectors: map[connectorKey]*heldConnector{}}
	s.states.Store(&map[connectorKey]*pb.ConnectorState{})
	pool.Notify(s.wakeWatch)
	return s
}

// wakeWatch makes the goroutine of watch check the connectors at once, instead of after up to a second.
func (s *connectorStates) wakeWatch() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// keep opens the connectors for one more plan and keeps them open. The caller passes the returned keys to release when the
// plan goes.
func (s *connectorStates) keep(connectors []*definition.Connector) []connectorKey {
	keys := make([]connectorKey, len(connectors))
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, c := range connectors {
		keys[i] = connectorKey{c.Name, definition.Digest([]definition.Document{c.Document})}
		h := s.connectors[keys[i]]
		if h == nil {
			h = &heldConnector{kept: s.pool.Keep(c)}
			s.connectors[keys[i]] = h
		} else {
			h.kept.Renew(c.Document.Revision)
		}
		h.plans++
	}
	s.wakeWatch()
	return keys
}

// release undoes a call of keep: the plan does not need these connectors any more. A connector that no plan needs is closed.
func (s *connectorStates) release(keys []connectorKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range keys {
		h := s.connectors[key]
		if h.plans--; h.plans == 0 {
			delete(s.connectors, key)
			h.kept.Release()
		}
	}
	s.wakeWatch()
}

// inForce tells the pool that a flow now runs with these connectors, so that the rules for documents in force hold for them.
func (s *connectorStates) inForce(keys []connectorKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range keys {
		if h := s.connectors[key]; h != nil {
			h.kept.InForce()
		}
	}
}

// watch looks at the connectors every second, and whenever it is woken, until stop is closed. It calls changed when a state
// has changed, and each time also, for what else is done every second.
func (s *connectorStates) watch(stop <-chan struct{}, changed, also func()) {
	every := time.NewTicker(connectorsEvery)
	defer every.Stop()
	for {
		select {
		case <-stop:
			return
		case <-s.wake:
		case <-every.C:
		}
		if s.refresh() {
			changed()
		}
		also()
	}
}

// refresh reads the state of each connector and reports whether any has changed. While a connector stays degraded, its first
// reason stays too: reasons change with every attempt.
func (s *connectorStates) refresh() (changed bool) {
	s.mu.Lock()
	all := maps.Clone(s.connectors)
	s.mu.Unlock()
	was := *s.states.Load()
	now := make(map[connectorKey]*pb.ConnectorState, len(all))
	for key, h := range all {
		standing, reason := h.kept.Standing()
		state := &pb.ConnectorState{Name: key.name, Digest: wire.FromDigest(key.digest), Standing: standingOnWire[standing], Reason: oneLine(reason)}
		if before := was[key]; before != nil && before.GetStanding() == state.GetStanding() {
			now[key] = before
			continue
		}
		now[key], changed = state, true
	}
	if changed = changed || len(now) != len(was); changed {
		s.states.Store(&now)
	}
	return changed
}

// standingOnWire translates the state of a connection, as package connector has it, into the state in a message to a
// coordinator.
var standingOnWire = map[connector.Standing]pb.ConnectorState_Standing{
	connector.Opening:   pb.ConnectorState_STANDING_UNSPECIFIED,
	connector.Connected: pb.ConnectorState_STANDING_CONNECTED,
	connector.Degraded:  pb.ConnectorState_STANDING_DEGRADED,
}

// maxReasonBytes is the longest reason for a degraded connector that a coordinator is told, in bytes.
const maxReasonBytes = 500

// oneLine makes a text one line of valid UTF-8. It cuts a text after maxReasonBytes, and then adds an ellipsis.
func oneLine(text string) string {
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "?")), " ")
	if len(text) > maxReasonBytes {
		text = strings.ToValidUTF8(text[:maxReasonBytes], "") + "…"
	}
	return text
}

// changesSince returns the states of connectors that differ from those in told, and then stores the current states in told. A
// connector that is gone is reported as GONE. told is what one session has told its coordinator.
func (s *connectorStates) changesSince(told *map[connectorKey]*pb.ConnectorState) []*pb.ConnectorState {
	was, now := *told, *s.states.Load()
	var news []*pb.ConnectorState
	for key, state := range now {
		if was[key] != state {
			news = append(news, state)
		}
	}
	for key, state := range was {
		if now[key] == nil {
			news = append(news, &pb.ConnectorState{Name: state.GetName(), Digest: state.GetDigest(), Standing: pb.ConnectorState_STANDING_GONE})
		}
	}
	*told = now
	return news
}
