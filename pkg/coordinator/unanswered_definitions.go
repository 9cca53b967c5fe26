package coordinator

import (
	"slices"
	"sync"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// unanswered are the definitions that a session's worker has not answered yet, in the order in which they were sent, which is
// that of the answers: where these name revisions by number alone, it tells which one is meant. The session's writer adds
// to it, its reader takes from it.
type unansweredDefinitions struct {
	mu   sync.Mutex
	sent []definitionKey // guarded by mu
}

func (u *unansweredDefinitions) add(key definitionKey) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.sent = append(u.sent, key)
}

// take takes the first one of that number; false for none.
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

func (u *unansweredDefinitions) clear() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.sent = nil
}
