package flow

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
)

// compiled returns the flow's plan. It compiles the flow if it has no plan yet, or if functions were added since.
// It returns an error if a function could not be added, if there are mistakes in the registry, or if the flow does
// not compile.
func (f *KisFlow) compiled(ctx context.Context) (*flowexec.Plan, error) {
	n := f.chain.Len()
	f.mu.Lock()
	plan, length, wrong := f.plan, f.length, errors.Join(f.wrong...)
	f.mu.Unlock()
	if err := errors.Join(wrong, f.registry.Err()); err != nil {
		return nil, err
	}
	if plan != nil && length == n {
		return plan, nil
	}
	docs, err := f.chain.Documents()
	if err != nil {
		return nil, err
	}
	set, err := definition.NewSet(docs)
	if err != nil {
		return nil, err
	}
	bundle, err := set.Bundle(f.GetName())
	if err != nil {
		return nil, err
	}
	f.boundTimes(bundle)
	f.leaveMust(ctx, bundle)
	if plan, err = flowexec.Compile(bundle, f.registry); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.plan, f.length = plan, n
	return plan, nil
}

// boundTimes removes the default timeouts from documents: it keeps only those that the program's configurations or
// documents ask for. In a program, the context of Run bounds the time.
func (f *KisFlow) boundTimes(b *definition.Bundle) {
	const never = time.Duration(math.MaxInt64)
	if f.chain.Config().Definition().Timeout == 0 {
		b.Flow.Timeout = never
	}
	for name, function := range b.Functions {
		if f.chain.FuncConfig(name).Definition().Timeout == 0 {
			function.Timeout = never
		}
	}
}
