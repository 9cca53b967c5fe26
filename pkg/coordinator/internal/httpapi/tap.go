package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// lastEvent is the id of the last event of a tap. A browser whose connection ends asks again by itself, and names the last event that it has;
// the answer to this one tells it to stop.
const lastEvent = "end"

// tapEvents makes the handler that shows rows as server-sent events, for callers that accept those. Other callers get the answer of calls, which
// is JSON, one event on each line. conn is the connection to the service Admin.
func tapEvents(conn grpc.ClientConnInterface, calls http.Handler) http.HandlerFunc {
	client := pb.NewAdminClient(conn)
	return func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(strings.ToLower(r.Header.Get("Accept")), "text/event-stream") {
			calls.ServeHTTP(w, r)
			return
		}
		if r.Header.Get("Last-Event-ID") == lastEvent {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		in := new(pb.TapRequest)
		if err := runtime.PopulateQueryParameters(in, r.URL.Query(), utilities.NewDoubleArray([][]string{{"flow"}})); err != nil {
			refuse(w, batch.Errorf(batch.CodeBadMessage, "a parameter of the page is not as it should be: %w", err))
			return
		}
		in.Flow = r.PathValue("flow")
		events, err := client.Tap(callContext(r), in)
		if err != nil {
			refuse(w, err)
			return
		}
		h := w.Header()
		h.Set("Content-Type", "text/event-stream")
		h.Set("X-Accel-Buffering", "no") // proxies that know it send events on at once
		writeEvents(&patientWriter{w, http.NewResponseController(w)}, events)
	}
}

// writeEvents writes the events of a tap until it ends, or the client is gone: then the context of the call is done, or a write fails. The
// context ends with the request, so the call does not go on without a client.
func writeEvents(w *patientWriter, events grpc.ServerStreamingClient[pb.TapEvent]) {
	for {
		e, err := events.Recv()
		if errors.Is(err, io.EOF) {
			return
		}
		text, name, id := []byte(nil), "", ""
		if err != nil {
			name, id = "problem", lastEvent
			text, err = json.Marshal(problemOf(err))
		} else {
			text, name, err = eventText(e)
			if e.GetEnd() != nil {
				id = lastEvent
			}
		}
		if err != nil {
			return // neither can fail: both are plain messages
		}
		var b bytes.Buffer
		b.WriteString("event: " + name + "\n")
		if id != "" {
			b.WriteString("id: " + id + "\n")
		}
		b.WriteString("data: ")
		b.Write(text)
		b.WriteString("\n\n")
		if _, err := w.Write(b.Bytes()); err != nil || name == "problem" {
			return
		}
		w.Flush()
	}
}

// eventText returns an event of a tap as JSON on one line, and its name: row, counts, note or end.
func eventText(e *pb.TapEvent) (text []byte, name string, err error) {
	options := protojson.MarshalOptions{UseProtoNames: true}
	switch kind := e.GetKind().(type) {
	case *pb.TapEvent_Row:
		name = "row"
		text, err = options.Marshal(kind.Row)
	case *pb.TapEvent_Counts:
		name = "counts"
		text, err = options.Marshal(kind.Counts)
	case *pb.TapEvent_Note:
		name = "note"
		text, err = options.Marshal(kind.Note)
	default:
		name = "end"
		text, err = options.Marshal(e.GetEnd())
	}
	if err != nil {
		return nil, "", err
	}
	var line bytes.Buffer
	err = json.Compact(&line, text) // protojson puts spaces by chance
	return line.Bytes(), name, err
}
