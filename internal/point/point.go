// Package point counts how often a process gets to rare branches: a session that resumes, a row that runs alone, a lock that is lost. Such
// branches are the ones that recover from a fault, and ordinary tests hardly reach them. A branch that is worth knowing about has a point:
//
//	var pointResumed = point.New("coordinator/session: resumed")
//	…
//	pointResumed.Hit()
//
// Tests that simulate whole clusters list the points that they have not reached. A point decides nothing, and costs one atomic addition;
// so it has no place on a path that each row of a healthy run takes.
package point

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
)

// Point is a branch of the code that is counted. It is safe for concurrent use.
type Point struct {
	name string
	hits atomic.Int64
}

// all has every point of the process, by name, guarded by mu.
var (
	mu  sync.Mutex
	all = map[string]*Point{}
)

// goodName is the form of names: the package, the job of the code there, and the event.
var goodName = regexp.MustCompile(`^[a-z]+/[a-z][a-z ]*: [a-zA-Z0-9][^:]*[a-zA-Z0-9]$`)

// New makes a point, for a variable of a package. The name says where the branch is and what happened there, as in "client/stream: sent
// again after a broken connection". New panics if the name has another form, or if another point has it.
func New(name string) *Point {
	if !goodName.MatchString(name) {
		panic(fmt.Sprintf("the point %q needs a name such as %q", name, "client/stream: sent again after a broken connection"))
	}
	mu.Lock()
	defer mu.Unlock()
	if all[name] != nil {
		panic(fmt.Sprintf("two points have the name %q", name))
	}
	p := &Point{name: name}
	all[name] = p
	return p
}

// Hit counts that the process got to the branch. It does not block.
func (p *Point) Hit() { p.hits.Add(1) }

// Count says how often the process got to a point since it began.
type Count struct {
	Name string
	Hits int64
}

// All returns the counts of all points that the program has, also of those that it never got to, sorted by name.
func All() []Count {
	mu.Lock()
	defer mu.Unlock()
	counts := make([]Count, 0, len(all))
	for name, p := range all {
		counts = append(counts, Count{Name: name, Hits: p.hits.Load()})
	}
	slices.SortFunc(counts, func(a, b Count) int { return cmp.Compare(a.Name, b.Name) })
	return counts
}
