package wire

import (
	"encoding/binary"
	"math"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// The numbers of the fields of CoordinatorMessage, Part and Columns that lead to rows, and of the fields of rows.
const (
	partField, columnsField                                        = 4, 12
	dataField, endsField, keysField, encodingField, positionsField = 1, 2, 3, 4, 5
)

// Selected is a message with a part that has no columns yet. When it is sent, the part's rows are copied from the whole
// batch's columns straight into the connection's buffer.
type Selected struct {
	Message *pb.CoordinatorMessage
	// Batch has the rows of the whole batch. The Rows of the part name some of them.
	Batch *batch.Columns
}

// addSelected adds the message with its part, and copies the part's rows into a buffer of the pool.
func (p *pieces) addSelected(s *Selected) error {
	// The sizes come first, since lengths are written before the bytes.
	part := s.Message.GetPart()
	bytes := 0
	for _, r := range part.GetRows() {
		bytes += int(s.Batch.Ends[r] - s.Batch.Start(int(r)))
	}
	size := columnsSize(s.Batch, bytes, len(part.GetRows()))
	if size > math.MaxInt32 {
		return batch.Errorf(batch.CodeBatchTooLarge, "the part has %d bytes, and a message has at most 2 GiB: lower --max-batch-bytes of the coordinator", size)
	}
	head := &pb.CoordinatorMessage{
		ResultsReceived: s.Message.GetResultsReceived(), Untaken: s.Message.GetUntaken(), UntakenLimit: s.Message.GetUntakenLimit(),
	}
	var err error
	if p.gathered, err = (proto.MarshalOptions{}).MarshalAppend(p.gathered, head); err != nil {
		return err
	}
	// The part is written without columns, which follow as its last field.
	p.beginField(partField, proto.Size(part)+protowire.SizeTag(columnsField)+protowire.SizeBytes(size))
	if err := p.addMessage(part); err != nil {
		return err
	}
	p.beginField(columnsField, size)
	p.endPiece()
	b := buffers.Get(size)
	*b = appendRows((*b)[:0], s.Batch, part.GetRows(), bytes)
	p.list = append(p.list, mem.NewBuffer(b, buffers))
	return nil
}

// columnsSize returns how many bytes a message Columns takes on the wire if it has this number of rows of c. bytes is the
// size of these rows together.
func columnsSize(c *batch.Columns, bytes, rows int) int {
	return fieldSize(dataField, bytes) + fieldSize(endsField, 4*rows) + fieldSize(keysField, 8*min(rows, len(c.Keys))) + fieldSize(positionsField, 8*min(rows, len(c.Positions))) + fieldSize(encodingField, len(c.Encoding))
}

// appendRows appends the named rows of c to b, encoded as a message Columns. bytes is the size of these rows together.
func appendRows(b []byte, c *batch.Columns, rows []uint32, bytes int) []byte {
	if bytes > 0 {
		b = appendField(b, dataField, bytes)
		for i := 0; i < len(rows); {
			// Rows that stand side by side are copied together.
			first := rows[i]
			last := first
			for i++; i < len(rows) && rows[i] == last+1; i++ {
				last++
			}
			b = append(b, c.Data[c.Start(int(first)):c.Ends[last]]...)
		}
	}
	b = appendField(b, endsField, 4*len(rows)) // a part has rows
	end := uint32(0)
	for _, r := range rows {
		end += c.Ends[r] - c.Start(int(r))
		b = binary.LittleEndian.AppendUint32(b, end)
	}
	if len(c.Keys) > 0 {
		b = appendField(b, keysField, 8*len(rows))
		for _, r := range rows {
			b = binary.LittleEndian.AppendUint64(b, c.Keys[r])
		}
	}
	if len(c.Positions) > 0 {
		b = appendField(b, positionsField, 8*len(rows))
		for _, r := range rows {
			b = binary.LittleEndian.AppendUint64(b, c.Positions[r])
		}
	}
	if c.Encoding != "" {
		b = append(appendField(b, encodingField, len(c.Encoding)), c.Encoding...)
	}
	return b
}
