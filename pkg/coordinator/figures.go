package coordinator

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kisgrid/kisgrid/internal/access"
	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/figures"
	"github.com/kisgrid/kisgrid/pkg/scheduler"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// gatherFigures adds the counts of this coordinator and of the others to the Book until ctx is done. Workers' sessions add those of workers.
func (c *Coordinator) gatherFigures(ctx context.Context) {
	others := &otherCoordinators{transport: c.config.Transport, guard: c.guard, dial: c.config.DialCoordinator, conns: map[string]*otherConn{}}
	defer others.keep(nil)
	g := &figures.Gatherer{
		Book: c.book, Count: c.countOwn, Ask: others.ask,
		Coordinators: func() map[string]string {
			all := c.fleet.Coordinators()
			if all == nil {
				return nil
			}
			addresses := make(map[string]string, len(all))
			for id, one := range all {
				addresses[id] = one.Address
			}
			others.keep(addresses)
			return addresses
		},
	}
	g.Run(ctx)
}

// countOwn reads the counts of this coordinator's scheduler into the Book. Concurrent calls share one reading, so that none overtakes
// another. If ctx is done first, the Book keeps what it has.
func (c *Coordinator) countOwn(ctx context.Context) {
	_, _, _ = c.counting.Do("", func() (any, error) {
		if ledgers := c.loop.figures(ctx); ledgers != nil {
			c.book.Own(time.Now(), ledgers)
		}
		return nil, nil
	})
}

// figures returns the counts of rows by flow, and when the oldest batch under way was born; nil when ctx is done or the loop has ended.
func (l *schedulerLoop) figures(ctx context.Context) map[string]figures.Ledger {
	all := map[string]figures.Ledger{}
	if !l.do(ctx, func(l *schedulerLoop) {
		l.scheduler.Ledgers(func(flow string, counts scheduler.Ledger) {
			one := figures.Ledger{Counts: figures.Counts(counts.Outcomes)}
			one.Counts[0] = counts.In
			if oldest := l.scheduler.Oldest(flow); oldest != nil {
				one.Oldest = submissionOf(oldest).born
			}
			all[flow] = one
		})
	}) {
		return nil // all may still be written to
	}
	return all
}

// otherCoordinators has a connection to each other coordinator that was asked for its figures.
type otherCoordinators struct {
	transport transport.Config
	guard     *access.Guard // nil means that there is no access file
	dial      func(context.Context, cluster.Coordinator) (net.Conn, error)

	mu    sync.Mutex
	conns map[string]*otherConn // guarded by mu: by id
}

// otherConn is the connection to a coordinator, and the address that it leads to.
type otherConn struct {
	*grpc.ClientConn
	address string
}

// keep closes the connections to coordinators that are not among these, or have another address, by id.
func (o *otherCoordinators) keep(addresses map[string]string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for id, conn := range o.conns {
		if addresses[id] != conn.address {
			_ = conn.Close() // it fails only if it is closed
			delete(o.conns, id)
		}
	}
}

// to returns the connection to a coordinator, and makes it if there is none.
func (o *otherCoordinators) to(id, address string) (*otherConn, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if conn := o.conns[id]; conn != nil {
		return conn, nil
	}
	config := o.transport
	if config.TLSServerName != "" { // workers have this name
		config.TLSServerName = ownName(config)
	}
	if o.guard != nil {
		if config.TLSCert == "" {
			return nil, batch.Errorf(batch.CodePermissionDenied, "with an access file coordinators tell their figures only to coordinators, which must prove that with a certificate: give this one --tls-cert")
		}
		config.CheckServer = func(c *x509.Certificate) error { return o.guard.CheckCoordinator(c) }
	}
	made, err := transport.Dial("passthrough:///"+address, config, grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		return o.dial(ctx, cluster.Coordinator{ID: id, Address: address})
	}))
	if err != nil {
		return nil, err
	}
	conn := &otherConn{made, address}
	o.conns[id] = conn
	return conn, nil
}

// ownName returns the first name in this coordinator's own certificate, which the certificates of other coordinators have, too, where
// processes are dialled by addresses that no certificate has. It is empty if there is none: then the certificate must have the address.
func ownName(c transport.Config) string {
	own, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
	if err != nil || len(own.Leaf.DNSNames) == 0 {
		return "" // a connection says which file is wrong
	}
	return own.Leaf.DNSNames[0]
}

// ask asks the coordinator with the id for the counts that have changed since the mark after.
func (o *otherCoordinators) ask(ctx context.Context, id, address string, after uint64) (*pb.ShareFiguresResponse, error) {
	conn, err := o.to(id, address)
	if err != nil {
		return nil, err
	}
	answer, err := pb.NewAdminClient(conn).ShareFigures(ctx, &pb.ShareFiguresRequest{After: after})
	if status.Code(err) == codes.Unimplemented {
		return nil, batch.Errorf(batch.CodeProtocolMismatch, "its build does not tell figures: upgrade it")
	}
	if err != nil {
		return nil, wire.FromStatus(err)
	}
	return answer, nil
}
