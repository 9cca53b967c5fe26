package flowexec

import "sync"

// Saves tells Loads in KisFlow's shape that something was saved in this process through the connector that they load from. Such a Load
// is a FaaS function with the mode Load. It reads the connector itself and names no key, so that a keyWatch can't tell them. One Saves
// serves all flows of a process. The zero value is ready to use. It is safe for concurrent use.
type Saves struct {
	mu      sync.Mutex
	counts  map[string]uint64              // the number of Saves so far, by the connector's name; guarded by mu
	waiting map[string]map[waiter]struct{} // the waiters, by the connector's name; guarded by mu
}

// count returns how often functions of this process have saved through the connector with a name. To miss no Save, a caller calls count
// first, then looks at the store, and passes the number to add.
func (s *Saves) count(connector string) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[connector]
}

// saved counts a Save through the connector with a name. It calls connectorSaved of all waiters of that connector, and takes them out.
func (s *Saves) saved(connector string) {
	s.mu.Lock()
	if s.counts == nil {
		s.counts = make(map[string]uint64)
	}
	s.counts[connector]++
	all := s.waiting[connector]
	delete(s.waiting, connector)
	s.mu.Unlock()
	for w := range all {
		w.connectorSaved()
	}
}

// add adds a waiter, which is told once: of the next Save through a connector, or at once if there was a Save since count returned the
// given number.
func (s *Saves) add(connector string, count uint64, w waiter) {
	s.mu.Lock()
	missed := s.counts[connector] != count
	if !missed {
		if s.waiting == nil {
			s.waiting = make(map[string]map[waiter]struct{})
		}
		if s.waiting[connector] == nil {
			s.waiting[connector] = make(map[waiter]struct{})
		}
		s.waiting[connector][w] = struct{}{}
	}
	s.mu.Unlock()
	if missed {
		w.connectorSaved()
	}
}

// remove takes a waiter out, so that it is not told of Saves through the connector any more. If it was told already, nothing changes.
func (s *Saves) remove(connector string, w waiter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if delete(s.waiting[connector], w); len(s.waiting[connector]) == 0 {
		delete(s.waiting, connector)
	}
}
