package expr

import "testing"

// A long evaluation gives way again and again, for each row anew; a short one never does.
func TestYield(t *testing.T) {
	scope := NewScope(Names{})
	long, err := scope.Compile(Source{Text: "len(map(range(0, n), a => map(range(0, n), b => a + b)))"}, Int)
	if err != nil {
		t.Fatal(err)
	}
	turns := 0
	fr := scope.NewFrame(Budget{Yield: func() { turns++ }})
	for _, row := range []struct{ n, least, most int }{{2, 0, 0}, {200, 4, 50}, {2, 0, 0}, {200, 4, 50}} {
		fr.Next()
		turns = 0
		fr.Set(0, IntValue(int64(row.n)))
		if _, err := long.Int(fr); err != nil {
			t.Fatal(err)
		}
		if turns < row.least || turns > row.most || int64(turns) > (DefaultSteps-fr.steps)/turn {
			t.Errorf("%d turns were given in %d steps", turns, DefaultSteps-fr.steps)
		}
	}
}
