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

// Codec is gRPC's codec for all calls. What goes over the wire is protobuf, but rows go there from the slices that a message
// has, and stay where they were received: they are not copied into messages and out of them. So a message must not change
// once it is sent, and rows that came with a message keep the whole of it in memory. It takes protobuf messages, *Lent and, to
// send, *Selected.
type Codec struct{}

var _ encoding.CodecV2 = Codec{}

// bulky is how large, in bytes, a message is for which that is worth its price.
const bulky = 2 << 10

// Name is that of gRPC's own codec, whose messages are the same.
func (Codec) Name() string { return "proto" }

// Marshal implements encoding.CodecV2.
func (Codec) Marshal(v any) (mem.BufferSlice, error) {
	var p pieces
	switch m := v.(type) {
	case *Selected:
		if err := p.selected(m); err != nil {
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
	if proto.Size(m) < bulky {
		b, err := proto.MarshalOptions{UseCachedSize: true}.Marshal(m)
		return mem.BufferSlice{mem.SliceBuffer(b)}, err
	}
	if err := p.message(m); err != nil {
		return nil, err
	}
	return p.all(), nil
}

// together is the data in memory of its own, which must not be written to. A Builder, unlike make, does not clear memory that is
// about to be filled.
func together(data mem.BufferSlice) []byte {
	var b strings.Builder
	b.Grow(data.Len())
	for _, piece := range data {
		b.Write(piece.ReadOnlyData())
	}
	return unsafe.Slice(unsafe.StringData(b.String()), b.Len())
}

// Unmarshal implements encoding.CodecV2.
func (Codec) Unmarshal(data mem.BufferSlice, v any) error {
	lent, _ := v.(*Lent)
	if lent != nil {
		v = lent.Message
	}
	m, ok := v.(proto.Message)
	if !ok {
		return fmt.Errorf("a %T is no protobuf message", v)
	}
	if len(data) == 1 && data[0].Len() < bulky {
		return proto.Unmarshal(data[0].ReadOnlyData(), m)
	}
	proto.Reset(m)
	if lent == nil {
		return unpackBatch(together(data), m)
	}
	b := buffers.Get(data.Len())
	data.CopyTo(*b)
	lent.buffer = mem.NewBuffer(b, buffers)
	return unpackBatch(*b, m)
}

// besideRows is what a client's batch may have beside its rows, in bytes: a coordinator's budget counts rows, and they keep the
// whole message in memory.
const besideRows = 4 << 10

// unpackBatch is unpack for all messages, of which a client's batches may have so much only beside their rows.
func unpackBatch(b []byte, m proto.Message) error {
	beside := math.MaxInt
	switch m.(type) {
	case *pb.StreamRequest, *pb.SubmitRequest:
		beside = besideRows
	}
	return unpack(b, m, &beside)
}
