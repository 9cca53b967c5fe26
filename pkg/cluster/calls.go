package cluster

import (
	"context"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

// calls changes three habits of the etcd client. It signs in while it is made, which would make Open wait for etcd: the first
// call that is refused for want of a sign-in does it instead. While nothing is connected its calls wait silently for their whole
// time: they fail at once, with the reason. And it signs in with the token that it has: see door.
type calls struct {
	opened atomic.Bool
	door   *door        // nil without a user; set before opened
	heard  atomic.Int64 // when etcd answered last, in nanoseconds since 1970; 0: never
}

// hear notes that etcd has answered.
func (c *calls) hear() { c.heard.Store(time.Now().UnixNano()) }

func (c *calls) intercept(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
	answer, signsIn := reply.(*etcdserverpb.AuthenticateResponse)
	switch {
	case !signsIn:
		err := failFast(ctx, method, request, reply, conn, invoke, options...)
		if err == nil {
			c.hear()
		}
		return err
	case !c.opened.Load():
		return rpctypes.ErrGRPCAuthNotEnabled
	}
	token, err := c.door.signIn(ctx)
	answer.Token = token
	return err
}

func failFast(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
	return invoke(ctx, method, request, reply, conn, append(options, grpc.WaitForReady(false))...)
}

// door is a connection that does nothing but sign in. etcd may refuse a sign-in that carries a void token, as every call on
// the other connection does; and where all calls and streams sign in for themselves once their token is void, they keep etcd,
// which spends a good part of a second of its processor on each, so busy that none gets through. Here one does it for all.
type door struct {
	client         *clientv3.Client
	user, password string

	signing chan struct{} // holds a token while somebody signs in; who has it owns what follows
	signed  time.Time
	token   string
}

const (
	signInFresh   = 500 * time.Millisecond // a token is taken over without asking again
	signInTimeout = 10 * time.Second
)

func openDoor(c clientv3.Config) (*door, error) {
	d := &door{user: c.Username, password: c.Password, signing: make(chan struct{}, 1)}
	c.Username, c.Password = "", ""
	var err error
	d.client, err = clientv3.New(c)
	return d, err
}

func (d *door) close() error {
	if d == nil {
		return nil
	}
	return d.client.Close()
}

// signIn is a token that etcd gave out just now.
func (d *door) signIn(ctx context.Context) (string, error) {
	select {
	case d.signing <- struct{}{}:
		defer func() { <-d.signing }()
	case <-ctx.Done():
		return "", status.FromContextError(ctx.Err()).Err()
	}
	if time.Since(d.signed) < signInFresh {
		return d.token, nil
	}
	// Others wait for it too, so it does not end with this caller.
	signing, cancel := context.WithTimeout(context.WithoutCancel(ctx), signInTimeout)
	defer cancel()
	answer, err := d.client.Authenticate(signing, d.user, d.password)
	if err != nil {
		return "", err
	}
	d.signed, d.token = time.Now(), answer.Token
	return d.token, nil
}
