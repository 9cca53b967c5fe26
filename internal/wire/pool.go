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

// pool keeps buffers that were used, by size in steps of poolStep, and of poolGrain below that. Larger ones are rare, and left to
// the garbage collector.
type pool struct {
	small [poolStep/poolGrain - 1]sync.Pool
	large [32]sync.Pool
}

const (
	poolStep  = 8 << 10
	poolGrain = 1 << 10
)

var buffers = new(pool)

// Buffers is where gRPC, too, gets its buffers from: unlike its own pool, this one does not clear what is about to be filled.
func Buffers() mem.BufferPool { return buffers }

// of is the pool of buffers of so many bytes, and how many those have; nil for none.
func (p *pool) of(length int) (*sync.Pool, int) {
	class := (length + poolStep - 1) / poolStep
	if class == 1 {
		if grains := (length + poolGrain - 1) / poolGrain; grains <= len(p.small) {
			return &p.small[grains-1], grains * poolGrain
		}
	}
	if class == 0 || class > len(p.large) {
		return nil, 0
	}
	return &p.large[class-1], class * poolStep
}

// Get implements mem.BufferPool. What is in the buffer is left over.
func (p *pool) Get(length int) *[]byte {
	of, size := p.of(length)
	if of == nil {
		b := make([]byte, length)
		return &b
	}
	if b, ok := of.Get().(*[]byte); ok {
		*b = (*b)[:length]
		return b
	}
	b := make([]byte, length, size)
	return &b
}

// Put implements mem.BufferPool.
func (p *pool) Put(b *[]byte) {
	if of, size := p.of(cap(*b)); of != nil && size == cap(*b) {
		of.Put(b)
	}
}
