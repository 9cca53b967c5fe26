package definition

import (
	"strings"
	"testing"
)

// Row types are those of source.fields, or else of the function before; what is not known is any, and mistakes have no type.
func TestRowTypes(t *testing.T) {
	const flow = "kistype: flow\nflow_name: F\nflows:\n"
	set, err := NewSet(Split("x.yml", []byte(flow+`  - fname: Check
    params: {most: 9}
  - fname: Make
  - fname: Each
  - fname: Keep
  - fname: Load
  - fname: Go
  - fname: Whole
  - fname: Elements
  - fname: Wrong
  - fname: Key
---
kistype: func
fname: Check
fmode: Verify
source: {fields: {id: int, items: [{n: int}], note: "string?"}}
option: {verify: id <= params.most, reason: '(note ?? "") + row_id'}
---
kistype: func
fname: Make
fmode: Calculate
source: {fields: {id: int, items: [{n: int}]}}
option: {calculate: {id: id, items: items, none: null}}
---
kistype: func
fname: Each
fmode: Expand
option: {expand: {each: items, as: i, where: i.n > 0, set: {id: id, half: i.n / 2}}}
---
kistype: func
fname: Keep
fmode: Save
option: {cname: C, save: {key: "{id}", set: {a: half, b: '= half * 2'}}}
---
kistype: func
fname: Load
fmode: Load
option: {cname: C, load: {key: '= string(id)', set: {c: a, d: b}, types: {c: float}}}
---
kistype: func
fname: Go
fmode: Calculate
---
kistype: func
fname: Whole
fmode: Calculate
option: {calculate: {text: json(row)}, keep: all}
---
kistype: func
fname: Elements
fmode: Expand
source: {fields: {list: [int]}}
option: {expand: {each: list}}
---
kistype: func
fname: Wrong
fmode: Calculate
source: {fields: {a: int}}
option: {calculate: {x: a + "b", y: a}}
---
kistype: func
fname: Key
fmode: Save
option: {cname: C, save: {key: k, delete: true}}
---
kistype: conn
cname: C
type: memory
`)))
	if err != nil {
		t.Fatal(err)
	}
	b, err := set.Bundle("F")
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	if err := WriteTypes(&got, b.Types()); err != nil {
		t.Fatal(err)
	}
	const want = `  1 Check (Verify): reads {id: int, note: string?}
      verify  id <= params.most : bool
      reason  (note ?? "") + row_id : string
  2 Make (Calculate): reads {id: int, items: [{n: int}]}, gives {id: int, items: [{n: int}], none: null}
      calculate.id     id : int
      calculate.items  items : [{n: int}]
      calculate.none   null : null
  3 Each (Expand): reads {id: int, items: [{n: int}]}, gives {half: float, id: int}
      expand.each      items : [{n: int}]
      expand.where     i.n > 0 : bool
      expand.set.id    id : int
      expand.set.half  i.n / 2 : float
  4 Keep (Save): reads {half: float, id: int}
      save.set.b  half * 2 : float
  5 Load (Load): reads {id: int}, gives {c: float, d: any} and all other fields
      load.key  string(id) : string
  6 Go (Calculate): a Go function
  7 Whole (Calculate): reads any, gives {text: string} and all other fields
      calculate.text  json(row) : string
  8 Elements (Expand): reads {list: [int]}, gives int
      expand.each  list : [int]
  9 Wrong (Calculate): reads {a: int}, gives {x: any, y: int}
      calculate.x  a + "b"
      calculate.y  a : int
  10 Key (Save)
`
	if got.String() != want {
		t.Errorf("the types are\n%s", got.String())
	}
	for name, computes := range map[string]bool{"Check": true, "Each": true, "Keep": true, "Load": true, "Go": false, "Key": false} {
		if set.Functions[name].Computes() != computes {
			t.Errorf("%s computes: %v", name, !computes)
		}
	}
}
