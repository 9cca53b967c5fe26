package coordinator

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/internal/access"
	"github.com/kisgrid/kisgrid/internal/serve"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// TestKeysOfCallers submits rows over HTTP with Idempotency-Key as two callers, to two coordinators of a cluster. Who submits again, wherever, names
// the same batch; a key belongs to its caller, so that another one's request with the same key is another batch; and other rows with the
// same key are refused everywhere.
func TestKeysOfCallers(t *testing.T) {
	t.Parallel()
	var f accessFile
	f.add("shop", "'*'", []access.Right{access.Submit})
	f.add("bank", "'*'", []access.Right{access.Submit})
	path := f.write(t)
	urls := map[*rig]string{}
	begin := func(r *rig) *rig {
		listener, err := serve.Listen(t.Context(), nil, "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		urls[r] = "http://" + listener.Addr().String()
		r.start(func(c *Config) { c.AccessFile, c.HTTP = path, listener })
		r.awaitReady()
		return r
	}
	first := begin(&rig{t: t, prefix: fmt.Sprintf("/test-%d/", prefixes.Add(1)), etcd: SharedEtcd})
	second := begin(&rig{t: t, prefix: first.prefix, etcd: first.etcd})
	w, one := first.join("w")
	other := w.session().welcome(false, 0)
	if one.hello.GetCoordinator() != first.c.ID() {
		one, other = other, one
	}
	sessions := map[*rig]*workerSession{first: one, second: other}
	first.whole()
	for r := range urls {
		r.owns("W", 1)
	}
	// post submits rows. It returns the batch that they were run as, which is empty where the request was refused.
	post := func(r *rig, who, key, rows string) (id string, status int, text string) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, urls[r]+"/v1/flows/W/rows", strings.NewReader(rows))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+f.tokens[who])
		request.Header.Set("Idempotency-Key", key)
		type answer struct {
			status int
			text   string
			err    error
		}
		ended := make(chan answer, 1)
		go func() {
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				ended <- answer{err: err}
				return
			}
			defer response.Body.Close()
			all, err := io.ReadAll(response.Body)
			ended <- answer{response.StatusCode, string(all), err}
		}()
		for {
			select {
			case p := <-sessions[r].parts:
				stream, err := batch.StreamIDFrom(p.GetBatch().GetStream())
				if err != nil {
					t.Fatal(err)
				}
				id = (batch.ID{Stream: stream, Sequence: p.GetBatch().GetSequence()}).String()
				sessions[r].done(p)
			case a := <-ended:
				if a.err != nil {
					t.Fatal(a.err)
				}
				return id, a.status, a.text
			}
		}
	}
	const rows, others = "{\"id\":1}\n", "{\"id\":2}\n"
	mine, status, text := post(first, "shop", "k", rows)
	if status != http.StatusOK || mine == "" || !strings.Contains(text, `"done":1`) {
		t.Fatalf("%d %s", status, text)
	}
	for name, c := range map[string]struct {
		at             *rig
		who, key, rows string
		status         int
		same           bool
	}{
		"again":                      {first, "shop", "k", rows, 200, true},
		"again, elsewhere":           {second, "shop", "k", rows, 200, true},
		"other rows":                 {first, "shop", "k", others, 422, false},
		"other rows, elsewhere":      {second, "shop", "k", others, 422, false},
		"somebody else":              {first, "bank", "k", rows, 200, false},
		"somebody else's other rows": {second, "bank", "k2", others, 200, false},
		"another key":                {second, "shop", "k2", rows, 200, false},
	} {
		id, status, text := post(c.at, c.who, c.key, c.rows)
		if status != c.status || (id == mine) != c.same || (id == "") != (status != http.StatusOK) {
			t.Errorf("%s: %d, batch %q after %q: %s", name, status, id, mine, text)
		}
	}
}
