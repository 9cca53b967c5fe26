package wire

import (
	"math"
	"strings"

	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// Limits of an origin, because a message may have only 4 KiB beside its rows.
const (
	maxSource = 1024 // bytes
	maxRuns   = 100
)

// Origin says where the rows of a batch come from: source is the name of a file or of another source, of which the first 1,024 bytes count,
// and lines has the line in it of each row, counted from 1. Rows behind the first 100 runs of consecutive lines, or behind a number that is no
// line, have no line.
func Origin(source string, lines []int) *pb.Origin {
	o := &pb.Origin{Source: strings.ToValidUTF8(source[:min(len(source), maxSource)], "")}
	var run *pb.Range
	for _, line := range lines {
		switch {
		case line < 1 || line > math.MaxUint32:
			return o
		case run != nil && int(run.GetFirst())+int(run.GetCount()) == line:
			run.Count++
		case len(o.GetLines()) == maxRuns:
			return o
		default:
			run = &pb.Range{First: uint32(line), Count: 1}
			o.Lines = append(o.Lines, run)
		}
	}
	return o
}
