package kis

import (
	"fmt"
	"reflect"
)

// FaaS is a function in one of KisFlow's shapes, which Registry.FaaS describes.
type FaaS = any

// FaaSDesc describes such a function.
type FaaSDesc struct {
	// Serialize is how its first slice of rows is read and written.
	Serialize
	FnName    string
	ArgsType  []reflect.Type
	ArgNum    int
	FuncType  reflect.Type
	FuncValue reflect.Value
}

// NewFaaSDesc describes a function. The error has all that keeps it from being one in KisFlow's shapes.
func NewFaaSDesc(name string, fn FaaS) (*FaaSDesc, error) {
	f := newFaaS(fn)
	if f.err != nil {
		return nil, fmt.Errorf("describe function %q: %w", name, f.err)
	}
	code := f.code.(*faas)
	d := &FaaSDesc{
		Serialize: new(DefaultSerialize), FnName: name,
		ArgsType: code.params, ArgNum: len(code.params), FuncType: code.fn.Type(), FuncValue: code.fn,
	}
	if len(code.read) > 0 && code.read[0] != nil {
		d.Serialize = code.read[0]
	}
	return d, nil
}
