package wire

import (
	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// FromPositions makes the message for the log in which rows stand; nil stays nil. Their positions go along with the columns.
func FromPositions(p *batch.Positions) *pb.LogTerm {
	if p == nil {
		return nil
	}
	return &pb.LogTerm{Log: p.Log[:], Term: p.Term, Floor: p.Floor}
}

// ToPositions converts and checks where rows stand in a log: log is the message that names it, and columns have their positions, whose
// slice is shared. It returns nil if log is nil, and the rows have no positions. The error has CodeBadPositions.
func ToPositions(log *pb.LogTerm, columns *batch.Columns) (*batch.Positions, error) {
	if log == nil {
		if len(columns.Positions) > 0 {
			return nil, batch.Errorf(batch.CodeBadPositions, "%d positions in a log that is not named: name the log, or send no positions", len(columns.Positions))
		}
		return nil, nil
	}
	id, err := batch.LogIDFrom(log.GetLog())
	if err != nil {
		return nil, err
	}
	p := &batch.Positions{Log: id, Term: log.GetTerm(), Floor: log.GetFloor(), Rows: columns.Positions}
	return p, p.Check(columns.Len())
}
