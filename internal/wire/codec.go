package wire

import (
	"fmt"
	"math"
	"strings"
	"unsafe"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// Codec is gRPC's codec for all calls. It writes and reads protobuf, but it does not copy rows: they are sent from the
// slices of the message, and stay in the memory in which they were received. So a message must not change after it is sent,
// and rows of a received message keep the whole message in memory. The codec takes protobuf messages and *Lent, and for
// sending also *Selected.
type Codec struct{}

var _ encoding.CodecV2 = Codec{}

// sharedFrom is the size of a message, in bytes, from which on it is cheaper to share its rows with the buffer for gRPC
// than to copy them.
const sharedFrom = 2 << 10

// Name returns the name of gRPC's own codec, since both write the same bytes.
func (Codec) Name() string { return "proto" }

// Marshal implements encoding.CodecV2: it encodes a protobuf message, a *Lent or a *Selected. A message of sharedFrom
// bytes or more shares its rows with the result.
func (Codec) Marshal(v any) (mem.BufferSlice, error) {
	var p pieces
	switch m := v.(type) {
	case *Selected:
		if err := p.addSelected(m); err != nil {
			return nil, err
		}
		return p.all(), nil
	case *Lent:
		v, p.from = m.Message, m.buffer
	}
	m, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("a %T is no protobuf message", v)
	}
	// A small message is cheaper to copy than to share.
	if proto.Size(m) < sharedFrom {
		b, err := proto.MarshalOptions{UseCachedSize: true}.Marshal(m)
		return mem.BufferSlice{mem.SliceBuffer(b)}, err
	}
	if err := p.addMessage(m); err != nil {
		return nil, err
	}
	return p.all(), nil
}

// joined copies data into one new slice, which must not be written to. The memory comes from a strings.Builder because make
// would first clear it, which takes time.
func joined(data mem.BufferSlice) []byte {
	var b strings.Builder
	b.Grow(data.Len())
	for _, piece := range data {
		b.Write(piece.ReadOnlyData())
	}
	return unsafe.Slice(unsafe.StringData(b.String()), b.Len())
}

// Unmarshal implements encoding.CodecV2: it decodes data into a protobuf message or a *Lent. Unless data is smaller than
// sharedFrom and in one piece, the rows of the message lie in one copy of data, which belongs to the message or is the
// buffer of the Lent.
func (Codec) Unmarshal(data mem.BufferSlice, v any) error {
	lent, _ := v.(*Lent)
	if lent != nil {
		v = lent.Message
	}
	m, ok := v.(proto.Message)
	if !ok {
		return fmt.Errorf("a %T is no protobuf message", v)
	}
	if len(data) == 1 && data[0].Len() < sharedFrom {
		return proto.Unmarshal(data[0].ReadOnlyData(), m)
	}
	// The message comes in pieces. Its rows stay in one copy of them: one of its own, or a buffer that is used again.
	proto.Reset(m)
	if lent == nil {
		return unpackBatch(joined(data), m)
	}
	b := buffers.Get(data.Len())
	data.CopyTo(*b)
	lent.buffer = mem.NewBuffer(b, buffers)
	return unpackBatch(*b, m)
}

// besideRows bounds, in bytes, all that the message of a client's batch has beside its rows. A coordinator's budget counts
// only the rows, but they keep the whole message in memory.
const besideRows = 4 << 10

// unpackBatch does what unpack does. It refuses a client's batch that has more than besideRows bytes beside its rows;
// other messages have no such limit.
func unpackBatch(b []byte, m proto.Message) error {
	beside := math.MaxInt
	switch m.(type) {
	case *pb.StreamRequest, *pb.SubmitRequest:
		beside = besideRows
	}
	return unpack(b, m, &beside)
}
