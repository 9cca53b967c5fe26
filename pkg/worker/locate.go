package worker

import (
	"strings"
	"time"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// locateMost bounds the rows that are told one by one, whatever a coordinator asks for.
const locateMost = 1000

// locate tells a coordinator where the rows of a key stand. They are those of all coordinators, as one's rows wait for another's.
func (k *session) locate(m *pb.Locate) error {
	answer := &pb.Located{Number: m.GetNumber()}
	if lanes := k.server.flows.lanesOf(m.GetFlow()); lanes != nil {
		mine := k.peer.held(m.GetFlow())
		stands, counts := lanes.Locate(m.GetKey(), int(min(m.GetMost(), locateMost)), func(p *flowexec.Part) bool { return mine[p] != nil })
		now, id := time.Now(), k.server.identity()
		var others map[*flowexec.Part]owner
		for i := range stands {
			at := &stands[i]
			r := placeOf(at, now)
			r.Worker = id
			if t := mine[at.Part]; t != nil {
				r.Part, r.PartRow = t.number, at.Row
				t.placeSince(r, at, now)
			} else {
				if others == nil {
					others = k.server.owners(k.peer, m.GetFlow())
				}
				o := others[at.Part]
				if r.Coordinator, r.Broken = o.coordinator, o.broken; o.part == nil {
					r.Coordinator, r.Broken = "gone", true
				} else {
					o.part.placeSince(r, at, now)
				}
			}
			answer.Rows = append(answer.Rows, r)
		}
		for c, n := range counts {
			answer.Counts = append(answer.Counts, &pb.PlaceCount{Where: string(c.Stage), Worker: id, Rows: uint64(n), Others: !c.Mine})
		}
	}
	k.peer.mu.Lock()
	k.tell(&pb.WorkerMessage{Kind: &pb.WorkerMessage_Located{Located: answer}})
	k.peer.mu.Unlock()
	k.peer.wakeUp()
	return nil
}

// lanesOf are the lanes of a flow; nil: it has none.
func (f *flows) lanesOf(name string) *flowexec.Lanes {
	f.mu.Lock()
	defer f.mu.Unlock()
	if w := f.byName[name]; w != nil {
		return w.lanes
	}
	return nil
}

// held are the parts of a flow that the coordinator has here, and that have not ended.
func (p *peer) held(flow string) map[*flowexec.Part]*part {
	p.mu.Lock()
	defer p.mu.Unlock()
	held := make(map[*flowexec.Part]*part)
	for _, t := range p.parts {
		if t.Part != nil && t.flow.name == flow {
			held[t.Part] = t
		}
	}
	return held
}

// owner is whose a part is.
type owner struct {
	part        *part
	coordinator string
	broken      bool // it has no session now
}

// owners are those of the parts of a flow that are not one coordinator's.
func (s *server) owners(but *peer, flow string) map[*flowexec.Part]owner {
	all := map[*flowexec.Part]owner{}
	for _, p := range s.everyPeer() {
		if p == but {
			continue
		}
		k := p.session.Load()
		broken := k == nil || k.isOver()
		for work, t := range p.held(flow) {
			all[work] = owner{t, p.coordinator, broken}
		}
	}
	return all
}

// isOver reports whether the session has ended.
func (k *session) isOver() bool {
	select {
	case <-k.over:
		return true
	default:
		return false
	}
}

// placeOf is where a row stands, as coordinators are told.
func placeOf(at *flowexec.Location, now time.Time) *pb.RowPlace {
	r := &pb.RowPlace{
		Where: string(at.Stage), Lane: uint32(at.Lane), Batch: wire.FromID(at.Part.Batch), Row: at.Part.BatchRow(at.Row),
		Function: at.Function, Wait: string(at.Wait), Connector: at.Connector, Attempt: at.Attempt, RunRows: uint32(at.Rows),
	}
	key := at.Key
	if len(key) > maxKeyTold {
		key = key[:maxKeyTold] + "…"
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

// maxKeyTold bounds how much is told of a connector's key.
const maxKeyTold = 200

// placeSince completes where a row of the part stands: it has been queued since the part came.
func (t *part) placeSince(r *pb.RowPlace, at *flowexec.Location, now time.Time) {
	if at.Since.IsZero() {
		r.ForMilliseconds = uint64(max(0, now.Sub(t.came).Milliseconds()))
	}
}
