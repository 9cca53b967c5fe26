package expr

import (
	"math/bits"
	"slices"
)

// listFunctions are the functions of lists.
var listFunctions = []*function{
	{
		signature: "first(list: list) -> T?", gives: maybeElementOf, example: "first([3, 1]) ?? 0", result: "3", run: runFirst,
		about: "Gives the first element; missing if the list is empty.",
	},
	{
		signature: "last(list: list) -> T?", gives: maybeElementOf, example: "last([3, 1]) ?? 0", result: "1", run: runLast,
		about: "Gives the last element; missing if the list is empty.",
	},
	{
		signature: "slice(list: list, from: int, to?: int) -> [T]", gives: sameAs, example: "[slice([1, 2, 3], 1), slice([1, 2, 3], 0, 2)]", result: "[[2,3],[1,2]]", run: runSlice,
		about: "Gives the elements from one position up to another, which is not included. Positions count from 0; those beyond the end count as the end.",
	},
	{
		signature: "sort(list: list) -> [T]", gives: sameAs, example: "[sort([3, 1.5, 2]), sort([\"b\", \"a\"])]", result: `[[1.5,2,3],["a","b"]]`, run: runSort,
		about: "Gives the elements in rising order: all numbers, all strings (by their bytes), all times, or all durations.",
	},
	{
		signature: "unique(list: list) -> [T]", gives: sameAs, example: "unique([2, 1, 2])", result: "[2,1]", run: runUnique,
		about: "Gives each element once, in the order of the first ones.",
	},
	{
		signature: "flatten(list: list) -> [T]", gives: flattened, example: "flatten([[1, 2], [], [3]])", result: "[1,2,3]", run: runFlatten,
		about: "Puts the elements of lists in a list behind one another. Elements that are no lists stay.",
	},
	{
		signature: "range(from: int, to: int) -> [int]", example: "range(1, 4)", result: "[1,2,3]", run: runRange,
		about: "Gives the ints from one up to another, which is not included.",
	},
}

// flattened gives the type of flatten.
func flattened(args []Type) Type {
	elem := args[0].Elem()
	switch {
	case elem.kind == KindList:
		return List(elem.Elem())
	case elem.kind == KindAny || elem.optional:
		return List(Any)
	}
	return args[0].present()
}

func runFirst(_ *Frame, _ *call, args []Value) (Value, bool) {
	list := args[0].Elements()
	if len(list) == 0 {
		return Missing, true
	}
	return list[0], true
}

func runLast(_ *Frame, _ *call, args []Value) (Value, bool) {
	list := args[0].Elements()
	if len(list) == 0 {
		return Missing, true
	}
	return list[len(list)-1], true
}

func runSlice(fr *Frame, call *call, args []Value) (Value, bool) {
	list := args[0].Elements()
	for i := range args[1:] {
		if args[i+1].Int() < 0 {
			return Value{}, fr.fail(&call.args[i+1], ReasonIndex, "is below zero: write slice(list, len(list) - n) for the last n elements")
		}
	}
	from, to := min(args[1].Int(), int64(len(list))), int64(len(list))
	if len(args) == 3 {
		to = max(min(args[2].Int(), to), from)
	}
	return ListValue(list[from:to:to]), true
}

func runSort(fr *Frame, call *call, args []Value) (Value, bool) {
	return fr.sortBy(call, args[0].Elements(), args[0].Elements())
}

// sortBy returns values in the order of their keys. Values with equal keys keep their order.
func (fr *Frame) sortBy(call *call, values, keys []Value) (Value, bool) {
	n := int64(len(values))
	if !fr.spend(&call.site, n*int64(bits.Len64(uint64(n)))) || !fr.grow(&call.site, n*(valueSize+8)) {
		return Value{}, false
	}
	at := &operands{call.site, call.site, call.site}
	order, failed := make([]int, n), false
	for i, key := range keys {
		order[i] = i
		if !hasOrder(key.kind) { // also in a list of one
			return Value{}, fr.failKind(&call.site, key.kind, "a list of numbers, strings, times or durations")
		}
	}
	slices.SortStableFunc(order, func(a, b int) int {
		if failed {
			return 0
		}
		c, ok := fr.order(at, keys[a], keys[b])
		failed = !ok
		return c
	})
	if failed {
		return Value{}, false
	}
	sorted := fr.list(len(values))
	for _, i := range order {
		sorted = append(sorted, values[i])
	}
	return ListValue(sorted), true
}

func runUnique(fr *Frame, call *call, args []Value) (Value, bool) {
	list := args[0].Elements()
	if !fr.grow(&call.site, int64(len(list))*2*valueSize) {
		return Value{}, false
	}
	unique := fr.list(len(list))
	texts := map[string]bool{} // strings are found without looking at all others
	for _, v := range list {
		if v.kind == KindString {
			if !texts[v.text] {
				texts[v.text] = true
				unique = append(unique, v)
			}
			continue
		}
		i, ok := fr.find(&call.site, unique, v)
		if !ok {
			return Value{}, false
		}
		if i < 0 {
			unique = append(unique, v)
		}
	}
	return ListValue(unique), true
}

func runFlatten(fr *Frame, call *call, args []Value) (Value, bool) {
	list, n := args[0].Elements(), int64(0)
	for _, v := range list {
		n++
		if v.kind == KindList {
			n += int64(len(v.Elements())) - 1
		}
	}
	if !fr.spend(&call.site, n) || !fr.grow(&call.site, n*valueSize) {
		return Value{}, false
	}
	flat := fr.list(int(n))
	for _, v := range list {
		if v.kind == KindList {
			flat = append(flat, v.Elements()...)
		} else {
			flat = append(flat, v)
		}
	}
	return ListValue(flat), true
}

func runRange(fr *Frame, call *call, args []Value) (Value, bool) {
	from, to := args[0].Int(), args[1].Int()
	n, ok := subInt(max(to, from), from)
	if !ok || n > fr.steps {
		n = fr.steps + 1
	}
	if !fr.spend(&call.site, n) || !fr.grow(&call.site, n*valueSize) {
		return Value{}, false
	}
	list := fr.list(int(n))
	for i := range n {
		list = append(list, IntValue(from+i))
	}
	return ListValue(list), true
}
