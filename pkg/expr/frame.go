package expr

import (
	"math"
	"strings"
)

// Budget bounds one evaluation of all expressions of a row.
type Budget struct {
	// Steps is how many operators, calls and turns of loops may be carried out. A call also counts for the size of its arguments. Default 500,000.
	Steps int64
	// Bytes is how much text and lists may be made. Default 4 MiB.
	Bytes int64
	// Yield is called every 10,000 steps, so that a long evaluation lets others have their turn. Default: nothing is called.
	Yield func()
}

// The default budget.
const (
	DefaultSteps = 500_000
	DefaultBytes = 4 << 20
)

// Frame has the values, the memory and the budget of one row's evaluation. It is for one goroutine, and is used for one row after the other.
// Values that were made in it stay valid.
type Frame struct {
	inputs  []Value
	locals  []Value // variables of let and of functions such as x => x + 1
	stack   []Value // arguments of calls that are under way
	budget  Budget
	steps   int64 // left
	yieldAt int64 // at so many steps left, Budget.Yield is called; at least 0
	bytes   int64 // left
	failure *Failure

	text   *strings.Builder // the piece of memory that texts are cut from
	values []Value          // the piece that lists are cut from
}

// NewFrame returns a frame for the expressions that were compiled in the scope so far.
func (s *Scope) NewFrame(budget Budget) *Frame {
	if budget.Steps <= 0 {
		budget.Steps = DefaultSteps
	}
	if budget.Bytes <= 0 {
		budget.Bytes = DefaultBytes
	}
	return &Frame{
		inputs: make([]Value, len(s.inputs)), locals: make([]Value, s.locals), budget: budget,
		steps: budget.Steps, yieldAt: max(0, budget.Steps-turn), bytes: budget.Bytes, text: new(strings.Builder),
	}
}

// turn is how many steps an evaluation takes between two calls of Budget.Yield: some tenths of a millisecond.
const turn = 10_000

// Next begins another row: all inputs are missing, and the whole budget is there again.
func (fr *Frame) Next() {
	clear(fr.inputs)
	fr.Again()
}

// Again begins another row as Next does, but the inputs keep their values: for a caller that sets each of them anew.
func (fr *Frame) Again() {
	fr.steps, fr.bytes, fr.yieldAt = fr.budget.Steps, fr.budget.Bytes, max(0, fr.budget.Steps-turn)
}

// SetInt sets an int as Set does, for an input that never gets a value of another kind. So do SetFloat and SetBool.
func (fr *Frame) SetInt(i int, n int64) {
	v := &fr.inputs[i]
	v.kind, v.bits = KindInt, uint64(n)
}

// SetFloat sets a float, which has to be finite.
func (fr *Frame) SetFloat(i int, f float64) {
	v := &fr.inputs[i]
	v.kind, v.bits = KindFloat, math.Float64bits(f)
}

// SetBool sets a truth value.
func (fr *Frame) SetBool(i int, b bool) {
	v := &fr.inputs[i]
	v.kind, v.bits = KindBool, 0
	if b {
		v.bits = 1
	}
}

// PutInt sets an int as Set does. It takes least time where the input mostly gets ints.
func (fr *Frame) PutInt(i int, n int64) {
	if v := &fr.inputs[i]; v.kind == KindInt {
		v.bits = uint64(n)
	} else {
		*v = IntValue(n)
	}
}

// Set gives input i of the frame's scope a value.
func (fr *Frame) Set(i int, v Value) { fr.inputs[i] = v }

// Get returns the value of input i of the frame's scope.
func (fr *Frame) Get(i int) Value { return fr.inputs[i] }

// start begins the evaluation of a program.
func (fr *Frame) start(p *Program) bool {
	if fr.steps -= p.cost; fr.steps < 0 {
		return fr.fail(p.site, ReasonBudget, "the expressions of this row take more steps than they may")
	}
	return true
}

// failed returns the failure of the evaluation that has just ended.
func (fr *Frame) failed() error {
	failure := fr.failure
	fr.failure, fr.stack = nil, fr.stack[:0]
	return failure
}

// spend takes steps from the budget. It fails at the given site if there are not enough.
func (fr *Frame) spend(at *site, steps int64) bool {
	if fr.steps -= steps; fr.steps < fr.yieldAt {
		return fr.yield(at)
	}
	return true
}

// yield calls Budget.Yield, or fails at the given site if no steps are left.
func (fr *Frame) yield(at *site) bool {
	if fr.steps < 0 {
		return fr.fail(at, ReasonBudget, "takes more steps than it may")
	}
	fr.yieldAt = max(0, fr.steps-turn)
	if fr.budget.Yield != nil {
		fr.budget.Yield()
	}
	return true
}

// grow takes bytes from the budget before they are allocated. It fails at the given site if there are not enough.
func (fr *Frame) grow(at *site, bytes int64) bool {
	if bytes < 0 || fr.bytes < bytes {
		fr.bytes = 0
		return fr.fail(at, ReasonBudget, "makes more text or longer lists than it may")
	}
	fr.bytes -= bytes
	return true
}

// Sizes of the pieces of memory that texts and lists are cut from.
const (
	textPiece  = 4 << 10
	valuePiece = 64
	valueSize  = 40 // bytes of a Value
)

// room returns a builder with room for n more bytes. A text that is written there is String()[before:], where before is the length before. A
// builder that is full is left to the texts in it, so no text ever moves.
func (fr *Frame) room(n int) *strings.Builder {
	if fr.text.Cap()-fr.text.Len() < n {
		fr.text = new(strings.Builder)
		fr.text.Grow(max(n, textPiece))
	}
	return fr.text
}

// keep copies bytes into the frame's memory, and returns them as a text. The caller has taken them from the budget.
func (fr *Frame) keep(b []byte) string {
	t := fr.room(len(b))
	from := t.Len()
	t.Write(b)
	return t.String()[from:]
}

// list returns memory for n values.
func (fr *Frame) list(n int) []Value {
	if n > valuePiece/4 {
		return make([]Value, 0, n)
	}
	if cap(fr.values)-len(fr.values) < n {
		fr.values = make([]Value, 0, valuePiece)
	}
	from := len(fr.values)
	fr.values = fr.values[:from+n]
	return fr.values[from : from : from+n]
}
