package httpapi

import (
	"bytes"
	"context"
	"encoding/json"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/kisgrid/kisgrid/internal/jsonrule"
	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// jsonOptions are how messages are written.
var jsonOptions = protojson.MarshalOptions{UseProtoNames: true}

// object is a JSON object, by the names of its members.
type object map[string]json.RawMessage

// verbatim writes the objects that readable makes as they are: encoding/json would write a < within a row as \u003c.
type verbatim struct{ runtime.JSONPb }

// Marshal implements runtime.Marshaler. A call that answers with several messages puts each of them into a map.
func (v *verbatim) Marshal(answer any) ([]byte, error) {
	switch a := answer.(type) {
	case object:
		return marshal(a)
	case map[string]any:
		if result, ok := a["result"].(object); ok && len(a) == 1 {
			text, err := marshal(result)
			return append(append([]byte(`{"result":`), text...), '}'), err
		}
	}
	return v.JSONPb.Marshal(answer)
}

// marshal writes a value as JSON, with the texts of the RawMessages in it as they are but for spaces between values.
func marshal(value any) (json.RawMessage, error) {
	var text bytes.Buffer
	to := json.NewEncoder(&text)
	to.SetEscapeHTML(false)
	err := to.Encode(value)
	return bytes.TrimSuffix(text.Bytes(), []byte("\n")), err
}

// readable returns an answer as it is written as JSON: bytes that are JSON themselves, such as the status of a resource or the row of a dead
// letter, stand there as they are, and not as base64. Numbers within them keep their texts. tools/openapi describes them in the same way.
func readable(_ context.Context, m proto.Message) (any, error) {
	switch m := m.(type) {
	case *pb.GetResponse:
		resources := make([]object, len(m.GetResources()))
		for i, r := range m.GetResources() {
			o, err := objectOf(r)
			if err != nil {
				return nil, err
			}
			if jsonrule.Valid(r.GetStatus()) {
				o["status"] = r.GetStatus()
			}
			resources[i] = o
		}
		all, err := objectOf(m)
		if err == nil {
			all["resources"], err = marshal(resources)
		}
		return all, err
	case *pb.DeadLetter:
		return letterObject(m)
	case *pb.DeadEvent:
		if m.GetLetter() == nil {
			return m, nil
		}
		letter, err := letterObject(m.GetLetter())
		if err != nil {
			return nil, err
		}
		text, err := marshal(letter)
		return object{"letter": text}, err
	}
	return m, nil
}

// letterObject returns a dead letter with its row as JSON. A row in another encoding, and one that is not JSON, is in the member row_base64.
func letterObject(l *pb.DeadLetter) (object, error) {
	o, err := objectOf(l)
	if err != nil || len(l.GetRow()) == 0 {
		return o, err
	}
	if (l.GetEncoding() == "" || l.GetEncoding() == batch.JSON) && jsonrule.Valid(l.GetRow()) {
		o["row"] = l.GetRow()
		return o, nil
	}
	o["row_base64"] = o["row"]
	delete(o, "row")
	return o, nil
}

// objectOf returns the members of a message.
func objectOf(m proto.Message) (o object, err error) {
	text, err := jsonOptions.Marshal(m)
	if err == nil {
		err = json.Unmarshal(text, &o)
	}
	return o, err
}
