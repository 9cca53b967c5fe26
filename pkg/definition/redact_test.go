package definition

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// However a message shows a value, it does not show it any more.
func TestRedactorFindsValues(t *testing.T) {
	ways := []func(string) string{
		func(v string) string { return v }, strconv.Quote, strconv.QuoteToASCII, url.QueryEscape, url.PathEscape,
		func(v string) string {
			return strings.Map(func(c rune) rune {
				if 'a' <= c && c <= 'z' {
					c -= 'a' - 'A'
				}
				return c
			}, v)
		},
		func(v string) string { return fmt.Sprintf("dial tcp: lookup %s: no such host", v) },
		func(v string) string { return fmt.Sprintf("%q, and %q again", v, v) },
		func(v string) string { return fmt.Sprintf("cut: %.20s", v+strings.Repeat("x", 40)) },
	}
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.StringN(4, 60, -1).Filter(func(s string) bool { return strings.TrimSpace(s) == s }).Draw(t, "value")
		text := rapid.SampledFrom(ways).Draw(t, "way")(value)
		got := NewRedactor(Secret{"${N}", value}, Secret{"${M}", "other"}).Text("before " + text + " behind")
		if !strings.HasPrefix(got, "before ") || !strings.HasSuffix(got, " behind") || strings.Contains(strings.ToLower(got), strings.ToLower(value)) && !strings.Contains("before ${n} behind, and again cut: dial tcp: lookup no such host ${m}", strings.ToLower(value)) {
			t.Fatalf("%q in %q: %q", value, text, got)
		}
	})
}

func TestRedactor(t *testing.T) {
	for _, test := range []struct{ value, text, want string }{
		{"hunter2", "password hunter2, HUNTER2", "password ${N}, ${N}"},
		{"1", "db is 1 of 16, at 10.0.0.1:6379", "db is ${N} of 16, at 10.0.0.${N}:6379"},
		{"h.example:6379", "lookup h.example on 10.0.0.1:53: no such host; h.example:6379", "lookup ${N} on 10.0.0.1:53: no such host; ${N}"},
		{"h:hunter2", "lookup tcp/hunter2: unknown port", "lookup tcp/${N}: unknown port"},
		{"a.b:1, c.d:2", "at c.d:2 and a.b:1", "at ${N} and ${N}"},
		{"redis://u:sesame@h.i/0", `parse "redis://u:sesame@h.i/0": no; sesame; redis is away`, `parse "${N}": no; ${N}; redis is away`},
		{"a\"b", `"a\"b"`, `"${N}"`},
		{"1500ms", "it had 1.5s, of 11.5s", "it had ${N}, of 1${N}"},
		{"1000ms", "it had 1s, of 11s", "it had ${N}, of 11s"},
		{"", "nothing", "nothing"},
	} {
		if got := NewRedactor(Secret{"${N}", test.value}).Text(test.text); got != test.want {
			t.Errorf("%q in %q: %q, want %q", test.value, test.text, got, test.want)
		}
	}
	r := NewRedactor(Secret{"${N}", "hunter2"})
	coded := batch.Errorf(batch.CodeConnectorUnavailable, "ask hunter2: %w", context.Canceled)
	for _, err := range []error{coded, fmt.Errorf("try hunter2: %w", coded), errors.Join(coded, errors.New("close"))} {
		got := r.Error(err)
		if batch.CodeOf(got) != batch.CodeConnectorUnavailable || !errors.Is(got, context.Canceled) {
			t.Errorf("%v became %v", err, got)
		}
		for e := got; e != nil; e = errors.Unwrap(e) {
			inner, _ := errors.AsType[*batch.Error](e)
			if text := e.Error() + inner.Error(); strings.Contains(text, "hunter2") || !strings.Contains(text, "${N}") {
				t.Errorf("%v says %q", err, text)
			}
		}
	}
	if err := errors.New("clean"); r.Error(err) != err || r.Error(nil) != nil || (*Redactor)(nil).Error(err) != err || NewRedactor() != nil { //nolint:errorlint // the same
		t.Error("an error without a value is another")
	}
}
