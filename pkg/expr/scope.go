package expr

import (
	"cmp"
	"fmt"
	"slices"
)

// Version is the version of the language that this build speaks. It grows with each change after which an old build would refuse an expression, or give
// another result for it. Workers say in etcd which version they speak, and coordinators give flows with expressions only to workers that speak it.
const Version = 1

// Scope says which names expressions may use, and counts what they read. All expressions over one kind of row share a Scope, so that a field that
// several of them read is decoded once. It is for one goroutine. When all expressions are compiled, its frames may be used by one goroutine each.
type Scope struct {
	row       Type
	open      bool // the row may have fields that its type lacks
	variables []Field
	params    Value
	inputs    []Input
	numbers   map[inputName]int // of the inputs
	locals    int               // the most variables that one expression has
}

// maxInputs is the largest number of fields that the expressions of a Scope may read.
const maxInputs = 1000

// inputName identifies an input.
type inputName struct {
	name     string
	variable bool
}

// Names are the names that a Scope begins with.
type Names struct {
	// Row is the type of the row: an object, whose fields are names, or Any where no fields were declared. Then every name is a field of type any.
	Row Type
	// Open says that the row may have other fields than those of Row, whose type is any.
	Open bool
	// Variables are further names, which win over fields of the same name, such as row_id, meta, or the item of an Expand.
	Variables []Field
	// Params are constants: params.limit is the field limit of this object. The zero Value has none.
	Params Value
}

// Input is a value that expressions of a Scope read from each row.
type Input struct {
	// Name is the name of a field of the row, or of a variable. It is empty for the row as a whole.
	Name string
	// Variable says that it is one of Names.Variables, and not a field of the row.
	Variable bool
	// Type is the type that the value has to have.
	Type Type
}

// NewScope returns a Scope.
func NewScope(names Names) *Scope {
	if names.Params.kind != KindObject {
		names.Params = ObjectValue(nil)
	}
	return &Scope{row: names.Row, open: names.Open, variables: slices.Clone(names.Variables), params: names.Params, numbers: map[inputName]int{}}
}

// Inputs returns what the expressions that were compiled so far read. The value of input i goes into a frame with Set(i, value).
func (s *Scope) Inputs() []Input { return slices.Clone(s.inputs) }

// input returns the number of an input, which it adds if it is new.
func (s *Scope) input(in Input) int {
	key := inputName{in.Name, in.Variable}
	if i, ok := s.numbers[key]; ok {
		return i
	}
	s.numbers[key] = len(s.inputs)
	s.inputs = append(s.inputs, in)
	return len(s.inputs) - 1
}

// Program is a compiled expression. It belongs to its Scope, and runs on frames of that Scope. It never changes.
type Program struct {
	site     *site // the whole expression
	operand  operand
	kind     Type
	cost     int64 // steps of one evaluation, without its loops
	constant bool
	text     string
}

// Compile compiles an expression whose value has to be of the type want; Any takes every type. It returns Mistakes if there are any: all mistakes
// of types at once, or the first one if the text is not an expression.
func (s *Scope) Compile(source Source, want Type) (*Program, error) {
	tree, mistake := parse(&source)
	if mistake != nil {
		return nil, Mistakes{mistake}
	}
	c := compiler{scope: s, source: &source}
	inputs := len(s.inputs)
	o := c.convert(tree, c.compile(tree), want)
	if len(s.inputs) > maxInputs && len(c.mistakes) == 0 {
		c.mistakes = append(c.mistakes, &Mistake{Source: &source, To: len(source.Text), Message: fmt.Sprintf("the expressions of this function read more than %d fields", maxInputs), Edit: "divide the work among several functions"})
	}
	if len(c.mistakes) > 0 {
		for _, in := range s.inputs[inputs:] {
			delete(s.numbers, inputName{in.Name, in.Variable})
		}
		s.inputs = s.inputs[:inputs]
		slices.SortStableFunc(c.mistakes, func(a, b *Mistake) int { return cmp.Compare(a.From, b.From) })
		return nil, c.mistakes
	}
	s.locals = max(s.locals, c.most)
	return &Program{site: &site{source: &source, to: len(source.Text)}, operand: o, kind: o.kind, cost: c.cost, constant: o.constant != nil, text: tree.String()}, nil
}

// Type returns the type of the expression's value.
func (p *Program) Type() Type { return p.kind }

// Constant returns the value of an expression that reads nothing of the row. ok is false for other expressions.
func (p *Program) Constant() (v Value, ok bool) {
	if !p.constant {
		return Value{}, false
	}
	return *p.operand.constant, true
}

// String returns the expression in its canonical form, with single spaces and no needless parentheses.
func (p *Program) String() string { return p.text }

// Format returns an expression in its canonical form. Only the syntax has to be right.
func Format(text string) (string, error) {
	tree, mistake := parse(&Source{Text: text})
	if mistake != nil {
		return "", Mistakes{mistake}
	}
	return tree.String(), nil
}

// Fail returns the Failure of a program whose value can't be used for a row, although the expression gives one. The message goes on from the
// expression: "is null; …".
func (p *Program) Fail(reason Reason, message string) error {
	return &Failure{Reason: reason, Message: message, Source: p.site.source, From: p.site.from, To: p.site.to}
}

// Value evaluates the expression for the values in a frame. The error is a *Failure.
func (p *Program) Value(fr *Frame) (Value, error) {
	if !fr.start(p) {
		return Value{}, fr.failed()
	}
	v, ok := p.operand.value(fr)
	if !ok {
		return Value{}, fr.failed()
	}
	return v, nil
}

// Bool evaluates an expression that was compiled with the type Bool. The error is a *Failure.
func (p *Program) Bool(fr *Frame) (bool, error) {
	if !fr.start(p) {
		return false, fr.failed()
	}
	b, ok := p.operand.b(fr)
	if !ok {
		return false, fr.failed()
	}
	return b, nil
}

// Int evaluates an expression that was compiled with the type Int. The error is a *Failure.
func (p *Program) Int(fr *Frame) (int64, error) {
	if !fr.start(p) {
		return 0, fr.failed()
	}
	n, ok := p.operand.i(fr)
	if !ok {
		return 0, fr.failed()
	}
	return n, nil
}

// Float evaluates an expression that was compiled with the type Float. The error is a *Failure.
func (p *Program) Float(fr *Frame) (float64, error) {
	if !fr.start(p) {
		return 0, fr.failed()
	}
	f, ok := p.operand.f(fr)
	if !ok {
		return 0, fr.failed()
	}
	return f, nil
}
