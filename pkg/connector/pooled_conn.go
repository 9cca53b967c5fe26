package connector

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// pooledConn is the connection for one version of a connector's document. It goes through these states:
//
//	          Get, Keep              the opener succeeds
//	(none) -------------> opening ------------------------> open
//	                       |  ^ |                            |
//	          a try failed,|  | | the document is wrong      | a newer version is
//	          pause 0.1-5 s+--+ |                            | open and used
//	                            |                            v
//	                            v                         retired
//	                          failed                         |
//	                            |                            | nobody has used it
//	                            |                            v for 10 s
//	                            +-----------------------> dropped
//
// It is dropped, and closes, when it has no users and nobody needs it: it is retired, or everybody who kept it has released it,
// or nobody ever used it. Pool.Close drops all. One that is retired stays open for a while after a user has left, since batches of
// an older revision use it for each of their runs: opening takes many round trips.
type pooledConn struct {
	document *definition.Connector // with its ${NAME} filled in
	secrets  []definition.Secret   // the values that were filled in
	redactor *definition.Redactor  // takes secrets out of texts
	since    time.Time             // when opening began
	cancel   context.CancelFunc    // ends opening
	ready    chan struct{}         // closed when conn or err is set, which happens once

	// The fields below are guarded by Pool.mu. Once ready is closed, conn and err may be read without it.

	revision int64 // of the newest document that describes this connection
	conn     Connection
	err      error
	failed   int   // number of failed tries
	last     error // error of the last failed try
	users    int   // number of handles that are not closed
	keepers  int   // number of Kept that are not released
	kept     bool  // there is a Kept, or was one
	used     bool  // there is a user, or was one, or InForce was called
	retired  bool  // another version is open and used
	dropped  bool  // the pool no longer has it

	left    time.Time   // when the last user left; only kept while it is retired and open
	closing *time.Timer // looks later whether it can close; nil until its last user has left while it was retired
}

// lingers is how long a retired connection stays open after its last user has left.
const lingers = 10 * time.Second

// pooled returns the connection of a document whose ${NAME} are filled in. If there is none, it makes one and starts to open it
// with open. warnings are logged then. p.mu is held.
func (p *Pool) pooled(ctx context.Context, resolved *definition.Connector, secrets []definition.Secret, warnings []string, open Opener) *pooledConn {
	if pc := p.find(resolved, secrets); pc != nil {
		pc.renew(resolved.Document.Revision)
		return pc
	}
	pc := &pooledConn{document: resolved, secrets: secrets, redactor: definition.NewRedactor(secrets...), revision: resolved.Document.Revision, since: time.Now(), ready: make(chan struct{})}
	p.conns[resolved.Name] = append(p.conns[resolved.Name], pc)
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx)) // opening goes on when the caller has left
	pc.cancel = cancel
	p.opening.Go(func() {
		defer cancel()
		p.open(ctx, pc, warnings, open)
	})
	return pc
}

// find returns the connection of a document whose ${NAME} are filled in with secrets; nil means that there is none. p.mu is held.
func (p *Pool) find(resolved *definition.Connector, secrets []definition.Secret) *pooledConn {
	for _, pc := range p.conns[resolved.Name] {
		if same(pc.document, resolved) && slices.Equal(pc.secrets, secrets) { // with other secrets it would log values that this document hides
			return pc
		}
	}
	return nil
}

// renew notes that a document of a revision describes the connection. If an older one did so far, and the connection is retired, it takes
// the place of the others again when it is used next. The pool's mu is held.
func (pc *pooledConn) renew(revision int64) {
	if revision <= pc.revision {
		return
	}
	pc.revision = revision
	if pc.retired {
		pc.retired, pc.used = false, false
	}
}

// same reports whether two documents describe the same connection. Where the documents come from, and which functions use the
// connector, does not matter.
func same(a, b *definition.Connector) bool {
	x, y := *a, *b
	for _, c := range []*definition.Connector{&x, &y} {
		c.Document, c.Load, c.Save = definition.Document{}, nil, nil
	}
	return reflect.DeepEqual(x, y)
}

// use notes that a connection has a user, or is about to get one. If it is the first user and the connection is open, the
// connections of older versions of the document are retired. p.mu is held.
func (p *Pool) use(pc *pooledConn) {
	if pc.used {
		return
	}
	pc.used = true
	if pc.conn != nil {
		p.retire(pc)
		p.closeLater(p.idle(pc.document.Name))
	}
}

// open tries to open a connection until that succeeds, the document proves wrong, or nobody wants the connection any more. It
// runs on a goroutine of its own.
func (p *Pool) open(ctx context.Context, pc *pooledConn, warnings []string, open Opener) {
	more, wrong := p.access.CheckFiles(pc.document, true)
	for _, warning := range append(warnings, more...) {
		p.log.Warn("a document reads a variable or file that new documents may not read: allow it with --document-env or --document-files, or change the document",
			"connector", pc.document.Name, "reads", pc.redactor.Text(warning))
	}
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval, pause.Multiplier = 100*time.Millisecond, 5*time.Second, 2
	conn, err := backoff.Retry(ctx, func() (Connection, error) {
		if wrong != nil {
			return nil, backoff.Permanent(pc.redactor.Error(wrong))
		}
		conn, passes, err := pc.opened(ctx, open)
		if err != nil && batch.CodeOf(err) == batch.CodeBadDocument && !passes {
			return nil, backoff.Permanent(err)
		}
		if err != nil {
			pointNotOpen.Hit()
			p.failed(pc, err)
		}
		return conn, err
	}, backoff.WithBackOff(pause), backoff.WithMaxElapsedTime(0))
	if err != nil && ctx.Err() != nil {
		err = Closed(pc.document.Name)
	}
	if pc.failed > 0 { // without the lock: only this goroutine writes it, in failed
		p.metrics.Up(pc.document.Name, -1, -1)
	}

	var done []*pooledConn
	p.mu.Lock()
	if err == nil && pc.dropped {
		pointUnwanted.Hit()
		// The last user left while it opened.
		done, err = []*pooledConn{{conn: conn, redactor: pc.redactor, ready: pc.ready, cancel: pc.cancel}}, Closed(pc.document.Name)
	}
	if err == nil {
		pc.conn = conn
		if pc.used {
			p.retire(pc)
		}
	} else {
		pc.err = err
		p.drop(pc)
	}
	close(pc.ready)
	done = append(done, p.idle(pc.document.Name)...)
	p.mu.Unlock()
	p.changed()
	if err == nil {
		if strings.HasPrefix(pc.document.Key, definition.OwnKeys) {
			p.log.Warn("the connector's key begins with "+definition.OwnKeys+", as KisGrid's own keys do: new documents with such a key are refused, "+
				"and so are rows whose key could be one of KisGrid's; move the data to another key", "connector", pc.document.Name)
		}
		p.log.Info("connector is open", "connector", pc.document.Name, "after", time.Since(pc.since))
	}
	if err := closeAll(done); err != nil {
		p.log.Warn("a connection that is no longer needed was not closed without error", "connector", pc.document.Name, "error", err)
	}
}

// opened calls the opener once. A panic in the opener becomes an error, so that it does not end the process. passes is true for
// an error marked by Outside: it may go away by itself, even if its code is that of a wrong document.
func (pc *pooledConn) opened(ctx context.Context, open Opener) (conn Connection, passes bool, err error) {
	defer func() {
		if p := recover(); p != nil {
			conn, err = nil, fmt.Errorf("connector %s: opening it panicked, which is a defect of the code that opens type %q: %v", pc.document.Name, pc.document.Type, p)
		}
		passes, err = isOutside(err), pc.redactor.Error(err)
	}()
	conn, err = open(context.WithValue(ctx, redactorKey{}, pc.redactor), pc.document)
	return conn, false, err
}

// Outside marks an error of an Opener as one for which the document is not to blame, such as that of a missing file. The fault
// may pass without a change of the document, so the pool tries the opener again whatever the error's code is.
func Outside(err error) error { return outside{err} }

// outside is the error that Outside makes.
type outside struct{ error }

func (o outside) Unwrap() error { return o.error }

// isOutside reports whether Outside marked an error.
func isOutside(err error) bool {
	_, is := errors.AsType[outside](err)
	return is
}

// failed notes a failed try to open a connection. The first one is logged. A Get that gives up reports the last one.
func (p *Pool) failed(pc *pooledConn, err error) {
	p.mu.Lock()
	pc.failed++
	pc.last = err
	first := pc.failed == 1
	p.mu.Unlock()
	p.changed()
	if first {
		p.metrics.Up(pc.document.Name, 1, 1)
		p.log.Warn("connector does not open; it is tried again until it does", "connector", pc.document.Name, "error", err)
	}
}

// retire is called when a connection has opened, or is used for the first time. It marks the connections of older versions of
// the document as retired. If a newer version is open and used already, it marks the opened connection as retired. p.mu is held.
func (p *Pool) retire(opened *pooledConn) {
	behind := false // opened's place in the list is behind other's
	for _, other := range slices.Backward(p.conns[opened.document.Name]) {
		switch {
		case other == opened:
			behind = true
		case other.revision < opened.revision, other.revision == opened.revision && behind:
			other.retired = true
		case other.conn != nil && other.used:
			opened.retired = true
		}
	}
}

// down returns why the connection can't be used now. nil means that it can, or that its first try is under way. The pool's mu is
// held.
func (pc *pooledConn) down() error {
	if pc.conn == nil {
		return cmp.Or(pc.err, pc.last)
	}
	conn, tells := pc.conn.(interface{ Down() error })
	if !tells {
		return nil
	}
	return conn.Down()
}

// idle finds the connections with a connector's name that nobody needs any more, takes them out of the pool, and returns them;
// the caller closes them. p.mu is held.
func (p *Pool) idle(name string) (idle []*pooledConn) {
	for _, pc := range p.conns[name] {
		unwanted := pc.keepers == 0 && (pc.kept || !pc.used)
		if pc.users > 0 || !unwanted && !pc.retired {
			continue
		}
		if more := lingers - time.Since(pc.left); more > 0 && !unwanted {
			p.closeIn(pc, more)
			continue
		}
		idle = append(idle, pc)
	}
	for _, pc := range idle {
		p.drop(pc)
	}
	return idle
}

// closeIn closes a connection after a time if it is idle then. p.mu is held.
func (p *Pool) closeIn(pc *pooledConn, after time.Duration) {
	pointLingers.Hit()
	if pc.closing != nil {
		pc.closing.Reset(after)
		return
	}
	pc.closing = time.AfterFunc(after, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if !pc.dropped {
			p.closeLater(p.idle(pc.document.Name))
		}
	})
}

// drop takes a connection out of the pool's list, so that no Get finds it, and the caller can close it. p.mu is held.
func (p *Pool) drop(pc *pooledConn) {
	pc.dropped = true
	if pc.closing != nil {
		pc.closing.Stop()
	}
	rest := slices.DeleteFunc(slices.Clone(p.conns[pc.document.Name]), func(o *pooledConn) bool { return o == pc })
	if p.conns[pc.document.Name] = rest; len(rest) == 0 {
		delete(p.conns, pc.document.Name)
	}
}

// closeAll closes connections that the pool has dropped. It waits for their openings to end.
func closeAll(conns []*pooledConn) error {
	var failures []error
	for _, pc := range conns {
		pc.cancel()
		<-pc.ready
		if pc.conn != nil {
			failures = append(failures, pc.redactor.Error(pc.conn.Close()))
		}
	}
	return errors.Join(failures...)
}

// closeLater closes dropped connections on a goroutine that Close waits for. p.mu is held.
func (p *Pool) closeLater(conns []*pooledConn) {
	if len(conns) == 0 || p.closed {
		return // Close has them
	}
	p.opening.Go(func() {
		if err := closeAll(conns); err != nil {
			p.log.Warn("a connection that is no longer needed was not closed without error", "connector", conns[0].document.Name, "error", err)
		}
	})
}

// resolve fills in the ${NAME} of a document from this process's environment, and returns the values that it filled in. The
// error says that a name is missing, or that the pool has no Opener for the document's type.
func (p *Pool) resolve(c *definition.Connector) (*definition.Connector, []definition.Secret, error) {
	if p.openers[c.Type] == nil {
		return nil, nil, batch.Errorf(batch.CodeBadDocument, "connector %s (%s): this process can't open type %q: use one of %s",
			c.Name, c.Document, c.Type, strings.Join(slices.Sorted(maps.Keys(p.openers)), ", "))
	}
	return c.ResolveSecrets(p.lookup)
}
