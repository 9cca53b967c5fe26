package coordinator

import (
	"sync"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// Workers tell in their sessions whether their connectors are connected. A connector whose store one of the workers can't use is degraded,
// and so are the flows that need it; that is never a reason to reject documents. Workers of builds that don't tell it in sessions list
// unusable stores in their records in etcd, and nothing else.

// connectorStates are the states of one worker's connectors, as the worker has told them in this session. Any goroutine may use it.
type connectorStates struct {
	mu     sync.Mutex
	tells  bool                                          // guarded by mu: the worker's build tells the states
	states map[flowstate.ConnectorKey]*pb.ConnectorState // guarded by mu
}

// maxConnectorStates is the most connectors of one worker whose states are remembered.
const maxConnectorStates = 1 << 16

// reset forgets all states, because a session begins. tells says whether the worker's build tells the states of its connectors.
func (s *connectorStates) reset(tells bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tells, s.states = tells, map[flowstate.ConnectorKey]*pb.ConnectorState{}
}

// tellsStates reports whether the worker's build tells the states of its connectors.
func (s *connectorStates) tellsStates() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tells
}

// update stores the states that a message of the worker has, and removes connectors that the worker does not have any more. New connectors
// beyond maxConnectorStates are ignored. An error means that the message is malformed.
func (s *connectorStates) update(states []*pb.ConnectorState) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, state := range states {
		r, err := wire.ToRevision(0, state.GetDigest())
		if err != nil {
			return err
		}
		key := flowstate.ConnectorKey{Name: state.GetName(), Digest: r.Digest}
		if state.GetStanding() == pb.ConnectorState_STANDING_GONE {
			delete(s.states, key)
		} else if s.states[key] != nil || len(s.states) < maxConnectorStates {
			s.states[key] = state
		}
	}
	return nil
}

// find returns the state of a connector; nil means that the worker has not told it. tells says whether the worker's build tells the states
// of its connectors.
func (s *connectorStates) find(key flowstate.ConnectorKey) (state *pb.ConnectorState, tells bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.states[key], s.tells
}
