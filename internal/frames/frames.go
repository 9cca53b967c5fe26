// Package frames follows the frames of an HTTP/2 connection, as far as who counts them, or sends one in between, has to know them.
package frames

import "encoding/binary"

// HTTP/2, as far as a Reader knows it (RFC 9113, section 4.1).
const (
	prefaceBytes     = 24
	frameHeaderBytes = 9

	dataFrame         = 0
	headersFrame      = 1
	priorityFrame     = 2
	resetFrame        = 3
	settingsFrame     = 4
	continuationFrame = 9

	endStream  = 1 // flag of a frame of data or headers
	endHeaders = 4 // flag of a frame of headers or their continuation
)

// Ask is an empty frame of settings, which every peer must acknowledge (RFC 9113, section 6.5.3). Unlike pings, which servers
// count, it may come at any time; gRPC takes the acknowledgement without a word.
var Ask = []byte{0, 0, 0, settingsFrame, 0, 0, 0, 0, 0}

// Reader follows the frames in a stream of bytes: a client's, from its preface on. The zero Reader begins behind the preface. It belongs to one
// goroutine.
type Reader struct {
	skip   int // bytes before the next frame's header
	data   int // of skip: bytes of a frame of data
	header [frameHeaderBytes]byte
	filled int // bytes of header

	stream uint32 // of the frame that is being read
	ends   bool   // the headers of a call end with the frame that is being read
	opened uint32 // the stream whose headers were read last
	idle   int    // frames that brought nothing, and nobody has asked about
}

// FromPreface is a Reader of all that a client sends.
func FromPreface() Reader { return Reader{skip: prefaceBytes} }

// Opened is the stream whose headers were read last.
func (r *Reader) Opened() uint32 { return r.opened }

// TakeIdle is how many frames that ask for work and bring nothing came since it was asked last: resets of calls, empty frames of data,
// settings and priorities.
func (r *Reader) TakeIdle() int {
	n := r.idle
	r.idle = 0
	return n
}

// Scan goes through p up to its end, or to the end of a call's headers, and returns how much that is. It tells came of each piece of
// data and of the stream that it is for.
func (r *Reader) Scan(p []byte, came func(stream uint32, data int)) (n int) {
	for n < len(p) {
		if r.skip > 0 {
			step := min(r.skip, len(p)-n)
			r.skip -= step
			n += step
			if r.data > 0 {
				r.data -= step
				came(r.stream, step)
			}
			if r.skip == 0 && r.ends {
				r.ends = false
				return n
			}
			continue
		}
		copied := copy(r.header[r.filled:], p[n:])
		r.filled += copied
		n += copied
		if r.filled == frameHeaderBytes {
			r.filled = 0
			r.begin()
			if r.skip == 0 && r.ends {
				r.ends = false
				return n
			}
		}
	}
	return n
}

// begin reads the header of a frame.
func (r *Reader) begin() {
	kind, flags := r.header[3], r.header[4]
	r.skip = int(binary.BigEndian.Uint32(r.header[:4]) >> 8)
	r.stream = binary.BigEndian.Uint32(r.header[5:]) &^ (1 << 31)
	r.data, r.ends = 0, false
	switch kind {
	case dataFrame:
		r.data = r.skip
		if r.skip == 0 && flags&endStream == 0 {
			r.idle++
		}
	case headersFrame:
		r.opened = r.stream
		r.ends = flags&endHeaders != 0
	case continuationFrame:
		r.ends = flags&endHeaders != 0
		if r.skip == 0 {
			r.idle++
		}
	case resetFrame, settingsFrame, priorityFrame:
		r.idle++
	}
}

// Between reports whether another frame may stand here: none is begun, nor the headers of a call.
func (r *Reader) Between() bool {
	kind, flags := r.header[3], r.header[4]
	return r.skip == 0 && r.filled == 0 && (kind != headersFrame && kind != continuationFrame || flags&endHeaders != 0)
}
