package connector

import (
	"context"

	"github.com/kisgrid/kisgrid/pkg/definition"
)

// Standing is the state of the connection that a document describes, as operators see it. It is known before the first row needs
// the connection. A bad state is never a reason to refuse a document, since it may pass without a change of the document.
type Standing uint8

// The values of Standing.
const (
	// Opening means that the first try to open the connection is under way.
	Opening Standing = iota
	// Connected means that the store can be used.
	Connected
	// Degraded means that the store can't be used now, and is tried again and again. Rows that need it wait.
	Degraded
)

// Kept is a connection that the pool opens and keeps open although nobody may use it. Its methods do not block. Any goroutine may
// call them.
type Kept struct {
	pool     *Pool
	find     func() *pooledConn // finds or makes the connection; nil if err is set. Called with pool.mu held
	err      error              // the document is wrong, or the pool was closed; nil means neither
	conn     *pooledConn        // guarded by pool.mu
	released bool               // guarded by pool.mu
}

// Keep opens the connection that c's document describes, in the background, and keeps it open until it is released, so that its
// Standing is known before a flow uses it. If the document is wrong, the Standing is Degraded. If flows use a connection of the
// same connector from an earlier document, both stay open until somebody uses the new one, or InForce is called. Keep does not
// block.
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

// Renew says that a newer document, of this revision, describes the same connection again. If the connection was closed in the
// meantime, because a connection of another document took its place, Renew opens it anew.
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
	k.conn.renew(revision)
}

// Standing returns the state of the connection. If that is Degraded, it also returns the reason, without secrets; else the text
// is empty. If the connection was closed because one of another document took its place, the state is that of the connection which users of
// the document have now. While they have none, it is Connected or Opening: why the closed connection was down says nothing about the next.
func (k *Kept) Standing() (Standing, string) {
	if k.find == nil {
		return Degraded, k.err.Error()
	}
	k.pool.mu.Lock()
	defer k.pool.mu.Unlock()
	pc := k.conn
	replaced := pc.dropped && pc.retired
	if replaced {
		if now := k.pool.find(pc.document, pc.secrets); now != nil {
			pc, replaced = now, false
		}
	}
	switch why := pc.down(); {
	case why != nil && !replaced:
		return Degraded, pc.redactor.Text(why.Error())
	case pc.conn != nil:
		return Connected, ""
	}
	return Opening, ""
}

// InForce says that flows run with the document from now on. Once the connection is open, the connections of earlier documents
// close when nobody uses them any more.
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

// Release says that the connection need not be kept open any more. If nobody else keeps it, it closes when its last user leaves.
// Release may be called twice.
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
