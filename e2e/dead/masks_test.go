package dead

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/internal/access"
	"github.com/kisgrid/kisgrid/pkg/client"
)

// TestMasks looks at dead letters as callers with different rights: with the command line and over HTTP, in lists, by their ids and in redrives.
// A masked field and the reason, which has contents of the row, are nowhere in what a masked caller gets. It can't edit the letter or see a
// redrive's output, and may redrive it all the same: the row that runs is the whole one.
func TestMasks(t *testing.T) {
	const secret = "77777700" // what the function Price makes of the row's visible number
	dir := t.TempDir()
	text := "roles:\n  root: [{flows: ['*'], rights: [view, rows, submit, operate, define, connect]}]\n" +
		"  masked: [{flows: [Pay], rights: [view, rows, operate], mask: [cents, ACCOUNT]}]\n" +
		"  viewer: [{flows: [Pay], rights: [view]}]\n  other: [{flows: [Other], rights: [view, rows, operate]}]\nidentities:\n"
	tokens, secrets := map[string]string{}, map[string]string{}
	for _, name := range []string{"root", "masked", "viewer", "other"} {
		secret, hash := access.NewToken()
		tokens[name], secrets[name] = filepath.Join(dir, name), secret
		if err := os.WriteFile(tokens[name], []byte(secret+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		text += fmt.Sprintf("  - {name: %s, roles: [%s], tokens: [{sha256: %s}]}\n", name, name, hash)
	}
	file := filepath.Join(dir, "access.yml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r := start(t, 1, register, "--access-file", file)
	as := func(who string, args ...string) (out string, code int) {
		t.Helper()
		return r.kisgrid(append(args, "--token-file", tokens[who])...)
	}
	t.Setenv("KISGRID_TOKEN_FILE", tokens["root"])
	r.apply(documents(true))
	submit(t, r.Dial(client.WithTokenSource(client.TokenFile(tokens["root"]))), 777777, 777778)
	letters, _ := r.list()
	if len(letters) != 1 || letters[0].Reason != secret+" cents are not enough" {
		t.Fatalf("root sees %+v", letters)
	}
	id := letters[0].ID
	for _, args := range [][]string{
		{"dead", "list", "-o", "json"}, {"dead", "list"}, {"dead", "list", "--flow", "Pay", "-o", "json"}, {"dead", "show", id}, {"dead", "show", id, "-o", "json"},
		{"dead", "redrive", "--flow", "Pay", "--dry-run"}, {"dead", "drop", "--flow", "Pay", "--dry-run"},
	} {
		out, code := as("masked", args...)
		if code != 0 || strings.Contains(out, secret) {
			t.Errorf("%v as a masked caller ends with %d and says:\n%s", args, code, out)
		}
	}
	if out, _ := as("masked", "dead", "list", "-o", "json"); !strings.Contains(out, `"n":777777`) || !strings.Contains(out, `"cents":null`) || !strings.Contains(out, `"account":null`) {
		t.Errorf("the masked letter is %s", out)
	}
	for _, c := range []struct {
		who  string
		args []string
	}{
		{"masked", []string{"dead", "edit", id, "--row", `{"account":7,"n":7,"cents":1000000000}`}},
		{"masked", []string{"dead", "redrive", "--flow", "Pay", "--results"}},
		{"viewer", []string{"dead", "show", id}},
		{"viewer", []string{"dead", "redrive", "--flow", "Pay"}},
		{"viewer", []string{"dead", "drop", "--flow", "Pay"}},
		{"other", []string{"dead", "list", "--flow", "Pay"}},
	} {
		out, code := as(c.who, c.args...)
		if code != 1 || strings.Contains(out, secret) || !strings.Contains(out, "PERMISSION_DENIED") && !strings.Contains(out, "NOT_FOUND") {
			t.Errorf("%v as %s ends with %d and says:\n%s", c.args, c.who, code, out)
		}
		if strings.Contains(out, `flow ""`) {
			t.Errorf("%v as %s names no flow: %s", c.args, c.who, out)
		}
	}
	if out, code := as("other", "dead", "drop", id); code != 1 || !strings.Contains(out, "NOT_FOUND: there is no dead letter "+id) {
		t.Errorf("somebody else drops the letter by its id: %s", out)
	}
	// Over HTTP the same holds.
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.Coordinators[0].HTTP+"/v1/dead", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+secrets["masked"])
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var all bytes.Buffer
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		var l struct {
			Result struct {
				Letter struct {
					Row json.RawMessage `json:"row"`
				} `json:"letter"`
			} `json:"result"`
		}
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			t.Fatalf("%v: %s", err, lines.Bytes())
		}
		all.Write(lines.Bytes())
		all.Write(l.Result.Letter.Row)
	}
	if answer.StatusCode != http.StatusOK || strings.Contains(all.String(), secret) || !strings.Contains(all.String(), `"n":777777`) {
		t.Errorf("over HTTP it is %d %s", answer.StatusCode, all.String())
	}
	// A redrive by the masked caller runs the whole row.
	r.apply(documents(false))
	if out, code := as("masked", "dead", "redrive", "--flow", "Pay"); code != 0 || strings.Contains(out, secret) {
		t.Errorf("the redrive ends with %d and says:\n%s", code, out)
	}
	if got := r.redis.HGet(t.Context(), "pay:last:277", "cents").Val(); got != secret {
		t.Errorf("the redriven row saved %q", got)
	}
	// Each look at rows has an author in the audit log.
	if out, code := as("root", "audit", "--author", "masked"); code != 0 || !strings.Contains(out, "read dead letters") || !strings.Contains(out, "redrive") || strings.Contains(out, secret+" cents") {
		t.Errorf("the audit log says:\n%s", out)
	}
}
