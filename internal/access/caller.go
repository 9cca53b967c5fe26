package access

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"net"
	"net/netip"
	"strings"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// unauthenticated is the error with CodeUnauthenticated that refuses a call because it is not known who calls.
func unauthenticated(format string, args ...any) error {
	return batch.Errorf(batch.CodeUnauthenticated, format, args...)
}

// certificateOf returns the certificate that a caller has proved to have, and nil if it showed none. A certificate that no authority of the
// listener has issued does not count.
func certificateOf(ctx context.Context) *x509.Certificate {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	tls, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(tls.State.VerifiedChains) == 0 || len(tls.State.VerifiedChains[0]) == 0 {
		return nil
	}
	return tls.State.VerifiedChains[0][0]
}

// hasExpired reports whether the time of a certificate is over, by this process's clock.
func hasExpired(c *x509.Certificate) bool {
	return !c.NotAfter.IsZero() && time.Now().After(c.NotAfter)
}

// addressOf returns the address of the caller's connection: as text, and without the port.
func addressOf(ctx context.Context) (text string, host netip.Addr) {
	p, ok := peer.FromContext(ctx)
	if !ok || p.Addr == nil {
		return "", netip.Addr{}
	}
	text = p.Addr.String()
	if at, ok := p.Addr.(*net.TCPAddr); ok {
		return text, at.AddrPort().Addr()
	}
	at, err := netip.ParseAddrPort(text)
	if err != nil {
		return text, netip.Addr{}
	}
	return text, at.Addr()
}

// theOnly returns the one value of a header. An error says that there are several, of which one may have been slipped in.
func theOnly(header metadata.MD, name string) (string, error) {
	switch values := header.Get(name); len(values) {
	case 0:
		return "", nil
	case 1:
		return values[0], nil
	default:
		return "", unauthenticated("the header %s is there %d times: send it once", name, len(values))
	}
}

// Identify returns the caller of a gRPC call, which it finds in the call's context. A token counts first, then the user that a known proxy
// names, then the caller's own certificate. One that is shown and wrong is never passed over for the next one. The error has
// CodeUnauthenticated, or CodeOverloaded if too many wrong tokens came from the same address. It blocks for up to three seconds if the
// token is wrong.
func (g *Guard) Identify(ctx context.Context) (*Identity, error) { return g.identify(ctx, true) }

// identify does what Identify does. guess says that a wrong token is a guess, so that its answer is slowed down. It is none where the token
// was right when the call began; then identify does not block, and answers also while others guess.
func (g *Guard) identify(ctx context.Context, guess bool) (*Identity, error) {
	p := g.policy()
	header, _ := metadata.FromIncomingContext(ctx)
	bearer, err := theOnly(header, "authorization")
	if err != nil {
		return nil, err
	}
	if bearer != "" {
		return g.byToken(ctx, p, bearer, guess)
	}
	certificate := certificateOf(ctx)
	if p.proxy != nil {
		id, err := g.byProxy(ctx, p, header, certificate, guess)
		if id != nil || err != nil {
			return id, err
		}
	}
	if certificate == nil {
		return nil, unauthenticated("this coordinator asks who calls, and the call says nothing about that: " +
			"give a token (--token-file, KISGRID_TOKEN_FILE), or a certificate that the coordinators' access file lists")
	}
	if hasExpired(certificate) { // the handshake has checked that; this is for connections and streams that stay open
		return nil, unauthenticated("the certificate with the subject %q expired at %s: connect again with a new one", certificate.Subject.String(), certificate.NotAfter.UTC().Format(time.RFC3339))
	}
	if id := p.byCertificate(certificate); id != nil {
		return id, nil
	}
	return nil, unauthenticated("the certificate with the subject %q and the names %q is not in the coordinators' access file", certificate.Subject.String(), alternativeNames(certificate))
}

// byCertificate returns the identity of a certificate; nil means that the file has none. The subject counts first.
func (p *policy) byCertificate(c *x509.Certificate) *Identity {
	if id := p.bySubject[c.Subject.String()]; id != nil {
		return id
	}
	for _, name := range alternativeNames(c) {
		if id := p.bySAN[name]; id != nil {
			return id
		}
	}
	return nil
}

// byToken returns the identity of the token in an authorization header. Looking a token up by its hash takes no time that depends on how
// much of a guess is right.
func (g *Guard) byToken(ctx context.Context, p *policy, header string, guess bool) (*Identity, error) {
	_, host := addressOf(ctx)
	scheme, secret, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "bearer") {
		return nil, unauthenticated("the header authorization is not of the kind Bearer, which is the only one that is taken")
	}
	t := p.byToken[sha256.Sum256([]byte(strings.TrimSpace(secret)))]
	if guess && (t == nil || !t.proven.Load()) && g.brake.pressed(host) {
		e := batch.Errorf(batch.CodeOverloaded, "too many wrong tokens came from this address: try again in a few seconds")
		e.RetryAfter = longestDelay
		return nil, e
	}
	switch {
	case t == nil:
		if guess {
			g.refused(ctx, "token")
			g.brake.wait(ctx, host)
		}
		return nil, unauthenticated("the token is not valid: it may have been replaced, or belong to another cluster")
	case !t.expires.IsZero() && !time.Now().Before(t.expires):
		return nil, unauthenticated("the token of %q expired at %s: get a new one", t.identity.Name, t.expires.UTC().Format(time.RFC3339))
	}
	t.proven.Store(true)
	return t.identity, nil
}

// byProxy returns the identity of the user that a proxy names. It returns nil and no error if the call has no proxy's header.
func (g *Guard) byProxy(ctx context.Context, p *policy, header metadata.MD, certificate *x509.Certificate, guess bool) (*Identity, error) {
	user, err := theOnly(header, p.proxy.userHeader)
	if err != nil {
		return nil, err
	}
	secret, err := theOnly(header, p.proxy.secretHeader)
	if err != nil {
		return nil, err
	}
	if user == "" && secret == "" {
		return nil, nil
	}
	known := oneSelects(p.proxy.certificates, certificate)
	if p.proxy.hasSecret && secret != "" {
		_, host := addressOf(ctx)
		if guess && !known && g.brake.pressed(host) {
			e := batch.Errorf(batch.CodeOverloaded, "too many wrong secrets came from this address: try again in a few seconds")
			e.RetryAfter = longestDelay
			return nil, e
		}
		sum := sha256.Sum256([]byte(secret))
		right := subtle.ConstantTimeCompare(sum[:], p.proxy.secret[:]) == 1
		if guess && !right && !known {
			g.refused(ctx, "proxy's secret")
			g.brake.wait(ctx, host)
		}
		known = known || right
	}
	switch id := p.byUser[user]; {
	case !known:
		return nil, unauthenticated("the header %s is taken from the proxy only, which must prove itself by its certificate or its secret", p.proxy.userHeader)
	case user == "":
		return nil, unauthenticated("the proxy names no user: it has to send the header %s", p.proxy.userHeader)
	case id == nil:
		return nil, unauthenticated("the user %q is not in the coordinators' access file", user)
	default:
		return id, nil
	}
}

// refused logs that a caller showed something wrong. The wrong thing itself is not logged: it may be a secret of another place.
func (g *Guard) refused(ctx context.Context, wrong string) {
	address, _ := addressOf(ctx)
	g.log.Warn("a caller was refused", "wrong", wrong, "address", address)
}
