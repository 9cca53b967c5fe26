// Package frames follows the frames of an HTTP/2 connection without decoding them. A server counts frames with it to refuse a client
// that sends too many, and a process puts a frame of its own between those of gRPC to find out whether its peer is alive.
package frames

import "encoding/binary"

// The numbers of HTTP/2 that a Reader knows (RFC 9113, section 4.1): sizes in bytes, types of frames, and flags.
const (
	prefaceBytes     = 24
	frameHeaderBytes = 9

	dataFrame         = 0
	headersFrame      = 1
	priorityFrame     = 2
	resetFrame        = 3
	settingsFrame     = 4
	continuationFrame = 9

	endStream  = 1 // flag of DATA and HEADERS frames: the last frame of the stream
	endHeaders = 4 // flag of HEADERS and CONTINUATION frames: the headers end here
)

// Ask is an empty SETTINGS frame. Every peer must acknowledge it (RFC 9113, section 6.5.3), so it shows whether the peer is
// alive. Servers limit how many PING frames may come, but not SETTINGS frames, and gRPC accepts the acknowledgement
// silently.
var Ask = []byte{0, 0, 0, settingsFrame, 0, 0, 0, 0, 0}

// Reader follows the frames in the bytes that a client sends. It does not change or keep them. The zero Reader begins
// behind the preface, the fixed bytes with which a connection starts. A Reader belongs to one goroutine.
type Reader struct {
	skip   int                    // bytes before the next frame's header
	data   int                    // how many of these belong to a DATA frame
	header [frameHeaderBytes]byte // the header of the frame that is being read
	filled int                    // bytes of header that have come

	stream uint32 // the stream of the frame that is being read
	ends   bool   // the headers of a call end with this frame
	opened uint32 // the stream whose headers were read last
	idle   int    // frames without content since TakeIdle was called
}

// FromPreface makes a Reader that begins with the preface: for all that a client sends.
func FromPreface() Reader { return Reader{skip: prefaceBytes} }

// Opened returns the number of the stream whose headers were read last; 0 before the first.
func (r *Reader) Opened() uint32 { return r.opened }

// TakeIdle returns how many frames came since the last call that make work and have no content: RST_STREAM, SETTINGS and
// PRIORITY frames, and empty DATA and CONTINUATION frames that end nothing. A client that sends very many of them is probably attacking.
func (r *Reader) TakeIdle() int {
	n := r.idle
	r.idle = 0
	return n
}

// Scan reads p up to its end, or up to the end of a call's headers, and returns how many bytes it read. It calls came for
// each piece of a DATA frame that it has read, with the number of the frame's stream and the size in bytes.
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

// begin starts a frame whose header is complete: it notes the frame's stream and size, and whether the frame counts as
// idle.
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

// Between reports whether another frame may be put in behind the bytes that were read: no frame is incomplete, and the
// headers of a call are complete.
func (r *Reader) Between() bool {
	kind, flags := r.header[3], r.header[4]
	return r.skip == 0 && r.filled == 0 && (kind != headersFrame && kind != continuationFrame || flags&endHeaders != 0)
}
