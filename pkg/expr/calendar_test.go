package expr

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Every zone of the database can be read.
func TestZones(t *testing.T) {
	names := zoneNames()
	if len(names) < 300 {
		t.Fatalf("there are %d zones", len(names))
	}
	for _, name := range names {
		zone, ok := readZone(name)
		if !ok || zone.String() != name {
			t.Errorf("%s is the zone %v, %v", name, zone, ok)
		}
	}
	for _, name := range []string{"", "Local", "../etc/passwd", "Europe/zurich", "Europe"} {
		if _, ok := findZone(name); ok {
			t.Errorf("there is a zone %q", name)
		}
	}
}

// A layout with all parts of a time reads what it writes, in every zone.
func TestLayoutsReadWhatTheyWrite(t *testing.T) {
	names := zoneNames()
	rapid.Check(t, func(t *rapid.T) {
		zone, _ := findZone(rapid.SampledFrom(names).Draw(t, "zone"))
		at := time.Unix(rapid.Int64Range(firstSecond+200_000, lastSecond-200_000).Draw(t, "seconds"), int64(rapid.IntRange(0, 999_999).Draw(t, "micros"))*1000).In(zone)
		if _, offset := at.Zone(); offset%60 != 0 {
			return // %z has no seconds, which zones had before 1972
		}
		for _, text := range []string{"%Y-%m-%dT%H:%M:%S.%f%z", "%e. %B %Y, %I:%M:%S %p and %f (%A) %z", "%z %j/%Y %T,%f", "%s.%f"} {
			l, err := readLayout(text)
			if err != nil {
				t.Fatal(err)
			}
			written := string(l.append(nil, at))
			if back, ok := l.parse(written, time.UTC); !ok || !back.Equal(at) {
				t.Fatalf("%v is written by %s as %s, which is read as %v, %v", at, text, written, back, ok)
			}
		}
	})
}

// Texts that do not have the layout, or are no time, are not read.
func TestTextsThatAreNoTimes(t *testing.T) {
	for _, c := range []struct{ layout, text, want string }{
		{"%Y-%m-%d", "2026-02-28", "2026-02-28T00:00:00Z"},
		{"%Y-%m-%d", "2026-2-8", "2026-02-08T00:00:00Z"},
		{"%d.%m.%y", "1.2.69", "1969-02-01T00:00:00Z"},
		{"%d.%m.%y", "1.2.68", "2068-02-01T00:00:00Z"},
		{"%Y-%m-%d", "2026-02-29", ""},
		{"%Y-%m-%d", "2024-02-29", "2024-02-29T00:00:00Z"},
		{"%Y-%m-%d", "2026-13-01", ""},
		{"%Y-%m-%d", "2026-01-01 ", ""},
		{"%Y-%m-%d", "26-01-01", ""},
		{"%Y%m%d", "20260708", "2026-07-08T00:00:00Z"},
		{"%H:%M", "24:00", ""},
		{"%H:%M", "23:60", ""},
		{"%I:%M %p", "12:05 am", "1970-01-01T00:05:00Z"},
		{"%I:%M %p", "12:05 PM", "1970-01-01T12:05:00Z"},
		{"%I:%M %p", "13:05 PM", ""},
		{"%b %d", "feb 3", "1970-02-03T00:00:00Z"},
		{"%b %d", "foo 3", ""},
		{"%j %Y", "366 2024", "2024-12-31T00:00:00Z"},
		{"%j %Y", "366 2026", ""},
		{"%j %Y", "000 2026", ""},
		{"%T%z", "10:00:00+02:00", "1970-01-01T08:00:00Z"},
		{"%T%z", "10:00:00Z", "1970-01-01T10:00:00Z"},
		{"%T%z", "10:00:00+2", ""},
		{"%T%z", "10:00:00+99:00", ""},
		{"%T.%L", "10:00:00.5", "1970-01-01T10:00:00.5Z"},
		{"%T.%f", "10:00:00.123456789", "1970-01-01T10:00:00.123456789Z"},
		{"%s", "-1", "1969-12-31T23:59:59Z"},
		{"%s", "99999999999999", ""},
		{"100%% %Y", "100% 2026", "2026-01-01T00:00:00Z"},
		{"%Y", "", ""},
	} {
		l, err := readLayout(c.layout)
		if err != nil {
			t.Fatal(err)
		}
		at, ok := l.parse(c.text, time.UTC)
		got := ""
		if ok {
			got = at.UTC().Format(time.RFC3339Nano)
		}
		if got != c.want {
			t.Errorf("%q by %s is %q, want %q", c.text, c.layout, got, c.want)
		}
	}
	for _, text := range []string{"", "Y-m-d", "%", "%Y%", "%Q", "% Y"} {
		if _, err := readLayout(text); err == nil {
			t.Errorf("%q is a layout", text)
		}
	}
}
