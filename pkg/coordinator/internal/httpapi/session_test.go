package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// callerKey is the key under which the interceptor of these tests keeps the caller's name.
type callerKey struct{}

// sessions makes an API that knows one token, whose caller is anna.
func sessions(t *testing.T) *API {
	t.Helper()
	a, err := New(Config{
		Unary: func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			headers, _ := metadata.FromIncomingContext(ctx)
			if got := headers.Get("authorization"); len(got) != 1 || got[0] != "Bearer kisgrid_good" {
				return nil, batch.Errorf(batch.CodeUnauthenticated, "the token is not valid")
			}
			if len(headers.Get("cookie")) > 0 {
				t.Error("the interceptor sees the cookie")
			}
			return handle(context.WithValue(ctx, callerKey{}, "anna"), request)
		},
		Viewer: func(ctx context.Context) Viewer {
			name, _ := ctx.Value(callerKey{}).(string)
			return Viewer{Name: name, Grants: []ViewerGrant{{Flows: []string{"Pay*"}, Rights: []string{"view"}}}}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// ask makes a request of a browser.
func ask(t *testing.T, a *API, method, path string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, "http://coordinator:7702"+path, nil)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	a.ServeHTTP(w, r)
	return w
}

// cookies returns the cookies that an answer sets.
func cookies(t *testing.T, w *httptest.ResponseRecorder) (all []*http.Cookie) {
	t.Helper()
	for _, line := range w.Header().Values("Set-Cookie") {
		c, err := http.ParseSetCookie(line)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	return all
}

// TestSession signs in with a token, asks who is signed in, and signs out.
func TestSession(t *testing.T) {
	t.Parallel()
	a := sessions(t)
	const own = "http://coordinator:7702"
	for _, c := range []struct {
		what, authorization string
		headers             []string
		status              int
	}{
		{"a good token", "Bearer kisgrid_good", []string{"Origin", own, "KisGrid-Request", "1"}, 204},
		{"a wrong token", "Bearer kisgrid_bad", []string{"Origin", own, "KisGrid-Request", "1"}, 401},
		{"no token", "", []string{"Origin", own, "KisGrid-Request", "1"}, 401},
		{"a token that would end the cookie", "Bearer kisgrid_good; Domain=evil.example", []string{"Origin", own, "KisGrid-Request", "1"}, 401},
		{"another scheme", "Basic kisgrid_good", []string{"Origin", own, "KisGrid-Request", "1"}, 401},
		{"another site, which signs somebody in", "Bearer kisgrid_good", []string{"Origin", "http://evil.example", "KisGrid-Request", "1"}, 403},
		{"without the header", "Bearer kisgrid_good", []string{"Origin", own}, 403},
	} {
		answer := ask(t, a, http.MethodPost, "/v1/session", append([]string{"Authorization", c.authorization}, c.headers...)...)
		if answer.Code != c.status || (len(cookies(t, answer)) == 1) != (c.status == 204) {
			t.Errorf("%s: the answer is %d with %v, want %d", c.what, answer.Code, cookies(t, answer), c.status)
		}
	}
	for origin, secure := range map[string]bool{own: false, "https://coordinator:7702": true} {
		cookie := cookies(t, ask(t, a, http.MethodPost, "/v1/session", "Authorization", "Bearer kisgrid_good", "Origin", origin, "KisGrid-Request", "1"))[0]
		if !cookie.HttpOnly || cookie.SameSite != http.SameSiteStrictMode || cookie.Secure != secure || cookie.Path != "" || cookie.Domain != "" || cookie.MaxAge != 0 {
			t.Errorf("from %s the cookie is %v", origin, cookie)
		}
	}
	for _, c := range []struct {
		what    string
		headers []string
		status  int
		session bool
	}{
		{"with the cookie", []string{"Cookie", "kisgrid-token=kisgrid_good"}, 200, true},
		{"with a token of its own", []string{"Authorization", "Bearer kisgrid_good"}, 200, false},
		{"a token counts before the cookie", []string{"Authorization", "Bearer kisgrid_bad", "Cookie", "kisgrid-token=kisgrid_good"}, 401, false},
		{"another cookie", []string{"Cookie", "other=kisgrid_good"}, 401, false},
		{"from another site", []string{"Cookie", "kisgrid-token=kisgrid_good", "Sec-Fetch-Site", "cross-site"}, 403, false},
	} {
		answer := ask(t, a, http.MethodGet, "/v1/whoami", c.headers...)
		var who Viewer
		if err := json.NewDecoder(answer.Body).Decode(&who); err != nil || answer.Code != c.status || who.Session != c.session || c.status == 200 && (who.Name != "anna" || len(who.Grants) != 1) {
			t.Errorf("%s: the answer is %d %+v (%v), want %d", c.what, answer.Code, who, err, c.status)
		}
	}
	out := ask(t, a, http.MethodDelete, "/v1/session", "Cookie", "kisgrid-token=kisgrid_good", "KisGrid-Request", "1")
	if got := out.Header().Get("Set-Cookie"); out.Code != 204 || !strings.Contains(got, "Max-Age=0") {
		t.Errorf("signing out is answered with %d and %q", out.Code, got)
	}
	if out := ask(t, a, http.MethodDelete, "/v1/session", "Cookie", "kisgrid-token=kisgrid_good"); out.Code != 403 {
		t.Errorf("signing out without the header is answered with %d", out.Code)
	}
}
