package rowcopy

import (
	"math/big"
	"net/netip"
	"reflect"
	"sync"
	"testing"
	"time"
	"unsafe"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/typepb"
)

type node struct {
	Name   string
	Next   *node
	Others []*node
	By     map[string]*node
	Any    any
	When   *time.Time
	At     netip.Addr
	Sum    *big.Int
	Rate   big.Rat
	own    []int
	Fixed  [2][]byte
	Lock   *sync.Mutex
	Empty  []int
	None   map[string]int
}

func copied[T any](t *testing.T, v T) T {
	t.Helper()
	var to T
	For(reflect.TypeFor[T]()).Copy(unsafe.Pointer(&to), unsafe.Pointer(&v))
	return to
}

func some() *node {
	when := time.Unix(1, 2).UTC()
	n := &node{
		Name: "a", By: map[string]*node{}, When: &when, At: netip.MustParseAddr("::1%eth0"), Sum: big.NewInt(1 << 40), Rate: *big.NewRat(1, 3),
		own: []int{1, 2}, Fixed: [2][]byte{{1}, nil}, Lock: new(sync.Mutex), Empty: []int{}, Any: map[string]any{"x": []any{1.0, map[string]any{"y": "z"}}},
	}
	n.Next = &node{Name: "b", Next: n, Any: &node{Name: "c"}}
	n.Others = []*node{n, n.Next, nil}
	n.By["self"] = n
	return n
}

// A copy is equal and shares nothing that can be changed through it; what holds itself still does.
func TestCopy(t *testing.T) {
	was, want := some(), some()
	got := copied(t, was)
	want.Lock = was.Lock // it is no data
	if !reflect.DeepEqual(got, was) || got.Lock != was.Lock {
		t.Fatalf("the copy is %+v, not %+v", got, was)
	}
	if got.Next.Next != got || got.Others[0] != got || got.By["self"] != got || got.Empty == nil || got.None != nil {
		t.Error("the copy does not hold itself as its original did")
	}
	got.Name, got.Next.Name = "x", "x"
	got.Others[1].Any.(*node).Name = "x"
	*got.When = time.Time{}
	got.Sum.Add(got.Sum, got.Sum)
	got.Rate.Add(&got.Rate, &got.Rate)
	got.own[0], got.Fixed[0][0] = 7, 7
	got.Any.(map[string]any)["x"].([]any)[1].(map[string]any)["y"] = "x"
	got.By["more"] = nil
	if !reflect.DeepEqual(was, want) {
		t.Errorf("what was copied became %+v, not %+v", was, want)
	}
}

func TestCopyRows(t *testing.T) {
	m := &typepb.Type{Name: "a", Fields: []*typepb.Field{{Name: "f"}}}
	got := copied(t, m)
	if got.Fields[0].Name = "g"; m.Fields[0].Name != "f" || got == m || proto.Equal(got, m) {
		t.Error("a message is shared")
	}
	if copied[any](t, nil) != nil || copied[*node](t, nil) != nil || copied[[]int](t, nil) != nil || copied[*typepb.Type](t, nil) != nil {
		t.Error("nil is no nil")
	}
	if got := copied(t, map[string][]int{"a": {1}}); got["a"][0] != 1 {
		t.Errorf("%v", got)
	}
	for _, plain := range []any{1, "a", struct{ A, B int }{}, time.Time{}, [3]int{}, struct{ L sync.Mutex }{}, new(sync.Mutex)} {
		if For(reflect.TypeOf(plain)).Deep() {
			t.Errorf("%T is said to share something", plain)
		}
	}
	for _, deep := range []any{[]int{}, new(int), map[int]int{}, struct{ A []int }{}, [1]*int{}, &node{}} {
		if !For(reflect.TypeOf(deep)).Deep() {
			t.Errorf("%T is said to share nothing", deep)
		}
	}
}

// Rows that hold themselves, or lead very far, are copied too: a stack that overflows would end the process.
func TestEndlessRows(t *testing.T) {
	list := make([]any, 2)
	list[0], list[1] = list, []int{1}
	got := copied(t, list)
	got[0].([]any)[1].([]int)[0] = 7
	if got[1].([]int)[0] != 7 || list[1].([]int)[0] != 1 {
		t.Errorf("the copy of a list that holds itself is %v, and its original is %v", got[1], list[1])
	}
	part := make([]any, 2)
	part[0], part[1] = part[:1], []int{1}
	if got := copied(t, part); len(got[0].([]any)) != 1 || &got[0].([]any)[0] == &part[0] {
		t.Error("a list that holds a part of itself is not copied")
	}
	byName := map[string]any{"n": new(int)}
	byName["self"] = byName
	if got := copied(t, byName); reflect.ValueOf(got["self"]).Pointer() != reflect.ValueOf(got).Pointer() || got["n"] == byName["n"] {
		t.Error("a map that holds itself is not copied")
	}

	const long = 30_000
	first := &node{own: []int{0}}
	for n, last := 1, first; n < long; n++ {
		last.Next = &node{own: []int{n}}
		last = last.Next
	}
	n := 0
	for was, got := first, copied(t, first); was != nil; was, got = was.Next, got.Next {
		if got == was || got.own[0] != n || &got.own[0] == &was.own[0] {
			t.Fatalf("node %d is not copied", n)
		}
		n++
	}
	if n != long {
		t.Errorf("%d nodes were copied of %d", n, long)
	}
	type slices []slices
	deep := slices{}
	for range long {
		deep = slices{deep}
	}
	depth := 0
	for was, got := deep, copied(t, deep); len(was) > 0; was, got = was[0], got[0] {
		if depth++; &was[0] == &got[0] {
			t.Fatalf("list %d is not copied", depth)
		}
	}
	if depth != long {
		t.Errorf("%d lists were copied", depth)
	}
	type box struct{ A any }
	boxed := any(new(int))
	for range 5000 {
		boxed = box{boxed}
	}
	was, own := boxed, copied(t, boxed)
	for range 5000 {
		was, own = was.(box).A, own.(box).A
	}
	if was == own {
		t.Error("what lies in many boxes is not copied")
	}
	for range 2 * maxBoxed {
		boxed = box{boxed}
	}
	copied(t, boxed)
}

// What has a lock and a map may be in use: it is shared where a row leads to it, as it can't be read.
func TestGuardedMaps(t *testing.T) {
	type cache struct {
		mu sync.Mutex //nolint:unused // being there is its use
		m  map[string]int
	}
	type row struct {
		Cache *cache
		N     *int
	}
	was := &row{&cache{m: map[string]int{"a": 1}}, new(int)}
	if got := copied(t, was); got.Cache != was.Cache || got.N == was.N {
		t.Errorf("the copy is %+v of %+v", got, was)
	}
	own := &cache{m: map[string]int{"a": 1}} // a row itself
	if got := copied(t, own); got == own || got.m["a"] != 1 {
		t.Errorf("the copy is %+v", got)
	} else if got.m["a"] = 2; own.m["a"] != 1 {
		t.Error("the row's map is shared")
	}
	if got := copied[any](t, own); got == any(own) {
		t.Error("a row in an interface is shared")
	}
}
