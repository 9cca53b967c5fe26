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

// using is the connections that functions of a run have asked for. They are held until the run ends. A function may ask on several
// goroutines.
type using struct {
	any   atomic.Bool // whether conns may hold any
	mu    sync.Mutex
	conns map[*definition.Connector]connector.Connection // guarded by mu
}

// connect is the frame's Connect: it gives a function the connection of its connector, held until the run ends.
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

// redact takes the values of ${NAME} out of the text of an error of a function that asked for its connection: errors of
// redis.Client contain them.
func (x *executor) redact(f *fault) {
	s := x.st.step
	if f == nil || s == nil || s.connector == nil {
		return
	}
	if held, ok := x.using.find(s.connector).(interface{ Redact(text string) string }); ok {
		f.text = held.Redact(f.text)
	}
}

// find is the connection of a connector that is held already; nil if there is none.
func (u *using) find(c *definition.Connector) connector.Connection {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.conns[c]
}

// keep takes over a hold on a connection. If there is one already, it closes the new one, and returns the one that is held.
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

// end closes all holds.
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
