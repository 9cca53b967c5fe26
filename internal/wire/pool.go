package wire

import (
	"sync"
	"unsafe"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// Lent is a message, to be received or sent, whose rows lie in memory that is used again: gRPC's streams take it where they
// take the message itself. It spares processes that rows only pass through most of their garbage.
type Lent struct {
	Message proto.Message
	buffer  mem.Buffer // nil: what was received was small, or Release was called
}

// Release gives the memory back, once: nobody may look at the rows any more. What gRPC still has to send of them stays. Not
// to call it costs garbage, and nothing else.
func (l *Lent) Release() {
	if l != nil && l.buffer != nil {
		l.buffer.Free()
		l.buffer = nil
	}
}

// Lend is another message with rows of l, to be sent before l is released. Nil lends nothing.
func (l *Lent) Lend(m proto.Message) *Lent {
	if l == nil {
		return &Lent{Message: m}
	}
	return &Lent{Message: m, buffer: l.buffer}
}

// lent is a part of a buffer that may be lent, as gRPC takes it.
func lent(b []byte, from mem.Buffer) mem.Buffer {
	if from != nil {
		whole := from.ReadOnlyData()
		offset := uintptr(unsafe.Pointer(unsafe.SliceData(b))) - uintptr(unsafe.Pointer(unsafe.SliceData(whole)))
		if offset < uintptr(len(whole)) {
			return from.Slice(int(offset), int(offset)+len(b))
		}
	}
	return mem.SliceBuffer(b)
}

// pool keeps buffers that were used, by size in steps of poolStep. Larger ones are rare, and left to the garbage collector.
type pool [32]sync.Pool

const poolStep = 8 << 10

var buffers = new(pool)

// Get implements mem.BufferPool. What is in the buffer is left over.
func (p *pool) Get(length int) *[]byte {
	class := (length+poolStep-1)/poolStep - 1
	if class < 0 || class >= len(p) {
		b := make([]byte, length)
		return &b
	}
	if b, ok := p[class].Get().(*[]byte); ok {
		*b = (*b)[:length]
		return b
	}
	b := make([]byte, length, (class+1)*poolStep)
	return &b
}

// Put implements mem.BufferPool.
func (p *pool) Put(b *[]byte) {
	if class := cap(*b)/poolStep - 1; class >= 0 && class < len(p) && cap(*b)%poolStep == 0 {
		p[class].Put(b)
	}
}
