package archtest

import (
	"bytes"
	"io/fs"
	"os"
	"strings"
	"testing"
)

// Every test makes its bubble by package bubble, which keeps the race detector whole. Only the text of a comment may name synctest.Test.
func TestBubblesAreMadeByPackageBubble(t *testing.T) {
	call := []byte("synctest." + "Test(")
	var calls, own int
	err := fs.WalkDir(os.DirFS("../.."), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(name, ".go") {
			return err
		}
		source, err := fs.ReadFile(os.DirFS("../.."), name)
		if err != nil {
			return err
		}
		calls += bytes.Count(source, []byte("bubble."+"Test("))
		for line := range bytes.Lines(source) {
			switch {
			case !bytes.Contains(line, call) || bytes.HasPrefix(bytes.TrimSpace(line), []byte("//")):
			case name == "internal/bubble/bubble.go":
				own++
			default:
				t.Errorf("%s: %s: make the bubble by bubble.Test", name, bytes.TrimSpace(line))
			}
		}
		return nil
	})
	if err != nil || calls == 0 || own != 1 {
		t.Errorf("%d calls of bubble.Test, %d of synctest.Test in package bubble, %v", calls, own, err)
	}
}
