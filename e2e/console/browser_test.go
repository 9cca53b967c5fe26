package console

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

//go:embed testdata/axe.min.js
var axe string

// patience is how long a test waits for something that the page must show. It is that long for loaded machines only.
const patience = 60 * time.Second

// browser is one tab of a Chromium of its own. Only the test's goroutine may use it.
type browser struct {
	t   *testing.T
	ctx context.Context
	url string // of the console, with a slash at the end

	mu    sync.Mutex
	wrong []string // exceptions of scripts; guarded by mu
}

// openBrowser starts a browser. It skips the test where there is none.
func openBrowser(t *testing.T, url string) *browser {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		t.Skip("there is no Chromium: apt-get install chromium")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.Flag("hide-scrollbars", true))
	allocator, end := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(end)
	ctx, stop := chromedp.NewContext(allocator, chromedp.WithErrorf(func(string, ...any) {}))
	t.Cleanup(stop)
	b := &browser{t: t, ctx: ctx, url: url}
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start %s: %v", path, err)
	}
	if err := chromedp.Listen(ctx, func(event any) {
		if thrown, ok := event.(*runtime.EventExceptionThrown); ok {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.wrong = append(b.wrong, fmt.Sprintf("%+v", thrown.ExceptionDetails))
		}
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, w := range b.wrong {
			t.Errorf("a script of the console failed: %s", w)
		}
	})
	b.window(1440, 900)
	return b
}

// do runs actions, for up to the patience.
func (b *browser) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

// window gives the page so many pixels.
func (b *browser) window(width, height int64) {
	b.t.Helper()
	b.do(chromedp.EmulateViewport(width, height))
}

// dark switches between the dark and the light theme.
func (b *browser) dark(on bool) {
	b.t.Helper()
	theme := "light"
	if on {
		theme = "dark"
	}
	b.do(func(ctx context.Context, t *chromedp.Target) (none chromedp.Void, err error) {
		_, err = cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: theme}}})
		return none, err
	})
}

// show goes to a page of the console, such as "#/letters".
func (b *browser) show(address string) {
	b.t.Helper()
	b.do(chromedp.Navigate("about:blank"), chromedp.Navigate(b.url+address))
}

// eval returns the value of an expression, which may be a promise.
func eval[T any](b *browser, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, awaitPromise))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return value
}

// await waits until an expression is true. The page looks by itself, each 50 ms. A page that goes elsewhere is asked again there.
func (b *browser) await(what, condition string) {
	b.t.Helper()
	script := fmt.Sprintf(`new Promise((found) => {
		const until = Date.now() + 2000;
		const look = () => { let is = false; try { is = Boolean(%s); } catch {} if (is || Date.now() > until) found(is); else setTimeout(look, 50); };
		look();
	})`, condition)
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	for ctx.Err() == nil {
		is, err := chromedp.Run(ctx, chromedp.Evaluate[bool](script, awaitPromise))
		if is {
			return
		}
		if err != nil && ctx.Err() == nil && !strings.Contains(err.Error(), "navigated") {
			b.t.Fatalf("wait for %s: %v", what, err)
		}
	}
	b.t.Fatalf("the page does not show %s. It shows:\n%s", what, eval[string](b, "document.body.innerText"))
}

// awaitPromise makes an evaluation wait for the promise that its expression gives.
func awaitPromise(p *runtime.EvaluateParams) {
	yes := true
	p.AwaitPromise = &yes
}

// awaitText waits until the page shows a text.
func (b *browser) awaitText(text string) {
	b.t.Helper()
	b.await(fmt.Sprintf("%q", text), fmt.Sprintf("document.body.innerText.includes(%s)", quote(text)))
}

// press clicks the button or link with a text, as soon as there is one that may be pressed.
func (b *browser) press(text string) {
	b.t.Helper()
	find := fmt.Sprintf(`[...(document.querySelector("dialog[open]") || document.querySelector("main") || document).querySelectorAll("button, a, summary"), ...document.querySelectorAll("header button")].find((e) => !e.disabled && e.textContent.trim() === %s)`, quote(text))
	b.await("the button "+text, find)
	eval[bool](b, "("+find+".click(), true)")
}

// fill writes a text into the field with an id, as if it were typed at once.
func (b *browser) fill(id, text string) {
	b.t.Helper()
	b.await("the field "+id, fmt.Sprintf("document.getElementById(%s)", quote(id)))
	eval[bool](b, fmt.Sprintf(`(() => { const e = document.getElementById(%s); e.value = %s; e.dispatchEvent(new Event("input", {bubbles: true})); return true; })()`, quote(id), quote(text)))
}

// key presses keys, which go to the element that has the focus.
func (b *browser) key(keys string) {
	b.t.Helper()
	b.do(chromedp.KeyEvent(keys))
}

// barriers returns the violations that axe finds, a line each.
func (b *browser) barriers() string {
	b.t.Helper()
	eval[bool](b, axe+"\n;true")
	return eval[string](b, `axe.run({resultTypes: ["violations"]}).then((r) => r.violations.map((v) => v.id + ": " + v.nodes.map((n) => n.html + " " + n.failureSummary).join("; ")).join("\n"))`)
}

// bypassPolicy lets the test add axe to the page, which the Content-Security-Policy forbids.
func (b *browser) bypassPolicy() {
	b.t.Helper()
	b.do(func(ctx context.Context, t *chromedp.Target) (none chromedp.Void, err error) {
		_, err = cdp.Call(ctx, t, page.SetBypassCSP, page.SetBypassCSPParams{Enabled: true})
		return none, err
	})
}

// onEachPage runs a script at the beginning of each page that is opened from now on.
func (b *browser) onEachPage(script string) {
	b.t.Helper()
	b.do(func(ctx context.Context, t *chromedp.Target) (none chromedp.Void, err error) {
		_, err = cdp.Call(ctx, t, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: script})
		return none, err
	})
}

// screenshot writes the whole page into the folder of screenshots, if there is one.
func (b *browser) screenshot(name string) {
	b.t.Helper()
	dir := os.Getenv("KISGRID_SCREENSHOTS")
	if dir == "" {
		return
	}
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	picture, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o644)
	}
	if err != nil {
		b.t.Error(err)
	}
}

// quote writes a text as a string of JavaScript.
func quote(text string) string {
	var s strings.Builder
	e := json.NewEncoder(&s)
	e.SetEscapeHTML(false)
	if err := e.Encode(text); err != nil {
		panic(err) // a string can be written as JSON
	}
	return strings.TrimSpace(s.String())
}
