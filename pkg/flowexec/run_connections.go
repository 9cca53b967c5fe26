package flowexec

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// using is the connections that functions of a run have asked for. They are held until the run ends. A function may ask for its
// connection on several goroutines at the same time.
type using struct {
	any   atomic.Bool // whether conns may have a connection
	mu    sync.Mutex
	conns map[*definition.Connector]connector.Connection // guarded by mu
}

// connect is the function in the field Connect of kis.Frame. It returns the connection of the function's connector, which stays
// open until the run ends. It returns an error if no call of a function is under way, or the function has no connector.
func (x *executor) connect(ctx context.Context) (kis.Connection, error) {
	var s *step
	if !x.during(func(st *stepRun) { s = st.step }) {
		return nil, batch.Errorf(batch.CodeUnknownConnector, "the call that this context was given to is over, and its connection with it: ask while the function runs")
	}
	c := s.connector
	if c == nil {
		return nil, batch.Errorf(batch.CodeUnknownConnector, "function %s has no connector: name one in its document, with option.cname", s.Name)
	}
	if conn := x.using.find(c); conn != nil {
		return conn, nil
	}
	conn, err := connect(ctx, x.lane.lanes.config.Connectors, c)
	if err != nil {
		return nil, err
	}
	return x.using.keep(c, conn), nil
}

// redact removes secrets from the text of a fault, if its function has asked for its connection: the values that stand for ${NAME}
// in the connector's document. Errors of redis.Client contain them. f may be nil.
func (x *executor) redact(f *fault) {
	s := x.st.step
	if f == nil || s == nil || s.connector == nil {
		return
	}
	if held, ok := x.using.find(s.connector).(interface{ Redact(text string) string }); ok {
		f.text = held.Redact(f.text)
	}
}

// find returns the connection of a connector if the run holds one already, else nil.
func (u *using) find(c *definition.Connector) connector.Connection {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.conns[c]
}

// keep takes over conn, which is a hold on the connection of c, and returns the connection to use. If the run has one of c
// already, keep closes conn and returns the other.
func (u *using) keep(c *definition.Connector, conn connector.Connection) connector.Connection {
	u.mu.Lock()
	held := u.conns[c]
	if held == nil {
		if u.conns == nil {
			u.conns = make(map[*definition.Connector]connector.Connection)
		}
		u.conns[c] = conn
		u.any.Store(true)
	}
	u.mu.Unlock()
	if held == nil {
		return conn
	}
	_ = conn.Close() // it only lets go: the other hold tells of errors of the connection
	return held
}

// end closes all connections that the run holds. They stay open as long as others hold them.
func (u *using) end() {
	if !u.any.Load() {
		return
	}
	u.mu.Lock()
	u.any.Store(false)
	conns := u.conns
	u.conns = nil
	u.mu.Unlock()
	for _, conn := range conns {
		_ = conn.Close() // a hold; where it was the last of a replaced document, the pool is through with the connection
	}
}
