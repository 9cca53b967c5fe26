package submission

import (
	"context"
	"sync"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// chunk is the rows of one batch, as they go from read to send, and the rows between them that can't be sent.
type chunk struct {
	columns batch.Columns
	lines   []int    // the numbers of the rows' lines
	texts   [][]byte // the rows as they stand in the input; nil if that is how they are sent, or if nobody asks
	broken  []int    // places of rows that are no JSON: they are sent, so that they become dead letters
	bad     []badRow // rows that can't be sent
	offset  int64    // how many bytes of the input were read up to here
	unit    string   // what a line is called: line, or row in a JSON array
	header  []byte   // of CSV; nil for other formats
}

// badRow is a row that can't be read and has no form in which it could be sent.
type badRow struct {
	line   int
	code   batch.Code
	reason string
	text   []byte // nil if it is not known
}

// inputRow is a row as read puts it into the feed.
type inputRow struct {
	row    []byte // nil for a row that can't be sent
	text   []byte // the row as it stands in the input, or nil if nobody asks
	line   int
	broken bool // the row is no JSON
	bad    badRow
	offset int64
	unit   string
	header []byte
}

// add appends a row to the chunk.
func (c *chunk) add(r *inputRow) {
	c.offset, c.unit, c.header = r.offset, r.unit, r.header
	if r.row == nil {
		c.bad = append(c.bad, r.bad)
		return
	}
	if r.broken {
		c.broken = append(c.broken, len(c.lines))
	}
	c.columns.Append(r.row)
	c.lines = append(c.lines, r.line)
	if r.text != nil {
		c.texts = append(c.texts, r.text)
	}
}

// empty reports whether the chunk has nothing at all.
func (c *chunk) empty() bool { return len(c.lines)+len(c.bad) == 0 }

// span returns the first and the last line of the chunk.
func (c *chunk) span() (first, last int) {
	if len(c.lines) > 0 {
		first, last = c.lines[0], c.lines[len(c.lines)-1]
	}
	if n := len(c.bad); n > 0 {
		if first == 0 || c.bad[0].line < first {
			first = c.bad[0].line
		}
		last = max(last, c.bad[n-1].line)
	}
	return first, last
}

// feed packs rows into chunks. One goroutine adds rows, and one takes chunks.
type feed struct {
	rows  int           // the limit for the rows of a chunk
	flush time.Duration // how long a row waits for others

	mu    sync.Mutex
	next  chunk     // guarded by mu
	since time.Time // guarded by mu: when next got its first row
	ended bool      // guarded by mu
	err   error     // guarded by mu: why the rows ended too early
	taken int       // guarded by mu: the last line that was taken

	wake chan struct{} // has a token if next has its first row, is full, or is the last one
	room chan struct{} // has a token if next was taken
}

// newFeed makes a feed of chunks with so many rows.
func newFeed(rows int, flush time.Duration) *feed {
	return &feed{rows: rows, flush: flush, wake: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

// add appends a row, whose bytes are copied. It blocks while the chunk is full. false means that ctx is over.
func (f *feed) add(ctx context.Context, r *inputRow) bool {
	f.mu.Lock()
	for f.full() {
		f.mu.Unlock()
		select {
		case <-f.room:
		case <-ctx.Done():
			return false
		}
		f.mu.Lock()
	}
	first := f.next.empty()
	if first {
		f.since = time.Now()
	}
	f.next.add(r)
	wake := first || f.full()
	f.mu.Unlock()
	if wake {
		signal(f.wake)
	}
	return true
}

// full reports whether the chunk takes no more rows. The caller holds mu.
func (f *feed) full() bool {
	return len(f.next.lines)+len(f.next.bad) >= f.rows || len(f.next.columns.Data) >= batchBytes
}

// end says that no more rows come, and why, if they ended too early.
func (f *feed) end(err error) {
	f.mu.Lock()
	f.ended, f.err = true, err
	f.mu.Unlock()
	signal(f.wake)
}

// take returns the next chunk as soon as it is full, or has waited long enough, or is the last one. more is false behind the last one,
// with the reason why the rows ended too early. The error of ctx is returned when ctx is over.
func (f *feed) take(ctx context.Context) (c chunk, more bool, err error) {
	for {
		f.mu.Lock()
		left := f.flush - time.Since(f.since)
		switch empty := f.next.empty(); {
		case empty && f.ended:
			defer f.mu.Unlock()
			return chunk{}, false, f.err
		case ctx.Err() != nil:
			defer f.mu.Unlock()
			return chunk{}, false, context.Cause(ctx)
		case !empty && (f.ended || f.full() || left <= 0):
			c, f.next = f.next, chunk{}
			_, f.taken = c.span()
			f.mu.Unlock()
			signal(f.room)
			return c, true, nil
		case empty:
			left = time.Hour
		}
		f.mu.Unlock()
		timer := time.NewTimer(left)
		select {
		case <-f.wake:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// firstLine returns the first line that has not been taken. There may be none, if the input has ended.
func (f *feed) firstLine() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if first, _ := f.next.span(); first > 0 {
		return first
	}
	return f.taken + 1
}

// signal puts a token into a channel that has room for one, unless it has one already.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
