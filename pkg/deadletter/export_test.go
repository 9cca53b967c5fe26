package deadletter

import "time"

// HoldFor is how long a right lasts that is not renewed.
func (s *Store) HoldFor(d time.Duration) { s.holdFor = d }
