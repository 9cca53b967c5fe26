package coordinator

import (
	"context"
	"fmt"
	"sync"
	"time"

	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// locateCalls are the questions about where rows are that a worker was asked and has not answered. When a session ends, its questions stay
// unanswered; callers wait for a bounded time.
type locateCalls struct {
	mu      sync.Mutex
	last    uint64                        // guarded by mu: number of the last question; questions are numbered from 1
	waiting map[uint64]chan<- *pb.Located // guarded by mu: by the question's number; each channel has room for its answer
}

// add notes a question that the worker is about to be asked, and returns its number. The answer will be put into the channel, which must
// have room for it.
func (q *locateCalls) add(answer chan<- *pb.Located) (number uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.waiting == nil {
		q.waiting = map[uint64]chan<- *pb.Located{}
	}
	q.last++
	q.waiting[q.last] = answer
	return q.last
}

// answer hands a worker's answer to the call that asked, if the call still waits.
func (q *locateCalls) answer(l *pb.Located) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if to := q.waiting[l.GetNumber()]; to != nil {
		delete(q.waiting, l.GetNumber())
		to <- l
	}
}

// remove forgets a question, because its caller does not wait for the answer any more.
func (q *locateCalls) remove(number uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.waiting, number)
}

// locatePatience is how long Locate waits for the workers' answers.
const locatePatience = 2 * time.Second

// Locate asks workers where their rows of a shard key are, and blocks until they have answered, locatePatience has passed, or ctx is done.
// It returns the answers by worker id, and in silent a sentence about each worker that gave none. Both are nil if ctx is done or the loop
// has ended before the workers are asked.
func (l *schedulerLoop) Locate(ctx context.Context, workers []string, question *pb.Locate) (answers map[string]*pb.Located, silent []string) {
	peers := make([]*workerPeer, len(workers))
	if !l.do(ctx, func(l *schedulerLoop) {
		for i, id := range workers {
			peers[i] = l.peers[id]
		}
	}) {
		return nil, nil // peers may still be written to
	}
	ctx, cancel := context.WithTimeout(ctx, locatePatience)
	defer cancel()
	coming, numbers := make([]chan *pb.Located, len(peers)), make([]uint64, len(peers))
	for i, p := range peers {
		if p == nil || !p.connected.Load() || !p.locates.Load() {
			continue
		}
		coming[i] = make(chan *pb.Located, 1)
		numbers[i] = p.locateCalls.add(coming[i])
		p.instructions.put(instruction{locate: &pb.Locate{Number: numbers[i], Flow: question.GetFlow(), Key: question.GetKey(), Most: question.GetMost()}})
	}
	answers = map[string]*pb.Located{}
	for i, id := range workers {
		p := peers[i]
		switch {
		case p == nil || !p.connected.Load() && coming[i] == nil:
			silent = append(silent, fmt.Sprintf("worker %s has no session with this coordinator now, and can't say where its rows are", id))
			continue
		case coming[i] == nil:
			silent = append(silent, fmt.Sprintf("worker %s is of an older build, and doesn't say where its rows are", id))
			continue
		}
		select {
		case answers[id] = <-coming[i]:
		case <-ctx.Done():
			p.locateCalls.remove(numbers[i])
			silent = append(silent, fmt.Sprintf("worker %s did not say within %v where its rows are", id, locatePatience))
		}
	}
	return answers, silent
}
