package httpapi

import (
	"context"
	"encoding/hex"
	"errors"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/kisgrid/kisgrid/internal/rowfile"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// Headers of a request that submits rows.
const (
	// streamHeader, sequenceHeader and ageHeader name a batch, so that it can be submitted again: the stream's 32 hexadecimal digits, the
	// batch's number in it, and how many milliseconds ago it was first submitted.
	streamHeader   = "KisGrid-Stream"
	sequenceHeader = "KisGrid-Sequence"
	ageHeader      = "KisGrid-Age"
	// revisionHeader names the revision that rows run on, as number or number-digest. The answer has it, too.
	revisionHeader = "KisGrid-Revision"
	// timeoutHeader says how many milliseconds the rows may take.
	timeoutHeader = "KisGrid-Timeout"
	// keyHeader names the request, so that it can be made again without its rows taking effect twice.
	keyHeader = "Idempotency-Key"
)

// rowsRequest is what a request that submits rows asks for.
type rowsRequest struct {
	flow       string
	format     rowfile.Format
	stream     batch.StreamID
	sequence   uint64         // of the first batch
	revision   batch.Revision // that the rows run on; zero means the active one
	age        time.Duration  // how long ago the rows were first submitted
	timeout    time.Duration  // 0 means none
	again      bool           // the request may have been made before, or may be made again
	oneBatch   bool           // the whole body is one batch
	key        string         // of idempotency; empty means none
	output     bool           // the answer has the rows that the flow passes on
	onlyUndone bool           // the answer lists only rows that are not done
	reportOnly bool           // dead rows are not kept
	source     string         // the name of the file that the rows come from, for dead letters; empty means that the client does not say
}

// readRequest reads the path, the query and the headers of a request that submits rows.
func readRequest(r *http.Request) (q rowsRequest, err error) {
	q = rowsRequest{flow: r.PathValue("flow"), stream: batch.NewStreamID(), sequence: 1, output: true}
	switch kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind {
	case "text/csv", "text/tab-separated-values":
		q.format = rowfile.CSV
	case "application/x-ndjson", "application/jsonl":
		q.format = rowfile.NDJSON
	}
	for name, values := range r.URL.Query() {
		if len(values) != 1 {
			return q, batch.Errorf(batch.CodeBadMessage, "parameter %.40q is given %d times: give it once", name, len(values))
		}
		switch name {
		case "output":
			q.output, err = readBool(name, values[0])
		case "report_only":
			q.reportOnly, err = readBool(name, values[0])
		case "source":
			q.source = values[0]
		case "list":
			q.onlyUndone = values[0] == "not_done"
			if !q.onlyUndone && values[0] != "all" {
				err = batch.Errorf(batch.CodeBadMessage, "parameter list is %.40q: it must be all or not_done", values[0])
			}
		default:
			err = batch.Errorf(batch.CodeBadMessage, "there is no parameter %.40q: the parameters are output, list, report_only and source", name)
		}
		if err != nil {
			return q, err
		}
	}
	switch coding := strings.ToLower(strings.Join(r.Header.Values("Content-Encoding"), ",")); coding {
	case "", "identity", "gzip", "x-gzip":
	default:
		return q, statusError{batch.Errorf(batch.CodeBadMessage, "bodies with the Content-Encoding %.40q are not read: compress with gzip, or not at all", coding), http.StatusUnsupportedMediaType}
	}
	for _, name := range []string{streamHeader, sequenceHeader, ageHeader, revisionHeader, timeoutHeader, keyHeader} {
		if n := len(r.Header.Values(name)); n > 1 {
			return q, batch.Errorf(batch.CodeBadMessage, "header %s is given %d times: give it once", name, n)
		}
	}
	if q.timeout, err = readMilliseconds(r, timeoutHeader); err != nil {
		return q, err
	}
	if q.age, err = readMilliseconds(r, ageHeader); err != nil {
		return q, err
	}
	if text := r.Header.Get(revisionHeader); text != "" {
		if q.revision, err = readRevision(text); err != nil {
			return q, err
		}
		q.again = true
	}
	if r.Header.Get(streamHeader) != "" || r.Header.Get(sequenceHeader) != "" {
		err = q.readBatchID(r)
	}
	if err != nil {
		return q, err
	}
	return q, q.readKey(r)
}

// readBatchID reads the headers that name a batch.
func (q *rowsRequest) readBatchID(r *http.Request) (err error) {
	id, err := hex.DecodeString(r.Header.Get(streamHeader))
	if err != nil || len(id) != len(q.stream) {
		return batch.Errorf(batch.CodeBadBatchID, "header %s is %.40q: draw %d hexadecimal digits at random, once for each producer",
			streamHeader, r.Header.Get(streamHeader), 2*len(q.stream))
	}
	q.stream = batch.StreamID(id)
	if q.sequence, err = strconv.ParseUint(r.Header.Get(sequenceHeader), 10, 64); err != nil || q.sequence == 0 {
		return batch.Errorf(batch.CodeBadBatchID, "header %s is %.40q: number the batches of a stream 1, 2, 3 and so on", sequenceHeader, r.Header.Get(sequenceHeader))
	}
	q.again, q.oneBatch = true, true
	return nil
}

// maxKey is the most bytes of a key of idempotency.
const maxKey = 255

// readKey reads the key of idempotency.
func (q *rowsRequest) readKey(r *http.Request) error {
	if len(r.Header.Values(keyHeader)) == 0 {
		return nil
	}
	key := r.Header.Get(keyHeader)
	if strings.HasPrefix(key, `"`) && strings.HasSuffix(key, `"`) && len(key) > 1 { // a string as RFC 8941 writes it
		key = key[1 : len(key)-1]
	}
	switch {
	case key == "" || len(key) > maxKey:
		return batch.Errorf(batch.CodeBadMessage, "header %s has %d bytes: give 1 to %d, such as a UUID", keyHeader, len(key), maxKey)
	case q.again:
		return batch.Errorf(batch.CodeBadMessage, "header %s names the request already: leave out %s, %s and %s", keyHeader, streamHeader, sequenceHeader, revisionHeader)
	case q.age != 0:
		return batch.Errorf(batch.CodeBadMessage, "the coordinators know the age of a request with %s: leave out %s", keyHeader, ageHeader)
	}
	q.key, q.again = key, true
	return nil
}

// readBool reads a parameter that is true or false.
func readBool(name, text string) (bool, error) {
	switch text {
	case "true", "1":
		return true, nil
	case "false", "0":
		return false, nil
	}
	return false, batch.Errorf(batch.CodeBadMessage, "parameter %s is %.40q: it must be true or false", name, text)
}

// maxAge is the most that a header may give as a time.
const maxAge = 10 * 365 * 24 * time.Hour

// readMilliseconds reads a header with a number of milliseconds; 0 where the header is missing.
func readMilliseconds(r *http.Request, name string) (time.Duration, error) {
	text := r.Header.Get(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n > uint64(maxAge/time.Millisecond) {
		return 0, batch.Errorf(batch.CodeBadMessage, "header %s is %.40q: give a number of milliseconds", name, text)
	}
	return time.Duration(n) * time.Millisecond, nil
}

// readRevision reads a revision as formatRevision writes it. The digest may be left out.
func readRevision(text string) (r batch.Revision, err error) {
	number, digest, _ := strings.Cut(text, "-")
	r.Number, err = strconv.ParseInt(number, 10, 64)
	if err == nil {
		err = r.Digest.UnmarshalText([]byte(digest))
	}
	if err != nil || r.Number <= 0 {
		return r, batch.Errorf(batch.CodeBadMessage, "header %s is %.100q: give it back as the first answer had it", revisionHeader, text)
	}
	return r, nil
}

// formatRevision returns a revision as the header has it.
func formatRevision(r batch.Revision) string {
	text := strconv.FormatInt(r.Number, 10)
	if !r.Digest.IsZero() {
		text += "-" + r.Digest.String()
	}
	return text
}

// postRows takes rows, and answers with their outcomes while they come.
func (a *API) postRows(w http.ResponseWriter, r *http.Request) {
	q, err := readRequest(r)
	if err != nil {
		refuse(w, err)
		return
	}
	ctx, cancel := context.WithCancelCause(callContext(r))
	defer cancel(nil)
	s := newSubmitter(ctx, cancel, a, q, w, r)
	err = a.stream(ctx, s)
	if s.takeUp.Swap(false) {
		err = a.stream(ctx, s)
	}
	if err != nil {
		s.fail(err)
	}
	s.finish()
}

// takeKey returns an error if a request with a key of idempotency can't be taken now.
func (a *API) takeKey() error {
	switch {
	case a.Requests == nil:
		return batch.Errorf(batch.CodeBadMessage, "this coordinator keeps no requests: leave out the header %s", keyHeader)
	case !a.keyRate.Allow():
		return overloaded("too many requests with the header " + keyHeader + " come to this coordinator: wait, send more rows in each request, " +
			"or name batches with " + streamHeader + " and " + sequenceHeader)
	}
	return nil
}

// stream makes the call Stream of Ingest with s as its client, through the interceptors. It blocks until the call has ended, and returns its
// error.
func (a *API) stream(ctx context.Context, s *submitter) error {
	info := &grpc.StreamServerInfo{FullMethod: pb.Ingest_Stream_FullMethodName, IsClientStream: true, IsServerStream: true}
	ctx = grpc.NewContextWithServerTransportStream(ctx, inProcess(info.FullMethod))
	s.callCtx = ctx
	err := a.Stream(a.Ingest, s, info, func(_ any, stream grpc.ServerStream) error {
		s.who = a.Caller(stream.Context())
		return a.Ingest.Stream(&grpc.GenericServerStream[pb.StreamRequest, pb.StreamResponse]{ServerStream: stream})
	})
	if errors.Is(err, context.Canceled) && context.Cause(ctx) != nil {
		err = context.Cause(ctx)
	}
	return wire.FromStatus(err)
}
