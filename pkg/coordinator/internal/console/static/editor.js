// Editing documents: mistakes are shown in place while the viewer types, and a change is applied as a whole.

import {h} from "./dom.js";
import {reports, base64} from "./api.js";
import * as parts from "./parts.js";
import {change} from "./change.js";

const pause = 500; // milliseconds after the last key until the documents are checked

// mistakesOf reads the mistakes out of the error of a check: "kind/name:line:column: key: problem", a line each.
export function mistakesOf(detail) {
  const all = [];
  for (const line of String(detail).split("\n")) {
    const m = /^((?:flow|func|conn)\/[^:\s]+)(?::(\d+))?(?::(\d+))?: (.*)$/.exec(line);
    if (m) all.push({document: m[1], line: Number(m[2] || 0), column: Number(m[3] || 0), text: m[4]});
    else if (all.length) all[all.length - 1].text += "\n" + line;
    else all.push({document: "", line: 0, column: 0, text: line});
  }
  return all;
}

// editor makes an editor of documents: {kind, name, yaml}, where yaml is the text that the cluster has, or "" for a new one. readOnly says
// why the viewer can't change them. applied is called after a change has been written.
export function editor(app, {readOnly, applied}) {
  let docs = [], current = "", mistakes = [], error = null, checked = "", timer = 0, checking = null, window = null, area = null, gutter = null;
  const id = (d) => `${d.kind}/${d.name}`;
  const changed = () => docs.filter((d) => d.text !== d.yaml);

  // put gives the editor the documents of the cluster. Texts that the viewer has changed stay.
  function put(all) {
    docs = all.map((d) => {
      const old = docs.find((o) => id(o) === id(d));
      return {...d, text: old && old.text !== old.yaml ? old.text : d.yaml};
    });
    if (!docs.some((d) => id(d) === current)) current = docs.length ? id(docs[0]) : "";
  }

  function typed(d, text) {
    d.text = text;
    clearTimeout(timer);
    timer = setTimeout(check, pause);
    app.redraw();
  }

  // check asks the coordinator for the mistakes of the changed documents. It writes nothing.
  async function check() {
    if (checking) checking.abort();
    const some = changed();
    if (some.length === 0) {
      mistakes = [];
      error = null;
      checked = "";
      app.redraw();
      return;
    }
    const mine = checking = new AbortController();
    const texts = some.map((d) => d.text).join("\0");
    try {
      for await (const e of reports("POST", "v1/apply", {body: {documents: some.map((d) => ({kind: d.kind, name: d.name, yaml: base64(d.text)})), dry_run: true}, signal: mine.signal})) {
        if (e.diff) mistakes = [];
      }
      error = null;
    } catch (e) {
      if (mine.signal.aborted) return;
      const known = ["BAD_DOCUMENT", "UNKNOWN_FUNCTION", "UNKNOWN_CONNECTOR", "FLOW_UNCOMPILABLE"].includes(e.code);
      mistakes = known ? mistakesOf(e.message) : [];
      error = known ? null : e;
    }
    checked = texts;
    app.redraw();
  }

  // show puts the cursor to a mistake.
  function show(m) {
    if (docs.some((d) => id(d) === m.document)) current = m.document;
    app.redraw();
    requestAnimationFrame(() => requestAnimationFrame(() => {
      if (!area || !m.line) return;
      const lines = area.value.split("\n");
      const from = lines.slice(0, m.line - 1).reduce((sum, l) => sum + l.length + 1, 0);
      area.focus();
      area.setSelectionRange(from + Math.max(0, m.column - 1), from + (lines[m.line - 1] || "").length);
      area.scrollTop = Math.max(0, (m.line - 6) * 19);
    }));
  }

  function open() {
    window = change(app, {
      title: "Apply documents", intro: "All of them change in one transaction. Flows go on with the revision that they have until every worker has the new one.",
      documents: changed().map((d) => ({kind: d.kind, name: d.name, yaml: d.text})),
      done: () => {
        for (const d of docs) d.yaml = d.text;
        mistakes = [];
        applied();
      },
      close: () => { window = null; app.redraw(); },
    });
    app.redraw();
  }

  function view() {
    const d = docs.find((one) => id(one) === current);
    if (!d) return null;
    const mine = mistakes.filter((m) => m.document === id(d));
    const wrong = new Set(mine.map((m) => m.line));
    const some = changed();
    const fresh = some.length > 0 && checked === some.map((one) => one.text).join("\0");
    return h("div", {key: "editor", class: "split"},
      h("ul", {class: "list", "aria-label": "Documents"}, docs.map((one) => h("li", {key: id(one)},
        h("a", {href: location.hash, role: "button", "aria-current": one === d ? "true" : null, onclick: (e) => { e.preventDefault(); current = id(one); app.redraw(); }},
          h("span", {class: "muted small mono"}, one.kind), parts.name(one.name),
          mistakes.some((m) => m.document === id(one)) ? h("span", {class: "bad", title: "has mistakes"}, parts.shape("bad"))
            : one.text !== one.yaml ? h("span", {class: "tag"}, "changed") : null)))),
      h("div", {class: "card"},
        h("div", {class: "bar"}, h("h2", {}, parts.name(`${d.kind} ${d.name}`)),
          d.revision ? h("span", {class: "muted small"}, `revision ${d.revision}`) : null,
          d.text !== d.yaml ? h("button", {type: "button", class: "quiet", onclick: () => { d.text = d.yaml; check(); }}, "Take back my changes") : null),
        h("div", {key: "text", class: "editor"},
          h("div", {class: "gutter", "aria-hidden": "true", hook: (el) => { gutter = el; }},
            d.text.split("\n").map((_, i) => h("span", {class: wrong.has(i + 1) ? "wrong" : ""}, i + 1))),
          h("textarea", {key: id(d), id: "document", "aria-label": `Document ${d.kind} ${d.name}`, value: d.text, readonly: Boolean(readOnly), spellcheck: "false", wrap: "off", autocapitalize: "off",
            "aria-invalid": mine.length ? "true" : null, "aria-describedby": mistakes.length ? "mistakes" : null,
            hook: (el) => { area = el; }, onscroll: (e) => { gutter.scrollTop = e.target.scrollTop; }, oninput: (e) => typed(d, e.target.value)})),
        mistakes.length ? h("ul", {class: "mistakes", id: "mistakes", "aria-label": "Mistakes"}, mistakes.map((m) => h("li", {},
          h("button", {type: "button", onclick: () => show(m)}, h("span", {class: "bad"}, parts.shape("bad")),
            h("span", {}, h("strong", {}, m.line ? `${m.document === id(d) ? "line" : `${m.document}, line`} ${m.line}${m.column ? `, column ${m.column}` : ""}: ` : ""), m.text))))) : null,
        parts.problem(error),
        readOnly ? h("p", {class: "muted small"}, readOnly) : h("div", {class: "actions"},
          h("button", {type: "button", class: "primary", disabled: some.length === 0 || mistakes.length > 0, onclick: open}, "Apply…"),
          h("span", {class: "muted small", "aria-live": "polite"}, some.length === 0 ? "Nothing is changed." : !fresh ? "Checking…" : mistakes.length ? `${mistakes.length} to mend.` : error ? "" : "No mistakes found.")),
        window ? window.view() : null));
  }

  return {put, view, dirty: () => changed().length > 0, close: () => { clearTimeout(timer); if (checking) checking.abort(); }};
}
