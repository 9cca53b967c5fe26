package expr

// eachFunctions are the functions that call a function of the expression for each element of a list.
var eachFunctions = []*function{
	{
		signature: "map(list: list, value: x => any) -> [U]", gives: listOfResults, example: "map([1, 2], x => x * 10)", result: "[10,20]", run: runMap,
		about: "Gives the list of the function's results.",
	},
	{
		signature: "filter(list: list, test: x => bool) -> [T]", gives: sameAs, example: "filter([1, 2, 3], x => x > 1)", result: "[2,3]", run: runFilter,
		about: "Gives the elements for which the function gives true.",
	},
	{
		signature: "any(list: list, test: x => bool) -> bool", example: "any([1, 2], x => x > 1)", result: "true", run: runAny,
		about: "Gives whether the function gives true for one element at least.",
	},
	{
		signature: "all(list: list, test: x => bool) -> bool", example: "all([1, 2], x => x > 1)", result: "false", run: runAll,
		about: "Gives whether the function gives true for all elements. It is true for an empty list.",
	},
	{
		signature: "count(list: list, test: x => bool) -> int", example: "count([1, 2, 3], x => x > 1)", result: "2", run: runCount,
		about: "Gives for how many elements the function gives true.",
	},
	{
		signature: "sort_by(list: list, key: x => any) -> [T]", gives: sameAs, example: "map(sort_by([{n: 2}, {n: 1}], x => x.n), x => x.n)", result: "[1,2]", run: runSortBy,
		about: "Gives the elements in the rising order of the function's results. Elements with equal results keep their order.",
	},
	{
		signature: "group_by(list: list, key: x => any) -> {*: [T]}", gives: grouped, example: `group_by(["ab", "c", "ad"], x => substring(x, 0, 1))`, result: `{"a":["ab","ad"],"c":["c"]}`, run: runGroupBy,
		about: "Gives an object with a list of elements for each text that the function gives.",
	},
	{
		signature: "reduce(list: list, start: any, next: (all, x) => any) -> U", gives: reduced, elements: reduceElements,
		example: "reduce([1, 2, 3], 0, (all, x) => all * 10 + x)", result: "123", run: runReduce,
		about: "Begins with start, and calls the function with the result so far and each element.",
	},
}

// listOfResults gives the type of map.
func listOfResults(args []Type) Type { return List(args[1]) }

// grouped gives the type of group_by.
func grouped(args []Type) Type { return Map(args[0].present()) }

// reduced gives the type of reduce.
func reduced(args []Type) Type { return args[1].join(args[2]) }

// reduceElements gives the types of the parameters of reduce's function.
func reduceElements(args []Type) []Type { return []Type{args[1], args[0].Elem()} }

func runMap(fr *Frame, call *call, args []Value) (Value, bool) {
	list, of := args[0].Elements(), call.each[1]
	if !fr.grow(&call.site, int64(len(list))*valueSize) {
		return Value{}, false
	}
	values := fr.list(len(list))
	for _, x := range list {
		v, ok := of.apply(fr, &call.site, x)
		if !ok {
			return Value{}, false
		}
		values = append(values, v)
	}
	return ListValue(values), true
}

func runFilter(fr *Frame, call *call, args []Value) (Value, bool) {
	list := args[0].Elements()
	if !fr.grow(&call.site, int64(len(list))*valueSize) {
		return Value{}, false
	}
	values := fr.list(len(list))
	for _, x := range list {
		keep, ok := call.each[1].test(fr, &call.site, x)
		if !ok {
			return Value{}, false
		}
		if keep {
			values = append(values, x)
		}
	}
	return ListValue(values), true
}

// until calls the function for one element after the other, until it gives stop.
func (fr *Frame) until(call *call, list []Value, stop bool) (found, ok bool) {
	for _, x := range list {
		is, ok := call.each[1].test(fr, &call.site, x)
		if !ok {
			return false, false
		}
		if is == stop {
			return true, true
		}
	}
	return false, true
}

func runAny(fr *Frame, call *call, args []Value) (Value, bool) {
	found, ok := fr.until(call, args[0].Elements(), true)
	return BoolValue(found), ok
}

func runAll(fr *Frame, call *call, args []Value) (Value, bool) {
	found, ok := fr.until(call, args[0].Elements(), false)
	return BoolValue(!found), ok
}

func runCount(fr *Frame, call *call, args []Value) (Value, bool) {
	n := int64(0)
	for _, x := range args[0].Elements() {
		is, ok := call.each[1].test(fr, &call.site, x)
		if !ok {
			return Value{}, false
		}
		if is {
			n++
		}
	}
	return IntValue(n), true
}

func runSortBy(fr *Frame, call *call, args []Value) (Value, bool) {
	list := args[0].Elements()
	keys, ok := runMap(fr, call, args)
	if !ok {
		return Value{}, false
	}
	return fr.sortBy(call, list, keys.Elements())
}

func runGroupBy(fr *Frame, call *call, args []Value) (Value, bool) {
	list := args[0].Elements()
	if !fr.grow(&call.site, int64(len(list))*4*valueSize) {
		return Value{}, false
	}
	groups := map[string][]Value{}
	for _, x := range list {
		key, ok := call.each[1].apply(fr, &call.site, x)
		if !ok {
			return Value{}, false
		}
		if key.kind != KindString {
			return Value{}, fr.failKind(&call.args[1], key.kind, "a string")
		}
		groups[key.text] = append(groups[key.text], x)
	}
	keys := sortedNames(groups)
	values := make([]Value, len(keys))
	for i, key := range keys {
		values[i] = ListValue(groups[key])
	}
	return newObject(keys, values), true
}

func runReduce(fr *Frame, call *call, args []Value) (Value, bool) {
	list, all, next := args[0].Elements(), args[1], call.each[2]
	for _, x := range list {
		if !fr.spend(&call.site, next.cost) {
			return Value{}, false
		}
		fr.locals[next.first], fr.locals[next.first+1] = all, x
		var ok bool
		if all, ok = next.run(fr); !ok {
			return Value{}, false
		}
	}
	return all, true
}
