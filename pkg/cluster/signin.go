package cluster

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/status"
)

// authenticator signs in, over a connection that does nothing else, for all calls and streams of a Store. There are two reasons for it.
// etcd may refuse a sign-in that carries an expired token, as every call on the main connection does. And a sign-in costs etcd a good part
// of a second of CPU time: if all calls and streams signed in for themselves when their token expires, etcd would have time for nothing
// else.
type authenticator struct {
	client         *clientv3.Client // without a user, so its calls carry no token
	user, password string

	signing chan struct{} // capacity 1: holds a token while a goroutine signs in, which then owns the fields below
	signed  time.Time     // when token was given out
	token   string
}

const (
	signInFresh   = 500 * time.Millisecond // a token that etcd gave out less than this ago is used again
	signInTimeout = 10 * time.Second       // the timeout of the call to etcd that signs in
)

// newAuthenticator makes an authenticator for the user of a configuration. It opens another connection to the same etcd, which only the
// authenticator uses.
func newAuthenticator(c clientv3.Config) (*authenticator, error) {
	a := &authenticator{user: c.Username, password: c.Password, signing: make(chan struct{}, 1)}
	c.Username, c.Password = "", ""
	var err error
	a.client, err = clientv3.New(c)
	return a, err
}

// close ends the connection. A nil authenticator has no connection, and close then does nothing.
func (a *authenticator) close() error {
	if a == nil {
		return nil
	}
	return a.client.Close()
}

// signIn returns a token that etcd gave out at most signInFresh ago. Callers wait for each other, so that several of them share one
// sign-in.
func (a *authenticator) signIn(ctx context.Context) (string, error) {
	select {
	case a.signing <- struct{}{}:
		defer func() { <-a.signing }()
	case <-ctx.Done():
		return "", status.FromContextError(ctx.Err()).Err()
	}
	if time.Since(a.signed) < signInFresh {
		return a.token, nil
	}
	// Other callers wait for this sign-in, too, so it does not end with this caller's context.
	signing, cancel := context.WithTimeout(context.WithoutCancel(ctx), signInTimeout)
	defer cancel()
	answer, err := a.client.Authenticate(signing, a.user, a.password)
	if err != nil {
		return "", err
	}
	a.signed, a.token = time.Now(), answer.Token
	return a.token, nil
}
