package expr

import (
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"
)

// anInt draws whole numbers, with those near the bounds often.
func anInt() *rapid.Generator[int64] {
	return rapid.OneOf(rapid.Int64(), rapid.Int64Range(-5, 5), rapid.Int64Range(math.MaxInt64-3, math.MaxInt64), rapid.Int64Range(math.MinInt64, math.MinInt64+3), rapid.Int64Range(1<<53-3, 1<<53+3), rapid.Int64Range(-3037000500, 3037000500))
}

// Arithmetic of whole numbers is that of mathematics, or says that it can't be.
func TestIntsAreExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := anInt().Draw(t, "a"), anInt().Draw(t, "b")
		x, y := big.NewInt(a), big.NewInt(b)
		for name, c := range map[string]struct {
			got  int64
			ok   bool
			want *big.Int
		}{
			"sum":        of(addInt(a, b))(new(big.Int).Add(x, y)),
			"difference": of(subInt(a, b))(new(big.Int).Sub(x, y)),
			"product":    of(mulInt(a, b))(new(big.Int).Mul(x, y)),
		} {
			if c.ok != c.want.IsInt64() || c.ok && c.got != c.want.Int64() {
				t.Fatalf("the %s of %d and %d is %d, %v, want %v", name, a, b, c.got, c.ok, c.want)
			}
		}
		if b == 0 {
			return
		}
		// Round down: DivMod of package big rounds so that the remainder is not below 0.
		quotient, rest := new(big.Int).DivMod(x, y, new(big.Int))
		if b < 0 && rest.Sign() != 0 {
			quotient.Sub(quotient, big.NewInt(1))
			rest.Add(rest, y)
		}
		got, ok := divInt(a, b)
		if ok != quotient.IsInt64() || ok && got != quotient.Int64() || modInt(a, b) != rest.Int64() {
			t.Fatalf("%d by %d is %d, %v with the rest %d, want %v with %v", a, b, got, ok, modInt(a, b), quotient, rest)
		}
	})
}

// of puts a result beside the one of package big.
func of(got int64, ok bool) func(want *big.Int) struct {
	got  int64
	ok   bool
	want *big.Int
} {
	return func(want *big.Int) struct {
		got  int64
		ok   bool
		want *big.Int
	} {
		return struct {
			got  int64
			ok   bool
			want *big.Int
		}{got, ok, want}
	}
}

// A whole number compares with a float, and becomes one, as in mathematics.
func TestIntsAndFloats(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := anInt().Draw(t, "n")
		f := rapid.OneOf(rapid.Float64(), rapid.Just(float64(n)), rapid.Just(math.Nextafter(float64(n), math.Inf(1))), rapid.Just(math.Nextafter(float64(n), math.Inf(-1)))).Draw(t, "f")
		if !finite(f) {
			return
		}
		exact := new(big.Float).SetInt64(n)
		if got, want := compareIntFloat(n, f), exact.Cmp(big.NewFloat(f)); got != want {
			t.Fatalf("%d compares with %v as %d, want %d", n, f, got, want)
		}
		got, ok := exactFloat(n)
		if ok != (exact.Cmp(new(big.Float).SetFloat64(float64(n))) == 0) || ok && got != float64(n) {
			t.Fatalf("%d is the float %v, %v", n, got, ok)
		}
		whole, accuracy := big.NewFloat(f).Int64()
		if got, ok := exactInt(f); ok != (accuracy == big.Exact) || ok && got != whole {
			t.Fatalf("%v is the int %d, %v; want %d, %v", f, got, ok, whole, accuracy)
		}
	})
}
