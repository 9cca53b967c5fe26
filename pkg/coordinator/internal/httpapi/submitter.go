package httpapi

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// A batch of a body is sent when it has this size, at the latest. While nothing else is under way, or when its first row has waited for
// linger, it is sent earlier.
const (
	fullRows  = 1000
	fullBytes = 64 << 10
	linger    = time.Millisecond
)

// submitter is the client of one call Stream of Ingest, in the coordinator's own process: it sends the rows of a request's body as batches,
// and writes the answers as the request's answer. It implements grpc.ServerStream, as the call sees it.
//
//	body ─► reader ─► next ─► RecvMsg ─► Ingest.Stream ─► SendMsg ─► answerWriter ─► client
//
// Three goroutines beside those of Stream serve a request: the handler's own waits for the call, one reads the body, and one writes the
// answer. So the client may send and read at the same time, or one after the other.
type submitter struct {
	api     *API
	request rowsRequest
	who     string // the name of the caller
	began   time.Time
	ctx     context.Context // ends with the request, and with the call
	cancel  context.CancelCauseFunc
	callCtx context.Context // ctx with what the interceptors and the call look for
	body    *patientBody
	out     *answerWriter
	takeUp  atomic.Bool   // the call has ended so that another one takes up the batches of an earlier request
	release func()        // gives the memory of reserve back; nil means that there is none
	read    chan struct{} // closed when the goroutine that reads the body has ended; nil before it has begun

	noted chan struct{} // closed when that goroutine has noted why no more rows come; nil before it has begun

	room signal // wakes the reader: there is room in next
	work signal // wakes RecvMsg: there may be a batch to send

	mu         sync.Mutex
	opening    bool                  // guarded by mu: Open was sent
	limits     batch.Limits          // guarded by mu
	next       batch.Columns         // guarded by mu: the rows that are not sent yet
	lines      []int                 // guarded by mu: the line of the body, or the number in an array, of each row in next, from 1
	hurry      bool                  // guarded by mu: the rows in next are sent at once
	nextSince  time.Time             // guarded by mu: when the first of them came
	ended      bool                  // guarded by mu: no more rows come
	readErr    error                 // guarded by mu: why no more rows come; nil at the end of the body
	sequence   uint64                // guarded by mu: of the next batch
	rows       int64                 // guarded by mu: how many rows were sent
	rowCredit  int64                 // guarded by mu: how many rows may be sent; below 0 when a batch has overdrawn it
	byteCredit int64                 // guarded by mu: how many bytes may be sent, in the same way
	unanswered map[uint64]*sentBatch // guarded by mu: by sequence
	kept       bool                  // guarded by mu: the key of idempotency is kept
	refusal    error                 // guarded by mu: why the call has ended
	refusedAll bool                  // guarded by mu: the only batch was refused, so that no row has run
	revision   batch.Revision        // guarded by mu: that the rows run on; zero means the active one
	age        time.Duration         // guarded by mu: how long before began the rows were first submitted
	whole      bool                  // guarded by mu: all rows must have come before the first one is sent
}

// sentBatch is a batch that is not answered yet.
type sentBatch struct {
	first int64   // number of its first row in the body
	rows  int     // how many rows it has
	told  rowsSet // the rows whose outcome was told
}

// newSubmitter makes the client of the call for one request. It reads and writes nothing yet.
func newSubmitter(ctx context.Context, cancel context.CancelCauseFunc, a *API, q rowsRequest, w http.ResponseWriter, r *http.Request) *submitter {
	control := http.NewResponseController(w)
	s := &submitter{
		api: a, request: q, began: time.Now(), ctx: ctx, cancel: cancel, callCtx: ctx,
		body: newPatientBody(r, control), out: newAnswerWriter(w, control, r.ProtoMajor == 1),
		room: make(signal, 1), work: make(signal, 1), sequence: q.sequence, unanswered: map[uint64]*sentBatch{},
		revision: q.revision, age: q.age, whole: q.oneBatch || q.key != "",
	}
	s.out.bodyEnded = s.body.ended.Load
	return s
}

// signal wakes one goroutine.
type signal chan struct{}

// wake wakes the goroutine that waits for the signal, or the next one that will.
func (s signal) wake() {
	select {
	case s <- struct{}{}:
	default:
	}
}

// Context implements grpc.ServerStream.
func (s *submitter) Context() context.Context { return s.callCtx }

// SetHeader implements grpc.ServerStream; it does nothing, since HTTP clients see no metadata.
func (s *submitter) SetHeader(metadata.MD) error { return nil }

// SendHeader implements grpc.ServerStream; it does nothing.
func (s *submitter) SendHeader(metadata.MD) error { return nil }

// SetTrailer implements grpc.ServerStream; it does nothing.
func (s *submitter) SetTrailer(metadata.MD) {}

// RecvMsg implements grpc.ServerStream: it gives the call the next message of its client, Open or a batch. It blocks until there is a batch
// and credit for it. It returns io.EOF after the last batch, and an error when the request has ended.
func (s *submitter) RecvMsg(m any) error {
	if lent, ok := m.(*wire.Lent); ok {
		m = lent.Message
	}
	request, ok := m.(*pb.StreamRequest)
	if !ok {
		return batch.Errorf(batch.CodeInternal, "the call Stream receives a %T", m)
	}
	s.mu.Lock()
	if !s.opening {
		s.opening = true
		s.mu.Unlock()
		request.Kind = &pb.StreamRequest_Open{Open: s.open()}
		return nil
	}
	s.mu.Unlock()
	if err := s.keep(); err != nil {
		if !errors.Is(err, errKeptBefore) {
			s.fail(err) // the call gives the error back without its status
		}
		return err
	}
	for {
		submission, wait, err := s.take(time.Now())
		if submission != nil {
			request.Kind = &pb.StreamRequest_Submission{Submission: submission}
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.await(s.work, wait); err != nil {
			return err
		}
	}
}

// await waits for a signal, or for a time if that is above 0. It returns an error if the request has ended.
func (s *submitter) await(on signal, most time.Duration) error {
	var late <-chan time.Time
	if most > 0 {
		timer := time.NewTimer(most)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-on:
		return nil
	case <-late:
		return nil
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
}

// open makes the first message of the call.
func (s *submitter) open() *pb.Open {
	return &pb.Open{
		ProtocolMin: wire.Protocol, ProtocolMax: wire.Protocol, Flow: s.request.flow, Stream: s.request.stream[:],
		Unanswered: s.request.again, TakesBytes: uint32(s.api.MessageBytes), TellFinished: true,
	}
}

// take takes the next batch, if it is time to send it. Otherwise it returns for how long to wait at most, where 0 means until something
// changes; or io.EOF if no more batches come.
func (s *submitter) take(now time.Time) (submission *pb.Submission, wait time.Duration, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.next.Len() == 0 && s.ended, s.whole && s.ended && s.readErr != nil:
		return nil, 0, io.EOF
	case s.next.Len() == 0 || s.whole && !s.ended || s.rowCredit <= 0 || s.byteCredit <= 0:
		return nil, 0, nil
	}
	if idle := len(s.unanswered) == 0 && s.body.waiting(); !s.ended && !s.hurry && !idle && !s.full() {
		if rest := linger - now.Sub(s.nextSince); rest > 0 {
			return nil, rest, nil
		}
	}
	columns, lines := s.cut()
	s.rowCredit -= int64(columns.Len())
	s.byteCredit -= int64(len(columns.Data))
	s.unanswered[s.sequence] = &sentBatch{first: s.rows, rows: columns.Len(), told: newRowsSet(columns.Len())}
	submission = &pb.Submission{
		Sequence: s.sequence, Floor: 0, Revision: s.revision.Number, Digest: wire.FromDigest(s.revision.Digest), Output: s.request.output,
		AgeMilliseconds: uint64((s.age + now.Sub(s.began)).Milliseconds()), ReportOnly: s.request.reportOnly, Rows: wire.FromColumns(columns),
		TraceParent: s.body.traceParent,
	}
	if !s.request.reportOnly {
		submission.Origin = wire.Origin(s.request.source, lines)
	}
	if s.request.timeout > 0 {
		submission.DeadlineMilliseconds = uint64(max(1, (s.request.timeout - now.Sub(s.began)).Milliseconds()))
	}
	s.sequence++
	s.rows += int64(columns.Len())
	s.room.wake()
	return submission, 0, nil
}

// full reports whether the next batch is as large as a batch should be. The caller holds mu.
func (s *submitter) full() bool {
	return s.next.Len() >= min(fullRows, s.limits.BatchRows) || len(s.next.Data) >= min(fullBytes, s.limits.BatchBytes)
}

// cut takes the rows of the next batch, and their lines. Batches of a request that can be made again are cut by the rows alone, so that each row has the same
// batch and place in it every time; the sizes must therefore never change. The caller holds mu.
func (s *submitter) cut() (batch.Columns, []int) {
	all, lines := s.next, s.lines
	n := all.Len()
	if s.request.key != "" {
		n = min(n, fullRows)
		for n > 1 && int(all.Ends[n-1]) > keyedBatchBytes {
			n--
		}
	}
	if n == all.Len() {
		s.next, s.lines = batch.Columns{}, nil
		return all, lines
	}
	end := all.Ends[n-1]
	s.next, s.lines = batch.Columns{Data: all.Data[end:], Ends: all.Ends[n:]}, lines[n:]
	for i := range s.next.Ends {
		s.next.Ends[i] -= end
	}
	return batch.Columns{Data: all.Data[:end:end], Ends: all.Ends[:n:n]}, lines[:n:n]
}

// keyedBatchBytes is the most bytes of a batch of several rows in a request with a key of idempotency.
const keyedBatchBytes = 1 << 20

// SendMsg implements grpc.ServerStream: it takes a message of the call to its client, and writes the lines of an answer. It blocks while the
// HTTP client leaves many lines unread.
func (s *submitter) SendMsg(m any) error {
	if lent, ok := m.(*wire.Lent); ok {
		m = lent.Message
	}
	response, ok := m.(*pb.StreamResponse)
	if !ok {
		return batch.Errorf(batch.CodeInternal, "the call Stream sends a %T", m)
	}
	switch kind := response.GetKind().(type) {
	case *pb.StreamResponse_Opened:
		return s.opened(kind.Opened)
	case *pb.StreamResponse_Credit:
		s.mu.Lock()
		s.rowCredit += int64(kind.Credit.GetRows())
		s.byteCredit += int64(kind.Credit.GetBytes())
		s.mu.Unlock()
		s.work.wake()
	case *pb.StreamResponse_Answer:
		return s.answer(kind.Answer)
	}
	return nil // Switched and Move: the rows of a request stay together at this coordinator
}

// opened notes that the call was accepted, and begins to read the body.
func (s *submitter) opened(o *pb.Opened) error {
	active, err := wire.ToRevision(o.GetRevision(), o.GetDigest())
	if err != nil {
		return err
	}
	limits := o.GetLimits()
	s.mu.Lock()
	s.limits = batch.Limits{RowBytes: int(limits.GetRowBytes()), BatchBytes: int(limits.GetBatchBytes()), BatchRows: int(limits.GetBatchRows())}.WithDefaults()
	if s.whole && s.revision.IsZero() {
		s.revision = active
	}
	if !s.revision.IsZero() {
		active = s.revision
	}
	s.mu.Unlock()
	s.out.setRevision(active)
	if s.read != nil {
		return nil // the body has been read
	}
	if s.request.key != "" { // asked only now, because it is known now that the caller may submit rows
		if err := s.api.takeKey(); err != nil {
			s.fail(err)
			return err
		}
	}
	if s.whole {
		if err := s.reserve(); err != nil {
			return err
		}
	}
	if err := s.out.control.EnableFullDuplex(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	s.read, s.noted = make(chan struct{}), make(chan struct{})
	s.api.carriers.Go(func() {
		defer close(s.read)
		s.readBody()
	})
	return nil
}

// fail notes the error with which the call has ended.
func (s *submitter) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refusal == nil {
		s.refusal = err
	}
}

// lingerBody is for how long the rest of a body is read and thrown away after the request has failed. Many clients read an answer only when
// they have sent all of the body.
const lingerBody = 5 * time.Second

// finish ends the answer: with the counts of outcomes, or with the problem. It blocks until the client has it, or is gone.
func (s *submitter) finish() {
	if s.release != nil {
		defer s.release()
	}
	if s.noted != nil && s.ctx.Err() != nil {
		// A read that fails ends the context before the reader knows why: it says whether the client was too slow, or is gone.
		select {
		case <-s.noted:
		case <-time.After(lingerBody):
		}
	}
	s.mu.Lock()
	err := s.refusal
	if err == nil || s.readErr != nil && batch.CodeOf(err) == batch.CodeCancelled {
		err = s.readErr
	}
	if err == nil && s.rows == 0 {
		err = batch.Errorf(batch.CodeEmptyBatch, "the body has no rows: send at least one")
	}
	sent := s.rows
	ran := sent > 0 && !s.refusedAll && err != nil && wire.LeavesOpen(batch.CodeOf(err))
	s.ended = true
	s.next = batch.Columns{}
	s.mu.Unlock()
	s.body.discard.Store(true)
	s.room.wake()
	s.out.end(err, sent, ran)
	if s.read == nil {
		return
	}
	timer := time.NewTimer(lingerBody)
	defer timer.Stop()
	select {
	case <-s.read:
	case <-timer.C:
	case <-s.ctx.Done():
	}
	s.cancel(nil)
	select {
	case <-s.read:
	default:
		s.body.interrupt()
		<-s.read
	}
}

// reserve takes the memory for all rows of a request that must have come before the first one is sent.
func (s *submitter) reserve() error {
	most := s.limits.BatchBytes
	if s.body.length >= 0 && !s.body.compressed {
		most = int(min(int64(most), s.body.length))
	}
	release, ok := s.api.Budget.ReserveCall(0, most)
	if !ok {
		return overloaded("the coordinator's budget of rows under way is used up: try again, or run more coordinators")
	}
	s.release = release
	return nil
}
