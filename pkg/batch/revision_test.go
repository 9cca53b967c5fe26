package batch_test

import (
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

func TestDigestText(t *testing.T) {
	var before batch.Digest
	for i := range before {
		before[i] = byte(i)
	}
	d := before
	for _, wrong := range []string{"00", strings.Repeat("0", 63), strings.Repeat("0", 65), strings.Repeat("0", 62) + "xx", strings.Repeat("ff", 33)} {
		if err := d.UnmarshalText([]byte(wrong)); err == nil || d != before {
			t.Errorf("UnmarshalText(%q) returned %v and left %v", wrong, err, d)
		}
	}
	text, err := before.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	var read batch.Digest
	if err := read.UnmarshalText(text); err != nil || read != before {
		t.Errorf("%s was read as %v, with the error %v", text, read, err)
	}
	if err := read.UnmarshalText(nil); err != nil || read != (batch.Digest{}) {
		t.Errorf("an empty text was read as %v, with the error %v", read, err)
	}
}
