package coordinator

import (
	"slices"
	"sync"
)

// sentDefinitions are the revisions that a worker may have, by the definitions that it was sent and by the requests to forget some. Messages
// may be lost with the session, and the worker answers definitions only. So a request to forget counts once the worker has answered a
// definition that was sent after it. The session's writer adds messages, and its reader answers.
type sentDefinitions struct {
	mu sync.Mutex
	// byNumber says that the worker's build knows revisions by number alone: of each number it has the one that it was sent last.
	byNumber bool // guarded by mu
	// has are the revisions that the worker may have had when it had received the last message that it is known to have received.
	has byDefinition[bool] // guarded by mu
	// unsure are the messages of this session that were sent after that one, in order.
	unsure []definitionMessage // guarded by mu
}

// definitionMessage is the definition of a revision, or, with forget, the request to forget it.
type definitionMessage struct {
	key    definitionKey
	forget bool
}

// begin notes that a session with the worker begins. It returns the revisions that the worker may still have: none if the worker begins with
// nothing, which is when resumed is false.
func (d *sentDefinitions) begin(resumed, byNumber bool) (kept []definitionKey) {
	d.mu.Lock()
	defer d.mu.Unlock()
	unsure := d.unsure
	d.byNumber, d.unsure = byNumber, nil
	if !resumed || d.has == nil {
		d.has = byDefinition[bool]{}
	}
	if !resumed {
		return nil
	}
	for _, m := range unsure { // the worker may have received each definition without what came after it
		d.has.set(m.key, true)
	}
	for flow, revisions := range d.has {
		for name := range revisions {
			kept = append(kept, definitionKey{flow, name})
		}
	}
	return kept
}

// define notes that the definition of a revision is sent to the worker.
func (d *sentDefinitions) define(key definitionKey) { d.add(definitionMessage{key: key}) }

// forget notes that the worker is told to forget a revision.
func (d *sentDefinitions) forget(key definitionKey) { d.add(definitionMessage{key: key, forget: true}) }

// add notes that a message is sent to the worker.
func (d *sentDefinitions) add(m definitionMessage) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.unsure = append(d.unsure, m)
}

// answered notes that the worker has answered the definition of a revision. A worker that knows revisions by number alone names no digest;
// it answers in the order in which it was sent definitions, and that order tells which digest is meant. answered returns the revision with
// its digest. It returns false if the worker was not sent it in this session, or has answered it already.
func (d *sentDefinitions) answered(key definitionKey) (definitionKey, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := slices.IndexFunc(d.unsure, func(m definitionMessage) bool {
		return !m.forget && (m.key == key || d.byNumber && m.key.sameNumber(key))
	})
	if i < 0 {
		return key, false
	}
	key = d.unsure[i].key
	for _, m := range d.unsure[:i+1] { // it has received these messages
		if m.forget {
			d.has.remove(m.key)
			continue
		}
		if d.byNumber {
			d.has.removeNumber(m.key)
		}
		d.has.set(m.key, true)
	}
	d.unsure = slices.Delete(d.unsure, 0, i+1)
	return key, true
}
