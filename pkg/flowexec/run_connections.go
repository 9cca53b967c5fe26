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

// using are the connections that functions of a run asked for: held until it ends. A function may ask on several goroutines.
type using struct {
	any   atomic.Bool // conns was written
	mu    sync.Mutex
	conns map[*definition.Connector]connector.Connection // guarded by mu
}

// connect is the frame's Connect.
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

// redact takes the values of ${NAME} out of what a function said that asked for its connection: errors of redis.Client have them.
func (x *executor) redact(f *fault) {
	s := x.st.step
	if f == nil || s == nil || s.connector == nil {
		return
	}
	if held, ok := x.using.find(s.connector).(interface{ Redact(text string) string }); ok {
		f.text = held.Redact(f.text)
	}
}

func (u *using) find(c *definition.Connector) connector.Connection {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.conns[c]
}

// keep takes over a hold on a connection, unless there is one already.
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
	_ = conn.Close() // a hold: the one that is kept tells of the connection's end
	return held
}

// end lets go of them.
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
