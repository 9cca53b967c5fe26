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

// field is a field of a message that may be large. Of the pointers bytes, words and longs, the one for the field's type
// is set. For a field whose value is a message, inner and create are set instead.
type field struct {
	number protowire.Number // of the field in its message
	bytes  *[]byte
	words  *[]uint32
	longs  *[]uint64
	inner  func() proto.Message // returns the message; nil where the field is empty
	create func() proto.Message // returns the message, and makes it where the field is empty
}

// messageField makes a field whose value is the message at place. A nil *place means that the field is empty.
func messageField[M any, P interface {
	*M
	proto.Message
}](number protowire.Number, place *P) field {
	return oneofField(number, *place, func(m P) { *place = m })
}

// oneofField makes a field whose value is a message and that belongs to a oneof. value is the message that the field has
// now, or nil; set puts another one in.
func oneofField[M any, P interface {
	*M
	proto.Message
}](number protowire.Number, value P, set func(P)) field {
	f := field{number: number, inner: func() proto.Message { return nil }}
	f.create = func() proto.Message {
		if value == nil {
			value = new(M)
			set(value)
		}
		return value
	}
	if value != nil {
		f.inner = f.create
	}
	return f
}

// largeFields returns the fields of a message that may be large: rows, columns that have a value for each row, and messages
// that have such fields.
func largeFields(m proto.Message) []field {
	switch m := m.(type) {
	case *pb.StreamRequest:
		return []field{oneofField(2, m.GetSubmission(), func(s *pb.Submission) { m.Kind = &pb.StreamRequest_Submission{Submission: s} })}
	case *pb.SubmitRequest:
		return []field{messageField(3, &m.Submission), messageField(20, &m.Positioned)}
	case *pb.Submission:
		return []field{messageField(8, &m.Rows)}
	case *pb.StreamResponse:
		return []field{oneofField(2, m.GetAnswer(), func(a *pb.Answer) { m.Kind = &pb.StreamResponse_Answer{Answer: a} })}
	case *pb.SubmitResponse:
		return []field{messageField(1, &m.Answer)}
	case *pb.Answer:
		return []field{messageField(5, &m.Output)}
	case *pb.CoordinatorMessage:
		return []field{oneofField(4, m.GetPart(), func(p *pb.Part) { m.Kind = &pb.CoordinatorMessage_Part{Part: p} })}
	case *pb.Part:
		return []field{{number: 10, words: &m.Rows}, messageField(12, &m.Columns)}
	case *pb.WorkerMessage:
		return []field{oneofField(3, m.GetResult(), func(r *pb.Result) { m.Kind = &pb.WorkerMessage_Result{Result: r} })}
	case *pb.Result:
		return []field{messageField(6, &m.Output)}
	case *pb.Output:
		return []field{messageField(1, &m.Rows), {number: 2, words: &m.Origins}}
	case *pb.Columns:
		return []field{{number: 1, bytes: &m.Data}, {number: 2, words: &m.Ends}, {number: 3, longs: &m.Keys}, {number: 5, longs: &m.Positions}}
	}
	return nil
}

// withoutLarge returns a copy of the message without its large fields, and without the oneof that one of them belongs to.
// It returns nil where nothing would be left.
func withoutLarge(m proto.Message, large []field) proto.Message {
	from := reflect.ValueOf(m).Elem()
	copied, ok := smallFields.Load(from.Type())
	if !ok {
		copied, _ = smallFields.LoadOrStore(from.Type(), findSmallFields(from.Type(), large))
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

// smallFields remembers, by type of message, the indexes of the fields that withoutLarge copies: reflect.Type to []int.
var smallFields sync.Map

// findSmallFields finds, in a type of message, the fields that withoutLarge copies. It goes by protobuf's tags, so a field
// that is added to a message needs no line here.
func findSmallFields(message reflect.Type, large []field) (indexes []int) {
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

// pieces is a message on its way to the wire. Each large slice is a piece that is shared with the message. The bytes
// between are gathered in pieces of their own.
type pieces struct {
	list     mem.BufferSlice
	gathered []byte     // bytes behind the last piece of list
	from     mem.Buffer // the buffer that slices may lie in; nil where no memory is lent
}

// all returns the whole message as buffers for gRPC.
func (p *pieces) all() mem.BufferSlice {
	p.endPiece()
	return p.list
}

// addMessage adds the encoded fields of m, without a tag and a length before them.
func (p *pieces) addMessage(m proto.Message) (err error) {
	// First the small fields, as protobuf writes them, then the large ones.
	fields := largeFields(m)
	rest := m
	if slices.ContainsFunc(fields, func(f field) bool { return f.inner == nil || f.inner() != nil }) {
		rest = withoutLarge(m, fields)
	}
	if rest != nil {
		if p.gathered, err = (proto.MarshalOptions{}).MarshalAppend(p.gathered, rest); err != nil {
			return err
		}
	}
	for _, f := range fields {
		switch {
		case f.bytes != nil:
			p.addShared(f.number, *f.bytes)
		case f.words != nil:
			p.addShared(f.number, littleEndian(*f.words))
		case f.longs != nil:
			p.addShared(f.number, littleEndian(*f.longs))
		default:
			if inner := f.inner(); inner != nil {
				p.beginField(f.number, proto.Size(inner))
				if err := p.addMessage(inner); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// beginField adds the tag and the length of a field whose value has size bytes. The caller then adds the value.
func (p *pieces) beginField(number protowire.Number, size int) {
	p.gathered = appendField(p.gathered, number, size)
}

// addShared adds a field that has bytes, as a piece that is shared. It adds nothing where b is empty.
func (p *pieces) addShared(number protowire.Number, b []byte) {
	if len(b) == 0 {
		return
	}
	p.beginField(number, len(b))
	p.endPiece()
	p.list = append(p.list, bufferPart(b, p.from))
}

// endPiece makes the bytes that were gathered since the last piece a piece of list.
func (p *pieces) endPiece() {
	if len(p.gathered) > 0 {
		p.list, p.gathered = append(p.list, mem.SliceBuffer(p.gathered)), nil
	}
}

var errTooMuchBeside = batch.Errorf(batch.CodeBadMessage, "the message of the batch has more than %d bytes beside the rows, for the name of the flow, the shard key and so on: shorten these", besideRows)

// unpack reads a message from b. The field with the rows' bytes shares memory with b. beside is how many bytes may come
// that are not rows; unpack lowers it by those that it reads, and fails when it gets negative.
func unpack(b []byte, m proto.Message, beside *int) error {
	fields := largeFields(m)
	if fields == nil {
		return proto.UnmarshalOptions{Merge: true}.Unmarshal(b, m)
	}
	read := 0 // the large fields that were read already, as bits
	// Fields between two large ones are left to protobuf, all at once. They begin at rest.
	rest := 0
	leave := func(end int) error {
		if rest == end {
			return nil
		}
		return proto.UnmarshalOptions{Merge: true}.Unmarshal(b[rest:end], m)
	}
	for at := 0; at < len(b); {
		// Find out where the next field ends, and whether it is a large one.
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
		// Rows don't count as beside. All else does: tags and lengths, small fields, and bytes that a second value replaces.
		var value []byte
		switch {
		case isLarge:
			value, _ = protowire.ConsumeBytes(b[at+tag : next])
			*beside -= tag + n - len(value)
			if replaced := fields[i].bytes; replaced != nil {
				*beside -= len(*replaced)
			}
		case i < 0 || !fields[i].isSingleNumber(kind):
			*beside -= tag + n
		}
		if *beside < 0 {
			return errTooMuchBeside
		}
		// Read the field, after the small ones before it.
		if isLarge {
			if err := leave(at); err != nil {
				return err
			}
			if read&(1<<i) != 0 {
				fields = largeFields(m) // another member of the field's oneof may have taken the place of its first value
			}
			read |= 1 << i
			if err := fields[i].unpack(value, beside); err != nil {
				return err
			}
			rest = next
		}
		at = next
	}
	return leave(len(b))
}

// isSingleNumber reports whether a value of that kind is one of the field's numbers: protobuf also allows to send them one
// by one.
func (f *field) isSingleNumber(kind protowire.Type) bool {
	return kind == protowire.Fixed32Type && f.words != nil || kind == protowire.Fixed64Type && f.longs != nil
}

// unpack reads the field's value from its bytes on the wire. Bytes are shared with value; numbers are copied. beside
// means the same as for the function unpack, which reads inner messages.
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

// littleEndian returns numbers as their bytes on the wire. On a little-endian machine the result is the memory of the
// slice numbers itself.
func littleEndian[N uint32 | uint64](numbers []N) []byte {
	if binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
		return bytesOf(numbers)
	}
	b, _ := binary.Append(nil, binary.LittleEndian, numbers) // no error: the size of numbers is fixed
	return b
}

// fromLittleEndian appends the numbers whose bytes on the wire are b to *to. It returns an error if the length of b is no
// multiple of a number's size.
func fromLittleEndian[N uint32 | uint64](to *[]N, b []byte) error {
	size := int(unsafe.Sizeof(N(0)))
	if len(b)%size != 0 {
		return protowire.ParseError(-1)
	}
	n := len(*to)
	*to = append(*to, make([]N, len(b)/size)...)
	if added := (*to)[n:]; binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
		copy(bytesOf(added), b)
	} else {
		_, _ = binary.Decode(b, binary.LittleEndian, added) // no error: there are as many bytes as numbers need
	}
	return nil
}

// bytesOf returns the memory of a slice of numbers as bytes.
func bytesOf[N uint32 | uint64](numbers []N) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(numbers))), len(numbers)*int(unsafe.Sizeof(N(0))))
}

// appendField appends the tag and the length of a field whose value has size bytes. The caller appends the value.
func appendField(b []byte, number protowire.Number, size int) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, number, protowire.BytesType), uint64(size))
}

// fieldSize returns how many bytes a field takes on the wire, tag and length included, if its value has size bytes. A
// field with an empty value takes none, because it is not sent.
func fieldSize(number protowire.Number, size int) int {
	if size == 0 {
		return 0
	}
	return protowire.SizeTag(number) + protowire.SizeBytes(size)
}
