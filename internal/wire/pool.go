package wire

import (
	"sync"
	"unsafe"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// Lent is a message, received or to be sent, whose rows lie in memory that is used again. gRPC's streams take it in place
// of the message. It spares processes that only pass rows on most of their garbage.
type Lent struct {
	Message proto.Message
	buffer  mem.Buffer // nil for a small message, and after Release
}

// Release gives the memory of the rows back, to be used again. After that only gRPC may read the rows, which keeps the
// bytes that it still has to send. Release of a nil Lent, or a second one, does nothing. A Lent that is never released is
// left to the garbage collector.
func (l *Lent) Release() {
	if l != nil && l.buffer != nil {
		l.buffer.Free()
		l.buffer = nil
	}
}

// Lend returns a Lent with another message, m, whose rows lie in the memory of l. gRPC must have the result to send
// before l is released. If l is nil, m has its own memory.
func (l *Lent) Lend(m proto.Message) *Lent {
	if l == nil {
		return &Lent{Message: m}
	}
	return &Lent{Message: m, buffer: l.buffer}
}

// bufferPart returns b as a buffer for gRPC. Where b lies in from, the result keeps from in memory until gRPC has sent it.
func bufferPart(b []byte, from mem.Buffer) mem.Buffer {
	if from != nil {
		whole := from.ReadOnlyData()
		offset := uintptr(unsafe.Pointer(unsafe.SliceData(b))) - uintptr(unsafe.Pointer(unsafe.SliceData(whole)))
		if offset < uintptr(len(whole)) {
			return from.Slice(int(offset), int(offset)+len(b))
		}
	}
	return mem.SliceBuffer(b)
}

// pool keeps used buffers by size: in steps of poolGrain up to poolStep, then in steps of poolStep. Larger buffers are
// rare, so they are left to the garbage collector.
type pool struct {
	small [poolStep/poolGrain - 1]sync.Pool
	large [32]sync.Pool
}

// Steps in which the sizes of pooled buffers grow, in bytes.
const (
	poolStep  = 8 << 10 // the sizes from poolStep on are its multiples
	poolGrain = 1 << 10 // the sizes below poolStep are multiples of poolGrain
)

// buffers is the pool from which this process takes the buffers of messages.
var buffers = new(pool)

// Buffers returns the pool, for gRPC. Unlike gRPC's own pool it does not clear buffers that are about to be filled.
func Buffers() mem.BufferPool { return buffers }

// classOf returns the sync.Pool of the buffers that have room for length bytes, and the size of these buffers. It returns
// nil for a length of 0 and for lengths so large that buffers are not kept.
func (p *pool) classOf(length int) (*sync.Pool, int) {
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

// Get implements mem.BufferPool: it returns a buffer of this length, which may still have bytes of its last use.
func (p *pool) Get(length int) *[]byte {
	of, size := p.classOf(length)
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

// Put implements mem.BufferPool: it keeps a buffer of Get for later. A buffer of any other capacity is left to the
// garbage collector.
func (p *pool) Put(b *[]byte) {
	if of, size := p.classOf(cap(*b)); of != nil && size == cap(*b) {
		of.Put(b)
	}
}
