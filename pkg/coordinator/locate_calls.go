package coordinator

import (
	"sync"

	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// inquiries are what a worker was asked about its rows, and has not answered. A session that ends leaves them unanswered: who
// asked waits no longer than it likes.
type locateCalls struct {
	mu   sync.Mutex
	last uint64                        // guarded by mu
	open map[uint64]chan<- *pb.Located // guarded by mu; each has room for its answer
}

// add notes one more, and returns its number. answer must have room for the answer.
func (q *locateCalls) add(answer chan<- *pb.Located) (number uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.open == nil {
		q.open = map[uint64]chan<- *pb.Located{}
	}
	q.last++
	q.open[q.last] = answer
	return q.last
}

// answer hands an answer to who asked, if that still waits.
func (q *locateCalls) answer(l *pb.Located) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if to := q.open[l.GetNumber()]; to != nil {
		delete(q.open, l.GetNumber())
		to <- l
	}
}

// remove says that nobody waits any more.
func (q *locateCalls) remove(number uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.open, number)
}
