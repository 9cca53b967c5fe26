package wire

import (
	"encoding/binary"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unsafe"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// field is a field that may be large, and where it is in a message: bytes, numbers or, with all of these nil, a message.
type field struct {
	number protowire.Number
	bytes  *[]byte
	words  *[]uint32
	longs  *[]uint64
	inner  func() proto.Message // nil where there is none
	create func() proto.Message // makes the inner message where there is none
}

// message is a field that has a message.
func message[M any, P interface {
	*M
	proto.Message
}](number protowire.Number, place *P) field {
	return one(number, *place, func(m P) { *place = m })
}

// one is a field that has a message, maybe one of several kinds.
func one[M any, P interface {
	*M
	proto.Message
}](number protowire.Number, is P, set func(P)) field {
	f := field{number: number, inner: func() proto.Message { return nil }}
	f.create = func() proto.Message {
		if is == nil {
			is = new(M)
			set(is)
		}
		return is
	}
	if is != nil {
		f.inner = f.create
	}
	return f
}

// large are the fields of a message that may be large: rows, what stands beside each of them, and the messages that they lie in.
func large(m proto.Message) []field {
	switch m := m.(type) {
	case *pb.StreamRequest:
		return []field{one(2, m.GetSubmission(), func(s *pb.Submission) { m.Kind = &pb.StreamRequest_Submission{Submission: s} })}
	case *pb.SubmitRequest:
		return []field{message(3, &m.Submission)}
	case *pb.Submission:
		return []field{message(8, &m.Rows)}
	case *pb.StreamResponse:
		return []field{one(2, m.GetAnswer(), func(a *pb.Answer) { m.Kind = &pb.StreamResponse_Answer{Answer: a} })}
	case *pb.SubmitResponse:
		return []field{message(1, &m.Answer)}
	case *pb.Answer:
		return []field{message(5, &m.Output)}
	case *pb.CoordinatorMessage:
		return []field{one(4, m.GetPart(), func(p *pb.Part) { m.Kind = &pb.CoordinatorMessage_Part{Part: p} })}
	case *pb.Part:
		return []field{{number: 10, words: &m.Rows}, message(12, &m.Columns)}
	case *pb.WorkerMessage:
		return []field{one(3, m.GetResult(), func(r *pb.Result) { m.Kind = &pb.WorkerMessage_Result{Result: r} })}
	case *pb.Result:
		return []field{message(6, &m.Output)}
	case *pb.Output:
		return []field{message(1, &m.Rows), {number: 2, words: &m.Origins}}
	case *pb.Columns:
		return []field{{number: 1, bytes: &m.Data}, {number: 2, words: &m.Ends}, {number: 3, longs: &m.Keys}}
	}
	return nil
}

// small is a message without its large fields, and without the oneof that one of them is of; nil where that leaves nothing.
func small(m proto.Message, large []field) proto.Message {
	from := reflect.ValueOf(m).Elem()
	copied, ok := copies.Load(from.Type())
	if !ok {
		copied, _ = copies.LoadOrStore(from.Type(), copiesOf(from.Type(), large))
	}
	indexes := copied.([]int)
	if len(indexes) == 0 {
		return nil
	}
	to := reflect.New(from.Type())
	for _, i := range indexes {
		to.Elem().Field(i).Set(from.Field(i))
	}
	return to.Interface().(proto.Message)
}

// copies are the fields that small copies: reflect.Type → []int.
var copies sync.Map

// copiesOf finds them by protobuf's tags, so that fields which are added to a message need no mention here.
func copiesOf(message reflect.Type, large []field) (indexes []int) {
	for i := range message.NumField() {
		kind, rest, ok := strings.Cut(message.Field(i).Tag.Get("protobuf"), ",")
		number, _, _ := strings.Cut(rest, ",")
		isLarge := func(f field) bool { return strconv.Itoa(int(f.number)) == number }
		if ok && kind != "" && !slices.ContainsFunc(large, isLarge) {
			indexes = append(indexes, i)
		}
	}
	return indexes
}

// pieces are a message on its way to the wire. Large slices are shared, each as a piece of its own; what is between them is
// gathered.
type pieces struct {
	list     mem.BufferSlice
	gathered []byte     // behind list
	from     mem.Buffer // what some of the slices lie in; nil: nothing that is lent
}

// all is the whole message.
func (p *pieces) all() mem.BufferSlice {
	p.flush()
	return p.list
}

// message adds a message, without a length.
func (p *pieces) message(m proto.Message) (err error) {
	fields := large(m)
	rest := m
	if slices.ContainsFunc(fields, func(f field) bool { return f.inner == nil || f.inner() != nil }) {
		rest = small(m, fields)
	}
	if rest != nil {
		if p.gathered, err = (proto.MarshalOptions{}).MarshalAppend(p.gathered, rest); err != nil {
			return err
		}
	}
	for _, f := range fields {
		switch {
		case f.bytes != nil:
			p.share(f.number, *f.bytes)
		case f.words != nil:
			p.share(f.number, littleEndian(*f.words))
		case f.longs != nil:
			p.share(f.number, littleEndian(*f.longs))
		default:
			if inner := f.inner(); inner != nil {
				p.begin(f.number, proto.Size(inner))
				if err := p.message(inner); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (p *pieces) begin(number protowire.Number, size int) {
	p.gathered = appendField(p.gathered, number, size)
}

func (p *pieces) share(number protowire.Number, b []byte) {
	if len(b) == 0 {
		return
	}
	p.begin(number, len(b))
	p.flush()
	p.list = append(p.list, lent(b, p.from))
}

// flush makes what was gathered a piece.
func (p *pieces) flush() {
	if len(p.gathered) > 0 {
		p.list, p.gathered = append(p.list, mem.SliceBuffer(p.gathered)), nil
	}
}

var errTooMuchBeside = batch.Errorf(batch.CodeBadMessage, "the batch has too much beside its rows: its flow, shard key and so on may have %d bytes", besideRows)

// unpack reads a message, which shares what is large with b. beside is what may be left of fields that are not, in bytes.
func unpack(b []byte, m proto.Message, beside *int) error {
	fields := large(m)
	if fields == nil {
		return proto.UnmarshalOptions{Merge: true}.Unmarshal(b, m)
	}
	rest := 0 // where what is left to protobuf begins
	leave := func(end int) error {
		if rest == end {
			return nil
		}
		return proto.UnmarshalOptions{Merge: true}.Unmarshal(b[rest:end], m)
	}
	for at := 0; at < len(b); {
		number, kind, tag := protowire.ConsumeTag(b[at:])
		if tag < 0 {
			return protowire.ParseError(tag)
		}
		n := protowire.ConsumeFieldValue(number, kind, b[at+tag:])
		if n < 0 {
			return protowire.ParseError(n)
		}
		next := at + tag + n
		i := slices.IndexFunc(fields, func(f field) bool { return f.number == number })
		isLarge := i >= 0 && kind == protowire.BytesType
		var value []byte
		switch {
		case isLarge:
			value, _ = protowire.ConsumeBytes(b[at+tag : next])
			*beside -= tag + n - len(value)
			if replaced := fields[i].bytes; replaced != nil {
				*beside -= len(*replaced)
			}
		case i < 0 || !fields[i].single(kind):
			*beside -= tag + n
		}
		if *beside < 0 {
			return errTooMuchBeside
		}
		if isLarge {
			if err := leave(at); err != nil {
				return err
			}
			if err := fields[i].unpack(value, beside); err != nil {
				return err
			}
			rest = next
		}
		at = next
	}
	return leave(len(b))
}

// single reports whether a value of that kind is one of the field's numbers, which may also come one by one.
func (f *field) single(kind protowire.Type) bool {
	return kind == protowire.Fixed32Type && f.words != nil || kind == protowire.Fixed64Type && f.longs != nil
}

// unpack takes the field's value in.
func (f *field) unpack(value []byte, beside *int) error {
	switch {
	case f.bytes != nil:
		*f.bytes = slices.Clip(value)
	case f.words != nil:
		return fromLittleEndian(f.words, value)
	case f.longs != nil:
		return fromLittleEndian(f.longs, value)
	default:
		return unpack(value, f.create(), beside)
	}
	return nil
}

// littleEndian is numbers as they are on the wire: where the machine has them so, the slice itself.
func littleEndian[N uint32 | uint64](numbers []N) []byte {
	if binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
		return memory(numbers)
	}
	b, _ := binary.Append(nil, binary.LittleEndian, numbers) // no error: the size of numbers is fixed
	return b
}

// fromLittleEndian appends numbers from the wire.
func fromLittleEndian[N uint32 | uint64](to *[]N, b []byte) error {
	size := int(unsafe.Sizeof(N(0)))
	if len(b)%size != 0 {
		return protowire.ParseError(-1)
	}
	n := len(*to)
	*to = append(*to, make([]N, len(b)/size)...)
	if added := (*to)[n:]; binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
		copy(memory(added), b)
	} else {
		_, _ = binary.Decode(b, binary.LittleEndian, added) // no error: there are as many bytes as numbers need
	}
	return nil
}

// memory is the bytes of numbers.
func memory[N uint32 | uint64](numbers []N) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(numbers))), len(numbers)*int(unsafe.Sizeof(N(0))))
}
