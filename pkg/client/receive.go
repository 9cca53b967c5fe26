package client

import (
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// receive reads the coordinator's messages until the connection ends. It returns how many answers came, and why the connection ended.
func (at *session) receive() (answers int, err error) {
	s := at.stream
	for {
		response := new(pb.StreamResponse)
		lent := &wire.Lent{Message: response}
		if err := at.remote.RecvMsg(lent); err != nil {
			return answers, endError(err)
		}
		switch m := response.GetKind().(type) {
		case *pb.StreamResponse_Answer:
			s.answer(m.Answer, lent)
			answers++
		case *pb.StreamResponse_Credit:
			s.grant(size{int64(m.Credit.GetRows()), int64(m.Credit.GetBytes())})
		case *pb.StreamResponse_Switched:
			active, err := wire.ToRevision(m.Switched.GetRevision(), m.Switched.GetDigest())
			if err != nil {
				return answers, err
			}
			s.mu.Lock()
			s.setRevision(active, m.Switched.GetShardKey())
			s.mu.Unlock()
		case *pb.StreamResponse_Move:
			select {
			case at.asked <- int(m.Move.GetCoordinators()):
			default: // move is looking for a coordinator already
			}
		}
	}
}

// setRevision notes the flow's active revision, and the field that is its shard key; an empty field means none. The caller holds mu.
func (s *Stream) setRevision(revision batch.Revision, field string) {
	s.revision = revision
	switch field {
	case s.shardKey:
	case "":
		s.shardKey, s.key = "", nil
	default:
		key := batch.NewKeyField(field)
		s.shardKey, s.key = field, &key
	}
}

// grant adds credit, which widens the window.
func (s *Stream) grant(credit size) {
	s.mu.Lock()
	s.credit = s.credit.plus(credit)
	s.mu.Unlock()
	s.work.wake()
	s.room.wake()
}

// answer takes one answer of the coordinator: a refusal of a batch, or outcomes of some of its rows. A batch may have several answers, of
// which the last one says that it is the last.
func (s *Stream) answer(a *pb.Answer, lent *wire.Lent) {
	refused := wire.ToError(a.GetRefused())
	ran, err := wire.ToRevision(a.GetRevision(), a.GetDigest())
	s.mu.Lock()
	p := s.unanswered[a.GetSequence()]
	if p == nil || !p.sent {
		pointUnwanted.Hit()
		s.mu.Unlock()
		return // its Pending has ended, so nobody waits for the answer
	}
	if refused == nil && err == nil {
		p.batch.PinTo(ran)
	}
	s.mu.Unlock()

	switch {
	case refused != nil:
		pointRefused.Hit()
		s.complete(p, refused)
	default:
		if err == nil {
			err = p.add(a, lent)
		}
		if err != nil {
			p.batch.Doubt(s.flow)
			s.complete(p, err)
		} else if a.GetLast() {
			s.complete(p, nil)
		}
	}
}
