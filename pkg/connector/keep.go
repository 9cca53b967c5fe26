package connector

import (
	"cmp"
	"context"
	"errors"

	"github.com/kisgrid/kisgrid/pkg/definition"
)

// A connector stands as its connection does: whether that is opened, and the store is of use, is known before the first row needs
// it, and while none does. That it is not, is never a reason to refuse a document: it may pass without a change of the document.

// Standing is how the connection that a document describes stands.
type Standing uint8

// The standings.
const (
	// Opening: the first try is under way.
	Opening Standing = iota
	// Connected: the store is of use.
	Connected
	// Degraded: it is of no use now, and tried again and again. Rows that need it wait.
	Degraded
)

// Kept is a connection that is opened, and stays open, although nobody may use it. Its methods may be called by several
// goroutines, and don't block.
type Kept struct {
	pool     *Pool
	find     func() *pooledConn // finds or makes it; nil where the document is wrong. Called with pool.mu held
	err      error              // why it is wrong
	conn     *pooledConn        // guarded by pool.mu, as what follows
	released bool
}

// Keep opens the connection that c's document describes, in the background, and keeps it while it is not released: how it stands is
// known before somebody uses it. Beside the connection that flows use of the same connector it stands until somebody uses it, or
// InForce says that they will; then it takes that one's place. It does not block.
func (p *Pool) Keep(c *definition.Connector) *Kept {
	k := &Kept{pool: p}
	warnings, err := p.access.CheckNames(c, true)
	if err != nil {
		k.err = err
		return k
	}
	resolved, secrets, err := p.resolve(c)
	if err != nil {
		k.err = err
		return k
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		k.err = Closed(resolved.Name)
		return k
	}
	k.find = func() *pooledConn {
		return p.pooled(context.Background(), resolved, secrets, warnings, p.openers[c.Type])
	}
	k.conn = k.find()
	k.conn.keepers++
	k.conn.kept = true
	return k
}

// Renew says that a newer document, whose revision this is, describes the same connection. That is opened again where another one has
// taken its place since: flows go back to it.
func (k *Kept) Renew(revision int64) {
	if k.find == nil {
		return
	}
	k.pool.mu.Lock()
	defer k.pool.mu.Unlock()
	if k.conn.dropped && !k.released && !k.pool.closed {
		k.conn = k.find()
		k.conn.keepers++
		k.conn.kept = true
	}
	k.conn.revision = max(k.conn.revision, revision)
}

// Standing is how the connection stands, and why it is degraded, without secrets.
func (k *Kept) Standing() (Standing, string) {
	if k.find == nil {
		return Degraded, k.err.Error()
	}
	k.pool.mu.Lock()
	defer k.pool.mu.Unlock()
	pc := k.conn
	switch why := pc.down(); {
	case why != nil:
		return Degraded, pc.redactor.Text(why.Error())
	case pc.conn != nil:
		return Connected, ""
	}
	return Opening, ""
}

// InForce says that flows run with the document from now on: once it is open, the connections of earlier documents close when their
// last users leave.
func (k *Kept) InForce() {
	if k.find == nil {
		return
	}
	k.pool.mu.Lock()
	defer k.pool.mu.Unlock()
	if !k.released {
		k.pool.use(k.conn)
	}
}

// Release lets the connection go: where nobody else keeps it, it closes when its last user leaves. Safe twice.
func (k *Kept) Release() {
	if k.find == nil {
		return
	}
	k.pool.mu.Lock()
	defer k.pool.mu.Unlock()
	if k.released {
		return
	}
	k.released = true
	k.conn.keepers--
	k.pool.closeLater(k.pool.idle(k.conn.document.Name))
}

// use notes that a link is used, or about to be. Called with mu held.
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

// closeLater closes conns that the pool no longer knows, on a goroutine that Close waits for. Called with mu held.
func (p *Pool) closeLater(conns []*pooledConn) {
	if len(conns) == 0 || p.closed {
		return // Close has them
	}
	p.opening.Go(func() {
		if err := closeAll(conns); err != nil {
			p.log.Warn("closing a connection that is no longer needed", "connector", conns[0].document.Name, "error", err)
		}
	})
}

// down is why the link is of no use now; nil: it is, or its first try is under way. Called with the pool's mu held.
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

// Outside marks the error of an Opener that its document is not to blame for, such as a file that is missing: what it says may pass
// without a change of the document, so it is tried again, whatever its code.
func Outside(err error) error { return outside{err} }

type outside struct{ error }

func (o outside) Unwrap() error { return o.error }

func isOutside(err error) bool {
	_, is := errors.AsType[outside](err)
	return is
}
