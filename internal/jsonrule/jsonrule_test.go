package jsonrule

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
)

type ownPointer struct{}

func (*ownPointer) UnmarshalJSON([]byte) error { return nil }

func TestHasMethods(t *testing.T) {
	for _, c := range []struct {
		is   reflect.Type
		want bool
	}{
		{reflect.TypeFor[int](), false}, {reflect.TypeFor[*int](), false}, {reflect.TypeFor[struct{ T time.Time }](), false}, {reflect.TypeFor[any](), false},
		{reflect.TypeFor[time.Time](), true}, {reflect.TypeFor[*time.Time](), true}, {reflect.TypeFor[netip.Addr](), true}, {reflect.TypeFor[json.Marshaler](), true},
		{reflect.TypeFor[ownPointer](), false}, {reflect.TypeFor[*ownPointer](), true}, {reflect.TypeFor[**ownPointer](), false},
	} {
		if got := HasMethods(c.is); got != c.want {
			t.Errorf("%v: %v, want %v", c.is, got, c.want)
		}
	}
}

// A name is valid where encoding/json writes a field under it.
func TestValidName(t *testing.T) {
	names := []string{"a", "A1", "a b", "é", "学生", "-x", "a.b/c:d;e", "$%&()*+<=>?@[]^_{|}~#!", `a"b`, `a\b`, "a'b", "a`b", "a\tb", "a\x00b", "٣", "½", "a\xffb"}
	for c := range rune(0x250) {
		if c != ',' { // which ends the name in a tag
			names = append(names, "x"+string(c))
		}
	}
	for _, name := range names {
		if strings.Contains(name, "`") {
			if ValidName(name) {
				t.Errorf("%q is said to be valid", name)
			}
			continue
		}
		is := reflect.StructOf([]reflect.StructField{{Name: "F", Type: reflect.TypeFor[int](), Tag: reflect.StructTag(`json:` + strconv.Quote(name))}})
		text, err := json.Marshal(reflect.New(is).Interface())
		if err != nil {
			t.Fatal(err)
		}
		if used := !strings.HasPrefix(string(text), `{"F":`) || name == "F"; used != ValidName(name) {
			t.Errorf("%q: %v, and encoding/json writes %s", name, ValidName(name), text)
		}
	}
	if ValidName("") {
		t.Error("the empty name is said to be valid")
	}
}
