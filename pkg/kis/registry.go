package kis

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// Registry holds functions by name. The zero value is ready for use. It is safe for concurrent use, and nothing of the
// user's runs under its lock: registering while flows run delays nobody, and flows compiled before don't change.
type Registry struct {
	mu        sync.RWMutex
	functions map[string]registration // guarded by mu
	mistakes  []error                 // guarded by mu

	kisflow    kisflowState
	connectors connectorTable
}

type registration struct {
	code  Code
	place string
}

// FunctionInfo describes a registered function.
type FunctionInfo struct {
	Name string
	// Mode is the constructor: Verify, Calculate, Expand, Save, Load, Batch or FaaS. Batch and FaaS fit any fmode.
	Mode string
	// In and Out are the row types as text; Out is empty where the rows pass on as they came, In where a FaaS function reads
	// raw rows.
	In, Out string
}

// NewRegistry makes an empty Registry.
func NewRegistry() *Registry { return new(Registry) }

// Func registers f under a name. A name used twice or an empty one, a nil function, and row types that can't be rows are
// mistakes, which Err reports.
func (r *Registry) Func(name string, f Func) { r.add(name, f.code, f.err) }

// FaaS registers a function in one of KisFlow's shapes: it returns an error and takes, in any order, a context.Context, a
// Flow, and slices of rows ([]T or []*T), each of which gets all rows of the run. Parameters of other types get their zero
// value. Mistakes are reported by Err.
func (r *Registry) FaaS(name string, fn any) {
	f := newFaaS(fn)
	r.add(name, f.code, f.err)
}

func (r *Registry) add(name string, code Code, err error) {
	place := "unknown place"
	if _, file, line, ok := runtime.Caller(2); ok {
		place = fmt.Sprintf("%s:%d", filepath.Base(file), line)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch earlier, twice := r.functions[name]; {
	case name == "":
		err = errors.New("the name is empty: give the function the name that the flow's document uses")
	case err != nil:
	case code == nil:
		err = errors.New("there is no function: pass what a constructor such as kis.Calculate returned")
	case twice:
		err = fmt.Errorf("the name is taken since %s: choose another, or remove one of the two", earlier.place)
	}
	if err != nil {
		all := []error{err}
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			all = joined.Unwrap()
		}
		for _, err := range all {
			r.mistakes = append(r.mistakes, mistake(place, fmt.Sprintf("register function %q: %v", name, err)))
		}
		return
	}
	if r.functions == nil {
		r.functions = make(map[string]registration)
	}
	r.functions[name] = registration{code, place}
}

// mistake is one of registration, at a place in the program.
func mistake(place, problem string) error {
	return &definition.Mistake{Document: place, Code: batch.CodeFlowUncompilable, Problem: problem}
}

// Err is every mistake of registration so far, joined, each with its file and line; nil for none.
func (r *Registry) Err() error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return errors.Join(r.mistakes...)
}

// Place is where in the program a function was registered, as file:line; empty if it is not.
func (r *Registry) Place(name string) string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.functions[name].place
}

// Functions describes what is registered, sorted by name.
func (r *Registry) Functions() []FunctionInfo {
	r.mu.RLock()
	defer r.mu.RUnlock()
	infos := make([]FunctionInfo, 0, len(r.functions))
	for name, f := range r.functions {
		infos = append(infos, FunctionInfo{name, f.code.Form().String(), typesText(f.code.In()), typeText(f.code.Out())})
	}
	slices.SortFunc(infos, func(a, b FunctionInfo) int { return strings.Compare(a.Name, b.Name) })
	return infos
}

// Lookup finds the code of a function, for executors.
func (r *Registry) Lookup(name string) (Code, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	f, ok := r.functions[name]
	return f.code, ok
}

func typesText(types []reflect.Type) string {
	texts := make([]string, len(types))
	for i, t := range types {
		texts[i] = typeText(t)
	}
	return strings.Join(texts, ", ")
}

// typeText spells a row type with the fields that its JSON has: students.Avg{stu_id int, avg_score float64}.
func typeText(t reflect.Type) string {
	if t == nil {
		return ""
	}
	s := t
	for s.Kind() == reflect.Pointer {
		s = s.Elem()
	}
	if s.Kind() != reflect.Struct {
		return t.String()
	}
	var fields []string
	for _, f := range reflect.VisibleFields(s) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case !f.IsExported() || name == "-" || f.Anonymous && name == "":
			continue
		case name == "":
			name = f.Name
		}
		fields = append(fields, name+" "+f.Type.String())
	}
	return t.String() + "{" + strings.Join(fields, ", ") + "}"
}
