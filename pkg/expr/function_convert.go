package expr

import (
	"math"
	"strconv"
	"time"
)

// conversions are the functions that convert values.
var conversions = []*function{
	{
		signature: "int(x: number|string) -> int", example: `int("42") + int(3.0)`, result: "45", run: runInt,
		about: "Gives a number without a fraction, or a text of digits, as an int. A number with a fraction fails: write round, floor, ceil or trunc.",
	},
	{
		signature: "float(x: number|string) -> float", example: `float("1.5e3")`, result: "1500", run: runFloat,
		about: "Gives a number, or a text that is one, as a float. An int that a float can't hold exactly fails.",
	},
	{
		signature: "string(x: bool|number|string|time|duration) -> string", example: `string(1.50) + " " + string(true)`, result: `"1.5 true"`, run: runString,
		about: "Gives a value as text: numbers as in JSON, times as in RFC 3339 in UTC, durations such as 1h30m0s.",
	},
	{
		signature: "bool(x: bool|string) -> bool", example: `bool("true")`, result: "true", run: runBool,
		about: "Gives the texts true and false as a truth value. Another text fails.",
	},
	{
		signature: "time(x: string|time) -> time", example: `time("2026-11-30T14:00:00+02:00")`, result: `"2026-11-30T12:00:00Z"`, run: runTime,
		about: "Reads a time of RFC 3339. A time is an instant: it keeps no zone, and is written in UTC. For other forms see parse_time and from_unix.",
	},
	{
		signature: "duration(x: string|duration) -> duration", example: `duration("1h30m") / duration("1m")`, result: "90", run: runDuration,
		about: "Reads a duration of the units h, m, s, ms, us and ns.",
	},
	{
		signature: "json(x: any) -> string", example: `json({b: [1, null], a: "x"})`, result: `"{\"a\":\"x\",\"b\":[1,null]}"`, run: runJSON,
		about: "Gives a value as JSON, with the keys of objects sorted.",
	},
	{
		signature: "parse_json(text: string) -> any", example: `parse_json("{\"n\": 9007199254740993}").n`, result: "9007199254740993", run: runParseJSON,
		about: "Reads JSON. Ints keep all their digits.",
	},
	{
		signature: "type(x: any) -> string", example: `[type(1), type(1.0), type(null), type("")]`, result: `["int","float","null","string"]`, run: runType,
		about: "Gives the kind of a value: missing, null, bool, int, float, string, time, duration, list, object, or number for one that neither 64 bits nor a float can hold.",
	},
	{
		signature: "has(x: any) -> bool", example: `let o = {a: null}; [has(o.a), o.a == null, has(missing)]`, result: "[true,true,false]", run: runHas,
		about: "Gives whether a field is there, also with null. A missing field differs from null only here.",
	},
}

func runInt(fr *Frame, call *call, args []Value) (Value, bool) {
	switch x := args[0]; x.kind {
	case KindFloat:
		n, ok := exactInt(x.Float())
		return IntValue(n), ok || fr.fail(&call.site, ReasonLossy, "the float has a fraction, or is outside of 64 bits: write round, floor, ceil or trunc")
	case KindString:
		n, err := strconv.ParseInt(x.text, 10, 64)
		if err != nil || x.text[0] == '+' {
			return Value{}, fr.fail(&call.site, ReasonValue, "the text is not an int of 64 bits")
		}
		return IntValue(n), true
	default:
		return x, true
	}
}

func runFloat(fr *Frame, call *call, args []Value) (Value, bool) {
	if args[0].kind != KindString {
		f, ok := fr.exact(&call.args[0], args[0])
		return floatValue(f), ok
	}
	text := args[0].text
	if !validNumber(text) {
		return Value{}, fr.fail(&call.site, ReasonValue, "the text is not a number")
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return Value{}, fr.fail(&call.site, ReasonOverflow, "the number in the text is too large for a float")
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		f, ok := fr.exact(&call.args[0], IntValue(n))
		return floatValue(f), ok
	}
	return floatValue(f), true
}

func runString(fr *Frame, call *call, args []Value) (Value, bool) {
	var buffer [64]byte
	var b []byte
	switch x := args[0]; x.kind {
	case KindString:
		return x, true
	case KindTime:
		b = x.Time().AppendFormat(buffer[:0], time.RFC3339Nano)
	case KindDuration:
		b = append(buffer[:0], x.Duration().String()...)
	default:
		b, _ = appendJSON(buffer[:0], x, nil) // a number or a truth value
	}
	if !fr.grow(&call.site, int64(len(b))) {
		return Value{}, false
	}
	return StringValue(fr.keep(b)), true
}

func runBool(fr *Frame, call *call, args []Value) (Value, bool) {
	switch x := args[0]; {
	case x.kind == KindBool:
		return x, true
	case x.text == "true" || x.text == "false":
		return BoolValue(x.text == "true"), true
	}
	return Value{}, fr.fail(&call.site, ReasonValue, "the text is neither true nor false")
}

func runTime(fr *Frame, call *call, args []Value) (Value, bool) {
	if args[0].kind == KindTime {
		return args[0], true
	}
	t, err := time.Parse(time.RFC3339, args[0].text)
	if err != nil {
		return Value{}, fr.fail(&call.site, ReasonValue, "the text is not a time of RFC 3339, such as 2026-11-30T14:00:00Z: see parse_time for other forms")
	}
	return fr.bounded(&call.site, TimeValue(t))
}

func runDuration(fr *Frame, call *call, args []Value) (Value, bool) {
	if args[0].kind == KindDuration {
		return args[0], true
	}
	d, err := time.ParseDuration(args[0].text)
	if err != nil {
		return Value{}, fr.fail(&call.site, ReasonValue, "the text is not a duration such as 1h30m or 250ms")
	}
	return DurationValue(d), true
}

func runJSON(fr *Frame, call *call, args []Value) (Value, bool) {
	b, ok := appendJSON(nil, args[0], &writer{fr: fr, at: &call.site})
	if !ok {
		return Value{}, false
	}
	return StringValue(string(b)), true
}

func runParseJSON(fr *Frame, call *call, args []Value) (Value, bool) {
	r := reader{text: args[0].text, fr: fr, at: &call.site}
	v, ok := r.document()
	return v, ok
}

func runType(_ *Frame, _ *call, args []Value) (Value, bool) {
	return StringValue(args[0].kind.String()), true
}

func runHas(_ *Frame, _ *call, args []Value) (Value, bool) {
	return BoolValue(args[0].kind != KindMissing), true
}

// validNumber reports whether a text is a number as JSON writes it.
func validNumber(text string) bool {
	end, _ := scanNumber(text, 0)
	return end == len(text) && end > 0
}

// The first and the last second that a time may have: the years 0 to 9999, as in RFC 3339.
const (
	firstSecond = -62167219200
	lastSecond  = 253402300799
)

// bounded fails if a time is outside of the years 0 to 9999.
func (fr *Frame) bounded(at *site, t Value) (Value, bool) {
	if s := int64(t.bits); s < firstSecond || s > lastSecond {
		return Value{}, fr.fail(at, ReasonOverflow, "the time is outside of the years 0 to 9999")
	}
	return t, true
}

// shift adds nanoseconds to a time.
func (fr *Frame) shift(at *site, t Value, nanos int64) (Value, bool) {
	return fr.bounded(at, TimeValue(t.Time().Add(time.Duration(nanos))))
}

// between returns the duration from time b to time a.
func (fr *Frame) between(at *site, a, b Value) (Value, bool) {
	seconds, ok := subInt(int64(a.bits), int64(b.bits))
	nanos, ok2 := mulInt(seconds, int64(time.Second))
	nanos, ok3 := addInt(nanos, int64(a.nanos)-int64(b.nanos))
	if !ok || !ok2 || !ok3 || nanos == math.MinInt64 {
		return Value{}, fr.fail(at, ReasonOverflow, "the duration is longer than 292 years")
	}
	return DurationValue(time.Duration(nanos)), true
}
