package deadletter

import "time"

// LockFor is how long a right lasts that is not renewed.
func (s *Store) LockFor(d time.Duration) { s.lockFor = d }
