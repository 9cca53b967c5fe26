package flowexec

import "sync"

// Saves tells Loads in KisFlow's shape, which name no key, that something was saved in this process through the connector
// that they load from. One serves all flows of a process. The zero value is ready for use; it is safe for concurrent use.
type Saves struct {
	mu      sync.Mutex
	counts  map[string]uint64                    // of Saves so far, by connector; guarded by mu
	waiting map[string]map[saveListener]struct{} // by connector; guarded by mu
}

// saveListener is told once. heard must not block.
type saveListener interface{ connectorSaved() }

// count is how often a connector has saved. What looks at the store after that misses nothing with add.
func (s *Saves) count(connector string) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[connector]
}

// saved tells who waits for a connector.
func (s *Saves) saved(connector string) {
	s.mu.Lock()
	if s.counts == nil {
		s.counts = make(map[string]uint64)
	}
	s.counts[connector]++
	all := s.waiting[connector]
	delete(s.waiting, connector)
	s.mu.Unlock()
	for l := range all {
		l.connectorSaved()
	}
}

// add has l told of the next Save through a connector, at once if there was one since its count.
func (s *Saves) add(connector string, count uint64, l saveListener) {
	s.mu.Lock()
	missed := s.counts[connector] != count
	if !missed {
		if s.waiting == nil {
			s.waiting = make(map[string]map[saveListener]struct{})
		}
		if s.waiting[connector] == nil {
			s.waiting[connector] = make(map[saveListener]struct{})
		}
		s.waiting[connector][l] = struct{}{}
	}
	s.mu.Unlock()
	if missed {
		l.connectorSaved()
	}
}

// remove takes l off. It may have been told.
func (s *Saves) remove(connector string, l saveListener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if delete(s.waiting[connector], l); len(s.waiting[connector]) == 0 {
		delete(s.waiting, connector)
	}
}
