package expr

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// layout is a form of times, such as %Y-%m-%d. Texts between directives stand for themselves.
type layout struct {
	parts []layoutPart
}

// layoutPart is a directive, or a text if the directive is 0.
type layoutPart struct {
	directive byte
	text      string
}

// directives says what each directive of a layout stands for.
var directives = map[byte]string{
	'Y': "year of 4 digits", 'y': "year of 2 digits, 69 to 99 for 19.. and 00 to 68 for 20..", 'm': "month, 01 to 12", 'd': "day, 01 to 31", 'e': "day without a 0 before it, 1 to 31",
	'j': "day of the year, 001 to 366", 'H': "hour, 00 to 23", 'I': "hour, 01 to 12", 'M': "minute, 00 to 59", 'S': "second, 00 to 59",
	'f': "fraction of the second, 1 to 9 digits; it is written with 6", 'L': "milliseconds, 3 digits", 'p': "AM or PM", 'b': "month as Jan", 'B': "month as January", 'a': "day of the week as Mon",
	'A': "day of the week as Monday", 'z': "zone as +0100; +01:00 and Z are read, too", 'Z': "zone as a short name; only for format_time", 's': "seconds since 1970", '%': "a %",
}

// layoutShorts are directives that stand for several.
var layoutShorts = map[byte]string{'F': "%Y-%m-%d", 'T': "%H:%M:%S", 'R': "%H:%M", 'D': "%m/%d/%y"}

// maxLayout is the greatest length of a layout in bytes.
const maxLayout = 200

// readLayout reads a layout.
func readLayout(text string) (*layout, error) {
	if len(text) > maxLayout {
		return nil, fmt.Errorf("is longer than %d bytes", maxLayout)
	}
	l := &layout{}
	for text != "" {
		before, rest, found := strings.Cut(text, "%")
		if before != "" {
			l.parts = append(l.parts, layoutPart{text: before})
		}
		if !found {
			break
		}
		if rest == "" {
			return nil, errors.New("ends with a %: a % is written %%")
		}
		c := rest[0]
		text = rest[1:]
		if short := layoutShorts[c]; short != "" {
			text = short + text
			continue
		}
		if directives[c] == "" {
			return nil, fmt.Errorf("has %%%c, which is no directive", c)
		}
		if c == '%' {
			l.parts = append(l.parts, layoutPart{text: "%"})
			continue
		}
		l.parts = append(l.parts, layoutPart{directive: c})
	}
	if !l.hasDirective() {
		return nil, errors.New("has no directive such as %Y")
	}
	return l, nil
}

// hasDirective reports whether the layout is more than text.
func (l *layout) hasDirective() bool {
	for _, p := range l.parts {
		if p.directive != 0 {
			return true
		}
	}
	return false
}

// append writes a time.
func (l *layout) append(b []byte, t time.Time) []byte {
	for _, p := range l.parts {
		switch p.directive {
		case 0:
			b = append(b, p.text...)
		case 'Y':
			b = appendDigits(b, t.Year(), 4)
		case 'y':
			b = appendDigits(b, t.Year()%100, 2)
		case 'm':
			b = appendDigits(b, int(t.Month()), 2)
		case 'd':
			b = appendDigits(b, t.Day(), 2)
		case 'e':
			b = strconv.AppendInt(b, int64(t.Day()), 10)
		case 'j':
			b = appendDigits(b, t.YearDay(), 3)
		case 'H':
			b = appendDigits(b, t.Hour(), 2)
		case 'I':
			b = appendDigits(b, (t.Hour()+11)%12+1, 2)
		case 'M':
			b = appendDigits(b, t.Minute(), 2)
		case 'S':
			b = appendDigits(b, t.Second(), 2)
		case 'f':
			b = appendDigits(b, t.Nanosecond()/1000, 6)
		case 'L':
			b = appendDigits(b, t.Nanosecond()/1_000_000, 3)
		case 's':
			b = strconv.AppendInt(b, t.Unix(), 10)
		default:
			b = t.AppendFormat(b, map[byte]string{'p': "PM", 'b': "Jan", 'B': "January", 'a': "Mon", 'A': "Monday", 'z': "-0700", 'Z': "MST"}[p.directive])
		}
	}
	return b
}

// appendDigits writes a number with zeros before it.
func appendDigits(b []byte, n, width int) []byte {
	digits := strconv.Itoa(n)
	for range width - len(digits) {
		b = append(b, '0')
	}
	return append(b, digits...)
}

// moments are the parts of a time that is being read.
type moments struct {
	year, month, day, yearday, hour, minute, second, nanos int
	afternoon, twelve                                      bool
	unix                                                   *int64
	offset                                                 *int // seconds east of UTC
}

// parse reads a time. Parts that the layout does not have are those of 1970-01-01 00:00 in the zone.
func (l *layout) parse(text string, zone *time.Location) (time.Time, bool) {
	m := moments{year: 1970, month: 1, day: 1}
	for _, p := range l.parts {
		rest, ok := m.take(p, text)
		if !ok {
			return time.Time{}, false
		}
		text = rest
	}
	return m.time(text, zone)
}

// time returns the time of all parts, if they are one. rest is the text behind the layout, which has to be empty.
func (m *moments) time(rest string, zone *time.Location) (time.Time, bool) {
	if rest != "" {
		return time.Time{}, false
	}
	if m.unix != nil {
		return time.Unix(*m.unix, int64(m.nanos)), true
	}
	if m.twelve {
		if m.hour < 1 || m.hour > 12 {
			return time.Time{}, false
		}
		m.hour %= 12
		if m.afternoon {
			m.hour += 12
		}
	}
	if m.offset != nil {
		zone = time.FixedZone("", *m.offset)
	}
	month := m.month
	if m.yearday > 0 {
		month, m.day = 1, m.yearday
	}
	t := time.Date(m.year, time.Month(month), m.day, m.hour, m.minute, m.second, m.nanos, zone)
	// A day such as 30 February comes back as another day.
	if m.yearday > 0 && t.Year() != m.year || m.yearday == 0 && (t.Day() != m.day || int(t.Month()) != m.month) || m.hour > 23 || m.minute > 59 || m.second > 59 {
		return time.Time{}, false
	}
	return t, true
}

// take reads one part of a layout from the beginning of a text. It returns the text behind it.
func (m *moments) take(p layoutPart, text string) (rest string, ok bool) {
	number := func(to *int, least, most int) {
		n := 0
		for n < most && n < len(text) && '0' <= text[n] && text[n] <= '9' {
			n++
		}
		if ok = n >= least; ok {
			*to, _ = strconv.Atoi(text[:n]) // a few digits
			rest = text[n:]
		}
	}
	switch p.directive {
	case 0:
		rest, ok = strings.CutPrefix(text, p.text)
	case 'Y':
		number(&m.year, 4, 4)
	case 'y':
		number(&m.year, 2, 2)
		if m.year += 1900; m.year < 1969 {
			m.year += 100
		}
	case 'm':
		number(&m.month, 1, 2)
	case 'd', 'e':
		number(&m.day, 1, 2)
	case 'j':
		if number(&m.yearday, 3, 3); m.yearday == 0 {
			ok = false
		}
	case 'H':
		number(&m.hour, 1, 2)
	case 'I':
		m.twelve = true
		number(&m.hour, 1, 2)
	case 'M':
		number(&m.minute, 2, 2)
	case 'S':
		number(&m.second, 2, 2)
	case 'f', 'L':
		most := map[byte]int{'f': 9, 'L': 3}[p.directive]
		number(&m.nanos, 1, most)
		for range 9 - (len(text) - len(rest)) {
			m.nanos *= 10
		}
	case 's':
		end := 0
		for end < len(text) && (text[end] == '-' && end == 0 || '0' <= text[end] && text[end] <= '9') {
			end++
		}
		seconds, err := strconv.ParseInt(text[:end], 10, 64)
		m.unix, rest, ok = &seconds, text[end:], err == nil && seconds >= firstSecond && seconds <= lastSecond
	case 'p':
		upper := strings.ToUpper(text[:min(2, len(text))])
		m.twelve, m.afternoon, ok = true, upper == "PM", upper == "AM" || upper == "PM"
		rest = text[min(2, len(text)):]
	case 'b', 'B':
		for month := time.January; month <= time.December && !ok; month++ {
			if rest, ok = cutName(text, month.String(), p.directive == 'b'); ok {
				m.month = int(month)
			}
		}
	case 'a', 'A':
		for day := time.Sunday; day <= time.Saturday && !ok; day++ {
			rest, ok = cutName(text, day.String(), p.directive == 'a')
		}
	case 'z':
		rest, ok = m.takeZone(text)
	}
	return rest, ok
}

// cutName takes a name, or its first three letters if short is set, from the beginning of a text. Upper and lower case are equal.
func cutName(text, name string, short bool) (rest string, ok bool) {
	if short {
		name = name[:3]
	}
	if len(text) < len(name) || !strings.EqualFold(text[:len(name)], name) {
		return text, false
	}
	return text[len(name):], true
}

// takeZone reads a zone such as +0100, +01:00 or Z.
func (m *moments) takeZone(text string) (rest string, ok bool) {
	if rest, ok = strings.CutPrefix(text, "Z"); ok {
		m.offset = new(int)
		return rest, true
	}
	if len(text) < 5 || text[0] != '+' && text[0] != '-' {
		return text, false
	}
	digits, length := text[1:3]+text[3:5], 5
	if text[3] == ':' {
		if len(text) < 6 {
			return text, false
		}
		digits, length = text[1:3]+text[4:6], 6
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || n/100 > 23 || n%100 > 59 {
		return text, false
	}
	offset := int(n/100*3600 + n%100*60)
	if text[0] == '-' {
		offset = -offset
	}
	m.offset = &offset
	return text[length:], true
}
