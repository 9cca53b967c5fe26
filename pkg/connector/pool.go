package connector

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/hashicorp/go-hclog"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// Pool keeps a process's connections: one for each connector name, however many use it, and while its document changes one
// for each version in use. Safe for concurrent use.
type Pool struct {
	openers map[string]Opener
	lookup  func(string) (string, bool)
	access  definition.Access
	log     hclog.Logger
	metrics *Metrics

	changed func() // is told, without a lock, when a connection has opened, or has failed to

	opening   sync.WaitGroup // goroutines that open connections, or close them
	closeOnce sync.Once
	closeErr  error

	mu     sync.Mutex
	closed bool                     // guarded by mu
	conns  map[string][]*pooledConn // by connector name, in the order of first use; guarded by mu
}

// pooledConn is the connection for one version of a connector's document: being opened, then open until the pool closes, or until
// the last user has left, and a newer version is open or all who kept it have let it go.
type pooledConn struct {
	document *definition.Connector // resolved
	secrets  []definition.Secret   // that were filled in
	redactor *definition.Redactor  // of them
	since    time.Time
	cancel   context.CancelFunc // ends opening
	ready    chan struct{}      // closed when conn or err is set, for good

	// Guarded by Pool.mu; conn and err may be read without it once ready is closed.
	revision int64 // the newest document that describes this connection
	conn     Connection
	err      error
	failed   int   // tries so far
	last     error // of the last one
	users    int
	keepers  int  // see Keep
	kept     bool // there is a keeper, or was one
	used     bool // somebody uses it, or has
	retired  bool // a newer version is open and used
	dropped  bool // the pool no longer knows it
}

// NewPool makes a pool that opens connectors by the type in their documents. lookup is the environment for ${NAME} in
// documents, as os.LookupEnv, of which documents may read all but what Restrict says; log may be nil. metrics, which may be nil, show a connector as not up while it does not open;
// once it is open that is its opener's.
func NewPool(openers map[string]Opener, lookup func(string) (string, bool), log hclog.Logger, metrics *Metrics) *Pool {
	if log == nil {
		log = hclog.NewNullLogger()
	}
	return &Pool{
		openers: maps.Clone(openers), lookup: lookup, log: log, metrics: metrics, conns: map[string][]*pooledConn{}, changed: func() {},
	}
}

// Notify has changed called, which must not block, when a connection has opened, or has failed to. Call it before anything else.
func (p *Pool) Notify(changed func()) { p.changed = changed }

// Restrict says what documents may read of this process: call it before anything else. Without it the default Access holds, but
// for documents that run already, which a warning is logged for.
func (p *Pool) Restrict(access definition.Access) { p.access = access }

// Get is a hold on the connection that c's document describes: Close, safe twice, ends the hold, not the connection, and
// whoever got it must not use it after that.
//
// The first Get opens the connection, in the background: it is tried again with pauses of up to 5 s until it opens, also
// when that caller has left. Get waits for it as long as ctx allows; its error says for what, and since when. A document
// that is wrong is an error at once. One that changed opens a connection of its own; once that is open, the older version's
// closes when its last hold ends.
func (p *Pool) Get(ctx context.Context, c *definition.Connector) (Connection, error) {
	// What came through a cluster was checked when it was taken in.
	warnings, err := p.access.CheckNames(c, c.Document.Revision > 0)
	if err != nil {
		return nil, err
	}
	resolved, secrets, err := p.resolve(c)
	if err != nil {
		return nil, err
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

// Check says what is wrong with c's document in this process: a type that nothing here opens, a ${NAME} that its environment
// lacks, or what the document may not read. It opens nothing: a store that is away is no mistake. The document runs already: what
// Access forbids by default only is no mistake.
func (p *Pool) Check(c *definition.Connector) error { return p.check(c, true) }

// CheckNew is Check for a document that does not run yet.
func (p *Pool) CheckNew(c *definition.Connector) error { return p.check(c, false) }

func (p *Pool) check(c *definition.Connector, taken bool) error {
	if _, err := p.access.CheckNames(c, taken); err != nil {
		return err
	}
	resolved, secrets, err := p.resolve(c)
	if err != nil {
		return err
	}
	_, err = p.access.CheckFiles(resolved, taken)
	return definition.NewRedactor(secrets...).Error(err)
}

// resolve fills in what the document leaves to this process.
func (p *Pool) resolve(c *definition.Connector) (*definition.Connector, []definition.Secret, error) {
	if p.openers[c.Type] == nil {
		return nil, nil, batch.Errorf(batch.CodeBadDocument, "connector %s (%s): nothing here opens type %q: use one of %s",
			c.Name, c.Document, c.Type, strings.Join(slices.Sorted(maps.Keys(p.openers)), ", "))
	}
	return c.ResolveSecrets(p.lookup)
}

// handle is one user's part in a link.
type handle struct {
	Connection
	redactor *definition.Redactor // see redact.go
	leave    func() error
}

func (h *handle) Close() error { return h.leave() }

// Unwrap is the connection that is held, for packages that know its type.
func (h *handle) Unwrap() Connection { return h.Connection }

// Close ends all openings and closes all connections, also those that somebody holds. Safe twice.
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

// join counts a user in at the document's link, and makes it if there is none.
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

// pooled finds the document's link, and makes it, and begins to open it, if there is none. Called with mu held.
func (p *Pool) pooled(ctx context.Context, resolved *definition.Connector, secrets []definition.Secret, warnings []string, open Opener) *pooledConn {
	for _, pc := range p.conns[resolved.Name] {
		if same(pc.document, resolved) && slices.Equal(pc.secrets, secrets) { // else it would log what this document hides
			pc.revision = max(pc.revision, resolved.Document.Revision)
			return pc
		}
	}
	pc := &pooledConn{document: resolved, secrets: secrets, redactor: definition.NewRedactor(secrets...), revision: resolved.Document.Revision, since: time.Now(), ready: make(chan struct{})}
	p.conns[resolved.Name] = append(p.conns[resolved.Name], pc)
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx)) // its caller may leave
	pc.cancel = cancel
	p.opening.Go(func() {
		defer cancel()
		p.open(ctx, pc, warnings, open)
	})
	return pc
}

// same reports whether two documents describe the same connection, wherever they come from and whoever uses it.
func same(a, b *definition.Connector) bool {
	x, y := *a, *b
	for _, c := range []*definition.Connector{&x, &y} {
		c.Document, c.Load, c.Save = definition.Document{}, nil, nil
	}
	return reflect.DeepEqual(x, y)
}

// open tries until the connection is open, its document proves wrong, or nobody wants it any more.
func (p *Pool) open(ctx context.Context, pc *pooledConn, warnings []string, open Opener) {
	more, wrong := p.access.CheckFiles(pc.document, true)
	for _, warning := range append(warnings, more...) {
		p.log.Warn("a document reads what new ones may not: allow it with --document-env or --document-files, or change the document",
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
			p.failed(pc, err)
		}
		return conn, err
	}, backoff.WithBackOff(pause), backoff.WithMaxElapsedTime(0))
	if err != nil && ctx.Err() != nil {
		err = Closed(pc.document.Name)
	}
	if pc.failed > 0 { // failed, which writes it, ran on this goroutine
		p.metrics.Up(pc.document.Name, -1, -1)
	}

	var done []*pooledConn
	p.mu.Lock()
	if err == nil && pc.dropped {
		// Its last user left while it opened.
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
			p.log.Warn("the connector's key begins with "+definition.OwnKeys+", as KisGrid's own keys do: documents are no longer taken in so, "+
				"and rows whose key may be one of KisGrid's are refused; move the data under another key", "connector", pc.document.Name)
		}
		p.log.Info("connector is open", "connector", pc.document.Name, "after", time.Since(pc.since))
	}
	if err := closeAll(done); err != nil {
		p.log.Warn("closing a connection that is no longer needed", "connector", pc.document.Name, "error", err)
	}
}

// Down are the connectors whose store is of no use now, by name, and why: their connection does not open, or says so itself by
// a method Down() error. It blocks for no store. It is empty while all is well.
func (p *Pool) Down() map[string]string {
	down := map[string]string{}
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, conns := range p.conns {
		used := slices.ContainsFunc(conns, func(pc *pooledConn) bool { return pc.used })
		for _, pc := range conns {
			if why := pc.down(); why != nil && pc.used == used { // else it is only kept, and others are used
				down[name] = pc.redactor.Text(why.Error())
			}
		}
	}
	return down
}

// failed notes a failed try. The first is worth a warning, all are told to those who wait.
func (p *Pool) failed(pc *pooledConn, err error) {
	p.mu.Lock()
	pc.failed++
	pc.last = err
	first := pc.failed == 1
	p.mu.Unlock()
	p.changed()
	if first {
		p.metrics.Up(pc.document.Name, 1, 1)
		p.log.Warn("connector does not open, trying on", "connector", pc.document.Name, "error", err)
	}
}

// retire marks the versions that another one, being open, replaces. Called with mu held.
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

// leave counts a user out.
func (p *Pool) leave(pc *pooledConn) error {
	p.mu.Lock()
	pc.users--
	idle := p.idle(pc.document.Name)
	p.mu.Unlock()
	return closeAll(idle)
}

// idle takes the conns that nobody needs any more out of the pool. Called with mu held.
func (p *Pool) idle(name string) (idle []*pooledConn) {
	for _, pc := range p.conns[name] {
		if pc.users == 0 && (pc.retired || pc.keepers == 0 && (pc.kept || !pc.used)) {
			idle = append(idle, pc)
		}
	}
	for _, pc := range idle {
		p.drop(pc)
	}
	return idle
}

// drop takes a link out of the pool. Called with mu held.
func (p *Pool) drop(pc *pooledConn) {
	pc.dropped = true
	rest := slices.DeleteFunc(slices.Clone(p.conns[pc.document.Name]), func(o *pooledConn) bool { return o == pc })
	if p.conns[pc.document.Name] = rest; len(rest) == 0 {
		delete(p.conns, pc.document.Name)
	}
}

// closeAll closes conns that the pool no longer knows.
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
