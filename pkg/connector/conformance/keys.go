package conformance

import (
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// ownKeys has rows use keys that are KisGrid's own, by each operation, and with each way to share the key between prefix and row.
// The store must refuse them, and carry out the other effects.
func ownKeys(t *testing.T, s Store) {
	t.Helper()
	for _, key := range []string{
		definition.OwnKeys, definition.OwnKeys + "x", definition.OwnKeys + "dead:{Vic}:letters", definition.OwnKeys + "once:0:1:F:s", definition.OwnKeys + "window",
	} {
		for cut := range len(key) + 1 {
			c := s.Open(t, key[:cut])
			rest := key[cut:]
			effects := []connector.Effect{
				set(rest, "f", "v"), set("*"+rest, "f", "v"), incr(rest, "f", "1"), add(rest, "v"), remove(rest), set("*"+rest, "g", "w"), set(rest, "f", "v"),
			}
			for i := range effects {
				effects[i].Command = uint32(i)
			}
			from := cause()
			for range 2 {
				verdicts, err := c.Save(t.Context(), from, effects)
				if err != nil || len(verdicts) != len(effects) {
					t.Fatalf("%q + %q: verdicts %v, error %v", key[:cut], rest, verdicts, err)
				}
				for i, verdict := range verdicts {
					// Where the prefix is one of ours already, so is every key.
					ours := effects[i].Key == rest || strings.HasPrefix(key[:cut], definition.OwnKeys)
					if ours != (batch.CodeOf(verdict) == batch.CodeSaveFailed) || !ours && verdict != nil {
						t.Errorf("%q + %q: the verdict on effect %d is %v", key[:cut], rest, i, verdict)
					}
				}
			}
			values, err := c.Load(t.Context(), []string{rest, "*" + rest, rest})
			if err != nil || len(values) != 3 {
				t.Fatalf("%q + %q: loaded %v, %v", key[:cut], rest, values, err)
			}
			if batch.CodeOf(values[0].Err) != batch.CodeConversionFailed || batch.CodeOf(values[2].Err) != batch.CodeConversionFailed {
				t.Errorf("%q + %q: loaded %v", key[:cut], rest, values)
			}
			if !strings.HasPrefix(key[:cut], definition.OwnKeys) && (values[1].Err != nil || len(values[1].Fields) != 2) {
				t.Errorf("%q + %q: beside it there is %v", key[:cut], "*"+rest, values[1])
			}
			if !strings.HasPrefix(key[:cut], definition.OwnKeys) {
				save(t, c, remove("*"+rest))
			}
		}
	}
	c := s.Open(t, "")
	probe := connector.ProbeKey("") // the store removes it
	if verdicts, err := c.Save(t.Context(), cause(), []connector.Effect{set(probe, "f", "v")}); err != nil || len(verdicts) != 1 || batch.CodeOf(verdicts[0]) != batch.CodeSaveFailed {
		t.Errorf("%q: verdicts %v, error %v", probe, verdicts, err)
	}
	for _, near := range []string{"kisgrid", "kisgrid;x", "Kisgrid:x", "KISGRID:once:x", " kisgrid:x", "xkisgrid:x", "{kisgrid:x}"} {
		save(t, c, set(near, "f", "v"))
		check(t, c, map[string]map[string]string{near: {"f": "v"}})
		save(t, c, remove(near))
	}
}
