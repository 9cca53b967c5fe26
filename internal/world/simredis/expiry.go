package simredis

import (
	"strconv"
	"strings"
	"time"
)

// place is a key of a database.
type place struct {
	database int
	key      string
}

// expiries knows when keys expire. The library could do it, but looks at all keys whenever time has passed.
type expiries struct {
	at   map[place]time.Time
	next time.Time // no key expires before; zero if no key expires
}

// set makes a key expire at a time.
func (x *expiries) set(p place, at time.Time) {
	x.at[p] = at
	if x.next.IsZero() || at.Before(x.next) {
		x.next = at
	}
}

// due returns the keys that have expired by now, and forgets them.
func (x *expiries) due(now time.Time) (gone []place) {
	if x.next.IsZero() || now.Before(x.next) {
		return nil
	}
	x.next = time.Time{}
	for p, at := range x.at {
		switch {
		case !now.Before(at):
			delete(x.at, p)
			gone = append(gone, p)
		case x.next.IsZero() || at.Before(x.next):
			x.next = at
		}
	}
	return gone
}

// setTime sets the clock, and deletes the keys that have expired.
func (e *engine) setTime(now time.Time) {
	e.now = now
	e.data.SetTime(now)
	for _, p := range e.expiries.due(now) {
		e.dispatch(view{database: p.database}, "DEL", p.key)
	}
}

// forgetExpiry forgets when keys expire that are not there any more.
func (e *engine) forgetExpiry(database int, keys ...string) {
	for _, key := range keys {
		if p := (place{database, key}); !e.expiries.at[p].IsZero() && !e.data.DB(database).Exists(key) {
			delete(e.expiries.at, p)
		}
	}
}

// expire carries out PEXPIRE and EXPIRE.
func (e *engine) expire(v view, name string, args []string) []byte {
	if len(args) < 2 || len(args) > 3 {
		return appendError(nil, "ERR wrong number of arguments for '"+strings.ToLower(name)+"' command")
	}
	n, err := strconv.ParseInt(args[1], 10, 64)
	if err != nil {
		return appendError(nil, "ERR value is not an integer or out of range")
	}
	unit := time.Millisecond
	if name == "EXPIRE" {
		unit = time.Second
	}
	p, at := place{v.database, args[0]}, e.now.Add(time.Duration(n)*unit)
	before, expires := e.expiries.at[p]
	set := e.data.DB(v.database).Exists(p.key)
	if len(args) == 3 {
		switch option := strings.ToUpper(args[2]); option {
		case "NX":
			set = set && !expires
		case "XX":
			set = set && expires
		case "GT":
			set = set && expires && at.After(before)
		case "LT":
			set = set && (!expires || at.Before(before))
		default:
			return appendError(nil, "ERR Unsupported option "+args[2])
		}
	}
	switch {
	case !set:
		return []byte(":0\r\n")
	case !at.After(e.now):
		e.dispatch(v, "DEL", p.key)
		delete(e.expiries.at, p)
	default:
		e.expiries.set(p, at)
	}
	return []byte(":1\r\n")
}

// left carries out PTTL and TTL.
func (e *engine) left(v view, name string, args []string) []byte {
	if len(args) != 1 {
		return appendError(nil, "ERR wrong number of arguments for '"+strings.ToLower(name)+"' command")
	}
	at, expires := e.expiries.at[place{v.database, args[0]}]
	switch {
	case !e.data.DB(v.database).Exists(args[0]):
		return []byte(":-2\r\n")
	case !expires:
		return []byte(":-1\r\n")
	case name == "TTL":
		return appendLength(nil, ':', int((at.Sub(e.now)+time.Second/2)/time.Second))
	}
	return appendLength(nil, ':', int(at.Sub(e.now).Milliseconds()))
}

// persist carries out PERSIST.
func (e *engine) persist(v view, args []string) []byte {
	if len(args) != 1 {
		return appendError(nil, "ERR wrong number of arguments for 'persist' command")
	}
	p := place{v.database, args[0]}
	if _, expires := e.expiries.at[p]; !expires {
		return []byte(":0\r\n")
	}
	delete(e.expiries.at, p)
	return []byte(":1\r\n")
}

// set carries out SET, with PX or EX as its only option.
func (e *engine) set(v view, args []string) []byte {
	p := place{database: v.database}
	var lasts time.Duration
	if len(args) == 4 {
		n, err := strconv.ParseInt(args[3], 10, 64)
		unit := time.Millisecond
		switch option := strings.ToUpper(args[2]); {
		case option == "EX":
			unit = time.Second
		case option != "PX":
			return appendError(nil, "ERR syntax error")
		}
		switch {
		case err != nil:
			return appendError(nil, "ERR value is not an integer or out of range")
		case n <= 0:
			return appendError(nil, "ERR invalid expire time in 'set' command")
		}
		lasts, args = time.Duration(n)*unit, args[:2]
	}
	answer := e.dispatch(v, "SET", args...)
	if answer[0] == '+' {
		p.key = args[0]
		delete(e.expiries.at, p)
		if lasts > 0 {
			e.expiries.set(p, e.now.Add(lasts))
		}
	}
	return answer
}
