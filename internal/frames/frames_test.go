package frames

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
		var f Reader
		var stops []opened
		data := map[uint32]int{}
		for at := 0; at < len(wire); {
			piece := wire[at:min(len(wire), at+rapid.IntRange(1, 60).Draw(t, "piece"))]
			n := f.Scan(piece, func(stream uint32, n int) { data[stream] += n })
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

// TestAskOnlyBetweenFrames: the frame that asks never stands within another one, nor between the headers of a call.
func TestAskOnlyBetweenFrames(t *testing.T) {
	frame := func(kind, flags byte, length int) []byte {
		return append([]byte{0, 0, byte(length), kind, flags, 0, 0, 0, 1}, make([]byte, length)...)
	}
	pieces := [][]byte{
		make([]byte, prefaceBytes), frame(settingsFrame, 0, 6), frame(headersFrame, 0, 5), frame(continuationFrame, 0, 0),
		frame(continuationFrame, endHeaders, 3), frame(dataFrame, endStream, 10), frame(headersFrame, endHeaders, 0), frame(dataFrame, 0, 0),
	}
	var all []byte
	may := map[int]bool{}
	for i, p := range pieces {
		all = append(all, p...)
		may[len(all)] = i != 2 && i != 3
	}
	for cut := 1; cut <= len(all); cut++ {
		f := FromPreface()
		for done := 0; done < cut; {
			done += f.Scan(all[done:cut], func(uint32, int) {})
		}
		if f.Between() != may[cut] {
			t.Errorf("after %d bytes a frame may stand: %t, want %t", cut, f.Between(), may[cut])
		}
	}
}
