package batch

import (
	"encoding/json"
	"fmt"
	"math/big"
	"testing"

	"pgregory.net/rapid"
)

func TestKeyText(t *testing.T) {
	for value, want := range map[string]string{
		`7`: "7", `7.0`: "7", `70e-1`: "7", `0.7E1`: "7", `-0`: "0", `-0.0e5`: "0", `1.50`: "1.5", `0.05`: "0.05", `-1250e-3`: "-1.25", `1e3`: "1000",
		`9007199254740993`: "9007199254740993", `1e31`: "10000000000000000000000000000000", `1e32`: "1e32", `1e-40`: "1e-40",
		`"7"`: "7", `"a\u00e4\n"`: "aä\n", `""`: "", ` true `: "true", `false`: "false",
	} {
		if got, err := KeyText([]byte(value)); got != want || err != nil {
			t.Errorf("%s: got %q, %v, want %q", value, got, err, want)
		}
	}
	for _, value := range []string{``, `null`, `{}`, `[1]`, `01`, `1.`, `-`, `"a`, `tru`, `x`} {
		if got, err := KeyText([]byte(value)); err == nil {
			t.Errorf("%s has the text %q", value, got)
		}
	}
}

// Two numbers have one text if, and only if, they are one shard key; and the text is a spelling of the number.
func TestKeyTextGoesByValue(t *testing.T) {
	field := NewKeyField("k")
	rapid.Check(t, func(r *rapid.T) {
		number := rapid.Custom(func(r *rapid.T) string {
			return fmt.Sprintf("%s%d%s%s", rapid.SampledFrom([]string{"", "-"}).Draw(r, "sign"), rapid.Uint64Range(0, 2000).Draw(r, "digits"),
				rapid.SampledFrom([]string{"", ".0", ".5", ".50", ".05", ".125"}).Draw(r, "fraction"),
				rapid.SampledFrom([]string{"", "e0", "e1", "E+2", "e-1", "e-3", "e30", "e-33"}).Draw(r, "power"))
		})
		a, b := number.Draw(r, "a"), number.Draw(r, "b")
		textA, errA := KeyText([]byte(a))
		textB, errB := KeyText([]byte(b))
		hashA, _ := field.HashValue([]byte(a))
		hashB, _ := field.HashValue([]byte(b))
		if errA != nil || errB != nil || (textA == textB) != (hashA == hashB) {
			r.Fatalf("%s has the text %s, %v, and the hash %x; %s has %s, %v, %x", a, textA, errA, hashA, b, textB, errB, hashB)
		}
		was, _ := new(big.Rat).SetString(a)
		is, ok := new(big.Rat).SetString(textA)
		if !ok || was.Cmp(is) != 0 || !json.Valid([]byte(textA)) {
			r.Fatalf("%s has the text %s", a, textA)
		}
	})
}
