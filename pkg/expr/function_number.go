package expr

import (
	"math"
	"strconv"
)

// numberFunctions are the functions of numbers.
var numberFunctions = []*function{
	{
		signature: "div(a: int, b: int) -> int", example: "[div(7, 2), div(-7, 2)]", result: "[3,-4]", run: runDiv,
		about: "Divides ints and rounds down.",
	},
	{
		signature: "mod(a: int, b: int) -> int", example: "[mod(7, 3), mod(-7, 3)]", result: "[1,2]", run: runMod,
		about: "Gives the remainder of div, which has the sign of b.",
	},
	{
		signature: "abs(x: number) -> number", gives: sameAs, example: "abs(-3)", result: "3", run: runAbs,
		about: "Gives the number without its sign.",
	},
	{
		signature: "min(x...: number|list) -> number", gives: extreme, example: "[min(3, 1.5), min([4, 2])]", result: "[1.5,2]", run: runMin,
		about: "Gives the smallest of its numbers, or of one list of numbers. An empty list fails.",
	},
	{
		signature: "max(x...: number|list) -> number", gives: extreme, example: "[max(3, 1.5), max([4, 2])]", result: "[3,4]", run: runMax,
		about: "Gives the greatest of its numbers, or of one list of numbers. An empty list fails.",
	},
	{
		signature: "clamp(x: number, least: number, most: number) -> number", gives: joined, example: "clamp(120, 0, 100)", result: "100", run: runClamp,
		about: "Gives x, or least if x is below it, or most if x is above it.",
	},
	{
		signature: "round(x: number, digits?: int) -> number", gives: rounded, example: "[round(2.5), round(-2.5), round(87.456, 2)]", result: "[3,-3,87.46]", run: runRound,
		about: "Gives the nearest int; halves go away from zero. With digits it gives a float with so many digits behind the point.",
	},
	{
		signature: "floor(x: number) -> int", example: "floor(-1.5)", result: "-2", run: whole(math.Floor),
		about: "Gives the greatest int that is not above x.",
	},
	{
		signature: "ceil(x: number) -> int", example: "ceil(1.2)", result: "2", run: whole(math.Ceil),
		about: "Gives the smallest int that is not below x.",
	},
	{
		signature: "trunc(x: number) -> int", example: "trunc(-1.7)", result: "-1", run: whole(math.Trunc),
		about: "Gives x without its fraction.",
	},
	{
		signature: "sqrt(x: number) -> float", example: "sqrt(2.25)", result: "1.5", run: runSqrt,
		about: "Gives the square root. A number below zero fails.",
	},
	{
		signature: "sum(list: list) -> number", gives: elementOf, example: "[sum([1, 2, 3]), sum([])]", result: "[6,0]", run: runSum,
		about: "Adds the numbers or durations of a list. The sum of an empty list is 0.",
	},
	{
		signature: "avg(list: list) -> float", example: "avg([80, 95])", result: "87.5", run: runAvg,
		about: "Gives the average of a list of numbers. An empty list fails.",
	},
}

// extreme gives the type of min and max.
func extreme(args []Type) Type {
	if len(args) == 1 {
		if args[0].kind == KindList {
			return args[0].Elem()
		}
		return args[0]
	}
	return joined(args)
}

// joined gives a type that has the values of all arguments: a float if one of them is a float.
func joined(args []Type) Type {
	t := args[0]
	for _, u := range args[1:] {
		t = t.join(u)
	}
	return t
}

// rounded gives the type of round.
func rounded(args []Type) Type {
	if len(args) == 2 {
		return Float
	}
	return Int
}

func runDiv(fr *Frame, call *call, args []Value) (Value, bool) {
	if args[1].bits == 0 {
		return Value{}, fr.fail(&call.site, ReasonZero, "divides by zero")
	}
	n, ok := divInt(args[0].Int(), args[1].Int())
	return IntValue(n), ok || fr.fail(&call.site, ReasonOverflow, "the quotient is outside of 64 bits")
}

func runMod(fr *Frame, call *call, args []Value) (Value, bool) {
	if args[1].bits == 0 {
		return Value{}, fr.fail(&call.site, ReasonZero, "divides by zero")
	}
	return IntValue(modInt(args[0].Int(), args[1].Int())), true
}

func runAbs(fr *Frame, call *call, args []Value) (Value, bool) {
	if args[0].kind == KindFloat {
		return floatValue(math.Abs(args[0].Float())), true
	}
	n := args[0].Int()
	if n == math.MinInt64 {
		return Value{}, fr.fail(&call.site, ReasonOverflow, "the int without its sign is outside of 64 bits")
	}
	return IntValue(max(n, -n)), true
}

func runMin(fr *Frame, call *call, args []Value) (Value, bool) { return fr.extreme(call, args, -1) }

func runMax(fr *Frame, call *call, args []Value) (Value, bool) { return fr.extreme(call, args, 1) }

// extreme returns the smallest number for the sign -1, and the greatest one for the sign 1.
func (fr *Frame) extreme(call *call, args []Value, sign int) (Value, bool) {
	if len(args) == 1 && args[0].kind == KindList {
		args = args[0].Elements()
	}
	if len(args) == 0 {
		return Value{}, fr.fail(&call.site, ReasonValue, "the list is empty")
	}
	best := Missing
	for i, v := range args {
		if !fr.numeric(call, v) {
			return Value{}, false
		}
		if i == 0 || compareNumbers(v, best)*sign > 0 {
			best = v
		}
	}
	return best, true
}

// numeric fails if an element of a list is not a number.
func (fr *Frame) numeric(call *call, v Value) bool {
	if !isNumber(v) {
		return fr.failKind(&call.site, v.kind, "a list of numbers")
	}
	return true
}

func runClamp(fr *Frame, call *call, args []Value) (Value, bool) {
	x, least, most := args[0], args[1], args[2]
	switch {
	case compareNumbers(least, most) > 0:
		return Value{}, fr.fail(&call.site, ReasonValue, "least is above most")
	case compareNumbers(x, least) < 0:
		return least, true
	case compareNumbers(x, most) > 0:
		return most, true
	}
	return x, true
}

// maxDigits is the most digits behind the point that round takes.
const maxDigits = 15

func runRound(fr *Frame, call *call, args []Value) (Value, bool) {
	if len(args) == 1 {
		return whole(math.Round)(fr, call, args)
	}
	digits := args[1].Int()
	if digits < 0 || digits > maxDigits {
		return Value{}, fr.fail(&call.args[1], ReasonValue, "the number of digits has to be from 0 to 15")
	}
	f, ok := fr.exact(&call.args[0], args[0])
	if !ok {
		return Value{}, false
	}
	var buffer [400]byte
	rounded, err := strconv.ParseFloat(string(strconv.AppendFloat(buffer[:0], f, 'f', int(digits), 64)), 64)
	if err != nil {
		return Value{}, fr.fail(&call.site, ReasonOverflow, "the number is too large for a float")
	}
	return floatValue(rounded + 0), true
}

// whole returns a function that makes ints of numbers.
func whole(of func(float64) float64) func(*Frame, *call, []Value) (Value, bool) {
	return func(fr *Frame, call *call, args []Value) (Value, bool) {
		if args[0].kind == KindInt {
			return args[0], true
		}
		n, ok := exactInt(of(args[0].Float()))
		return IntValue(n), ok || fr.fail(&call.site, ReasonOverflow, "the number is outside of 64 bits")
	}
}

func runSqrt(fr *Frame, call *call, args []Value) (Value, bool) {
	f, ok := fr.exact(&call.args[0], args[0])
	switch {
	case !ok:
		return Value{}, false
	case f < 0:
		return Value{}, fr.fail(&call.site, ReasonValue, "the number is below zero")
	}
	return floatValue(math.Sqrt(f)), true
}

func runSum(fr *Frame, call *call, args []Value) (Value, bool) {
	at := &operands{call.site, call.site, call.site}
	list := args[0].Elements()
	if len(list) == 0 {
		switch call.gives.kind {
		case KindFloat:
			return floatValue(0), true
		case KindDuration:
			return DurationValue(0), true
		}
		return IntValue(0), true
	}
	sum := list[0]
	if sum.kind != KindDuration && !fr.numeric(call, sum) {
		return Value{}, false
	}
	for _, v := range list[1:] {
		if v.kind != KindDuration && !fr.numeric(call, v) {
			return Value{}, false
		}
		var ok bool
		if sum, ok = fr.calculate(at, '+', sum, v); !ok {
			return Value{}, false
		}
	}
	return sum, true
}

func runAvg(fr *Frame, call *call, args []Value) (Value, bool) {
	if len(args[0].Elements()) == 0 {
		return Value{}, fr.fail(&call.site, ReasonValue, "the list is empty")
	}
	sum, ok := runSum(fr, call, args)
	if !ok {
		return Value{}, false
	}
	at := &operands{call.site, call.site, call.site}
	return fr.calculate(at, '/', sum, IntValue(int64(len(args[0].Elements()))))
}
