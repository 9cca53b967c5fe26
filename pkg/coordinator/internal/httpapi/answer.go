package httpapi

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/kisgrid/kisgrid/internal/bitset"
	"github.com/kisgrid/kisgrid/internal/jsonrule"
	"github.com/kisgrid/kisgrid/internal/rowfile"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// rowsSet is a set of rows of a batch.
type rowsSet = bitset.Set

// newRowsSet makes an empty set for a batch with n rows.
func newRowsSet(n int) rowsSet { return bitset.New(n) }

// Limits of writing an answer.
const (
	// answerBytes is how many bytes of an answer may wait for the client. When there are more, the call waits, too.
	answerBytes = 256 << 10
	// writePatience is how long the client may take to read a piece of the answer.
	writePatience = time.Minute
)

// answerWriter writes the lines of an answer while they come. append may be called by one goroutine; the others by any.
type answerWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	done    chan struct{} // closed when the goroutine that writes has ended
	work    signal        // wakes that goroutine
	room    signal        // wakes the goroutine that appends
	// http1 says that the connection has no other requests under way. bodyEnded reports whether the whole body was read.
	http1     bool
	bodyEnded func() bool

	mu       sync.Mutex
	begun    bool           // guarded by mu: the header was written, and the goroutine that writes was started
	lines    []byte         // guarded by mu: lines that are not written yet
	closed   bool           // guarded by mu: no more lines come
	err      error          // guarded by mu: why nothing can be written any more
	writing  time.Time      // guarded by mu: since when a write is under way; zero means that none is
	revision batch.Revision // guarded by mu
	counts   summary        // guarded by mu
}

// summary is the last line of an answer that ended well.
type summary struct {
	Rows     int64 `json:"rows"`
	Done     int64 `json:"done"`
	Filtered int64 `json:"filtered"`
	Aborted  int64 `json:"aborted"`
	Dead     int64 `json:"dead"`
	Failed   int64 `json:"failed"`
	Refused  int64 `json:"refused"`
	Revision int64 `json:"revision"`
}

// add counts a row.
func (s *summary) add(o batch.Outcome) {
	s.Rows++
	switch o {
	case batch.Done:
		s.Done++
	case batch.Filtered:
		s.Filtered++
	case batch.Aborted:
		s.Aborted++
	case batch.Dead:
		s.Dead++
	case batch.Failed:
		s.Failed++
	}
}

// newAnswerWriter makes the writer of one request's answer.
func newAnswerWriter(w http.ResponseWriter, control *http.ResponseController, http1 bool) *answerWriter {
	return &answerWriter{w: w, control: control, done: make(chan struct{}), work: make(signal, 1), room: make(signal, 1), http1: http1}
}

// setRevision notes the revision that the header of the answer names.
func (o *answerWriter) setRevision(r batch.Revision) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.revision = r
}

// stalled returns for how long the client has not taken a piece of the answer; 0 if no piece waits for it.
func (o *answerWriter) stalled() time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.writing.IsZero() {
		return 0
	}
	return time.Since(o.writing)
}

// beginLocked writes the header and starts the goroutine that writes, unless it has. The caller holds mu.
func (o *answerWriter) beginLocked() {
	if o.begun {
		return
	}
	o.begun = true
	h := o.w.Header()
	h.Set("Content-Type", "application/x-ndjson")
	h.Set("X-Accel-Buffering", "no") // nginx passes the lines on as they come
	o.closeIfUnread()
	if !o.revision.IsZero() {
		h.Set(revisionHeader, formatRevision(o.revision))
	}
	o.w.WriteHeader(http.StatusOK)
	go o.write()
}

// closeIfUnread has the connection closed after the answer, unless the whole body was read: the rest of the body might never come, and would
// be taken for the next request. The connections of HTTP/2 don't need that.
func (o *answerWriter) closeIfUnread() {
	if o.http1 && !o.bodyEnded() {
		o.w.Header().Set("Connection", "close")
	}
}

// write writes lines until the last one, or until the client is gone.
func (o *answerWriter) write() {
	defer close(o.done)
	var spare []byte
	for {
		o.mu.Lock()
		lines, closed := o.lines, o.closed
		if len(lines) > 0 {
			o.lines, spare = spare[:0], nil
			o.writing = time.Now()
		}
		o.mu.Unlock()
		o.room.wake()
		if len(lines) == 0 {
			if closed {
				return
			}
			<-o.work
			continue
		}
		_ = o.control.SetWriteDeadline(time.Now().Add(writePatience))
		_, err := o.w.Write(lines)
		if err == nil {
			err = o.control.Flush()
		}
		o.mu.Lock()
		o.writing = time.Time{}
		o.err = err
		o.mu.Unlock()
		if err != nil {
			o.room.wake()
			return
		}
		spare = lines
	}
}

// end writes the last line, or the whole answer if nothing was written before, and blocks until the client has it or is gone. sent is how
// many rows were sent. ran says that they may have run: then the answer has status 200, since other statuses promise that no row has run.
func (o *answerWriter) end(err error, sent int64, ran bool) {
	o.mu.Lock()
	o.closed = true
	if err != nil && !o.begun && !ran {
		o.mu.Unlock()
		_ = o.control.SetWriteDeadline(time.Now().Add(writePatience))
		o.closeIfUnread()
		refuse(o.w, err)
		_ = o.control.Flush()
		return
	}
	o.beginLocked()
	if err != nil {
		p := problemOf(err)
		p.NotSubmitted = &sent
		o.lines = appendJSON(append(o.lines, `{"error":`...), p)
	} else {
		o.counts.Revision = o.revision.Number
		o.lines = appendJSON(append(o.lines, `{"summary":`...), o.counts)
	}
	o.lines = append(o.lines, "}\n"...)
	o.mu.Unlock()
	o.work.wake()
	<-o.done
}

// addDead adds the line of a row that is dead because it could not be read.
func (o *answerWriter) addDead(row int64, bad *rowfile.BadRow) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	o.beginLocked()
	o.counts.add(batch.Dead)
	why := batch.Unwritable
	if bad.Code == batch.CodeRowTooLarge {
		why = batch.TooLarge
	}
	b := strconv.AppendInt(append(o.lines, `{"row":`...), row, 10)
	b = appendJSON(append(b, `,"outcome":"dead","code":`...), bad.Code.String())
	b = appendJSON(append(b, `,"reason":`...), bad.Reason)
	o.lines = append(appendJSON(append(b, `,"kept":false,"not_kept":`...), why.Name()), "}\n"...)
	o.work.wake()
}

// appendJSON appends a value as JSON. The value must be one that can always be written.
func appendJSON(to []byte, v any) []byte {
	text, _ := json.Marshal(v) //nolint:errchkjson // see above
	return append(to, text...)
}

// answer writes the lines of an answer to one batch. It blocks while the client leaves many lines unread.
func (s *submitter) answer(a *pb.Answer) error {
	s.mu.Lock()
	b := s.unanswered[a.GetSequence()]
	last := a.GetLast() || a.GetRefused() != nil
	if last {
		delete(s.unanswered, a.GetSequence())
	}
	only := b != nil && b.first == 0 && int64(b.rows) == s.rows
	s.mu.Unlock()
	if b == nil {
		return batch.Errorf(batch.CodeInternal, "an answer came for batch %d, which is not under way", a.GetSequence())
	}
	o := s.out
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return batch.Errorf(batch.CodeCancelled, "the answer has ended")
	}
	if refused := wire.ToError(a.GetRefused()); refused != nil && only && !o.begun {
		o.mu.Unlock()
		s.fail(refused)
		s.mu.Lock()
		s.refusedAll = true
		s.mu.Unlock()
		s.cancel(refused)
		return refused
	}
	l := lineWriter{lines: o.lines, batch: b, answer: a, counts: &o.counts, onlyUndone: s.request.onlyUndone}
	l.write()
	o.lines = l.lines
	if len(o.lines) > 0 {
		o.beginLocked()
	}
	o.mu.Unlock()
	o.work.wake()
	if last {
		s.work.wake()
	}
	return s.awaitRoom()
}

// awaitRoom waits until few enough lines wait for the client. It returns an error if the client is gone.
func (s *submitter) awaitRoom() error {
	for {
		s.out.mu.Lock()
		full, err := len(s.out.lines) > answerBytes, s.out.err
		s.out.mu.Unlock()
		switch {
		case err != nil:
			err = batch.Errorf(batch.CodeCancelled, "the client does not read the answer: %w", err)
			s.cancel(err)
			return err
		case !full:
			return nil
		}
		if err := s.await(s.out.room, 0); err != nil {
			return err
		}
	}
}

// lineWriter makes the lines of one answer to a batch.
type lineWriter struct {
	lines      []byte
	batch      *sentBatch
	answer     *pb.Answer
	counts     *summary
	onlyUndone bool

	columns batch.Columns // the rows of output
	order   []uint32      // the numbers of the rows of output, in the order of their origins
	at      int           // place in order of the first one that has no line yet
}

// write makes the lines.
func (l *lineWriter) write() {
	a, told := l.answer, l.batch.told
	if refused := a.GetRefused(); refused != nil {
		l.refuse(refused)
		return
	}
	l.sortOutput()
	finished := newRowsSet(l.batch.rows)
	for _, r := range a.GetFinished() {
		for row := r.GetFirst(); row < min(r.GetFirst()+r.GetCount(), uint32(l.batch.rows)); row++ {
			finished.Add(row)
		}
	}
	undone := a.GetNotDone()
	if len(undone) > 1 {
		slices.SortFunc(undone, func(a, b *pb.RowOutcome) int { return cmp.Compare(a.GetRow(), b.GetRow()) })
	}
	for row := range uint32(l.batch.rows) {
		var o *pb.RowOutcome
		for len(undone) > 0 && undone[0].GetRow() <= row {
			if undone[0].GetRow() == row {
				o = undone[0]
			}
			undone = undone[1:]
		}
		from, to := l.outputOf(row)
		ends := (o != nil || a.GetLast() || finished.Has(row)) && !told.Has(row)
		switch {
		case ends:
			told.Add(row)
			outcome := batch.Done
			if o != nil {
				outcome = batch.Outcome(o.GetOutcome())
			}
			l.counts.add(outcome)
			if o == nil && from == to && l.onlyUndone {
				continue
			}
		case from == to:
			continue
		}
		l.line(row, ends, o, from, to)
	}
	l.wholeBatch()
}

// sortOutput puts the rows of output into the order of their origins.
func (l *lineWriter) sortOutput() {
	o := l.answer.GetOutput()
	l.columns = wire.ToColumns(o.GetRows())
	origins := o.GetOrigins()
	n := min(len(origins), l.columns.Len())
	l.order = make([]uint32, n)
	for i := range l.order {
		l.order[i] = uint32(i)
	}
	byOrigin := func(a, b uint32) int { return cmp.Compare(origins[a], origins[b]) }
	if !slices.IsSortedFunc(l.order, byOrigin) {
		slices.SortStableFunc(l.order, byOrigin)
	}
}

// outputOf returns the places in order of the rows of output that come from a row. Rows must be asked for in order.
func (l *lineWriter) outputOf(row uint32) (from, to int) {
	origins := l.answer.GetOutput().GetOrigins()
	for l.at < len(l.order) && origins[l.order[l.at]] < row {
		l.at++
	}
	from = l.at
	for l.at < len(l.order) && origins[l.order[l.at]] == row {
		l.at++
	}
	return from, l.at
}

// line makes the line of a row.
func (l *lineWriter) line(row uint32, ends bool, o *pb.RowOutcome, from, to int) {
	b := append(l.lines, `{"row":`...)
	b = strconv.AppendInt(b, l.batch.first+int64(row), 10)
	switch {
	case ends && o == nil:
		b = append(b, `,"outcome":"done"`...)
	case ends:
		b = append(b, `,"outcome":"`...)
		b = append(b, batch.Outcome(o.GetOutcome()).String()...)
		b = append(b, `","code":"`...)
		b = append(b, batch.Code(o.GetCode()).String()...)
		b = append(b, '"')
		if o.GetFunction() != "" {
			b = appendJSON(append(b, `,"function":`...), o.GetFunction())
		}
		if o.GetReason() != "" {
			b = appendJSON(append(b, `,"reason":`...), o.GetReason())
		}
		if o.GetAttempts() > 0 {
			b = strconv.AppendUint(append(b, `,"attempts":`...), uint64(o.GetAttempts()), 10)
		}
		if batch.Outcome(o.GetOutcome()) == batch.Dead {
			b = strconv.AppendBool(append(b, `,"kept":`...), o.GetKept())
			if !o.GetKept() {
				b = appendJSON(append(b, `,"not_kept":`...), batch.NotKept(o.GetNotKept()).Name())
			} else if len(o.GetLetter()) > 0 {
				b = append(hex.AppendEncode(append(b, `,"letter":"`...), o.GetLetter()), '"')
			}
		}
	}
	l.lines = b
	l.output(from, to)
	l.lines = append(l.lines, "}\n"...)
}

// output appends the rows of output at these places of order to a line, if there are any.
func (l *lineWriter) output(from, to int) {
	if from == to {
		return
	}
	b := append(l.lines, `,"output":[`...)
	for i, row := range l.order[from:to] {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendRow(b, l.columns.Row(int(row)))
	}
	l.lines = append(b, ']')
}

// wholeBatch makes the line of output that comes from no single row, and of output that is missing.
func (l *lineWriter) wholeBatch() {
	omitted := l.answer.GetOutputOmitted()
	if l.at == len(l.order) && omitted == nil {
		return
	}
	b := append(l.lines, `{"first_row":`...)
	b = strconv.AppendInt(b, l.batch.first, 10)
	b = strconv.AppendInt(append(b, `,"rows":`...), int64(l.batch.rows), 10)
	if omitted != nil {
		b = appendJSON(append(b, `,"output_omitted":`...), problemOf(wire.ToError(omitted)))
	}
	l.lines = b
	l.output(l.at, len(l.order))
	l.lines = append(l.lines, "}\n"...)
}

// refuse makes the lines of a batch that was refused: none of its rows ran.
func (l *lineWriter) refuse(e *pb.Error) {
	code, reason := batch.Code(e.GetCode()).String(), appendJSON(nil, e.GetMessage())
	for row := range l.batch.rows {
		l.counts.Rows++
		l.counts.Refused++
		b := append(l.lines, `{"row":`...)
		b = strconv.AppendInt(b, l.batch.first+int64(row), 10)
		b = append(b, `,"outcome":"refused","code":"`...)
		b = append(append(b, code...), `","reason":`...)
		l.lines = append(append(b, reason...), "}\n"...)
	}
}

// appendRow appends a row of output as JSON on one line. A row that is no JSON becomes a string.
func appendRow(to, row []byte) []byte {
	if bytes.IndexByte(row, '\n') < 0 && bytes.IndexByte(row, '\r') < 0 && jsonrule.Valid(row) {
		return append(to, row...)
	}
	var one bytes.Buffer
	if json.Compact(&one, row) == nil {
		return append(to, one.Bytes()...)
	}
	return appendJSON(to, string(row))
}
