package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// BenchmarkHTTP submits the same rows through the Go client and over HTTP, as NDJSON in one request, with output and without. A row has 50
// bytes; b.N counts thousands of rows.
func BenchmarkHTTP(b *testing.B) {
	columns := fiftyBytes(1000)
	for _, output := range []bool{true, false} {
		name := map[bool]string{true: "", false: "-no-output"}[output]
		b.Run("client"+name, func(b *testing.B) { throughput(b, columns, underWay, output, "Pass") })
		b.Run("http"+name, func(b *testing.B) { httpThroughput(b, columns, output) })
		b.Run("http2"+name, func(b *testing.B) { http2Throughput(b, columns, output) })
	}
}

// httpThroughput sends b.N times the rows in one request of HTTP/1.1.
func httpThroughput(b *testing.B, columns batch.Columns, output bool) {
	b.Helper()
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	postRows(b, &http.Transport{Protocols: &protocols}, columns, output)
}

// http2Throughput sends b.N times the rows in one request of HTTP/2 without TLS.
func http2Throughput(b *testing.B, columns batch.Columns, output bool) {
	b.Helper()
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	postRows(b, &http.Transport{Protocols: &protocols}, columns, output)
}

// postRows sends b.N times the rows in one request, while it reads the answer. It checks that every row is done, and that each has its line
// where output is asked for.
func postRows(b *testing.B, carrier *http.Transport, columns batch.Columns, output bool) {
	b.Helper()
	defer carrier.CloseIdleConnections()
	l, err := (&net.ListenConfig{}).Listen(b.Context(), "tcp", "127.0.0.1:0") // finds a free port
	if err != nil {
		b.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	b.Setenv(httpVariable, address)
	_, processes := startCluster(b, "Pass")
	var lines []byte
	start := uint32(0)
	for _, end := range columns.Ends {
		lines = append(append(lines, columns.Data[start:end]...), '\n')
		start = end
	}
	url := "http://" + address + "/v1/flows/Pass/rows"
	if !output {
		url += "?output=false&list=not_done"
	}
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	processes.start(b)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, &repeated{lines, b.N, nil})
	if err != nil {
		b.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-ndjson")
	answer, err := (&http.Client{Transport: carrier}).Do(r)
	if err != nil {
		b.Fatal(err)
	}
	defer answer.Body.Close()
	rows := b.N * columns.Len()
	told, last, err := countLines(answer.Body)
	if err != nil {
		b.Fatal(err)
	}
	var end struct {
		Summary struct {
			Done int `json:"done"`
		} `json:"summary"`
	}
	if err := json.Unmarshal(last, &end); err != nil || end.Summary.Done != rows || output && told != rows+1 {
		b.Fatalf("of %d rows %d have lines, and the last line is %s (%v)", rows, told-1, last, err)
	}
	processes.stop(b, rows)
}

// countLines reads to the end, and returns the number of lines and the last one.
func countLines(r io.Reader) (n int, last []byte, err error) {
	in := bufio.NewReaderSize(r, 256<<10)
	for {
		line, err := in.ReadSlice('\n')
		if len(line) > 0 {
			n++
			last = append(last[:0], line...)
		}
		if errors.Is(err, io.EOF) {
			return n, bytes.TrimSpace(last), nil
		}
		if err != nil {
			return n, nil, fmt.Errorf("the answer breaks off after %d lines: %w", n, err)
		}
	}
}

// repeated is a reader of the same bytes, several times.
type repeated struct {
	text  []byte
	times int
	rest  []byte
}

// Read implements io.Reader.
func (r *repeated) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		if r.times == 0 {
			return 0, io.EOF
		}
		r.rest = r.text
		r.times--
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}
