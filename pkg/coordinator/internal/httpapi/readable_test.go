package httpapi

import (
	"testing"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/protobuf/proto"

	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// TestReadable writes answers with bytes that are JSON, are not, or are in another encoding. Large numbers stay as they are.
func TestReadable(t *testing.T) {
	for _, c := range []struct {
		message proto.Message
		want    string
	}{
		{&pb.GetResponse{}, `{"resources":[]}`},
		{&pb.GetResponse{Resources: []*pb.Resource{{Name: "A", Status: []byte(`{"n": 9007199254740993}`)}, {Name: "B"}}}, `{"resources":[{"name":"A","status":{"n":9007199254740993}},{"name":"B"}]}`},
		{&pb.DeadLetter{Id: "x", Row: []byte("{\n\"a\": 9007199254740993.10}")}, `{"id":"x","row":{"a":9007199254740993.10}}`},
		{&pb.DeadLetter{Id: "x", Row: []byte(`{"a": "<b>&\u00e9\u003c"}`)}, `{"id":"x","row":{"a":"<b>&\u00e9\u003c"}}`},
		{&pb.DeadLetter{Id: "x", Row: []byte("nope")}, `{"id":"x","row_base64":"bm9wZQ=="}`},
		{&pb.DeadLetter{Id: "x", Encoding: "msgpack", Row: []byte("1")}, `{"encoding":"msgpack","id":"x","row_base64":"MQ=="}`},
		{&pb.DeadEvent{Kind: &pb.DeadEvent_Letter{Letter: &pb.DeadLetter{Row: []byte(`"text"`)}}}, `{"letter":{"row":"text"}}`},
	} {
		answer, err := readable(t.Context(), c.message)
		if err != nil {
			t.Fatal(err)
		}
		writer := &verbatim{runtime.JSONPb{MarshalOptions: jsonOptions}}
		got, err := writer.Marshal(answer)
		if err != nil || string(got) != c.want {
			t.Errorf("%v is written as %s, %v, want %s", c.message, got, err, c.want)
		}
		if _, ok := answer.(object); !ok {
			continue
		}
		got, err = writer.Marshal(map[string]any{"result": answer})
		if want := `{"result":` + c.want + `}`; err != nil || string(got) != want {
			t.Errorf("%v is written in a stream as %s, %v, want %s", c.message, got, err, want)
		}
	}
}
