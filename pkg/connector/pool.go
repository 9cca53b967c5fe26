package connector

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// Pool keeps the connections of a process. Each connector name has one connection, which all its users share. While a connector's
// document changes, each version of the document that is in use has a connection. A Pool is safe for concurrent use.
type Pool struct {
	openers map[string]Opener
	lookup  func(string) (string, bool) // looks up ${NAME} in documents
	access  definition.Access
	log     hclog.Logger
	metrics *Metrics

	changed func() // the function that Notify has set; it is called without a lock

	opening   sync.WaitGroup // goroutines that open or close connections; Close waits for them
	closeOnce sync.Once
	closeErr  error

	mu     sync.Mutex
	closed bool                     // guarded by mu
	conns  map[string][]*pooledConn // by connector name, in the order of first use; guarded by mu
}

// NewPool makes a pool. openers open connections by the type in their documents. lookup looks up the ${NAME} in documents, as
// os.LookupEnv does; Restrict says which names documents may use. log may be nil.
//
// metrics, which may be nil, show a connector as not up while its connection does not open. Once it is open, that is its opener's
// task.
func NewPool(openers map[string]Opener, lookup func(string) (string, bool), log hclog.Logger, metrics *Metrics) *Pool {
	if log == nil {
		log = hclog.NewNullLogger()
	}
	return &Pool{
		openers: maps.Clone(openers), lookup: lookup, log: log, metrics: metrics, conns: map[string][]*pooledConn{}, changed: func() {},
	}
}

// Notify sets a function that the pool calls when a connection has opened or a try to open it has failed. The function must not
// block. Call Notify before any other method.
func (p *Pool) Notify(changed func()) { p.changed = changed }

// Restrict says which variables and files of this process documents may read, and where they may connect to. Call it before any other method. Without it the
// default of definition.Access holds for new documents. A document that runs already may go on reading more; the log has a
// warning about that.
func (p *Pool) Restrict(access definition.Access) { p.access = access }

// Get returns the connection that c's document describes. Closing it ends the caller's share, not the connection that others may
// use; it may be closed twice.
//
// The first Get opens the connection in the background. A failed try is repeated, with pauses of 100 ms to 5 s, until the
// connection is open, even if the caller has left. Get waits for that as long as ctx allows; its error says how long, and why the
// last try failed. It returns an error at once if the document is wrong. A changed document has a connection of its own: once
// that is open, the connection of the older version closes when nobody has used it for ten seconds.
func (p *Pool) Get(ctx context.Context, c *definition.Connector) (Connection, error) {
	// A document with a revision comes from a cluster, which checked it when it was taken in.
	warnings, err := p.access.CheckNames(c, c.Document.Revision > 0)
	if err != nil {
		return nil, err
	}
	resolved, secrets, err := p.resolve(c)
	if err != nil {
		return nil, err
	}
	if err := p.access.CheckAddresses(resolved); err != nil {
		return nil, definition.NewRedactor(secrets...).Error(err)
	}
	pc, err := p.join(ctx, resolved, secrets, warnings, p.openers[c.Type])
	if err != nil {
		return nil, err
	}
	select {
	case <-pc.ready:
		err = pc.err
	case <-ctx.Done():
		err = p.unopened(ctx, pc)
	}
	if err != nil {
		return nil, errors.Join(err, p.leave(pc))
	}
	return &handle{Connection: pc.conn, redactor: pc.redactor, leave: sync.OnceValue(func() error { return p.leave(pc) })}, nil
}

// Check returns an error if, in this process, the document of a connector that runs already is wrong: its type is unknown, the
// environment lacks a ${NAME}, or it names a variable or file that it may not read, or an address to which it may not connect. It opens nothing, so a store that is away is
// no mistake. Reading something that only the default Access forbids is no mistake either.
func (p *Pool) Check(c *definition.Connector) error { return p.check(c, true) }

// CheckNew is Check for a document that does not run yet: here it is a mistake if the document names a variable or file that the
// Access does not allow which Restrict has set, or without Restrict the default Access.
func (p *Pool) CheckNew(c *definition.Connector) error { return p.check(c, false) }

// check is Check, or CheckNew if accepted is false.
func (p *Pool) check(c *definition.Connector, accepted bool) error {
	if _, err := p.access.CheckNames(c, accepted); err != nil {
		return err
	}
	resolved, secrets, err := p.resolve(c)
	if err != nil {
		return err
	}
	if _, err = p.access.CheckFiles(resolved, accepted); err == nil {
		err = p.access.CheckAddresses(resolved)
	}
	return definition.NewRedactor(secrets...).Error(err)
}

// Close ends all openings and closes all connections, even those that somebody uses. It may be called twice.
func (p *Pool) Close() error {
	p.closeOnce.Do(func() {
		p.mu.Lock()
		p.closed = true
		var all []*pooledConn
		for _, conns := range p.conns {
			all = append(all, conns...)
		}
		for _, pc := range all {
			p.drop(pc)
			pc.cancel()
		}
		p.mu.Unlock()
		p.opening.Wait()
		p.closeErr = closeAll(all)
	})
	return p.closeErr
}

// join finds or makes the connection of a document, and counts one more user of it. The error says that the pool is closed.
func (p *Pool) join(ctx context.Context, resolved *definition.Connector, secrets []definition.Secret, warnings []string, open Opener) (*pooledConn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, Closed(resolved.Name)
	}
	pc := p.pooled(ctx, resolved, secrets, warnings, open)
	pc.users++
	p.use(pc)
	return pc, nil
}

// Down returns the connectors that can't be used now, by name, with the reasons: their connection does not open, or has a method
// Down() error that returns one. It asks no store. The map is empty if all connectors can be used.
func (p *Pool) Down() map[string]string {
	down := map[string]string{}
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, conns := range p.conns {
		used := slices.ContainsFunc(conns, func(pc *pooledConn) bool { return pc.used })
		for _, pc := range conns {
			if pc.retired && pc.users == 0 {
				continue // it only lingers
			}
			if why := pc.down(); why != nil && pc.used == used { // else it is kept, and another version is used
				down[name] = pc.redactor.Text(why.Error())
			}
		}
	}
	return down
}

// unopened is the error of a Get whose ctx ended before the connection was open.
func (p *Pool) unopened(ctx context.Context, pc *pooledConn) error {
	p.mu.Lock()
	failed, last := pc.failed, pc.last
	p.mu.Unlock()
	progress := "the first try is under way"
	if last != nil {
		progress = fmt.Sprintf("tries so far: %d, the last ended with: %v", failed, last)
	}
	return batch.Errorf(batch.CodeConnectorUnavailable, "connector %s (%s at %s) is not open: %w after waiting since %s (%v); %s",
		pc.document.Name, pc.document.Type, pc.redactor.Text(strings.Join(pc.document.Addrs, ",")), ctx.Err(),
		pc.since.Format(time.TimeOnly), time.Since(pc.since).Round(time.Millisecond), progress)
}

// leave counts one user of a connection less, and closes the connection if nobody needs it any more. It returns the error of
// closing. A retired connection closes later, if nobody uses it until then.
func (p *Pool) leave(pc *pooledConn) error {
	p.mu.Lock()
	if pc.users--; pc.users == 0 && pc.retired && pc.conn != nil {
		pc.left = time.Now()
	}
	idle := p.idle(pc.document.Name)
	p.mu.Unlock()
	return closeAll(idle)
}
