package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"google.golang.org/grpc"

	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// sessionCookie keeps the token of somebody who has signed in with a browser. Scripts can't read it, and browsers send it neither to other
// servers nor with requests that pages of other sites make. It has no Path: a browser then sends it to /v1/ below the path at which it sees
// this server, which a proxy may have chosen.
const sessionCookie = "kisgrid-token"

// Viewer is a caller and its rights, as GET /v1/whoami shows them.
type Viewer struct {
	// Name is the name in the audit log.
	Name string `json:"name"`
	// Everything says that there is no access file, so that everybody may do everything.
	Everything bool          `json:"everything"`
	Grants     []ViewerGrant `json:"grants,omitempty"`
	// Session says that the caller is known by its cookie, so that it can sign out.
	Session bool `json:"session"`
}

// ViewerGrant gives rights on the flows whose names match one of the patterns, in which a star stands for any characters.
type ViewerGrant struct {
	Flows  []string `json:"flows"`
	Rights []string `json:"rights"`
	Mask   []string `json:"mask,omitempty"`
}

// viewer finds out who makes a request, as the calls of Admin do.
func (a *API) viewer(r *http.Request) (*Viewer, error) {
	info := &grpc.UnaryServerInfo{Server: a.Admin, FullMethod: pb.Admin_Version_FullMethodName} // a call that needs no right
	v, err := a.Unary(callContext(r), &pb.VersionRequest{}, info, func(ctx context.Context, _ any) (any, error) {
		v := a.Viewer(ctx)
		return &v, nil
	})
	if err != nil {
		return nil, err
	}
	who, ok := v.(*Viewer)
	if !ok {
		return nil, batch.Errorf(batch.CodeInternal, "an interceptor gave a %T for a caller", v)
	}
	who.Session = r.Header.Get("Authorization") == "" && sessionToken(r) != ""
	return who, nil
}

// whoAmI answers GET /v1/whoami.
func (a *API) whoAmI(w http.ResponseWriter, r *http.Request) {
	who, err := a.viewer(r)
	if err != nil {
		refuse(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(who) //nolint:errchkjson // an error says that the client is gone
}

// signIn answers POST /v1/session: it keeps the token of the header Authorization in a cookie, if it is a good one.
func (a *API) signIn(w http.ResponseWriter, r *http.Request) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if token = strings.TrimSpace(token); !strings.EqualFold(scheme, "Bearer") || !isToken(token) {
		refuse(w, batch.Errorf(batch.CodeUnauthenticated, "this is no token: a token is what kisgrid token new has printed, and is sent as Authorization: Bearer TOKEN"))
		return
	}
	if _, err := a.viewer(r); err != nil {
		refuse(w, err)
		return
	}
	a.setSession(w, r, token, 0)
}

// signOut answers DELETE /v1/session: the browser forgets the token. The token itself stays good.
func (a *API) signOut(w http.ResponseWriter, r *http.Request) { a.setSession(w, r, "", -1) }

// setSession sets the cookie. maxAge is 0 for a cookie that goes with the browser's session, and -1 to delete it.
func (a *API) setSession(w http.ResponseWriter, r *http.Request, token string, maxAge int) {
	// Where a proxy has ended TLS, the origin still tells that the browser speaks TLS.
	secure := r.TLS != nil || strings.HasPrefix(r.Header.Get("Origin"), "https://")
	http.SetCookie(w, &http.Cookie{
		Name: sessionCookie, Value: token, MaxAge: maxAge, HttpOnly: true, Secure: secure, SameSite: http.SameSiteStrictMode,
	})
	w.WriteHeader(http.StatusNoContent)
}

// sessionToken returns the token of a request's cookie; "" where there is none.
func sessionToken(r *http.Request) string {
	c, err := r.Cookie(sessionCookie)
	if err != nil || !isToken(c.Value) {
		return ""
	}
	return c.Value
}

// isToken reports whether a text may be a token: it has only characters that RFC 6750 allows.
func isToken(text string) bool {
	return text != "" && len(text) <= 4096 && strings.Trim(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~+/=") == ""
}
