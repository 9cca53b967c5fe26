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

// connectorKey names what one document makes of a connector.
type connectorKey struct {
	name   string
	digest batch.Digest // of the document
}

// standings know how the connectors stand that plans need, and have them opened before rows do. Its methods may be called by several
// goroutines; one, watch, looks how they stand.
type connectorStates struct {
	pool *connector.Pool
	wake chan struct{} // holds a token while something may stand otherwise

	mu         sync.Mutex
	connectors map[connectorKey]*heldConnector // guarded by mu

	// now is how they stand; another map takes its place when one stands otherwise.
	states atomic.Pointer[map[connectorKey]*pb.ConnectorState]
}

// held is a connector that plans need.
type heldConnector struct {
	kept  *connector.Kept
	plans int
}

func newConnectorStates(pool *connector.Pool) *connectorStates {
	s := &connectorStates{pool: pool, wake: make(chan struct{}, 1), connectors: map[connectorKey]*heldConnector{}}
	s.states.Store(&map[connectorKey]*pb.ConnectorState{})
	pool.Notify(s.wakeWatch)
	return s
}

// look has watch look soon.
func (s *connectorStates) wakeWatch() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// keep has the connectors opened and kept for one more plan.
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

// release takes back what keep did.
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

// inForce says that a flow runs with the connectors from now on.
func (s *connectorStates) inForce(keys []connectorKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range keys {
		if h := s.connectors[key]; h != nil {
			h.kept.InForce()
		}
	}
}

// watch looks how the connectors stand, once in storesEvery and when it is told to, until stop is closed. Then it calls changed if
// one stands otherwise than before.
func (s *connectorStates) watch(stop <-chan struct{}, changed func()) {
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
	}
}

// refresh reports whether one stands otherwise than before. As reasons change with every try, that of the first stays.
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

var standingOnWire = map[connector.Standing]pb.ConnectorState_Standing{
	connector.Opening:   pb.ConnectorState_STANDING_UNSPECIFIED,
	connector.Connected: pb.ConnectorState_STANDING_CONNECTED,
	connector.Degraded:  pb.ConnectorState_STANDING_DEGRADED,
}

// maxReason bounds why a connector is degraded, in bytes.
const maxReasonBytes = 500

// reasonOf is a reason as one line for an operator.
func oneLine(text string) string {
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "?")), " ")
	if len(text) > maxReasonBytes {
		text = strings.ToValidUTF8(text[:maxReasonBytes], "") + "…"
	}
	return text
}

// news is what of it a session was not told yet: told is how they stood when it was told last.
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
