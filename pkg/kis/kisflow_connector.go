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

// Connector is KisFlow's way to a store: a program registers with CaaSInit the code that opens a client, and that code keeps the
// client with SetMetaData. A Registry has one Connector for each connector name, which all functions and flows share.
// Registry.Close closes the clients. A Connector is safe for concurrent use.
//
// Functions that Save and Load make need none of this: they use the connection that KisGrid opens for the connector's document.
type Connector interface {
	// Init opens the connector, unless it is open already. After an error, the next Init tries again.
	Init() error
	// Call calls the code that CaaS registered for this connector and the function that the flow is in.
	Call(ctx context.Context, flow Flow, args any) (any, error)
	GetID() string
	GetName() string
	// GetConfig returns the configuration. If a function got the connector from its flow, each ${NAME} in it is replaced by its value.
	GetConfig() *ConnConfig
	// GetMetaData returns a value that SetMetaData keeps with the connector, or nil.
	GetMetaData(key string) any
	SetMetaData(key string, value any)
}

// ConnInit opens a connector: it makes a client, and keeps it with SetMetaData.
type ConnInit func(conn Connector) error

// CaaS is a function that Connector.Call calls. It gets the connector, the flow, the flow's function that runs, and the args that
// Connector.Call was given; its results are those of Connector.Call. Code that needs no client of its own can use
// From(ctx).Connection, the connection over which Saves and Loads go.
type CaaS func(ctx context.Context, conn Connector, fn Function, flow Flow, args any) (any, error)

// NewConnector makes a Connector that the caller opens with Init, and that no flow uses. Registry.Close does not close it. Its
// configuration is c itself: a ${NAME} in it stays as it is.
func NewConnector(r *Registry, c *ConnConfig) Connector {
	return newSharedConnector(&r.KisFlowRegistry, c)
}

// sharedConnector is the Connector of one configuration. It goes through these states:
//
//	           Init            CaaSInit's code returned nil
//	closed ------------> opening --------------------------> open
//	  ^  ^                  |                                  |
//	  |  | an error         |                                  |
//	  |  +------------------+                                  |
//	  | Registry.Close, or it is retired and nobody holds it   |
//	  +--------------------------------------------------------+
//
// It is retired when the configuration of its name changes: from then on the new configuration's connector is handed out.
type sharedConnector struct {
	registry *KisFlowRegistry
	id       string
	config   *ConnConfig
	meta     metadata
	redactor *definition.Redactor // takes the values of ${NAME} in config out of errors; nil if there are none

	mu      sync.Mutex
	opening chan struct{} // closed when the Init under way ends; nil if none is; guarded by mu
	open    bool          // guarded by mu

	holds   int  // calls of functions, and flows made in code, that use it; guarded by connectorTable.mu
	retired bool // another configuration of the name is in use; guarded by connectorTable.mu
}

// newSharedConnector makes a connector that is not open. It does not add it to r's connectorTable.
func newSharedConnector(r *KisFlowRegistry, c *ConnConfig) *sharedConnector {
	return &sharedConnector{registry: r, id: NewID("conn"), config: c}
}

func (c *sharedConnector) GetID() string                     { return c.id }
func (c *sharedConnector) GetName() string                   { return c.config.CName }
func (c *sharedConnector) GetConfig() *ConnConfig            { return c.config }
func (c *sharedConnector) GetMetaData(key string) any        { return c.meta.get(key) }
func (c *sharedConnector) SetMetaData(key string, value any) { c.meta.set(key, value) }

func (c *sharedConnector) Init() error { return c.init(context.Background()) }

// init opens the connector, if it is not open. If another goroutine is opening it, init waits for that one, until ctx ends; if that
// one fails, init tries itself.
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

// begin opens the connector: it calls the function that CaaSInit registered, and marks the connector as open if that returns nil. A
// panic becomes an error. Only the goroutine that has made c.opening may call it.
func (c *sharedConnector) begin() (err error) {
	err = errors.New("the function that CaaSInit registered did not return")
	defer func() { // it runs even if the function ends its goroutine, or returns an error whose text panics
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

// Call implements Connector. It takes the values of ${NAME} out of the error.
func (c *sharedConnector) Call(ctx context.Context, flow Flow, args any) (any, error) {
	answer, err := c.registry.CallConnector(ctx, flow, c, args)
	return answer, c.redactor.Error(err)
}

// close marks the connector as not open. Of each value that the program kept with it and that has a method Close() error, it calls
// this method. All values are forgotten.
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

// closeOne closes one value that a program keeps with a connector. A panic becomes an error: a connector may be closed late,
// after its configuration changed, in the run of a flow that is not to blame.
func closeOne(closer io.Closer) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = newPanic(p)
		}
	}()
	if err = closer.Close(); err != nil {
		err = fmt.Errorf("%w", err) // this reads the error's text, which may panic, where a panic is recovered
	}
	return err
}

// connectorTable has the connectors of a Registry that functions and flows share, by name. The zero value is ready for use. It is safe
// for concurrent use.
type connectorTable struct {
	mu     sync.Mutex
	byName map[string][]*sharedConnector // the current connector of each name, and retired ones that are in use; guarded by mu
}

// connect returns the connector of a configuration, opened, and a function with which the caller says that it no longer uses it. All
// users of the same configuration share the connector. When the configuration of a name changes, the connector of the configuration
// before is closed once nobody uses it any more. With an error the function is nil.
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

// hold returns the connector of a configuration, and counts one more user of it. It makes the connector if there is none, and marks
// the connectors with the same name and another configuration as retired.
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

// release counts one user of c less. It closes each retired connector with the same name that nobody uses.
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
		_ = c.close() // nobody is left to be told of an error
	}
}

// close closes all connectors, also those in use, and empties the table.
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

// same reports whether two configurations of connectors are equal, apart from the lists Load and Save, which KisGrid does not look at.
func (c *ConnConfig) same(other *ConnConfig) bool {
	if c == other {
		return true
	}
	a, b := c.Definition(), other.Definition()
	a.Load, a.Save, a.Document = b.Load, b.Save, b.Document
	return reflect.DeepEqual(a, b)
}
