package wire_test

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// calls are the messages that gRPC is given.
func calls() map[string]proto.Message {
	return map[string]proto.Message{
		"submit request": &pb.SubmitRequest{}, "submit response": &pb.SubmitResponse{},
		"open": &pb.StreamRequest{Kind: &pb.StreamRequest_Open{}}, "submission": &pb.StreamRequest{Kind: &pb.StreamRequest_Submission{}},
		"opened": &pb.StreamResponse{Kind: &pb.StreamResponse_Opened{}}, "answer": &pb.StreamResponse{Kind: &pb.StreamResponse_Answer{}},
		"credit":     &pb.StreamResponse{Kind: &pb.StreamResponse_Credit{}},
		"definition": &pb.CoordinatorMessage{Kind: &pb.CoordinatorMessage_Definition{}}, "part": &pb.CoordinatorMessage{Kind: &pb.CoordinatorMessage_Part{}},
		"compiled": &pb.WorkerMessage{Kind: &pb.WorkerMessage_Compiled{}}, "result": &pb.WorkerMessage{Kind: &pb.WorkerMessage_Result{}},
	}
}

// fill gives every field of a message a value, with lists and bytes of so many elements. Of a oneof the member that is set
// is filled.
func fill(r *rand.Rand, m protoreflect.Message, size int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if o := f.ContainingOneof(); o != nil && m.WhichOneof(o) != f {
			continue
		}
		switch {
		case f.IsList() && f.Message() != nil:
			list := m.Mutable(f).List()
			for range 3 {
				fill(r, list.AppendMutable().Message(), 10)
			}
		case f.IsList():
			list := m.Mutable(f).List()
			for range size {
				list.Append(value(r, f, size))
			}
		case f.Message() != nil:
			inner := m.NewField(f)
			fill(r, inner.Message(), size)
			m.Set(f, inner)
		default:
			m.Set(f, value(r, f, size))
		}
	}
}

func value(r *rand.Rand, f protoreflect.FieldDescriptor, size int) protoreflect.Value {
	switch f.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(1 + r.IntN(3)))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(1 + r.Int64N(1<<40))
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(1 + r.Uint64N(1<<60))
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(1 + r.Uint32N(1<<30))
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(strings.Repeat("s", 1+r.IntN(20)))
	case protoreflect.BytesKind:
		n := 4*size + 3
		switch f.Name() { // a batch may not have much beside its rows
		case "stream", "log":
			n = 16
		case "digest":
			n = 32
		}
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return protoreflect.ValueOfBytes(b)
	}
	panic("a field of kind " + f.Kind().String() + ": say what to fill it with")
}

// frames cuts bytes into buffers, as HTTP/2 does.
func frames(b []byte, size int) (cut mem.BufferSlice) {
	for len(b) > 0 {
		n := min(size, len(b))
		cut, b = append(cut, mem.SliceBuffer(bytes.Clone(b[:n]))), b[n:]
	}
	return cut
}

func TestCodecSpeaksProtobuf(t *testing.T) {
	for name, m := range calls() {
		for _, size := range []int{0, 1, 100, 5000} {
			m := proto.Clone(m)
			r := rand.New(rand.NewPCG(1, uint64(size)))
			fill(r, m.ProtoReflect(), size)

			sent, err := wire.Codec{}.Marshal(m)
			if err != nil {
				t.Fatalf("%s of %d: marshal: %v", name, size, err)
			}
			ours := sent.Materialize()
			if len(ours) != proto.Size(m) {
				t.Errorf("%s of %d: it has %d bytes, protobuf needs %d", name, size, len(ours), proto.Size(m))
			}
			read := m.ProtoReflect().New().Interface()
			if err := proto.Unmarshal(ours, read); err != nil {
				t.Fatalf("%s of %d: protobuf can't read what the codec wrote: %v", name, size, err)
			}
			if !proto.Equal(read, m) {
				t.Errorf("%s of %d: protobuf reads another message than the codec wrote", name, size)
			}

			theirs, err := proto.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			for _, written := range [][]byte{ours, theirs} {
				read := m.ProtoReflect().New().Interface()
				fill(r, read.ProtoReflect(), 2) // what a message had before does not count
				if err := (wire.Codec{}).Unmarshal(frames(written, 16<<10), read); err != nil {
					t.Fatalf("%s of %d: unmarshal: %v", name, size, err)
				}
				if !proto.Equal(read, m) {
					t.Errorf("%s of %d: the codec reads another message than was written", name, size)
				}
			}
		}
	}
}

func TestCodecSharesRows(t *testing.T) {
	data := bytes.Repeat([]byte("r"), 10_000)
	m := &pb.StreamRequest{Kind: &pb.StreamRequest_Submission{Submission: &pb.Submission{Rows: &pb.Columns{Data: data, Ends: []uint32{10_000}}}}}
	sent, err := wire.Codec{}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	shared := false
	for _, b := range sent {
		shared = shared || b.Len() == len(data) && &b.ReadOnlyData()[0] == &data[0]
	}
	if !shared {
		t.Error("the rows were copied")
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = wire.Codec{}.Marshal(m) }); n > 30 {
		t.Errorf("%v allocations for one message", n)
	}
}

func TestCodecRefusesWhatIsNoMessage(t *testing.T) {
	if _, err := (wire.Codec{}).Marshal("text"); err == nil {
		t.Error("a string was marshalled")
	}
	if err := (wire.Codec{}).Unmarshal(nil, new(string)); err == nil {
		t.Error("a string was unmarshalled")
	}
}

// FuzzCodec holds the codec to protobuf's verdict on bytes from outside.
func FuzzCodec(f *testing.F) {
	for _, m := range calls() {
		fill(rand.New(rand.NewPCG(1, 1)), m.ProtoReflect(), 10)
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, uint8(3))
	}
	f.Fuzz(func(t *testing.T, b []byte, size uint8) {
		for name, m := range calls() {
			theirs, ours := m.ProtoReflect().New().Interface(), m.ProtoReflect().New().Interface()
			wanted := proto.Unmarshal(b, theirs)
			// Two buffers at least: a small message in one is protobuf's own.
			got := wire.Codec{}.Unmarshal(append(frames(b, 1+int(size)), mem.SliceBuffer(nil)), ours)
			if (wanted == nil) != (got == nil) {
				t.Fatalf("%s: protobuf says %v, the codec %v", name, wanted, got)
			}
			if wanted == nil && !proto.Equal(theirs, ours) {
				t.Fatalf("%s: protobuf reads %v, the codec %v", name, theirs, ours)
			}
		}
	})
}

// columns are so many rows of random lengths, some empty.
func columns(r *rand.Rand, n int) batch.Columns {
	c := batch.Columns{Encoding: "msgpack"}
	for i := range n {
		c.Append(bytes.Repeat([]byte{byte('a' + i%26)}, r.IntN(60)))
		c.Keys = append(c.Keys, r.Uint64())
	}
	return c
}

func TestSelectedIsThePartWithItsRows(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 3))
	for _, n := range []int{1, 2, 10, 3000} {
		for _, keyed := range []bool{true, false} {
			all := columns(r, n)
			if !keyed {
				all.Keys, all.Encoding = nil, ""
			}
			var rows []uint32
			for i := range uint32(n) {
				if len(rows) == 0 || r.IntN(2) == 0 {
					rows = append(rows, i)
				}
			}
			part := &pb.Part{Number: 7, Flow: "flow", Rows: rows, BatchRows: uint32(n), Output: true}
			m := &pb.CoordinatorMessage{
				ResultsReceived: 5, Untaken: []*pb.Untaken{{Flow: "flow", Bytes: 6}}, UntakenLimit: 8, Kind: &pb.CoordinatorMessage_Part{Part: part},
			}
			sent, err := wire.Codec{}.Marshal(&wire.Selected{Message: m, Batch: &all})
			if err != nil {
				t.Fatal(err)
			}
			got := new(pb.CoordinatorMessage)
			if err := (wire.Codec{}).Unmarshal(frames(sent.Materialize(), 1000), got); err != nil {
				t.Fatal(err)
			}
			sent.Free()
			part.Columns = wire.FromColumns(all.Select(rows))
			if !proto.Equal(got, m) {
				t.Errorf("%d of %d rows, with keys %v: got %v, want %v", len(rows), n, keyed, got, m)
			}
		}
	}
}

// TestLentRowsGoOnAsTheyCame passes rows on as a coordinator does. What gRPC has not sent yet must outlive Release.
func TestLentRowsGoOnAsTheyCame(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 5))
	for range 50 {
		rows := columns(r, 1+r.IntN(2000))
		origins := make([]uint32, rows.Len())
		in := &pb.WorkerMessage{Kind: &pb.WorkerMessage_Result{Result: &pb.Result{
			Number: 3, Last: true, Output: wire.FromOutput(batch.Output{Rows: rows, Origins: origins}),
		}}}
		written, err := proto.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		received := new(pb.WorkerMessage)
		lent := &wire.Lent{Message: received}
		if err := (wire.Codec{}).Unmarshal(frames(written, 16<<10), lent); err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(received, in) {
			t.Fatal("received another message than was sent")
		}
		out := &pb.StreamResponse{Kind: &pb.StreamResponse_Answer{Answer: &pb.Answer{Sequence: 9, Output: received.GetResult().GetOutput()}}}
		sent, err := wire.Codec{}.Marshal(lent.Lend(out))
		if err != nil {
			t.Fatal(err)
		}
		lent.Release()
		lent.Release()
		// Another message would be received into what was released.
		other := &wire.Lent{Message: new(pb.WorkerMessage)}
		if err := (wire.Codec{}).Unmarshal(frames(bytes.Repeat([]byte{0x7a, 0}, len(written)/2), 16<<10), other); err != nil {
			t.Fatal(err)
		}
		got := new(pb.StreamResponse)
		if err := proto.Unmarshal(sent.Materialize(), got); err != nil {
			t.Fatal(err)
		}
		want := &pb.StreamResponse{Kind: &pb.StreamResponse_Answer{Answer: &pb.Answer{Sequence: 9, Output: in.GetResult().GetOutput()}}}
		if !proto.Equal(got, want) {
			t.Fatal("what was passed on has changed since")
		}
		sent.Free()
		other.Release()
	}
	(*wire.Lent)(nil).Release()
}

func BenchmarkCodec(b *testing.B) {
	all := batch.Columns{}
	var rows []uint32
	for i := range uint32(1000) {
		all.Append(bytes.Repeat([]byte{'r'}, 50))
		all.Keys = append(all.Keys, rand.Uint64())
		if rand.IntN(2) == 0 {
			rows = append(rows, i)
		}
	}
	m := &pb.StreamRequest{Kind: &pb.StreamRequest_Submission{Submission: &pb.Submission{Sequence: 1, Rows: wire.FromColumns(all)}}}
	written, err := proto.Marshal(m)
	if err != nil {
		b.Fatal(err)
	}
	received := frames(written, 16<<10)
	b.Run("marshal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s, _ := wire.Codec{}.Marshal(m)
			s.Free()
		}
	})
	b.Run("unmarshal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = wire.Codec{}.Unmarshal(received, new(pb.StreamRequest))
		}
	})
	b.Run("unmarshal-lent", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			l := &wire.Lent{Message: new(pb.StreamRequest)}
			_ = wire.Codec{}.Unmarshal(received, l)
			l.Release()
		}
	})
	b.Run("select-half", func(b *testing.B) {
		part := &pb.CoordinatorMessage{Kind: &pb.CoordinatorMessage_Part{Part: &pb.Part{Number: 1, Rows: rows}}}
		b.ReportAllocs()
		for b.Loop() {
			s, _ := wire.Codec{}.Marshal(&wire.Selected{Message: part, Batch: &all})
			s.Free()
		}
	})
}

// TestBatchesHaveLittleBesideRows: rows keep the whole message in memory, and only rows are in a coordinator's budget.
func TestBatchesHaveLittleBesideRows(t *testing.T) {
	const limit = 4 << 10
	rows := &pb.Columns{Data: make([]byte, 1<<20), Ends: make([]uint32, 1<<12), Keys: make([]uint64, 1<<12)}
	submit := func(s *pb.Submission) []byte {
		b, err := proto.Marshal(&pb.SubmitRequest{Flow: "F", Submission: s})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	more := strings.Repeat("x", limit)
	twice := protowire.AppendTag(nil, 3, protowire.BytesType) // the rows once more, so that those before are lost, but for their bytes
	inner := protowire.AppendTag(nil, 8, protowire.BytesType)
	inner = protowire.AppendBytes(inner, protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), []byte("{}")))
	twice = append(submit(&pb.Submission{Rows: rows}), protowire.AppendBytes(twice, inner)...)
	for name, c := range map[string]struct {
		message []byte
		refused bool
	}{
		"rows":                     {message: submit(&pb.Submission{Rows: rows, ShardKey: more[:limit/2]})},
		"a long field":             {message: submit(&pb.Submission{Rows: rows, ShardKey: more}), refused: true},
		"a long encoding":          {message: submit(&pb.Submission{Rows: &pb.Columns{Encoding: more}}), refused: true},
		"an unknown field":         {message: protowire.AppendString(protowire.AppendTag(submit(&pb.Submission{Rows: rows}), 1000, protowire.BytesType), more), refused: true},
		"rows that others replace": {message: twice, refused: true},
	} {
		for _, into := range []any{&pb.SubmitRequest{}, &wire.Lent{Message: &pb.SubmitRequest{}}} {
			err := wire.Codec{}.Unmarshal(frames(c.message, 16<<10), into)
			if (batch.CodeOf(err) == batch.CodeBadMessage) != c.refused || (err != nil) != c.refused {
				t.Errorf("%s: got %v", name, err)
			}
		}
	}
	other, err := proto.Marshal(&pb.ApplyRequest{Documents: []*pb.Document{{Yaml: []byte(more)}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := (wire.Codec{}).Unmarshal(frames(other, 16<<10), &pb.ApplyRequest{}); err != nil {
		t.Errorf("a message that is no batch: %v", err)
	}
}
