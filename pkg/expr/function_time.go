package expr

import (
	"slices"
	"time"
)

// timeFunctions are the functions of times and durations. A zone is a name such as Europe/Zurich, or UTC.
var timeFunctions = []*function{
	{
		signature: "parse_time(text: string, layout: constant string, zone?: constant string) -> time", prepare: prepareLayout,
		example: `parse_time("30.11.2026 14:00", "%d.%m.%Y %H:%M", "Europe/Zurich")`, result: `"2026-11-30T13:00:00Z"`, run: runParseTime,
		about: "Reads a time of another form. Parts that the layout does not have are those of 1970-01-01 00:00. Without a zone it is UTC, unless the text has one (%z).",
	},
	{
		signature: "format_time(t: time, layout: constant string, zone?: constant string) -> string", prepare: prepareLayout,
		example: `format_time(time("2026-11-30T13:00:00Z"), "%Y-%m-%d %H:%M %Z", "Europe/Zurich")`, result: `"2026-11-30 14:00 CET"`, run: runFormatTime,
		about: "Writes a time by a layout.",
	},
	{
		signature: "year(t: time, zone?: constant string) -> int", prepare: prepareZone, example: `year(time("2026-12-31T23:30:00Z"), "Europe/Zurich")`, result: "2027", run: part(time.Time.Year),
		about: "Gives the year.",
	},
	{
		signature: "month(t: time, zone?: constant string) -> int", prepare: prepareZone, example: `month(time("2026-11-30T14:00:00Z"))`, result: "11", run: part(func(t time.Time) int { return int(t.Month()) }),
		about: "Gives the month, 1 to 12.",
	},
	{
		signature: "day(t: time, zone?: constant string) -> int", prepare: prepareZone, example: `day(time("2026-11-30T14:00:00Z"))`, result: "30", run: part(time.Time.Day),
		about: "Gives the day of the month.",
	},
	{
		signature: "yearday(t: time, zone?: constant string) -> int", prepare: prepareZone, example: `yearday(time("2026-02-01T00:00:00Z"))`, result: "32", run: part(time.Time.YearDay),
		about: "Gives the day of the year, 1 to 366.",
	},
	{
		signature: "weekday(t: time, zone?: constant string) -> int", prepare: prepareZone, example: `weekday(time("2026-11-30T14:00:00Z"))`, result: "1", run: part(weekday),
		about: "Gives the day of the week: 1 for Monday to 7 for Sunday.",
	},
	{
		signature: "hour(t: time, zone?: constant string) -> int", prepare: prepareZone, example: `hour(time("2026-11-30T14:00:00Z"), "Asia/Shanghai")`, result: "22", run: part(time.Time.Hour),
		about: "Gives the hour, 0 to 23.",
	},
	{
		signature: "minute(t: time, zone?: constant string) -> int", prepare: prepareZone, example: `minute(time("2026-11-30T14:05:00Z"))`, result: "5", run: part(time.Time.Minute),
		about: "Gives the minute.",
	},
	{
		signature: "second(t: time, zone?: constant string) -> int", prepare: prepareZone, example: `second(time("2026-11-30T14:05:09Z"))`, result: "9", run: part(time.Time.Second),
		about: "Gives the second.",
	},
	{
		signature: "start_of(t: time, unit: constant string, zone?: constant string) -> time", prepare: prepareUnit, example: `start_of(time("2026-11-30T14:05:09Z"), "month")`, result: `"2026-11-01T00:00:00Z"`, run: runStartOf,
		about: "Gives the beginning of the minute, hour, day, week (Monday), month or year that the time is in.",
	},
	{
		signature: "truncate(t: time, step: duration) -> time", example: `truncate(time("2026-11-30T14:07:09Z"), duration("15m"))`, result: `"2026-11-30T14:00:00Z"`, run: runTruncate,
		about: "Rounds down to a multiple of a duration, counted from the beginning of 1970 in UTC.",
	},
	{
		signature: "unix(t: time) -> int", example: `unix(time("1970-01-02T00:00:00Z"))`, result: "86400", run: runUnix,
		about: "Gives the whole seconds since the beginning of 1970 in UTC.",
	},
	{
		signature: "unix_milli(t: time) -> int", example: `unix_milli(time("1970-01-01T00:00:01.5Z"))`, result: "1500", run: runUnixMilli,
		about: "Gives the whole milliseconds since the beginning of 1970 in UTC.",
	},
	{
		signature: "from_unix(seconds: int) -> time", example: "from_unix(86400)", result: `"1970-01-02T00:00:00Z"`, run: runFromUnix,
		about: "Gives the time so many seconds after the beginning of 1970 in UTC.",
	},
	{
		signature: "from_unix_milli(milliseconds: int) -> time", example: "from_unix_milli(1500)", result: `"1970-01-01T00:00:01.5Z"`, run: runFromUnixMilli,
		about: "Gives the time so many milliseconds after the beginning of 1970 in UTC.",
	},
	{
		signature: "seconds(d: duration) -> float", example: `seconds(duration("1m30.5s"))`, result: "90.5", run: runSeconds,
		about: "Gives a duration in seconds.",
	},
	{
		signature: "milliseconds(d: duration) -> int", example: `milliseconds(duration("1.5s"))`, result: "1500", run: runMilliseconds,
		about: "Gives the whole milliseconds of a duration.",
	},
}

// moment is what the constant arguments of a function of times say.
type moment struct {
	zone   *time.Location
	layout *layout
	unit   string
}

// prepareMoment reads the zone of a call, if it has one.
func prepareMoment(c *compiler, n *node, args []operand, zone int) (*moment, bool) {
	m := &moment{zone: time.UTC}
	if len(args) <= zone {
		return m, true
	}
	name := args[zone].constant.text
	location, ok := findZone(name)
	if !ok {
		edit := "write a name such as Europe/Zurich, or UTC"
		if near := Nearest(name, zoneNames()); near != "" {
			edit = "write " + textLiteral(near)
		}
		c.mistake(n.kids[zone], edit, "there is no time zone %s", textLiteral(name))
		return nil, false
	}
	m.zone = location
	return m, true
}

// prepareZone reads the zone, which is the second argument.
func prepareZone(c *compiler, n *node, call *call, args []operand) bool {
	m, ok := prepareMoment(c, n, args, 1)
	call.prepared = m
	return ok
}

// prepareLayout reads the layout and the zone, which are the second and the third argument.
func prepareLayout(c *compiler, n *node, call *call, args []operand) bool {
	m, ok := prepareMoment(c, n, args, 2)
	if !ok {
		return false
	}
	var err error
	if m.layout, err = readLayout(args[1].constant.text); err != nil {
		c.mistake(n.kids[1], "write one such as %Y-%m-%d %H:%M:%S", "the layout %s", err)
		return false
	}
	call.prepared = m
	return true
}

// units are the units of start_of.
var units = []string{"day", "hour", "minute", "month", "week", "year"}

// prepareUnit reads the unit and the zone of start_of.
func prepareUnit(c *compiler, n *node, call *call, args []operand) bool {
	m, ok := prepareMoment(c, n, args, 2)
	if !ok {
		return false
	}
	m.unit = args[1].constant.text
	if slices.Contains(units, m.unit) {
		call.prepared = m
		return true
	}
	c.mistake(n.kids[1], "write minute, hour, day, week, month or year", "there is no unit %s", textLiteral(m.unit))
	return false
}

// part returns a function that gives a part of a time in its zone.
func part(of func(time.Time) int) func(*Frame, *call, []Value) (Value, bool) {
	return func(_ *Frame, call *call, args []Value) (Value, bool) {
		return IntValue(int64(of(args[0].Time().In(call.prepared.(*moment).zone)))), true
	}
}

// weekday returns 1 for Monday to 7 for Sunday.
func weekday(t time.Time) int { return (int(t.Weekday())+6)%7 + 1 }

func runParseTime(fr *Frame, call *call, args []Value) (Value, bool) {
	m := call.prepared.(*moment)
	t, ok := m.layout.parse(args[0].text, m.zone)
	if !ok {
		return Value{}, fr.fail(&call.args[0], ReasonValue, "the text does not have the layout")
	}
	return fr.bounded(&call.site, TimeValue(t))
}

func runFormatTime(fr *Frame, call *call, args []Value) (Value, bool) {
	m := call.prepared.(*moment)
	var buffer [128]byte
	b := m.layout.append(buffer[:0], args[0].Time().In(m.zone))
	if !fr.counted(&call.site, len(b)) {
		return Value{}, false
	}
	return StringValue(fr.keep(b)), true
}

func runStartOf(fr *Frame, call *call, args []Value) (Value, bool) {
	m := call.prepared.(*moment)
	t := args[0].Time().In(m.zone)
	year, month, day := t.Date()
	switch m.unit {
	case "minute":
		t = t.Add(-time.Duration(t.Second())*time.Second - time.Duration(t.Nanosecond()))
	case "hour":
		t = t.Add(-time.Duration(t.Minute())*time.Minute - time.Duration(t.Second())*time.Second - time.Duration(t.Nanosecond()))
	case "day":
		t = time.Date(year, month, day, 0, 0, 0, 0, m.zone)
	case "week":
		t = time.Date(year, month, day-weekday(t)+1, 0, 0, 0, 0, m.zone)
	case "month":
		t = time.Date(year, month, 1, 0, 0, 0, 0, m.zone)
	default:
		t = time.Date(year, 1, 1, 0, 0, 0, 0, m.zone)
	}
	return fr.bounded(&call.site, TimeValue(t))
}

func runTruncate(fr *Frame, call *call, args []Value) (Value, bool) {
	step := args[1].Duration()
	if step <= 0 {
		return Value{}, fr.fail(&call.args[1], ReasonValue, "has to be longer than zero")
	}
	since, ok := fr.between(&call.site, args[0], TimeValue(time.Unix(0, 0)))
	if !ok {
		return Value{}, false
	}
	return fr.shift(&call.site, args[0], -modInt(int64(since.bits), int64(step)))
}

func runUnix(_ *Frame, _ *call, args []Value) (Value, bool) {
	return IntValue(int64(args[0].bits)), true
}

func runUnixMilli(_ *Frame, _ *call, args []Value) (Value, bool) {
	return IntValue(args[0].Time().UnixMilli()), true
}

func runFromUnix(fr *Frame, call *call, args []Value) (Value, bool) {
	return fr.bounded(&call.site, Value{kind: KindTime, bits: args[0].bits})
}

func runFromUnixMilli(fr *Frame, call *call, args []Value) (Value, bool) {
	return fr.bounded(&call.site, TimeValue(time.UnixMilli(args[0].Int())))
}

func runSeconds(_ *Frame, _ *call, args []Value) (Value, bool) {
	return floatValue(args[0].Duration().Seconds()), true
}

func runMilliseconds(_ *Frame, _ *call, args []Value) (Value, bool) {
	return IntValue(args[0].Duration().Milliseconds()), true
}
