package console

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/kisgrid/kisgrid/internal/access"
	"github.com/kisgrid/kisgrid/internal/devcluster"
)

// hostile is a row whose contents try to become markup, to turn the direction of the text around it, and to be rounded.
const hostile = `{"stu_id": 5, "big": 9007199254740993, "score_1": "<script>document.title='run'</script><img src=x onerror=alert(1)>", "score_2": 90, "note": "\u202Eevil \uD83D\uDE00"}`

// bad is a row that dies, and that can be mended.
const bad = `{"stu_id": 7, "score_1": "many", "score_2": 90}`

// TestConsole does the main job of each page as a person does it, at a cluster under load.
func TestConsole(t *testing.T) {
	k := start(t, devcluster.Config{Workers: 1})
	worker, err := k.StartWorker(devcluster.WorkerConfig{Name: "worker-2"})
	if err != nil {
		t.Fatal(err)
	}
	b := openBrowser(t, k.Console())
	submit(t, k, "", hostile, bad)
	load(t, k)

	t.Run("overview", func(t *testing.T) {
		b.t = t
		b.show("#/overview")
		b.await("the flow with its rate", fmt.Sprintf(`[...document.querySelectorAll("tbody tr")].some((r) => r.innerText.includes(%s) && /active/.test(r.innerText) && /[1-9]/.test(r.cells[2].innerText))`, quote(flow)))
		b.await("two workers", `document.querySelector("[aria-labelledby=workers] tbody").rows.length === 2`)
		worker.Kill()
		b.await("that a worker is gone", `document.querySelector("[aria-labelledby=workers] tbody").rows.length === 1 || document.querySelector("[aria-labelledby=workers]").innerText.includes("away")`)
	})

	t.Run("flow", func(t *testing.T) {
		b.t = t
		b.show("#/flow/" + flow)
		b.await("the chain", `document.querySelectorAll(".chain .box").length === 4 && document.querySelector(".chain").textContent.includes("Score12Cache")`)
		b.press("Pause…")
		b.fill("reason", "a test")
		b.press("Pause")
		b.awaitText("Paused")
		b.press("Take rows again")
		b.await("the flow active again", `document.querySelector("h1 .badge, .bar .badge").textContent === "active"`)
	})

	t.Run("documents", func(t *testing.T) {
		b.t = t
		b.show("#/flow/" + flow + "/documents")
		b.await("the document", `document.getElementById("document").value.includes("shard_key")`)
		text := eval[string](b, `document.getElementById("document").value`)
		b.fill("document", strings.Replace(text, "shard_key", "shrad_key", 1))
		b.await("the mistake at its line", `document.querySelector(".gutter .wrong").textContent === "4" && document.querySelector(".mistakes").textContent.includes("shrad_key")`)
		if eval[bool](b, `![...document.querySelectorAll("button")].find((e) => e.textContent === "Apply…").disabled`) {
			t.Error("a document with a mistake can be applied")
		}
		b.fill("document", text+"timeout: 2m\n")
		b.awaitText("No mistakes found.")
		b.press("Apply…")
		b.await("the difference", `document.querySelector("dialog .diff .add").textContent.includes("+timeout: 2m")`)
		b.press("Apply")
		b.await("the end of the change", `document.querySelector("dialog").innerText.includes("Done.")`)
		b.press("Close")
	})

	t.Run("revisions", func(t *testing.T) {
		b.t = t
		b.show("#/flow/" + flow + "/revisions")
		b.await("two revisions", `document.querySelectorAll("tbody tr").length === 2`)
		b.press("Differences")
		b.await("the changed line", `document.querySelector(".diff .add").textContent.includes("+timeout: 2m")`)
		b.press("Go back to it")
		b.await("the difference", `document.querySelector("dialog .diff .del").textContent.includes("-timeout: 2m")`)
		b.press("Apply")
		b.await("the end of the change", `document.querySelector("dialog").innerText.includes("Done.")`)
		b.press("Close")
		b.await("a third revision", `document.querySelectorAll("tbody tr").length === 3`)
	})

	t.Run("letters", func(t *testing.T) {
		b.t = t
		b.show("#/letters?text=evil")
		b.await("the hostile letter", `document.querySelectorAll("tbody tr").length === 1`)
		eval[bool](b, `(document.querySelector("tbody th button").click(), true)`)
		b.await("the row as text", `document.querySelector("dialog pre.row").textContent.includes("<script>document.title='run'</script><img src=x onerror=alert(1)>")`)
		b.await("all digits", `document.querySelector("dialog pre.row").textContent.includes("9007199254740993")`)
		if eval[bool](b, `document.title === "run" || Boolean(document.querySelector("dialog img"))`) {
			t.Error("a row has become markup")
		}
		b.press("Edit")
		b.fill("row", `{"stu_id": 5, "score_1": , "score_2": 90}`)
		b.awaitText("This is not JSON")
		b.fill("row", `{"stu_id": 5, "score_1": 9007199254740993, "score_2": 90}`)
		b.press("Save the row")
		b.await("the saved row", `document.querySelector("dialog pre.row").textContent.includes('"score_1": 9007199254740993')`)
		b.press("Close")
		b.show("#/letters?text=many")
		b.await("the other letter", `document.querySelectorAll("tbody tr").length === 1`)
		eval[bool](b, `(document.querySelector("tbody th button").click(), true)`)
		b.press("Edit")
		b.fill("row", `{"stu_id": 7, "score_1": 80, "score_2": 90}`)
		b.press("Save the row")
		b.press("Redrive…")
		b.await("the choice of results", `document.querySelector("dialog input[type=checkbox]")`)
		eval[bool](b, `(document.querySelector("dialog input[type=checkbox]").click(), true)`)
		b.fill("rate", "10")
		b.press("Redrive")
		b.await("the output of the redrive", `document.querySelector("dialog").innerText.includes("All letters came to their end.") && document.querySelector("dialog pre.row").textContent.includes('"avg_score":85')`)
		b.press("Close")
		b.awaitText("No letter fits the filter.")
	})

	t.Run("key", func(t *testing.T) {
		b.t = t
		b.show("#/key")
		b.fill("flow", flow)
		b.fill("key", "7")
		b.press("Look")
		b.awaitText("Where it goes")
		b.await("the worker", `document.querySelector("dl strong").textContent.startsWith("worker-")`)
	})

	t.Run("changes", func(t *testing.T) {
		b.t = t
		b.show("#/changes")
		b.await("the changes", `["apply", "edit dead letter", "read dead letters", "pause"].every((a) => document.querySelector("tbody").innerText.includes(a))`)
	})

	t.Run("keyboard", func(t *testing.T) {
		b.t = t
		b.show("#/overview")
		b.await("the flows", `document.querySelector("tbody a")`)
		walk := func(what, is string) { // goes on with Tab until the focus is where it should be
			t.Helper()
			for range 80 {
				b.key(kb.Tab)
				if eval[bool](b, "(() => { const e = document.activeElement; return Boolean("+is+"); })()") {
					return
				}
			}
			t.Fatalf("Tab does not lead to %s", what)
		}
		walk("the menu", `e.getAttribute("href") === "#/letters"`)
		if !eval[bool](b, `getComputedStyle(document.activeElement).outlineStyle !== "none"`) {
			t.Error("the focus can't be seen")
		}
		b.key(kb.Enter)
		b.await("the page of letters", `document.activeElement.tagName === "H1" && document.activeElement.textContent === "Dead letters"`)
		b.await("the letters", `document.querySelector("tbody th button")`)
		walk("a letter", `e.matches("tbody th button")`)
		b.key(kb.Enter)
		b.await("the letter", `document.querySelector("dialog[open]").contains(document.activeElement)`)
		b.key(kb.Escape)
		b.await("the list again", `!document.querySelector("dialog[open]")`)
		b.key("/")
		b.await("the first filter", `document.activeElement.id === "flow"`)
	})

	t.Run("looks", func(t *testing.T) {
		b.t = t
		b.bypassPolicy()
		pages := []struct{ name, address, there string }{
			{"overview", "#/overview", `document.querySelector("[aria-labelledby=connectors] tbody tr")`},
			{"flow", "#/flow/" + flow, `document.querySelector(".chain .box")`},
			{"documents", "#/flow/" + flow + "/documents", `document.getElementById("document")`},
			{"revisions", "#/flow/" + flow + "/revisions", `document.querySelector("tbody tr")`},
			{"letters", "#/letters", `document.querySelector("tbody tr")`},
			{"key", "#/key?flow=" + flow + "&key=7", `document.querySelector("dl strong")`},
			{"changes", "#/changes", `document.querySelector("tbody tr")`},
			{"apply", "#/apply", `document.getElementById("documents")`},
		}
		for i, p := range pages {
			for j, width := range []int64{1440, 390} {
				b.window(width, 900)
				b.dark((i+j)%2 == 1) // each page in one theme at each width
				b.show(p.address)
				b.await("the page "+p.name, p.there)
				b.screenshot(fmt.Sprintf("%s-%d", p.name, width))
				if found := b.barriers(); found != "" {
					t.Errorf("%s at %d px: %s", p.name, width, found)
				}
				if eval[bool](b, `document.documentElement.scrollWidth > innerWidth`) {
					t.Errorf("%s at %d px is wider than its window", p.name, width)
				}
			}
		}
		b.window(1440, 900)
		b.dark(false)
	})
}

// TestBehindProxy looks at the console below a path that a proxy takes away, and below one that it leaves.
func TestBehindProxy(t *testing.T) {
	k := start(t, devcluster.Config{Workers: 1, HTTPBase: "/c/d"})
	behind, err := url.Parse(k.Console())
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(behind)
		r.Out.Host = r.In.Host
	}}
	mux := http.NewServeMux()
	mux.Handle("/a/b/", http.StripPrefix("/a/b", proxy))
	mux.Handle("/c/d", proxy)
	mux.Handle("/c/d/", proxy)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	b := openBrowser(t, server.URL+"/")
	for _, base := range []string{"a/b/", "c/d/", "c/d"} {
		b.show(base + "#/overview")
		b.await("the flows below "+base, fmt.Sprintf(`document.querySelector("tbody").innerText.includes(%s)`, quote(flow)))
	}
}

// TestOtherCoordinator ends the coordinator that a page comes from, and expects the page of another one.
func TestOtherCoordinator(t *testing.T) {
	k := start(t, devcluster.Config{Workers: 1})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	other, err := k.StartHTTPCoordinator(ctx)
	if err != nil {
		t.Fatal(err)
	}
	b := openBrowser(t, k.Console())
	b.show("")
	b.await("both coordinators", `document.querySelector("[aria-labelledby=coordinators] tbody").rows.length === 2`)
	b.show("#/flow/" + flow) // a page whose policy names both
	b.await("the chain", `document.querySelector(".chain .box")`)
	k.Coordinators()[0].Kill()
	b.await("the same page of the other coordinator", fmt.Sprintf(`location.href.startsWith(%s) && document.querySelector(".chain .box")`, quote(other.Pages()+"/#/flow/")))
}

// TestRoles signs in with tokens. The page shows a caller only the things that it may do.
func TestRoles(t *testing.T) {
	text := "roles:\n  root: [{flows: ['*'], rights: [view, rows, submit, operate, define, connect]}]\n" +
		"  masked: [{flows: [" + flow + "], rights: [view, rows, operate], mask: [score_2]}]\n  viewer: [{flows: [" + flow + "], rights: [view]}]\nidentities:\n"
	secrets := map[string]string{}
	for _, name := range []string{"root", "masked", "viewer"} {
		secret, hash := access.NewToken()
		secrets[name] = secret
		text += fmt.Sprintf("  - {name: %s, roles: [%s], tokens: [{sha256: %s}]}\n", name, name, hash)
	}
	file := filepath.Join(t.TempDir(), "access.yml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	k := start(t, devcluster.Config{Workers: 1, AccessFile: file})
	submit(t, k, secrets["root"], `{"stu_id": 7, "score_1": "many", "score_2": 77777700}`)
	b := openBrowser(t, k.Console())
	signIn := func(secret string) {
		t.Helper()
		b.fill("token", secret)
		b.press("Sign in")
	}
	b.show("#/letters")
	signIn("kisgrid_wrong")
	b.awaitText("It is not known who you are.")
	signIn(secrets["viewer"])
	b.await("the letters without rows", `document.querySelector("tbody tr")`)
	if got := eval[string](b, "document.cookie"); got != "" {
		t.Errorf("scripts can read the cookie %q", got)
	}
	if eval[bool](b, `document.body.innerText.includes("Redrive") || document.body.innerText.includes("Shard key")`) {
		t.Error("a viewer is shown what it may not do")
	}
	b.show("#/flow/" + flow + "/documents")
	b.awaitText("You may look at these documents, and not change them")
	if eval[bool](b, `document.body.innerText.includes("Pause…")`) {
		t.Error("a viewer is shown a button to pause")
	}
	b.press("Sign out")
	signIn(secrets["masked"])
	b.show("#/letters")
	b.await("the letters", `document.querySelector("tbody tr")`)
	eval[bool](b, `(document.querySelector("tbody th button").click(), true)`)
	b.awaitText("Hidden from you")
	if eval[bool](b, `document.body.innerText.includes("77777700") || [...document.querySelectorAll("dialog button")].some((e) => e.textContent === "Edit")`) {
		t.Error("a masked field is shown, or can be edited")
	}
	b.do(chromedp.Navigate("about:blank"))
}
