package console

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

// get makes a request of a console that knows two coordinators.
func get(t *testing.T, path string, header ...string) (*httptest.ResponseRecorder, string) {
	t.Helper()
	c, err := New(func() []string { return []string{"10.0.0.1:7702", "evil;script-src *"} })
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	c.ServeHTTP(w, r)
	return w, w.Body.String()
}

// TestPage follows each address in the page. All are relative, so that the console works below any path.
func TestPage(t *testing.T) {
	answer, page := get(t, "/")
	if answer.Code != http.StatusOK || answer.Header().Get("Cache-Control") != "no-cache" {
		t.Errorf("the page is answered with %d and %v", answer.Code, answer.Header())
	}
	scripts := 0
	addresses := regexp.MustCompile(`(?:src|href)="([^"#]+)"`).FindAllStringSubmatch(page, -1)
	if len(addresses) < 10 {
		t.Errorf("the page has the addresses %v only", addresses)
	}
	seen := map[string]bool{}
	for _, a := range addresses {
		if strings.HasPrefix(a[1], "/") || strings.Contains(a[1], ":") {
			t.Errorf("the address %s is not relative", a[1])
		}
		file, body := get(t, "/"+a[1])
		if file.Code != http.StatusOK || !strings.Contains(file.Header().Get("Cache-Control"), "immutable") || strings.Contains(body, "BUILD/") {
			t.Errorf("%s is answered with %d and %v", a[1], file.Code, file.Header())
		}
		if strings.HasSuffix(a[1], ".js") && !seen[a[1]] {
			seen[a[1]] = true
			scripts += len(body)
			for _, other := range regexp.MustCompile(`from "\./([^"]+)"`).FindAllStringSubmatch(body, -1) {
				if !strings.Contains(page, other[1]) {
					t.Errorf("%s needs %s, which the page does not load at once", a[1], other[1])
				}
			}
		}
	}
	if scripts == 0 || scripts > 200<<10 {
		t.Errorf("the scripts have %d bytes", scripts)
	}
}

// TestNothingElse looks for the ways in which the page could run or load something that is not in its files.
func TestNothingElse(t *testing.T) {
	answer, page := get(t, "/")
	policy := answer.Header().Get("Content-Security-Policy")
	for _, part := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "require-trusted-types-for 'script'", "connect-src 'self' http://10.0.0.1:7702/livez https://10.0.0.1:7702/livez;"} {
		if !strings.Contains(policy, part) {
			t.Errorf("the policy %q lacks %q", policy, part)
		}
	}
	if strings.Contains(policy, "unsafe") || strings.Contains(policy, "evil") {
		t.Errorf("the policy is %q", policy)
	}
	if regexp.MustCompile(`<script>|<style|\sstyle=|\son[a-z]+=`).MatchString(page) {
		t.Error("the page has scripts or styles of its own")
	}
	for _, m := range regexp.MustCompile(`console/[^"]+\.js`).FindAllString(page, -1) {
		_, script := get(t, "/"+m)
		if found := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|localStorage|sessionStorage`).FindString(script); found != "" {
			t.Errorf("%s has %s", m, found)
		}
		for _, url := range regexp.MustCompile(`https?://[^\s"'$]+`).FindAllString(script, -1) {
			if url != "http://www.w3.org/2000/svg" {
				t.Errorf("%s names %s", m, url)
			}
		}
	}
}

// TestFiles asks for compressed files and for files that are not there.
func TestFiles(t *testing.T) {
	_, page := get(t, "/")
	app := "/" + regexp.MustCompile(`console/[0-9a-f]+/app\.js`).FindString(page)
	_, plain := get(t, app)
	answer, small := get(t, app, "Accept-Encoding", "br, gzip")
	r, err := gzip.NewReader(bytes.NewReader([]byte(small)))
	if err != nil {
		t.Fatal(err)
	}
	unpacked, err := io.ReadAll(r)
	if err != nil || string(unpacked) != plain || answer.Header().Get("Content-Encoding") != "gzip" || len(small) >= len(plain)/2 {
		t.Errorf("compressed, app.js has %d bytes instead of %d: %v", len(small), len(plain), err)
	}
	for _, path := range []string{"/console/", "/console/app.js", strings.Replace(app, "app.js", "../app.js", 1), strings.Replace(app, "app.js", "index.html", 1), "/console/0000000000000000/app.js"} {
		if answer, _ := get(t, path); answer.Code != http.StatusNotFound || answer.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s is answered with %d", path, answer.Code)
		}
	}
}
