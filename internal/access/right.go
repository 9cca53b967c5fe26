package access

import (
	"fmt"
	"strings"
)

// Right is one of the things that a caller may be allowed to do with a flow.
type Right uint8

// The rights. None of them includes another one, except that a caller with Define sees the documents that it may change.
const (
	View    Right = iota + 1 // see the flow: its documents, state, history and counts
	Rows                     // see contents of its rows: dead letters, reasons, outputs of a redrive
	Submit                   // submit rows to it
	Operate                  // redrive, edit and drop its dead letters
	Define                   // change and delete its documents, also functions and connectors that it uses
	Connect                  // change and delete documents of connectors that it uses
)

// rightNames has the names of the rights, as they stand in the access file.
var rightNames = map[Right]string{View: "view", Rows: "rows", Submit: "submit", Operate: "operate", Define: "define", Connect: "connect"}

// Rights returns all rights, in the order of their numbers.
func Rights() []Right { return []Right{View, Rows, Submit, Operate, Define, Connect} }

// String returns the name of the right as it stands in the access file.
func (r Right) String() string {
	if name, ok := rightNames[r]; ok {
		return name
	}
	return fmt.Sprintf("right %d", uint8(r))
}

// rightOf returns the right with this name; ok is false if there is none.
func rightOf(name string) (r Right, ok bool) {
	for _, r := range Rights() {
		if rightNames[r] == name {
			return r, true
		}
	}
	return 0, false
}

// rightSet is a set of rights, with the bit of each right.
type rightSet uint8

// has reports whether r is in the set.
func (s rightSet) has(r Right) bool { return s&(1<<r) != 0 }

// matches reports whether a name matches a pattern. A star stands for any number of characters, also for none. Every other character
// stands for itself.
func matches(pattern, name string) bool {
	first, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == name
	}
	name, found := strings.CutPrefix(name, first)
	if !found {
		return false
	}
	for {
		part, after, more := strings.Cut(rest, "*")
		if !more {
			return strings.HasSuffix(name, part)
		}
		at := strings.Index(name, part)
		if at < 0 {
			return false
		}
		name, rest = name[at+len(part):], after
	}
}
