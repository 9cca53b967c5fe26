package expr

import (
	"fmt"
	"testing"
)

// BenchmarkExpr evaluates the students' Verify and Calculate for one row: with the values set, and from JSON to JSON; with declared fields, and
// without. Decision 17 compares the figures with those of other languages.
func BenchmarkExpr(b *testing.B) {
	declared, err := ParseType("{stu_id: int, score_1: int, score_2: int}")
	if err != nil {
		b.Fatal(err)
	}
	rows := make([]string, 1000)
	for i := range rows {
		rows[i] = fmt.Sprintf(`{"stu_id":%d,"score_1":80,"score_2":95}`, i)
	}
	for _, c := range []struct {
		name string
		row  Type
	}{{"typed", declared}, {"untyped", Any}} {
		scope := NewScope(Names{Row: c.row})
		verify, err := scope.Compile(Source{Text: "0 <= stu_id && stu_id <= 999"}, Bool)
		if err != nil {
			b.Fatal(err)
		}
		calculate, err := scope.CompileRecord([]RecordSource{
			{"stu_id", Source{Text: "stu_id"}}, {"avg_score", Source{Text: "(score_1 + score_2) / 2"}},
		})
		if err != nil {
			b.Fatal(err)
		}
		average := calculate.Fields()[1].Program
		b.Run(c.name, func(b *testing.B) {
			fr := scope.NewFrame(Budget{})
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				fr.Next()
				fr.Set(0, IntValue(int64(i%1000)))
				fr.Set(1, IntValue(80))
				fr.Set(2, IntValue(95))
				if ok, err := verify.Bool(fr); !ok || err != nil {
					b.Fatal(ok, err)
				}
				if v, err := average.Value(fr); v.Float() != 87.5 || err != nil {
					b.Fatal(v, err)
				}
			}
		})
		b.Run(c.name+"/json", func(b *testing.B) {
			fr := scope.NewFrame(Budget{})
			var out []byte
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				fr.Next()
				if err := scope.ReadJSON(fr, rows[i%1000]); err != nil {
					b.Fatal(err)
				}
				if ok, err := verify.Bool(fr); !ok || err != nil {
					b.Fatal(ok, err)
				}
				if out, err = calculate.AppendJSON(out[:0], fr); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Evaluating the students' expressions allocates nothing for a row.
func TestNoAllocationForARow(t *testing.T) {
	for _, row := range []Type{Any, Object(Field{"a", Int}, Field{"b", Int}, Field{"name", String})} {
		scope := NewScope(Names{Row: row})
		record, err := scope.CompileRecord([]RecordSource{
			{"a", Source{Text: "a"}}, {"avg", Source{Text: "(a + b) / 2"}}, {"in", Source{Text: `name in ["x", "y"] && 0 <= a && a <= 999`}},
			{"most", Source{Text: "max(a, b)"}}, {"text", Source{Text: `name + "-" + string(a)`}},
		})
		if err != nil {
			t.Fatal(err)
		}
		fr := scope.NewFrame(Budget{})
		out := make([]byte, 0, 1000)
		allocations := testing.AllocsPerRun(1000, func() {
			fr.Next()
			if err := scope.ReadJSON(fr, `{"a":80,"b":95,"name":"x"}`); err != nil {
				t.Fatal(err)
			}
			if out, err = record.AppendJSON(out[:0], fr); err != nil {
				t.Fatal(err)
			}
		})
		if string(out) != `{"a":80,"avg":87.5,"in":true,"most":95,"text":"x-80"}` {
			t.Errorf("it gives %s", out)
		}
		if allocations > 0.1 { // texts are cut from pieces of 4 KiB
			t.Errorf("a row allocates %v times", allocations)
		}
	}
}
