// A change of documents, from the look at its difference to the moment when it is active: shown in a window.

import {h} from "./dom.js";
import {reports, base64} from "./api.js";
import * as parts from "./parts.js";

const waitForWorkers = 30000; // milliseconds that a change waits for a worker that can run it

// change opens the window. documents are {kind, name, yaml}; done is called after a change has been written; close takes the window away.
export function change(app, {title, intro, documents, done, close}) {
  let state = "checking"; // checking, ready, applying or ended
  let changes = [], progress = new Map(), error = null, written = false;
  const cancel = new AbortController();
  const body = (dry) => ({documents: documents.map((d) => ({kind: d.kind, name: d.name, yaml: base64(d.yaml)})), dry_run: dry, workers_milliseconds: dry ? 0 : waitForWorkers});

  async function run(dry) {
    state = dry ? "checking" : "applying";
    error = null;
    app.redraw();
    try {
      for await (const e of reports("POST", "v1/apply", {body: body(dry), signal: cancel.signal})) {
        if (e.diff) {
          changes = (e.diff.changes || []).filter((c) => c.action !== "unchanged");
          if (!dry) written = true;
        }
        if (e.progress) progress.set(e.progress.flow, e.progress);
        app.redraw();
      }
    } catch (e) {
      if (cancel.signal.aborted) return;
      error = e;
    }
    state = dry && !error ? "ready" : "ended";
    if (!dry && written) done(error);
    app.redraw();
  }
  run(true);

  function leave() {
    cancel.abort();
    close();
  }

  function view() {
    const flows = [...progress.values()];
    const failed = flows.some((p) => p.state === "rejected" || p.state === "unserved");
    return parts.dialog(title, {close: leave},
      intro && state !== "ended" ? h("p", {class: "muted"}, intro) : null,
      state === "checking" ? parts.loading("Comparing with the documents of the cluster…") : null,
      error ? parts.problem(error) : null,
      state === "ready" && changes.length === 0 ? parts.notice("good", "Nothing differs.", " The cluster has these documents already.") : null,
      changes.map((c) => h("div", {key: `${c.kind}/${c.name}`, class: "change"},
        h("h3", {}, parts.name(`${c.kind} ${c.name}`), " ", h("span", {class: "tag"}, c.action)),
        c.diff && !written ? parts.diffView(c.diff) : null)),
      written ? h("ul", {class: "troubles", "aria-live": "polite", "aria-label": "Progress"},
        flows.length ? flows.map((p) => h("li", {key: p.flow, class: ""}, h("div", {},
          parts.name(p.flow, {style: {"font-weight": "560"}}), " ", parts.badge(p.state), " ",
          h("span", {class: "muted"}, p.of ? `on ${p.applied || 0} of ${p.of} workers` : ""),
          (p.reasons || []).map((why) => h("p", {class: "muted small"}, why)))))
          : h("li", {}, state === "ended" ? "Written. No flow needs these documents." : "Written. Waiting for the workers…")) : null,
      state === "ended" && written && !error ? (failed ? parts.notice("bad", "The change is written, but not active.", " The revision before goes on where there is one.") : parts.notice("good", "Done.")) : null,
      h("div", {class: "actions"},
        state === "ready" && changes.length ? h("button", {type: "button", class: "primary", onclick: () => run(false), hook: (el) => el.focus()}, "Apply") : null,
        h("button", {type: "button", onclick: leave}, state === "applying" ? "Stop watching" : state === "ended" || !changes.length ? "Close" : "Cancel")));
  }

  return {view};
}
