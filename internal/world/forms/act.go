package forms

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kisgrid/kisgrid/internal/world/history"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// Env is the worker process in which functions run. Its methods may be called by several goroutines.
type Env interface {
	// Enter notes a call of a function for one row; the process adds its own name. While the process is stopped, Enter blocks, and the
	// calls are noted afterwards in the order in which they came. Enter returns an error, and notes nothing, when the process was killed.
	Enter(run history.Run) error
	// Gate returns a channel that is closed when blocked functions are to go on: at the end of the faults, or of the process.
	Gate() <-chan struct{}
	// Poison kills the process, and returns when it is dead: no more of it leaves the process.
	Poison()
	// Saves notes the connection of a memory connector, through which a function is about to save.
	Saves(to kis.Connection)
}

// oddError is an error type whose nil pointer some functions return.
type oddError struct{ text string }

// Error implements error. Like the methods of many error types, it panics for a nil pointer.
func (e *oddError) Error() string { return e.text }

// ErrAsked is the error that functions return when a row asks for one.
var ErrAsked = errors.New("the row asks for an error")

// enter notes a call for one row, and carries out the action that the row asks for.
func (f *function) enter(ctx context.Context, r *Row) (Action, error) {
	if err := f.record(ctx, r, 0); err != nil {
		return Action{}, err
	}
	a, ok := ActionFor(r.Do, f.stage)
	if !ok {
		return Action{}, nil
	}
	return a, f.act(ctx, r, a)
}

// record notes a call for one row. i is the row's place in a call for several rows.
func (f *function) record(ctx context.Context, r *Row, i int) error {
	c := kis.From(ctx)
	return f.env.Enter(history.Run{
		Flow: c.Flow, Function: f.name, Mark: c.Param("mark"), Revision: c.Revision, ID: c.RowIDAt(i), Key: r.Key, N: r.number(),
		Attempt: c.Attempt,
	})
}

// act carries out an action.
func (f *function) act(ctx context.Context, r *Row, a Action) error {
	c := kis.From(ctx)
	switch a.Kind {
	case "slow":
		timer := time.NewTimer(a.Lasts)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	case "sleep":
		time.Sleep(a.Lasts)
	case "hang":
		<-ctx.Done()
		return ctx.Err()
	case "block":
		<-f.env.Gate()
	case "panic":
		panic(fmt.Sprintf("row %d asks for a panic", r.N))
	case "error":
		if a.Always || c.Attempt <= a.N {
			return ErrAsked
		}
	case "odd":
		return (*oddError)(nil)
	case "mutate":
		if c.Attempt == 1 {
			if r.N++; len(r.Tags) > 0 {
				r.Tags[0] += 1000
			}
			return ErrAsked
		}
	case "drop":
		return kis.Drop("row %d asks for it", r.N)
	case "abort":
		return kis.Abort("row %d asks for it", r.N)
	case "jump":
		if c.RowID().Visit == 0 {
			return kis.Jump(f.form.Function(c.Flow, f.form.Steps[0].Stage))
		}
	case "poison":
		f.env.Poison()
		return errors.New("the process was killed")
	}
	return nil
}
