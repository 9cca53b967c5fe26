package coordinator

import (
	"slices"
	"sync"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// unansweredDefinitions are the definitions that a worker of an early build has not answered in this session, in the order in which they
// were sent. The worker answers in that order and names a revision by number alone, so the order tells which revision an answer is about.
// It stays empty for workers of other builds. The session's writer adds definitions and its reader takes them.
type unansweredDefinitions struct {
	mu   sync.Mutex
	sent []definitionKey // guarded by mu
}

// add notes that the definition of a revision is sent to the worker.
func (u *unansweredDefinitions) add(key definitionKey) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.sent = append(u.sent, key)
}

// take removes the first definition of a flow whose revision has that number, and returns the revision's digest. It returns false if there
// is none.
func (u *unansweredDefinitions) take(flow string, number int64) (batch.Digest, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	i := slices.IndexFunc(u.sent, func(key definitionKey) bool { return key.flow == flow && key.revision.Number == number })
	if i < 0 {
		return batch.Digest{}, false
	}
	digest := u.sent[i].revision.Digest
	u.sent = slices.Delete(u.sent, i, i+1)
	return digest, true
}

// clear forgets all definitions, because a new session with the worker begins.
func (u *unansweredDefinitions) clear() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.sent = nil
}
