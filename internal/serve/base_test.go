package serve

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestBase asks for pages below a base, beside it, and for the base itself.
func TestBase(t *testing.T) {
	pages := below("/a/b", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte(r.URL.Path)) }))
	for path, want := range map[string]string{"/a/b/": "/", "/a/b/v1/flows": "/v1/flows", "/livez": "/livez", "/a/bc": "/a/bc", "/a/b/a/b/x": "/a/b/x", "/a": "/a"} {
		w := httptest.NewRecorder()
		pages.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		if got := w.Body.String(); got != want {
			t.Errorf("%s leads to %s, want %s", path, got, want)
		}
	}
	w := httptest.NewRecorder()
	pages.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/a/b?x=//evil.example", nil))
	if w.Code != http.StatusPermanentRedirect || w.Header().Get("Location") != "/a/b/" {
		t.Errorf("the base is answered with %d to %q", w.Code, w.Header().Get("Location"))
	}
	for base, good := range map[string]bool{"": true, "/a": true, "/a/b-c.d": true, "/": false, "a": false, "/a/": false, "//evil.example": false, "/a/../b": false, "/a b": false, "/a?b": false, "/%2e": false} {
		if err := CheckBase(base); (err == nil) != good {
			t.Errorf("the base %q: %v", base, err)
		}
	}
}
