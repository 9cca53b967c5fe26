package kis

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// registrations is the table behind a Registry: functions by name, and the mistakes made while registering. The zero value is ready
// for use. Any goroutine may call its methods.
type registrations struct {
	mu        sync.RWMutex
	functions map[string]registration // guarded by mu
	mistakes  []error                 // guarded by mu; in the order in which they were made
}

// registration is one registered function, and the line of the program that registered it.
type registration struct {
	code  Code
	place string // "file.go:12"
}

// add adds the code of a function to the table under a name. err joins the mistakes that a constructor found in the code; nil means
// none. If there is a mistake, such as a name that is taken, add notes it and does not add the function. The exported method that the
// user calls must call add directly, so that callerPlace finds the user's line.
func (r *registrations) add(name string, code Code, err error) {
	place := callerPlace()
	r.mu.Lock()
	defer r.mu.Unlock()
	switch earlier, taken := r.functions[name]; {
	case name == "":
		err = errors.New("the name is empty: give the function the name that the flow's document uses")
	case err != nil:
	case code == nil:
		err = errors.New("there is no function: pass the Func that a constructor such as kis.Calculate returned")
	case taken:
		err = fmt.Errorf("the name is taken since %s: choose another, or remove one of the two", earlier.place)
	}
	if err != nil {
		all := []error{err}
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			all = joined.Unwrap()
		}
		for _, err := range all {
			r.mistakes = append(r.mistakes, mistakeAt(place, fmt.Sprintf("register function %q: %v", name, err)))
		}
		return
	}
	if r.functions == nil {
		r.functions = make(map[string]registration)
	}
	r.functions[name] = registration{code, place}
}

// refuse notes a mistake in the registration of other code than flow functions, such as the code that opens a connector. missing means
// that the code is nil, taken that there is code already; if neither is true, refuse does nothing. doing says what was registered, as
// in "register how connector "x" opens".
func (r *registrations) refuse(doing string, missing, taken bool) {
	place := callerPlace()
	var problem string
	switch {
	case missing:
		problem = "there is no function (nil)"
	case taken:
		problem = "it is registered already: remove one of the two"
	default:
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mistakes = append(r.mistakes, mistakeAt(place, doing+": "+problem))
}

// err returns all mistakes of registration, joined; nil means that there are none.
func (r *registrations) err() error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return errors.Join(r.mistakes...)
}

// find returns the function registered under a name; false means that there is none.
func (r *registrations) find(name string) (registration, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	f, ok := r.functions[name]
	return f, ok
}

// all returns a copy of the table: all registered functions, by name.
func (r *registrations) all() map[string]registration {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return maps.Clone(r.functions)
}

// mistakeAt makes the error for a mistake in registration. place is the file and line of the call that registered.
func mistakeAt(place, problem string) error {
	return &definition.Mistake{Document: place, Code: batch.CodeFlowUncompilable, Problem: problem}
}

// callerPlace returns the line of the user's program, as "file.go:12", that called an exported method such as Registry.Func. This
// method must have called add or refuse directly, and that callerPlace, since callerPlace goes up three callers.
func callerPlace() string {
	if _, file, line, ok := runtime.Caller(3); ok {
		return fmt.Sprintf("%s:%d", filepath.Base(file), line)
	}
	return "unknown place"
}
