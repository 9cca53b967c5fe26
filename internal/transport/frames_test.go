package transport

import (
	"encoding/binary"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestFramesInAnyPieces reads streams of frames in pieces of any size: each byte of data counts for the stream of its frame, and the
// reader stops where the headers of a call end, and nowhere else.
func TestFramesInAnyPieces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var wire []byte
		type opened struct {
			at     int
			stream uint32
		}
		var wantStops []opened
		wantData := map[uint32]int{}
		newest := uint32(0)
		for range rapid.IntRange(1, 30).Draw(t, "frames") {
			kind := rapid.SampledFrom([]byte{dataFrame, headersFrame, continuationFrame, resetFrame, settingsFrame, priorityFrame, 6, 8, 20}).Draw(t, "kind")
			flags := rapid.Byte().Draw(t, "flags")
			stream := rapid.Uint32Range(0, 9).Draw(t, "stream")
			size := rapid.IntRange(0, 40).Draw(t, "size")
			header := make([]byte, frameHeaderBytes)
			binary.BigEndian.PutUint32(header, uint32(size)<<8|uint32(kind))
			header[4] = flags
			binary.BigEndian.PutUint32(header[5:], stream|1<<31) // the reserved bit means nothing
			wire = append(append(wire, header...), make([]byte, size)...)
			switch kind {
			case dataFrame:
				wantData[stream] += size
			case headersFrame:
				newest = stream
			}
			if (kind == headersFrame || kind == continuationFrame) && flags&endHeaders != 0 {
				wantStops = append(wantStops, opened{len(wire), newest})
			}
		}
		var f frames
		var stops []opened
		data := map[uint32]int{}
		for at := 0; at < len(wire); {
			piece := wire[at:min(len(wire), at+rapid.IntRange(1, 60).Draw(t, "piece"))]
			n := f.scan(piece, func(stream uint32, n int) { data[stream] += n })
			if n == 0 {
				t.Fatal("nothing was read")
			}
			at += n
			// It stops short of the piece's end only there; at the piece's end it is asked by the frame that is over.
			if len(wantStops) > len(stops) && at == wantStops[len(stops)].at {
				stops = append(stops, opened{at, f.opened})
			} else if n < len(piece) {
				t.Fatalf("it stopped at %d, where no headers end", at)
			} else if len(wantStops) > len(stops) && at > wantStops[len(stops)].at {
				t.Fatalf("it read on to %d, beyond the headers that end at %d", at, wantStops[len(stops)].at)
			}
		}
		if !slices.Equal(stops, wantStops) {
			t.Errorf("headers ended at %v, want %v", stops, wantStops)
		}
		for stream, n := range wantData {
			if data[stream] != n {
				t.Errorf("stream %d had %d bytes, want %d", stream, data[stream], n)
			}
		}
	})
}
