package httpapi

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/kisgrid/kisgrid/internal/rowfile"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Limits of a body.
const (
	// rowPatience is how long a client may take to send one row, and may be silent between two rows.
	rowPatience = time.Minute
	// readPatience is for how long the client may leave the answer unread, while the body is not read either because of that, before the
	// rest of the body is no longer taken.
	readPatience = 5 * time.Second
	// maxBodyBytes is the most bytes of a body, as it comes and uncompressed.
	maxBodyBytes = 1 << 30
)

// patientBody is the body of a request. A read fails when the client takes too long for a row. One goroutine reads; waiting, discard and
// interrupt may be used by others.
type patientBody struct {
	reader      io.ReadCloser
	control     *http.ResponseController
	traceParent string
	length      int64       // of the body; -1 means that it is not known
	compressed  bool        // the headers say that the body is compressed
	lastRow     time.Time   // when the last row had come, or when the reader went on after it had waited for room
	rowCame     bool        // a row has come since lastRow
	isWaiting   atomic.Bool // a read is under way, so that there is no row to take at the moment
	onWait      signal      // is woken when a read begins
	discard     atomic.Bool // rows are thrown away
	most        int64       // the most bytes of the body, as it comes and uncompressed
	left        int64       // bytes that may still come
	rowBytes    int64       // bytes of the rows that were read: JSON, also where the body is CSV
	ended       atomic.Bool // all of the body was read
	broken      bool        // a read has failed, so that the client may be gone
}

// newPatientBody makes the body of a request.
func newPatientBody(r *http.Request, control *http.ResponseController) *patientBody {
	b := &patientBody{reader: r.Body, control: control, most: maxBodyBytes, left: maxBodyBytes, length: r.ContentLength, compressed: len(r.Header.Values("Content-Encoding")) > 0}
	if parent := r.Header.Get("traceparent"); len(parent) <= 64 {
		b.traceParent = parent
	}
	return b
}

// waiting reports whether all rows that have come were given to the submitter.
func (b *patientBody) waiting() bool { return b.isWaiting.Load() }

// interrupt makes reads fail from now on.
func (b *patientBody) interrupt() {
	_ = b.control.SetReadDeadline(time.Unix(1, 0)) // an error says that the connection is gone
}

// Read implements io.Reader.
func (b *patientBody) Read(p []byte) (int, error) {
	if b.rowCame {
		b.rowCame, b.lastRow = false, time.Now()
	}
	p = p[:min(int64(len(p)), b.left+1)] // one more than may come shows that there is more
	if err := b.control.SetReadDeadline(b.lastRow.Add(rowPatience)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	b.isWaiting.Store(true)
	if b.onWait != nil {
		b.onWait.wake()
	}
	n, err := b.reader.Read(p)
	b.isWaiting.Store(false)
	if b.left -= int64(n); b.left < 0 {
		n, err, b.left = 0, tooLong(b.most), 0
	}
	if err == io.EOF { //nolint:errorlint // io.EOF as it is means the end
		b.ended.Store(true)
	}
	b.broken = err != nil && !errors.Is(err, io.EOF)
	_ = b.control.SetReadDeadline(time.Time{}) // otherwise the time until the next read would count, and after the end the deadline would end the request
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = statusError{batch.Errorf(batch.CodeDeadline, "no row has come for %v: send rows faster, or the other rows in another request", rowPatience), http.StatusRequestTimeout}
	}
	return n, err
}

// readBody reads the rows of the body until it ends, or the request does.
func (s *submitter) readBody() {
	s.body.lastRow, s.body.onWait = time.Now(), s.work
	err := s.addRows()
	s.mu.Lock()
	s.ended = true
	if s.readErr == nil && !errors.Is(err, io.EOF) {
		s.readErr = err
	}
	s.mu.Unlock()
	close(s.noted)
	s.work.wake()
	if !errors.Is(err, io.EOF) {
		s.throwAway()
	}
}

// addRows adds the rows of the body to the next batch until there is an error: io.EOF at the end.
func (s *submitter) addRows() error {
	in, err := s.body.plain()
	if err != nil {
		return s.judge(err)
	}
	rows := rowfile.NewReader(in, rowfile.Options{Format: s.request.format, MaxRow: s.limits.RowBytes, Types: s.types})
	for {
		row, err := rows.Next()
		if bad, ok := errors.AsType[*rowfile.BadRow](err); ok {
			err = s.addBad(bad, rows.Format())
		} else if err != nil {
			return s.judge(err)
		} else {
			err = s.add(row, rows.Number())
		}
		if err != nil {
			return err
		}
		s.body.rowCame = true
	}
}

// types returns the types of the fields of the flow's rows, for CSV.
func (s *submitter) types() (rowfile.Types, error) {
	if s.api.Types == nil {
		return nil, nil
	}
	return s.api.Types(s.ctx, s.request.flow), nil
}

// addBad ends a row that can't be read. Where its text is known and was to be JSON, the flow ends it as it ends any such row, so that it is
// kept as a dead letter.
func (s *submitter) addBad(bad *rowfile.BadRow, format rowfile.Format) error {
	if format != rowfile.CSV && len(bad.Text) > 0 {
		return s.add(bad.Text, bad.Number)
	}
	if s.whole {
		return batch.Errorf(bad.Code, "%s %d: %s: a request that can be made again must have rows that can be read", bad.Unit, bad.Number, bad.Reason)
	}
	for {
		s.mu.Lock()
		switch {
		case s.ended:
			s.mu.Unlock()
			return io.ErrClosedPipe
		case s.next.Len() == 0:
			row := s.rows
			s.rows++
			s.hurry = false
			s.mu.Unlock()
			s.out.addDead(row, bad)
			return nil
		}
		s.hurry = true // the rows before it have numbers before its own
		s.mu.Unlock()
		s.work.wake()
		if err := s.awaitTaken(); err != nil {
			return err
		}
	}
}

// judge returns the error of a read for the client.
func (s *submitter) judge(err error) error {
	_, ours := errors.AsType[*batch.Error](err)
	wrong, notRows := errors.AsType[*rowfile.NotRows](err)
	switch {
	case notRows && wrong.Is == "CSV":
		return batch.Errorf(batch.CodeBadMessage, "the body has CSV: send it with the header Content-Type: text/csv (%w)", wrong)
	case notRows:
		return batch.Errorf(batch.CodeBadMessage, "the body has no rows: %w", wrong)
	case ours || err == io.EOF: //nolint:errorlint // io.EOF as it is means the end of the rows
		return err
	case !s.body.broken:
		return batch.Errorf(batch.CodeBadMessage, "%w", err)
	}
	if malformed(err) {
		return batch.Errorf(batch.CodeBadMessage, "the body is not as its Transfer-Encoding says: %w", err)
	}
	gone := batch.Errorf(batch.CodeCancelled, "the body broke off: %w", err)
	s.cancel(gone)
	return gone
}

// malformed reports whether the error of a read says that the chunks of the body are wrong, and not that the connection is. net/http has no
// types for these errors.
func malformed(err error) bool {
	text := err.Error()
	return strings.Contains(text, "chunk") || text == "header line too long"
}

// add adds a row to the next batch; line is its line in the body, or its number in an array. It blocks while that is full, and returns an
// error if the row is not taken. The rows together may have as many bytes as the body, so that a short body of CSV, whose header has long
// names, does not make rows without end.
func (s *submitter) add(row []byte, line int) error {
	if s.body.rowBytes += int64(len(row)); s.body.rowBytes > s.body.most {
		return tooLong(s.body.most)
	}
	for {
		s.mu.Lock()
		if s.ended {
			s.mu.Unlock()
			return io.ErrClosedPipe
		}
		if s.whole && len(s.next.Data)+len(row) > s.limits.BatchBytes || s.request.oneBatch && s.next.Len() >= s.limits.BatchRows {
			defer s.mu.Unlock()
			return batch.Errorf(batch.CodeBatchTooLarge, "a request that can be made again may have %d bytes of rows, and with %s %d rows: send fewer rows in each request",
				s.limits.BatchBytes, sequenceHeader, s.limits.BatchRows)
		}
		if s.whole || !s.full() {
			first := s.next.Len() == 0
			if first {
				s.nextSince = time.Now()
				if s.next.Data == nil {
					s.next = batch.Columns{Data: make([]byte, 0, fullBytes+len(row)), Ends: make([]uint32, 0, fullRows)}
					s.lines = make([]int, 0, fullRows)
				}
			}
			s.next.Append(row)
			s.lines = append(s.lines, line)
			wake := first || s.full()
			s.mu.Unlock()
			if wake {
				s.work.wake()
			}
			return nil
		}
		s.mu.Unlock()
		if err := s.awaitTaken(); err != nil {
			return err
		}
	}
}

// awaitTaken waits for a moment, or until a batch was taken. It returns an error if the client leaves the answer unread.
func (s *submitter) awaitTaken() error {
	if err := s.await(s.room, time.Second); err != nil {
		return err
	}
	if stalled := s.out.stalled(); stalled >= readPatience {
		return batch.Errorf(batch.CodeOverloaded, "the client has left %v of answers unread while it sent rows: read answers while you send, "+
			"send fewer rows in each request, or ask for fewer answers with list=not_done and output=false", stalled.Round(time.Second))
	}
	s.body.lastRow = time.Now()
	return nil
}

// throwAway reads the rest of the body, so that a client that sends all of it before it reads gets to the answer.
func (s *submitter) throwAway() {
	s.body.lastRow = time.Now()
	_, _ = io.Copy(io.Discard, s.body) // an error says that the client is gone
}

// gzipStart are the first bytes of a body that is compressed with gzip.
var gzipStart = []byte{0x1f, 0x8b}

// plain returns the reader of the body's bytes without compression. It recognizes gzip by the first bytes.
func (b *patientBody) plain() (io.Reader, error) {
	in := bufio.NewReaderSize(b, 64<<10)
	if start, _ := in.Peek(len(gzipStart)); !bytes.Equal(start, gzipStart) {
		return in, nil // an error comes again with the next read
	}
	z, err := gzip.NewReader(in)
	if err != nil {
		return nil, batch.Errorf(batch.CodeBadMessage, "the body begins as gzip does, and can't be decompressed: %w", err)
	}
	out := bufio.NewReaderSize(&bounded{z, b.most, b.most}, 64<<10)
	if start, _ := out.Peek(len(gzipStart)); bytes.Equal(start, gzipStart) {
		return nil, batch.Errorf(batch.CodeBadMessage, "the body is compressed twice: compress it once")
	}
	return out, nil
}

// bounded is a reader that fails where more than most bytes come.
type bounded struct {
	io.Reader
	most, left int64
}

// Read implements io.Reader.
func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p[:min(int64(len(p)), b.left+1)]) // one more than may come shows that there is more
	if b.left -= int64(n); b.left < 0 {
		b.left = 0
		return 0, tooLong(b.most)
	}
	return n, err
}

// tooLong is the error of a body with too many bytes.
func tooLong(most int64) error {
	return batch.Errorf(batch.CodeBatchTooLarge, "the body has more than %d bytes: send the other rows in another request", most)
}
