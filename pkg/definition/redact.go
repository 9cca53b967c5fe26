package definition

import (
	"cmp"
	"encoding/json"
	"errors"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Secret is a value that no message may show. Shown is the text that is shown in its place, such as ${NAME}.
type Secret struct{ Shown, Value string }

// Redactor replaces secrets in texts and errors before these reach rows, logs and statuses. A nil Redactor replaces nothing. It
// is safe for concurrent use.
type Redactor struct {
	pattern *regexp.Regexp
	shown   map[string]string // maps each form of a value, in lower case, to the text that is shown in its place
	all     string            // the text that is shown in place of a shortened value
}

// NewRedactor makes the Redactor for these secrets. It returns nil if there are none, or all their values are empty.
func NewRedactor(secrets ...Secret) *Redactor {
	r := &Redactor{shown: map[string]string{}}
	var forms, starts []string
	for _, s := range secrets {
		for _, form := range formsOf(s.Value) {
			if key := strings.ToLower(form); r.shown[key] == "" {
				r.shown[key] = s.Shown
				forms = append(forms, form)
			}
		}
		if len(s.Value) > 2*quotedStart {
			starts = append(starts, s.Value[:quotedStart])
		}
		r.all = cmp.Or(r.all, s.Shown)
	}
	if len(forms) == 0 {
		return nil
	}
	slices.SortFunc(forms, func(a, b string) int { return cmp.Compare(len(b), len(a)) }) // whole values before their parts
	var pattern strings.Builder
	pattern.WriteString("(?i)")
	for i, form := range forms {
		if i > 0 {
			pattern.WriteByte('|')
		}
		pattern.WriteString(bounded(form))
	}
	for _, start := range starts { // of a value that somebody cut short
		pattern.WriteString("|" + literal(start) + `\S*`)
	}
	r.pattern = regexp.MustCompile(pattern.String())
	return r
}

const (
	// quotedStart is the number of bytes at the beginning of a long value by which a shortened value is recognized.
	quotedStart = 16
	// short is the length in bytes under which a value is recognized only as a whole word. Otherwise the value 1 would be taken
	// out of every number.
	short = 4
)

// bounded returns the regular expression for one form of a secret value. A form of fewer than short bytes is matched as a whole
// word only.
func bounded(form string) string {
	pattern := literal(form)
	if len(form) >= short {
		return pattern
	}
	word := func(c byte) bool {
		return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
	}
	if word(form[0]) {
		pattern = `\b` + pattern
	}
	if word(form[len(form)-1]) {
		pattern += `\b`
	}
	return pattern
}

// literal returns the regular expression that matches a text itself. Bytes that are not UTF-8 are matched as package regexp
// reads them, one by one.
func literal(text string) string { return regexp.QuoteMeta(string([]rune(text))) }

// formsOf returns the texts in which a message may show a secret value: the value itself, the value quoted or escaped, and the
// parts into which code that connects takes an address apart, such as host and port.
func formsOf(value string) []string {
	parts := []string{value}
	if d, err := time.ParseDuration(value); err == nil {
		parts = append(parts, d.String()) // as messages write a parameter that is one
	}
	for part := range strings.SplitSeq(value, ",") {
		part = strings.TrimSpace(part)
		parts = append(parts, part)
		if host, port, err := net.SplitHostPort(part); err == nil {
			parts = append(parts, host)
			if _, err := strconv.Atoi(port); err != nil { // a port's number tells nothing
				parts = append(parts, port)
			}
		}
	}
	if strings.Contains(value, "://") {
		for _, part := range strings.FieldsFunc(value, func(c rune) bool { return strings.ContainsRune(":/@?&=,# ", c) }) {
			if _, err := strconv.Atoi(part); err != nil && len(part) >= short && !slices.Contains(schemes, strings.ToLower(part)) {
				parts = append(parts, part)
			}
		}
	}
	var forms []string
	for _, part := range parts {
		quoted, ascii, text := strconv.Quote(part), strconv.QuoteToASCII(part), []byte(nil)
		text, _ = json.Marshal(part) //nolint:errchkjson // of a string there is no error
		for _, form := range []string{
			part, quoted[1 : len(quoted)-1], ascii[1 : len(ascii)-1], string(text[1 : len(text)-1]), url.QueryEscape(part), url.PathEscape(part),
			strings.ToValidUTF8(part, "\uFFFD"),
		} {
			if form != "" && !slices.Contains(forms, form) {
				forms = append(forms, form)
			}
		}
	}
	return forms
}

// schemes are words in URLs that tell nothing, and so are not treated as secrets.
var schemes = []string{"redis", "rediss", "unix", "http", "https", "tcp", "mysql"}

// Text returns a text in which each secret is replaced by the text that is shown in its place, its Shown.
func (r *Redactor) Text(text string) string {
	if r == nil {
		return text
	}
	return r.pattern.ReplaceAllStringFunc(text, func(found string) string {
		return cmp.Or(r.shown[strings.ToLower(found)], r.all)
	})
}

// Error returns an error whose text has no secrets. If the text of err has none, it returns err itself; otherwise an error with
// the same code, for which errors.Is gives the same answers, and from which err can't be reached.
func (r *Redactor) Error(err error) error {
	if r == nil || err == nil {
		return err
	}
	text := r.Text(err.Error())
	if text == err.Error() {
		return err
	}
	if e, ok := err.(*batch.Error); ok { //nolint:errorlint // an error that wraps it says more
		return r.coded(e)
	}
	return &redacted{text: text, from: err, redactor: r}
}

// coded returns a copy of e in which the secrets in the text are replaced.
func (r *Redactor) coded(e *batch.Error) *batch.Error {
	out := batch.Errorf(e.Code, "%w", &redacted{text: r.Text(e.Message), from: e, redactor: r})
	out.RetryAfter = e.RetryAfter
	return out
}

// redacted is the error that Error returns in place of an error whose text has secrets. It has no Unwrap, so that nobody can
// get at that error.
type redacted struct {
	text     string
	from     error
	redactor *Redactor
}

func (e *redacted) Error() string { return e.text }

// Is reports whether errors.Is finds target in the error that e replaces.
func (e *redacted) Is(target error) bool { return errors.Is(e.from, target) }

// As sets target to the *batch.Error that is wrapped in the error that e replaces, without its secrets. It reports false if
// there is none, or if target wants another type.
func (e *redacted) As(target any) bool {
	into, ok := target.(**batch.Error)
	if !ok {
		return false
	}
	coded, ok := errors.AsType[*batch.Error](e.from)
	if ok {
		*into = e.redactor.coded(coded)
	}
	return ok
}
