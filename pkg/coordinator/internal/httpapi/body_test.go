package httpapi

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/internal/rowfile"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// TestLongNames: rows of CSV whose header has long names are refused when they are as long as a body may be, however short their lines are.
func TestLongNames(t *testing.T) {
	w := httptest.NewRecorder()
	body := strings.Repeat("n", 1000) + ",b\n" + strings.Repeat("1,2\n", 100)
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
	s := newSubmitter(t.Context(), func(error) {}, &API{}, rowsRequest{format: rowfile.CSV, oneBatch: true}, w, r)
	s.limits = batch.Limits{}.WithDefaults()
	s.body.most = 10_000
	if err := s.addRows(); batch.CodeOf(err) != batch.CodeBatchTooLarge || s.next.Len() != 9 {
		t.Errorf("%d rows were taken: %v", s.next.Len(), err)
	}
}

// TestBomb: a body is refused that is over the limit as it comes, or that becomes so when it is decompressed.
func TestBomb(t *testing.T) {
	const most = 1 << 20
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	if _, err := z.Write(bytes.Repeat([]byte(" "), most+1)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if bomb.Len() > most/100 {
		t.Fatalf("the bomb has %d bytes", bomb.Len())
	}
	for name, c := range map[string]struct {
		body []byte
		over bool
	}{
		"plain":      {bytes.Repeat([]byte(" "), most+1), true},
		"compressed": {bomb.Bytes(), true},
		"fits":       {bytes.Repeat([]byte(" "), most), false},
	} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(c.body))
		b := newPatientBody(r, http.NewResponseController(w))
		b.most, b.left = most, most
		in, err := b.plain()
		if err == nil {
			_, err = io.Copy(io.Discard, in)
		}
		if over := batch.CodeOf(err) == batch.CodeBatchTooLarge; over != c.over && !(errors.Is(err, io.EOF) && !c.over) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
