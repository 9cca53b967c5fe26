package console

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/internal/devcluster"
)

// longest is how long a task of the page may take in this test. The console is made for 100 ms on a quiet machine, and the log says how long
// the tasks took; this bound only finds work that grows with the length of the lists.
const longest = 1000 // milliseconds

// TestLarge looks at a cluster of 500 flows and 100,000 dead letters, one of them with a row of 1 MiB. The answers about them are made up by a
// proxy before a coordinator.
func TestLarge(t *testing.T) {
	const flows, letters = 500, 100_000
	k := start(t, devcluster.Config{Workers: 1})
	behind, err := url.Parse(k.Console())
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(behind)
		r.Out.Host = r.In.Host
	}}
	answer := func(w http.ResponseWriter, value any) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(value); err != nil {
			t.Log(err) // the page has gone on
		}
	}
	type object = map[string]any
	mux := http.NewServeMux()
	mux.Handle("/", proxy)
	mux.HandleFunc("GET /v1/resources/flows", func(w http.ResponseWriter, _ *http.Request) {
		all := make([]object, flows)
		for i := range all {
			name := fmt.Sprintf("Flow%03d", i)
			all[i] = object{"kind": "flow", "name": name, "document": object{"yaml": strings.Repeat("QUFB", 300)}, "status": object{"flow": name, "state": "active", "wanted": 1, "active": 1}}
		}
		answer(w, object{"resources": all})
	})
	mux.HandleFunc("GET /v1/figures", func(w http.ResponseWriter, _ *http.Request) {
		all := make([]object, flows)
		for i := range all {
			functions := make([]object, 4)
			for j := range functions {
				functions[j] = object{"function": fmt.Sprintf("F%d", j), "rows": "1000000", "rows_per_second": 12.5, "p99_seconds": 0.01}
			}
			all[i] = object{"flow": fmt.Sprintf("Flow%03d", i), "rows": object{"in": "1000000"}, "per_second": object{"in": 12.5}, "in_flight": "7", "functions": functions}
		}
		answer(w, object{"coordinator": "c", "flows": all})
	})
	mux.HandleFunc("POST /v1/dead/list", func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			Limit int    `json:"limit"`
			After string `json:"after"`
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		first := 0
		if in.After != "" {
			if _, err := fmt.Sscan(in.After, &first); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			first++
		}
		for i := first; i < letters && (in.Limit == 0 || i < first+in.Limit); i++ {
			text := "short"
			if i == 1 {
				text = strings.Repeat("x", 1<<20)
			}
			answer(w, object{"result": object{"letter": object{
				"id": fmt.Sprintf("%032x", i), "flow": "Flow001", "code": "CODE_FUNCTION_ERROR", "reason": fmt.Sprintf("reason %d", i), "kept_unix_milliseconds": "1796076273843",
				"position": fmt.Sprint(i), "row": object{"id": i, "text": text},
			}}})
		}
		answer(w, object{"result": object{"store": object{"flow": "Flow001", "letters": fmt.Sprint(letters), "limit": "200000"}}})
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	b := openBrowser(t, server.URL+"/")
	b.watchTasks()

	b.show("#/overview")
	b.await("the first flows", `document.querySelector("[aria-labelledby=flows] tbody").rows.length === 50 && document.querySelector(".pager").innerText.includes("1–50 of 500")`)
	t.Logf("the first paint was after %v ms", eval[float64](b, `performance.getEntriesByName("first-paint")[0].startTime`))
	b.press("Next")
	b.await("the next flows", `document.querySelector(".pager").innerText.includes("51–100 of 500")`)
	eval[bool](b, `(() => { const e = document.querySelector("input[type=search]"); e.value = "flow49"; e.dispatchEvent(new Event("input")); return true; })()`)
	b.await("ten flows", `document.querySelector("[aria-labelledby=flows] tbody").rows.length === 10`)
	b.quick("the overview")

	b.show("#/letters")
	b.await("the first letters", `document.querySelector("tbody").rows.length === 50 && document.querySelector(".pager").innerText.includes("1–50 of 100,000")`)
	b.press("Next")
	b.await("the next letters", `document.querySelector(".pager").innerText.includes("51–100") && document.querySelector("tbody").innerText.includes("reason 50")`)
	b.press("Previous")
	b.await("the first letters again", `document.querySelector("tbody").innerText.includes("reason 0\n") || document.querySelector("tbody").rows[1].innerText.includes("reason 1")`)
	b.quick("the letters")

	eval[bool](b, `(document.querySelectorAll("tbody th button")[1].click(), true)`)
	b.await("the row of 1 MiB", `document.querySelector("dialog pre.row").textContent.length > 1 << 20`)
	b.press("Edit")
	b.await("the field with it", `document.getElementById("row").value.length > 1 << 20`)
	t.Logf("tasks of a row of 1 MiB, shown and edited: %v", eval[[]float64](b, "window.tasks"))
}

// watchTasks notes the long tasks of each page that is opened from now on.
func (b *browser) watchTasks() {
	b.t.Helper()
	b.onEachPage(`window.tasks = []; new PerformanceObserver((l) => { for (const e of l.getEntries()) tasks.push(Math.round(e.duration)); }).observe({type: "longtask", buffered: true});`)
}

// quick checks that no task of the page took too long.
func (b *browser) quick(what string) {
	b.t.Helper()
	tasks := eval[[]int](b, "window.tasks")
	b.t.Logf("tasks of %s that took 50 ms or longer: %v", what, tasks)
	for _, took := range tasks {
		if took > longest {
			b.t.Errorf("a task of %s took %d ms", what, took)
		}
	}
}
