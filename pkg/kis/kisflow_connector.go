package kis

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"sync"

	"github.com/kisgrid/kisgrid/pkg/definition"
)

// Connector is KisFlow's way to a store: what CaaSInit registered opens a client of its own and keeps it with SetMetaData.
// There is one for each connector name in a Registry, however many functions and flows use it; Registry.Close closes what it
// keeps. It is safe for concurrent use. The functions that Save and Load make need none of it: they use the connector that
// the document describes.
type Connector interface {
	// Init opens the connector, unless it is open. An error is tried again by the next Init.
	Init() error
	// Call calls what CaaS registered for this connector and the function that the flow is in.
	Call(ctx context.Context, flow Flow, args any) (any, error)
	GetID() string
	GetName() string
	// GetConfig is the configuration with the ${NAME} of its values filled in.
	GetConfig() *ConnConfig
	// GetMetaData and SetMetaData keep values with the connector; nil: nothing kept.
	GetMetaData(key string) any
	SetMetaData(key string, value any)
}

// ConnInit opens a connector.
type ConnInit func(conn Connector) error

// CaaS is a call of a connector by a function. From(ctx).Connection is the connection that Saves and Loads go over, for calls
// that need no client of their own.
type CaaS func(ctx context.Context, conn Connector, fn Function, flow Flow, args any) (any, error)

// NewConnector is a connector apart from those that flows share, for the caller to Init.
func NewConnector(r *Registry, c *ConnConfig) Connector {
	return newSharedConnector(&r.KisFlowRegistry, c)
}

// sharedConnector is the Connector of one configuration.
type sharedConnector struct {
	registry *KisFlowRegistry
	id       string
	config   *ConnConfig
	meta     metadata
	redactor *definition.Redactor // of the values of ${NAME} in config; nil: there are none

	mu      sync.Mutex
	opening chan struct{} // closed when the Init under way ends; nil: none is; guarded by mu
	open    bool          // guarded by mu

	// Guarded by connectorTable.mu:
	holds   int  // calls of functions under way that use it, and flows made in code
	retired bool // another configuration of the name is in use
}

func newSharedConnector(r *KisFlowRegistry, c *ConnConfig) *sharedConnector {
	return &sharedConnector{registry: r, id: NewID("conn"), config: c}
}

func (c *sharedConnector) GetID() string                     { return c.id }
func (c *sharedConnector) GetName() string                   { return c.config.CName }
func (c *sharedConnector) GetConfig() *ConnConfig            { return c.config }
func (c *sharedConnector) GetMetaData(key string) any        { return c.meta.get(key) }
func (c *sharedConnector) SetMetaData(key string, value any) { c.meta.set(key, value) }

func (c *sharedConnector) Init() error { return c.init(context.Background()) }

// init opens the connection, or waits for who does, under ctx.
func (c *sharedConnector) init(ctx context.Context) error {
	for {
		c.mu.Lock()
		if c.open {
			c.mu.Unlock()
			return nil
		}
		opening := c.opening
		if opening == nil {
			c.opening = make(chan struct{})
		}
		c.mu.Unlock()
		if opening == nil {
			return c.begin()
		}
		select {
		case <-opening:
		case <-ctx.Done():
			return fmt.Errorf("wait for connector %s to open: %w", c.config.CName, context.Cause(ctx))
		}
	}
}

// begin is the one Init under way.
func (c *sharedConnector) begin() (err error) {
	err = errors.New("what CaaSInit registered did not return")
	defer func() { // also where the text of what it returned panics, or ends the goroutine
		c.mu.Lock()
		defer c.mu.Unlock()
		c.open = err == nil
		close(c.opening)
		c.opening = nil
	}()
	defer func() {
		if p := recover(); p != nil {
			err = newPanic(p)
		}
		if err != nil {
			err = c.redactor.Error(fmt.Errorf("open connector %s: %w", c.config.CName, err))
		}
	}()
	return c.registry.CallConnInit(c)
}

func newPanic(value any) error { return fmt.Errorf("panic: %v", value) }

func (c *sharedConnector) Call(ctx context.Context, flow Flow, args any) (any, error) {
	answer, err := c.registry.CallConnector(ctx, flow, c, args)
	return answer, c.redactor.Error(err)
}

// close closes what was kept with the connector and can be closed.
func (c *sharedConnector) close() error {
	c.mu.Lock()
	c.open = false
	c.mu.Unlock()
	var errs []error
	for _, value := range c.meta.take() {
		if closer, ok := value.(io.Closer); ok {
			errs = append(errs, closeOne(closer))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return c.redactor.Error(fmt.Errorf("close connector %s: %w", c.config.CName, err))
	}
	return nil
}

// closeOne closes what a program keeps with a connector. A panic is an error: a connector that is closed late, because its
// configuration changed, is nobody's fault who runs then.
func closeOne(closer io.Closer) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = newPanic(p)
		}
	}()
	if err = closer.Close(); err != nil {
		err = fmt.Errorf("%w", err) // its text is read here, where it may panic
	}
	return err
}

// connectorTable is a Registry's connectors.
type connectorTable struct {
	mu     sync.Mutex
	byName map[string][]*sharedConnector // guarded by mu
}

// connect is the open connector of a configuration, shared by all that use it, and what ends the caller's hold on it. When a
// name's configuration changes, the connector of the one before is closed once no call uses it.
func (r *KisFlowRegistry) connect(ctx context.Context, config *ConnConfig) (Connector, func(), error) {
	resolved, secrets, err := config.resolved(r.environment())
	if err != nil {
		return nil, nil, err
	}
	c := r.connectors.hold(r, resolved, secrets)
	release := sync.OnceFunc(func() { r.connectors.release(c) })
	if err := c.init(ctx); err != nil {
		release()
		return nil, nil, err
	}
	return c, release, nil
}

func (t *connectorTable) hold(r *KisFlowRegistry, config *ConnConfig, secrets []definition.Secret) *sharedConnector {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byName == nil {
		t.byName = make(map[string][]*sharedConnector)
	}
	var held *sharedConnector
	for _, c := range t.byName[config.CName] {
		if c.retired = !c.config.same(config); !c.retired {
			held = c
		}
	}
	if held == nil {
		held = newSharedConnector(r, config)
		held.redactor = definition.NewRedactor(secrets...)
		t.byName[config.CName] = append(t.byName[config.CName], held)
	}
	held.holds++
	return held
}

func (t *connectorTable) release(c *sharedConnector) {
	t.mu.Lock()
	c.holds--
	var idle []*sharedConnector
	t.byName[c.config.CName] = slices.DeleteFunc(t.byName[c.config.CName], func(c *sharedConnector) bool {
		if !c.retired || c.holds > 0 {
			return false
		}
		idle = append(idle, c)
		return true
	})
	t.mu.Unlock()
	for _, c := range idle {
		_ = c.close() // nobody is left to be told
	}
}

func (t *connectorTable) close() error {
	t.mu.Lock()
	all := t.byName
	t.byName = nil
	t.mu.Unlock()
	var errs []error
	for _, named := range all {
		for _, c := range named {
			errs = append(errs, c.close())
		}
	}
	return errors.Join(errs...)
}

// same reports whether two configurations lead to the same store.
func (c *ConnConfig) same(other *ConnConfig) bool {
	if c == other {
		return true
	}
	a, b := c.Definition(), other.Definition()
	a.Load, a.Save, a.Document = b.Load, b.Save, b.Document
	return reflect.DeepEqual(a, b)
}
