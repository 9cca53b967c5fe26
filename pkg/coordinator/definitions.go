package coordinator

import (
	"maps"
	"slices"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
)

// A worker is sent the definition of each revision that it may have to run: the documents of a flow, its functions and connectors. It
// compiles them and answers whether it can run the revision. A worker is told to forget a revision that no batch is likely to name.

// sessionBegan sends a worker the revisions that it may have to run, because a session with it has begun. kept are the revisions that it may
// still have from the sessions before; it is told to forget those that it need not have any more, also if it was told so before.
func (t *flowTable) sessionBegan(m *member, kept []definitionKey) {
	m.definitions = byDefinition[definitionAnswer]{}
	for _, name := range slices.Sorted(maps.Keys(t.scheduled)) {
		t.sendDefinition(m, t.scheduled[name].revision)
	}
	for _, name := range slices.Sorted(maps.Keys(t.switching)) {
		t.sendDefinition(m, t.switching[name].revision)
	}
	for _, name := range slices.Sorted(maps.Keys(t.rollingOut)) {
		t.sendDefinition(m, t.rollingOut[name])
	}
	for _, key := range kept {
		if _, again := m.definitions.get(key); !again {
			m.peer.instructions.put(instruction{forget: &key}) // should rows need it, the revision is sent with them again
		}
	}
}

// sendDefinition sends a worker a revision, if the worker has a session and the revision's functions, and was not sent it in this session.
// r may be nil or switched off; then nothing is sent.
func (t *flowTable) sendDefinition(m *member, r *flowstate.Revision) {
	if r == nil || !r.Enabled || m.dead || len(m.missingFunctions(r)) > 0 {
		return
	}
	key := definitionKey{r.Message.GetFlow(), r.ID()}
	if _, done := m.definitions.get(key); done || !m.peer.connected.Load() {
		return
	}
	// A worker of an early build has one revision of each number. If both revisions are needed in the next session, too, the session's
	// writer sends whichever one the next rows need.
	if !m.peer.digests.Load() && m.definitions.hasOtherOfNumber(key) && !m.renewed[key] {
		m.renewed[key] = true
		t.log.Info("a revision's number was given again, and this worker's build knows revisions by number alone: its session begins anew", "worker", m.worker.ID,
			"flow", key.flow, "revision", key.revision)
		m.peer.restartSession()
		return
	}
	m.definitionsSent++
	m.definitions.set(key, definitionAnswer{pending: true, sentAs: m.definitionsSent})
	m.peer.instructions.put(instruction{define: r})
}

// announceActive tells a worker that new batches run on a revision that it has accepted. Workers of builds that don't tell the states of
// connectors are not told.
func (m *member) announceActive(key definitionKey) {
	if m.peer.connectors.tellsStates() {
		m.peer.instructions.put(instruction{active: &key})
	}
}

// forgetDefinition tells the member's worker to forget a revision, and forgets the worker's answer for it.
func (m *member) forgetDefinition(key definitionKey) {
	m.definitions.remove(key)
	m.peer.instructions.put(instruction{forget: &key})
}

// pruneDefinitions tells workers to forget the revisions of a flow that batches are not likely to name any more. If a batch names one all
// the same, the revision is sent again with its rows. Each worker keeps the newest revision that it can run: it may be about to become
// active.
func (t *flowTable) pruneDefinitions(flow string) {
	e, rolling, switching, s := t.byName[flow], t.rollingOut[flow], t.switching[flow], t.scheduled[flow]
	needed := func(name batch.Revision) bool {
		return e.TakesBatches() && e.Revisions.Find(name) != nil || rolling != nil && rolling.ID() == name ||
			switching != nil && switching.revision.ID() == name || s != nil && (s.revision.ID() == name || s.earlier.Find(name) != nil)
	}
	for _, m := range t.roster.members {
		newest := uint64(0) // of the revisions that the worker can run, the one that it was sent last
		for _, answer := range m.definitions[flow] {
			if answer.accepted() {
				newest = max(newest, answer.sentAs)
			}
		}
		for name, answer := range m.definitions[flow] {
			if !answer.pending && answer.sentAs != newest && !needed(name) {
				m.forgetDefinition(definitionKey{flow, name})
			}
		}
	}
}
