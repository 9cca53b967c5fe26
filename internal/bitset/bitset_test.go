package bitset

import "testing"

func TestSet(t *testing.T) {
	const size = 130
	s := New(size)
	if len(s) != 3 {
		t.Fatalf("a set of %d numbers has %d words", size, len(s))
	}
	in := map[uint32]bool{}
	check := func() {
		t.Helper()
		for n := range uint32(size) {
			if s.Has(n) != in[n] {
				t.Errorf("whether %d is in: %v, want %v", n, s.Has(n), in[n])
			}
		}
	}
	for _, n := range []uint32{0, 63, 64, 65, 129} {
		if !s.Add(n) {
			t.Errorf("%d is said to be in before it was added", n)
		}
		if s.Add(n) {
			t.Errorf("%d is said to be new, and was added before", n)
		}
		in[n] = true
		check()
	}
	for _, n := range []uint32{64, 65, 1} {
		s.Remove(n)
		delete(in, n)
		check()
	}
	for n, want := range map[uint32]bool{0: true, 40: true, 64: false, 100: false, 128: true} {
		if s.HasAnyNear(n) != want {
			t.Errorf("whether any number near %d is in: %v, want %v", n, !want, want)
		}
	}
}
