package httpapi

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/http"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
)

// Requests keeps requests that have a key of idempotency.
type Requests interface {
	// Keep keeps a request under a hash, and returns nil, unless one is kept there already. Then it returns that one, and how long ago it was
	// kept.
	Keep(ctx context.Context, hash string, request cluster.KeptRequest) (earlier *cluster.KeptRequest, age time.Duration, err error)
}

// How many requests with a key one coordinator takes: so many each second, and so many at once. Each is a write to etcd, which keeps the
// request for two hours.
const (
	keysPerSecond = 20
	keysAtOnce    = 100
)

// overloaded makes an error that tells the client to wait for a second.
func overloaded(text string) error {
	e := batch.Errorf(batch.CodeOverloaded, "%s", text)
	e.RetryAfter = time.Second
	return e
}

// errKeptBefore ends a call because the request was made before: its batches belong to another stream, for which another call is made.
var errKeptBefore = errors.New("the request was made before")

// keep keeps the request's key before its first row is sent, if it has a key. It waits until all rows have come. If the request was made
// before, it returns errKeptBefore, and the rows have the same ids as the first time.
func (s *submitter) keep() error {
	for {
		s.mu.Lock()
		wait := s.request.key != "" && !s.kept && (!s.ended || s.readErr == nil)
		ended, none := s.ended, s.next.Len() == 0
		s.mu.Unlock()
		switch {
		case !wait || ended && none:
			return nil
		case ended:
			return s.keepNow()
		}
		if err := s.await(s.work, 0); err != nil {
			return err
		}
	}
}

// keepNow keeps the request's key. All rows have come.
func (s *submitter) keepNow() error {
	s.mu.Lock()
	now := cluster.KeptRequest{
		Revision: s.revision.Number, Digest: s.revision.Digest, Stream: hex.EncodeToString(s.request.stream[:]), Body: rowsDigest(&s.next),
	}
	s.mu.Unlock()
	earlier, age, err := s.api.Requests.Keep(s.ctx, keyHash(s.who, s.request.flow, s.request.key), now)
	switch {
	case err != nil:
		return err
	case earlier == nil:
		s.mu.Lock()
		s.kept = true
		s.mu.Unlock()
		return nil
	case earlier.Body != now.Body:
		return statusError{batch.Errorf(batch.CodeConflict, "the key of header %s belongs to a request with other rows: "+
			"draw a new key for each request, and use it again only for the same rows", keyHeader), http.StatusUnprocessableEntity}
	case age > cluster.RequestWindow:
		return batch.Errorf(batch.CodeBatchTooOld, "the request was first made %v ago, and may be made again for %v: "+
			"find out which of its rows took effect, and send the others with a new key", age.Round(time.Second), cluster.RequestWindow)
	}
	stream, err := hex.DecodeString(earlier.Stream)
	if err != nil || len(stream) != len(s.request.stream) {
		return batch.Errorf(batch.CodeInternal, "the kept request has the stream %.40q", earlier.Stream)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept, s.age, s.began = true, age, time.Now()
	s.revision = batch.Revision{Number: earlier.Revision, Digest: earlier.Digest}
	s.request.stream = batch.StreamID(stream)
	s.opening, s.rowCredit, s.byteCredit = false, 0, 0
	s.takeUp.Store(true)
	return errKeptBefore
}

// keyHash returns the name under which a request is kept.
func keyHash(who, flow, key string) string {
	h := sha256.New()
	for _, part := range []string{who, flow, key} {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
		h.Write([]byte(part))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// rowsDigest returns a checksum of rows.
func rowsDigest(c *batch.Columns) string {
	h := sha256.New()
	_ = binary.Write(h, binary.LittleEndian, c.Ends) // a hash takes everything
	h.Write(c.Data)
	return hex.EncodeToString(h.Sum(nil))
}
