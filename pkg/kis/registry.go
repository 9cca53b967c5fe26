package kis

import (
	"reflect"
	"slices"
	"strings"
)

// Registry holds functions by the names under which documents refer to them. A worker's program fills one when it starts:
//
//	func Register(r *kis.Registry) {
//		r.Func("AvgStuScore", kis.Calculate(AvgStuScore))
//	}
//
// Mistakes do not stop the program at once: Err reports them all together, and a worker refuses to start while there are any.
//
// The zero value is ready for use. A Registry is safe for concurrent use. It calls no code of the user while it holds its locks, so
// that a registration never waits for a flow that runs. A flow that was compiled before a registration does not change.
type Registry struct {
	// KisFlowRegistry adds the methods of KisFlow's pool. Programs that are written for KisGrid need none of them.
	KisFlowRegistry
}

// NewRegistry makes an empty Registry.
func NewRegistry() *Registry { return new(Registry) }

// Func registers f, which a constructor such as Calculate made, under a name. Err reports mistakes: a name that is empty or already
// taken, a constructor that was given nil, a Func that no constructor made, and a row type that JSON can't hold. A registration with
// a mistake is not kept.
func (r *Registry) Func(name string, f Func) { r.functions.add(name, f.code, f.err) }

// FaaS registers a function in one of KisFlow's shapes. The function returns an error. It takes, in any order, a context.Context, a
// Flow, and any number of slices of rows ([]T or []*T); each slice holds all rows of the run, read as its own type. A parameter of
// any other type gets its zero value. Err reports mistakes.
func (r *Registry) FaaS(name string, fn any) {
	f := newFaaS(fn)
	r.functions.add(name, f.code, f.err)
}

// Err returns all mistakes of registration so far, joined into one error. Each names the file and line of the call that registered.
// nil means that there are no mistakes.
func (r *Registry) Err() error { return r.functions.err() }

// Place returns the file and line at which a function was registered, as "file.go:12". It returns "" for a name that is not
// registered.
func (r *Registry) Place(name string) string {
	f, _ := r.functions.find(name)
	return f.place
}

// FunctionInfo describes a registered function, for tools that list the functions of a worker.
type FunctionInfo struct {
	// Name is the name that the function was registered under.
	Name string
	// Mode is the name of the constructor: Verify, Calculate, Expand, Save, Load, Batch or FaaS. A function made by Batch or FaaS
	// may stand for any fmode of a document.
	Mode string
	// In and Out are the row types that the function reads and passes on, written with their JSON fields: "students.Avg{stu_id int}". Out is
	// empty if rows pass on unchanged. In is empty for a FaaS function without slices, which asks its Flow for the rows.
	In, Out string
}

// Functions describes all registered functions, sorted by name.
func (r *Registry) Functions() []FunctionInfo {
	var infos []FunctionInfo
	for name, f := range r.functions.all() {
		infos = append(infos, FunctionInfo{name, f.code.Form().String(), typesText(f.code.In()), typeText(f.code.Out())})
	}
	slices.SortFunc(infos, func(a, b FunctionInfo) int { return strings.Compare(a.Name, b.Name) })
	return infos
}

// Lookup returns the code of the function that is registered under a name; false means that there is none. It is for executors of flows.
func (r *Registry) Lookup(name string) (Code, bool) {
	f, ok := r.functions.find(name)
	return f.code, ok
}

// typesText writes several row types as typeText does, separated by commas.
func typesText(types []reflect.Type) string {
	texts := make([]string, len(types))
	for i, t := range types {
		texts[i] = typeText(t)
	}
	return strings.Join(texts, ", ")
}

// typeText writes a row type with the fields that its JSON has, such as "students.Avg{stu_id int, avg_score float64}". A type that is not a
// struct or a pointer to one is written as Go writes it, and a nil type as "".
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
