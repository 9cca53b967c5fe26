package worker

import (
	"strings"
	"time"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// maxLocatedRows limits how many rows a Located message describes one by one, also if a coordinator asks for more.
const maxLocatedRows = 1000

// locate answers, with a Located message, where the rows of one shard key are in this worker: queued, running or parked, and
// in which step. Rows of other coordinators are included, because a row of this coordinator may wait for one of theirs.
func (sess *session) locate(m *pb.Locate) error {
	answer := &pb.Located{Number: m.GetNumber()}
	if lanes := sess.server.flows.lanesOf(m.GetFlow()); lanes != nil {
		mine := sess.peer.heldParts(m.GetFlow())
		stands, counts := lanes.Locate(m.GetKey(), int(min(m.GetMost(), maxLocatedRows)), func(p *flowexec.Part) bool { return mine[p] != nil })
		now, id := time.Now(), sess.server.workerID()
		var others map[*flowexec.Part]partOwner
		for i := range stands {
			at := &stands[i]
			r := placeOf(at, now)
			r.Worker = id
			if part := mine[at.Part]; part != nil {
				r.Part, r.PartRow = part.number, at.Row
				part.setQueuedSince(r, at, now)
			} else {
				if others == nil {
					others = sess.server.partOwners(sess.peer, m.GetFlow())
				}
				o := others[at.Part]
				if r.Coordinator, r.Broken = o.coordinator, o.broken; o.part == nil {
					r.Coordinator, r.Broken = "gone", true
				} else {
					o.part.setQueuedSince(r, at, now)
				}
			}
			answer.Rows = append(answer.Rows, r)
		}
		for c, n := range counts {
			answer.Counts = append(answer.Counts, &pb.PlaceCount{Where: string(c.Stage), Worker: id, Rows: uint64(n), Others: !c.Mine})
		}
	}
	sess.peer.mu.Lock()
	sess.enqueue(&pb.WorkerMessage{Kind: &pb.WorkerMessage_Located{Located: answer}})
	sess.peer.mu.Unlock()
	sess.peer.wakeUp()
	return nil
}

// heldParts returns the coordinator's parts of a flow, except parts of which every row has ended and is in a result. The key
// of the map is the Part that lanes know.
func (p *peer) heldParts(flow string) map[*flowexec.Part]*heldPart {
	p.mu.Lock()
	defer p.mu.Unlock()
	held := make(map[*flowexec.Part]*heldPart)
	for _, part := range p.parts {
		if part.Part != nil && part.flow.name == flow {
			held[part.Part] = part
		}
	}
	return held
}

// partOwner says to which coordinator a part belongs.
type partOwner struct {
	part        *heldPart // the part as its owner's peer holds it
	coordinator string    // id of the owner
	broken      bool      // the coordinator has no session now
}

// partOwners returns the owners of all parts of a flow, except the parts of one peer, which the parameter but names.
func (s *server) partOwners(but *peer, flow string) map[*flowexec.Part]partOwner {
	all := map[*flowexec.Part]partOwner{}
	for _, p := range s.allPeers() {
		if p == but {
			continue
		}
		sess := p.session.Load()
		broken := sess == nil || sess.hasEnded()
		for work, part := range p.heldParts(flow) {
			all[work] = partOwner{part, p.coordinator, broken}
		}
	}
	return all
}

// placeOf makes the message that says where one row is, and since when.
func placeOf(at *flowexec.Location, now time.Time) *pb.RowPlace {
	r := &pb.RowPlace{
		Where: string(at.Stage), Lane: uint32(at.Lane), Batch: wire.FromID(at.Part.Batch), Row: at.Part.BatchRow(at.Row),
		Function: at.Function, Wait: string(at.Wait), Connector: at.Connector, Attempt: at.Attempt, RunRows: uint32(at.Rows),
	}
	key := at.Key
	if len(key) > maxKeyBytes {
		key = key[:maxKeyBytes] + "…"
	}
	r.Key = strings.ToValidUTF8(key, "\uFFFD")
	if !at.Since.IsZero() {
		r.ForMilliseconds = uint64(max(0, now.Sub(at.Since).Milliseconds()))
	}
	if !at.Due.IsZero() {
		r.DueMilliseconds = uint64(max(1, at.Due.Sub(now).Milliseconds()))
	}
	return r
}

// maxKeyBytes is how many bytes of the connector key that a row waits for are sent to the coordinator; the rest is cut.
const maxKeyBytes = 200

// setQueuedSince sets in the message r how long a queued row has waited, which is since its part came. A row that has begun
// has a time of its own, which stays.
func (part *heldPart) setQueuedSince(r *pb.RowPlace, at *flowexec.Location, now time.Time) {
	if at.Since.IsZero() {
		r.ForMilliseconds = uint64(max(0, now.Sub(part.received).Milliseconds()))
	}
}
