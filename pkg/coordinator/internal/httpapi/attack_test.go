package httpapi_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestOtherSites: requests that a page of another site could have a browser make.
func TestOtherSites(t *testing.T) {
	t.Parallel()
	own := "http://" + at
	for name, c := range map[string]struct {
		headers []string
		status  int
		says    string
	}{
		"a program":                        {nil, 200, ""},
		"a page of this server":            {[]string{"Origin", own, "KisGrid-Request", "1"}, 200, ""},
		"the same, without the header":     {[]string{"Origin", own}, 403, "KisGrid-Request"},
		"a form of another site":           {[]string{"Origin", "http://evil.example", "Content-Type", "text/plain"}, 403, "another site"},
		"the same, with the header":        {[]string{"Origin", "http://evil.example", "KisGrid-Request", "1"}, 403, "another site"},
		"a sandboxed page":                 {[]string{"Origin", "null", "KisGrid-Request", "1"}, 403, "another site"},
		"two origins":                      {[]string{"Origin", own, "Origin", "http://evil.example", "KisGrid-Request", "1"}, 403, "another site"},
		"another port of this machine":     {[]string{"Origin", "http://127.0.0.1:1", "KisGrid-Request", "1"}, 403, "another site"},
		"without Origin":                   {[]string{"Sec-Fetch-Site", "cross-site", "KisGrid-Request", "1"}, 403, "another site"},
		"a sister site":                    {[]string{"Sec-Fetch-Site", "same-site", "KisGrid-Request", "1"}, 403, "another site"},
		"with a cookie only":               {[]string{"Cookie", "a=b"}, 403, "KisGrid-Request"},
		"a rebound name":                   {[]string{"Host", "evil.example:7702"}, 421, "--http-hosts"},
		"a rebound name and its origin":    {[]string{"Host", "evil.example", "Origin", "http://evil.example", "KisGrid-Request", "1"}, 421, "--http-hosts"},
		"a name that ends like a good one": {[]string{"Host", "evil-localhost.example"}, 421, "--http-hosts"},
		"a good name within a bad one":     {[]string{"Host", "localhost.evil.example"}, 421, "--http-hosts"},
		"a name of a cluster":              {[]string{"Host", "kisgrid-coordinator.kisgrid.svc.cluster.local:7702"}, 200, ""},
		"a short name":                     {[]string{"Host", "coordinator"}, 200, ""},
		"an address":                       {[]string{"Host", "[::1]:7702"}, 200, ""},
	} {
		a := post(t, "/v1/flows/Pass/rows", `{"id":1}`, c.headers...)
		if a.status != c.status || c.says != "" && !strings.Contains(a.text, c.says) {
			t.Errorf("%s: got %d %s, want %d that says %q", name, a.status, a.text, c.status, c.says)
		}
	}
	for name, c := range map[string][2]string{"GET from another site": {"GET", "http://evil.example"}, "a preflight": {"OPTIONS", "http://evil.example"}} {
		r, err := http.NewRequest(c[0], own+"/v1/flows/Pass/rows", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Origin", c[1])
		r.Header.Set("Access-Control-Request-Method", "POST")
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode < 400 || response.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: status %d, %v", name, response.StatusCode, response.Header)
		}
	}
}

// TestSecurityHeaders: no answer can be shown within a page of another site, or be taken for another type.
func TestSecurityHeaders(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/v1/flows/Pass/rows", "/v1/flows/None/rows", "/v1/none", "/openapi.json"} {
		response, err := http.Post("http://"+at+path, "", strings.NewReader(`{"id":"<script>alert(1)</script>"}`))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		h := response.Header
		if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("X-Frame-Options") != "DENY" || h.Get("Cache-Control") != "no-store" ||
			!strings.Contains(h.Get("Content-Security-Policy"), "frame-ancestors 'none'") || strings.Contains(h.Get("Content-Type"), "html") ||
			h.Get("Set-Cookie") != "" { // no browser holds a right that a page of another site could use
			t.Errorf("%s: %v", path, h)
		}
	}
}

// raw sends bytes over a connection, and returns everything that comes until the server closes it, or nothing has come for a moment.
func raw(t *testing.T, text string) string {
	t.Helper()
	conn, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() { _, _ = io.WriteString(conn, text) }() // an error says that the server has refused the request already
	var all bytes.Buffer
	for b := make([]byte, 4096); ; {
		_ = conn.SetReadDeadline(time.Now().Add(700 * time.Millisecond))
		n, err := conn.Read(b)
		all.Write(b[:n])
		if err != nil {
			return all.String()
		}
	}
}

// TestSmuggling: a request that a proxy may read in another way than this server is refused, or its connection carries no further request.
func TestSmuggling(t *testing.T) {
	t.Parallel()
	const head = "POST /v1/flows/Pass/rows HTTP/1.1\r\nHost: localhost\r\n"
	const second = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
	chunked := "9\r\n{\"id\":1}\n\r\n0\r\n\r\n"
	for name, text := range map[string]string{
		"length and chunks":         head + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked + second,
		"chunks, long length":       head + fmt.Sprintf("Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n", len(chunked)+len(second)) + chunked + second,
		"chunks alone":              head + "Transfer-Encoding: chunked\r\n\r\n" + chunked + second,
		"two lengths":               head + "Content-Length: 9\r\nContent-Length: 0\r\n\r\n{\"id\":1}\n" + second,
		"two codings":               head + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + chunked + second,
		"an unknown coding":         head + "Transfer-Encoding: xchunked\r\n\r\n" + chunked + second,
		"a space before the colon":  head + "Content-Length : 9\r\n\r\n{\"id\":1}\n" + second,
		"a bare line feed in chunk": head + "Transfer-Encoding: chunked\r\n\r\n9\n{\"id\":1}\n\r\n0\r\n\r\n" + second,
		"a negative length":         head + "Content-Length: -1\r\n\r\n" + second,
		"a length with a sign":      head + "Content-Length: +9\r\n\r\n{\"id\":1}\n" + second,
		"a chunk's huge size":       head + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n{}\r\n0\r\n\r\n" + second,
		"an early 'end'":            head + "Content-Length: 0\r\n\r\n" + "POST /v1/flows/Pass/rows HTTP/1.1\r\nHost: evil.example\r\n\r\n",
	} {
		answer := raw(t, text)
		if !strings.HasPrefix(answer, "HTTP/1.1 ") {
			t.Errorf("%s: %q", name, answer)
			continue
		}
		if strings.Contains(answer, "\r\nok\n") {
			t.Errorf("%s: the bytes behind the body were taken for a request:\n%s", name, answer)
		}
	}
}

// TestPaths: no spelling of a path reaches a flow that has another name, or a file.
func TestPaths(t *testing.T) {
	t.Parallel()
	for _, path := range []string{
		"/v1/flows/../flows/Pass/rows", "/v1/flows/%2e%2e/Pass/rows", "/v1/flows/..%2fPass/rows", "/v1/flows/Pass%00/rows", "/v1/flows/Pass%2frows/rows",
		"/v1//flows/Pass/rows", "/v1/flows/Pass/rows/", "/v1/flows/Pass%0d%0aX-Evil:%201/rows", "/v1/../../../../etc/passwd", "/v1/flows/%2e%2e%2f%2e%2e%2fetc%2fpasswd/rows",
		"//evil.example/%2e%2e", "//evil.example/v1/../../", "/v1/..//evil.example/", "/v1/%5cevil.example/../", "/v1//evil.example/%2f..",
	} {
		answer := raw(t, "POST "+path+" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8\r\nConnection: close\r\n\r\n{\"id\":1}")
		status, headers, _ := strings.Cut(answer, "\r\n")
		headers, _, _ = strings.Cut(headers, "\r\n\r\n")
		if strings.Contains(answer, `"summary"`) || strings.Contains(answer, "root:") || strings.Contains(headers, "X-Evil:") || strings.Contains(status, " 200 ") {
			t.Errorf("%s: %s", path, answer)
		}
		if _, to, moved := strings.Cut(headers, "Location: "); moved && (!strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") || strings.HasPrefix(to, "/\\")) {
			t.Errorf("%s is redirected to %s", path, to)
		}
	}
}

// TestHugeHeaders: headers over the limit are refused.
func TestHugeHeaders(t *testing.T) {
	t.Parallel()
	answer := raw(t, "POST /v1/flows/Pass/rows HTTP/1.1\r\nHost: localhost\r\nX-Long: "+strings.Repeat("x", 2<<20)+"\r\n\r\n")
	if answer != "" && !strings.Contains(answer, " 431 ") { // the server may have closed the connection before it was read
		t.Errorf("%.300s", answer)
	}
}

// TestHalfBody: a body that breaks off submits no piece of a row, and its request ends.
func TestHalfBody(t *testing.T) {
	t.Parallel()
	conn, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /v1/flows/Pass/rows HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{\"id\":1}\n{\"id\":2")
	r := bufio.NewReader(conn)
	response, err := http.ReadResponse(r, nil) //nolint:bodyclose // the connection is closed
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(response.Body)
	if line, err := lines.ReadString('\n'); err != nil || !strings.Contains(line, `{"row":0,"outcome":"done"`) {
		t.Fatalf("%q, %v", line, err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	rest, _ := io.ReadAll(lines) // the answer may break off, since the client looks gone
	if strings.Contains(string(rest), `"row":1`) || strings.Contains(string(rest), `"summary"`) {
		t.Errorf("the half row was taken: %s", rest)
	}
}

// TestMalformedChunks: a body whose chunks are wrong is a mistake of the client, which must not send the same again.
func TestMalformedChunks(t *testing.T) {
	t.Parallel()
	for name, chunks := range map[string]string{
		"a sign that is no digit": "0x9\r\n{\"id\":1}\n\r\n0\r\n\r\n", "a chunk that is too long": "2\r\n{\"id\":1}\n\r\n0\r\n\r\n", "no size": "\r\n\r\n", "a huge size": "fffffffffffffffff\r\n{}\r\n0\r\n\r\n",
	} {
		answer := raw(t, "POST /v1/flows/Pass/rows HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"+chunks)
		if !strings.HasPrefix(answer, "HTTP/1.1 400 ") || !strings.Contains(answer, "BAD_MESSAGE") || strings.Contains(answer, "Retry-After") {
			t.Errorf("%s: %s", name, answer)
		}
	}
}

// TestDisconnect: when the client goes, its rows are given up, and its key is free for other rows.
func TestDisconnect(t *testing.T) {
	for name, c := range clients() {
		talk := converse(t, c, "/v1/flows/Wait/rows")
		talk.write("{\"id\":1}\n")
		open := enter(t)
		talk.write("{\"id\":1}\n{\"id\":1}\n")
		talk.cancel()
		close(open)
		ended := make(chan struct{})
		go func() { // rows that a worker has already run to their end
			for {
				select {
				case open := <-gate:
					close(open)
				case <-ended:
					return
				}
			}
		}()
		if a := send(t, c, request(t, "/v1/flows/Wait/rows", strings.NewReader("{\"id\":1}\n"))); a.summary == nil || a.summary.Done != 1 {
			t.Errorf("%s: %s", name, a.text)
		}
		close(ended)
	}
}

// TestUnreadAnswers: a client that sends all of a large body before it reads gets an answer that says how far it got.
func TestUnreadAnswers(t *testing.T) {
	t.Parallel()
	conn, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	row := `{"id":1,"text":"` + strings.Repeat("x", 2000) + "\"}\n"
	const n = 20_000
	fmt.Fprintf(conn, "POST /v1/flows/Pass/rows HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n", n*len(row))
	for range n {
		if _, err := io.WriteString(conn, row); err != nil {
			t.Fatalf("the server does not take the body: %v", err)
		}
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil) //nolint:bodyclose // read closes it
	if err != nil {
		t.Fatal(err)
	}
	a := read(t, response)
	if a.problem == nil || a.problem.Code != "OVERLOADED" || a.problem.NotSubmittedFrom == nil || *a.problem.NotSubmittedFrom < int64(len(a.rows)) || *a.problem.NotSubmittedFrom >= n {
		t.Errorf("%d rows were answered, the last line has %+v", len(a.rows), a.problem)
	}
	for row := range int64(len(a.rows)) {
		if a.rows[row].Outcome != "done" {
			t.Fatalf("row %d: %+v", row, a.rows[row])
		}
	}
}
