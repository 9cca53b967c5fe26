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
