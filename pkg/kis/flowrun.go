package kis

import (
	"context"
	"errors"
	"fmt"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// This file is what a flowRun tells of the flow that the function is in.

// chain is the flow's functions, in this copy of it.
func (r *flowRun) chain() *Chain {
	f := r.frame
	f.Copy.mu.Lock()
	defer f.Copy.mu.Unlock()
	if c := f.Copy.Chain; c == nil || c.bundle != nil && c.bundle != f.Bundle {
		f.Copy.Chain = chainOf(f.Bundle, f.Registry, c)
	}
	return f.Copy.Chain
}

func (r *flowRun) entry() *chainEntry {
	entries := r.chain().all()
	if r.frame.Place < len(entries) {
		return entries[r.frame.Place]
	}
	return nil
}

func (r *flowRun) GetID() string { return r.chain().id }

func (r *flowRun) GetThisFunction() Function {
	if e := r.entry(); e != nil {
		return runningFunction{e, r}
	}
	return nil
}

func (r *flowRun) GetThisFuncConf() *FuncConfig {
	if e := r.entry(); e != nil {
		return e.GetConfig()
	}
	return nil
}

func (r *flowRun) GetConfig() *FlowConfig { return r.chain().config }

func (r *flowRun) GetFuncConfigByName(name string) *FuncConfig { return r.chain().FuncConfig(name) }

func (r *flowRun) GetFuncParamsAllFuncs() map[string]FParam { return r.chain().Params() }

// GetConnector opens the connector if that has not been done, and keeps it open until the call ends.
func (r *flowRun) GetConnector() (Connector, error) {
	if r.over.Load() {
		return nil, errors.New("ask for the connector: the call that this flow was given to has returned: ask before, and use it before")
	}
	if r.connector != nil {
		return r.connector, nil
	}
	e := r.entry()
	if e == nil {
		return nil, fmt.Errorf("flow %s has no function in place %d", r.GetName(), r.frame.Place)
	}
	if c := e.GetConnector(); c != nil {
		return c, nil
	}
	config, err := e.GetConfig().GetConnConfig()
	if err != nil {
		return nil, err
	}
	c, release, err := r.frame.Registry.connect(r.frame.ctx, config)
	if err != nil {
		return nil, err
	}
	r.connector, r.release = c, release
	return c, nil
}

func (r *flowRun) GetConnConf() (*ConnConfig, error) {
	config := r.GetThisFuncConf()
	if config == nil {
		return nil, batch.Errorf(batch.CodeUnknownConnector, "flow %s has no function in place %d", r.GetName(), r.frame.Place)
	}
	return config.GetConnConfig()
}

// close ends the call.
func (r *flowRun) close() {
	r.over.Store(true)
	if r.release != nil {
		r.release()
	}
}

func (r *flowRun) Run(context.Context) error {
	return fmt.Errorf("function %s can't run flow %s, which it is in: Fork the flow and run that", r.frame.Call.Function, r.GetName())
}

func (r *flowRun) Link(*FuncConfig, FParam) error {
	return fmt.Errorf("function %s can't change flow %s, which it is in: link functions before Run", r.frame.Call.Function, r.GetName())
}

func (r *flowRun) AppendNewFunction(c *FuncConfig, params FParam) error { return r.Link(c, params) }

// Fork is that of the flow that the program made. In a cluster there is none: what it returns there refuses to run.
func (r *flowRun) Fork(ctx context.Context) Flow {
	if flow := r.chain().flow; flow != nil {
		return flow.Fork(ctx)
	}
	return unforked{r}
}

// unforked is the fork of a flow that runs in a cluster.
type unforked struct{ *flowRun }

func (f unforked) refused() error {
	return fmt.Errorf("function %s can't run a fork of flow %s on a cluster, where what it runs would be in no batch: commit the rows, "+
		"with flow.From(i) for those of row i, or submit them to a flow with package client", f.frame.Call.Function, f.GetName())
}

func (f unforked) Run(context.Context) error { return f.refused() }
func (f unforked) CommitRow(any) error       { return f.refused() }
func (f unforked) CommitRowBatch(any) error  { return f.refused() }
func (f unforked) From(int) Committer        { return f }
func (f unforked) Fork(context.Context) Flow { return f }
