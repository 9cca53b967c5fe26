// Dead letters: rows that died and were kept. They are found, shown, mended and run again.

import {h} from "./dom.js";
import {post, reports, base64, fromBase64} from "./api.js";
import * as parts from "./parts.js";
import * as words from "./words.js";
import {check, pretty, compact} from "./json.js";
import {exact, plural, duration} from "./format.js";
import {redrive} from "./redrive.js";

const perPage = 50;
const long = 1 << 16; // characters of a row from which on its lines are not broken: a browser takes seconds to break a line of 1 MiB
const names = ["flow", "function", "code", "since", "until", "key", "field", "text", "batch"]; // of the filter, as the address has them

// timeOf reads a time as the filter takes it: a moment, or how long ago, such as 2h. It returns milliseconds, 0 for none, or null for a
// text that is neither.
export function timeOf(text) {
  const t = text.trim();
  if (t === "") return 0;
  const ago = /^(\d+(?:\.\d+)?)\s*(s|m|min|h|d)(?:\s+ago)?$/.exec(t);
  if (ago) return Math.round(Date.now() - Number(ago[1]) * {s: 1e3, m: 6e4, min: 6e4, h: 36e5, d: 864e5}[ago[2]]);
  const at = Date.parse(t);
  return Number.isNaN(at) ? null : at;
}

// filterOf makes the filter of the API. strict is for calls that change letters: builds that do not know a field of the filter then refuse
// it, where they would otherwise take more letters.
export function filterOf(f, strict) {
  const out = {};
  if (f.flow) out.flow = f.flow;
  if (f.function) out.function = f.function;
  if (f.code) out.code = `CODE_${f.code}`;
  if (f.since) out.since_unix_milliseconds = String(timeOf(f.since) || 0);
  if (f.until) out.until_unix_milliseconds = String(timeOf(f.until) || 0);
  if (f.key) out.key = f.key;
  if (f.text) out.text = f.text;
  if (f.batch) out.batch = f.batch;
  if (f.field) {
    out.fields = f.field.split(/\s*;\s*/).filter(Boolean).map((one) => {
      const i = one.indexOf("=");
      return {field: one.slice(0, i < 0 ? undefined : i).trim(), value: i < 0 ? "null" : one.slice(i + 1).trim()};
    });
  }
  if (f.ids) out.ids = f.ids;
  if (strict && (f.until || f.key || f.text || f.batch || f.field)) out.ids = [...(out.ids || []), "*"];
  return out;
}

// open opens the page.
export function open(app, args, query) {
  const empty = () => Object.fromEntries(names.map((n) => [n, ""]));
  let filter = empty(), typed = empty(); // the filter that is shown, and the one that is in the form
  let letters = null, store = {}, more = false, starts = [""], error = null, wrong = {}, total = null, opened = null, window = null, asking = null, counting = null, listing = null, downloading = null, unfolded = ["key", "field", "until", "batch"].some((n) => query.get(n));
  const page = {title: "Dead letters", view, tick: load, query: read, close, dirty: () => Boolean(opened && opened.text !== null), query: read};

  // read takes the filter from the address, so that a link shows the same letters to others.
  function read(q) {
    filter = Object.fromEntries(names.map((n) => [n, q.get(n) || ""]));
    typed = {...filter};
    starts = [""];
    opened = null;
    load();
  }
  filter = Object.fromEntries(names.map((n) => [n, query.get(n) || ""]));
  typed = {...filter};

  function close() {
    for (const c of [counting, listing, downloading]) if (c) c.abort();
  }

  const mayRows = () => filter.flow ? app.may("rows", filter.flow) : app.maySome("rows");

  // load lists one page of letters, and then counts them in the background.
  async function load() {
    if (listing) listing.abort();
    const mine = listing = new AbortController();
    const found = [];
    try {
      const body = {filter: filterOf(filter), limit: perPage + 1, after: starts[starts.length - 1], no_rows: !mayRows()};
      const stores = {};
      for await (const e of reports("POST", "v1/dead/list", {body, signal: mine.signal, raw: ["row"]})) {
        if (e.letter) found.push(e.letter);
        if (e.store) stores[e.store.flow] = e.store;
      }
      more = found.length > perPage;
      letters = found.slice(0, perPage);
      store = stores;
      error = null;
      if (!app.flows.length) app.flows = Object.keys(stores);
    } catch (e) {
      if (mine.signal.aborted) return;
      error = e;
      letters = letters || [];
    }
    app.redraw();
    if (!error) countAll();
  }

  // filtered reports whether the filter is more than a flow: then the stores do not say how many letters it selects.
  const filtered = () => names.some((n) => n !== "flow" && filter[n]);

  // countAll finds out how many letters the filter selects. A slow count blocks nothing.
  async function countAll() {
    if (counting) counting.abort();
    counting = new AbortController();
    total = null;
    const signal = counting.signal;
    if (!filtered()) {
      total = Object.values(store).reduce((sum, s) => sum + Number(s.letters || 0), 0);
    } else if (!more && starts.length === 1) {
      total = letters.length;
    } else if (filter.flow ? app.may("operate", filter.flow) : app.maySome("operate")) {
      try {
        total = Number((await post("v1/dead/drop", {filter: filterOf(filter, true), dry_run: true}, {signal, patience: 120000})).letters || 0);
      } catch {
        return; // without the number the list is as useful
      }
    }
    app.redraw();
  }

  function search(event) {
    event.preventDefault();
    wrong = {};
    for (const n of ["since", "until"]) {
      if (timeOf(typed[n]) === null) wrong[n] = "Write a time, or how long ago, such as 2h";
    }
    if (Object.keys(wrong).length) {
      app.redraw();
      return;
    }
    const address = parts.withQuery("#/letters", typed);
    if (address === location.hash || (address === "#/letters" && location.hash === "#/letters")) load();
    else app.go(address);
  }

  // show opens one letter.
  function show(l) {
    opened = opened && opened.letter.id === l.id ? null : {letter: l, text: null, error: null, busy: false};
    app.redraw();
  }

  async function saveRow() {
    const o = opened;
    o.busy = true;
    o.error = null;
    app.redraw();
    try {
      const json = o.letter.row !== undefined;
      const letter = await post("v1/dead/edit", {flow: o.letter.flow, id: o.letter.id, row: base64(json ? compact(o.text) : o.text)}, {raw: ["row"]});
      letters = letters.map((l) => l.id === letter.id ? {...letter, position: l.position} : l);
      opened = {letter, text: null, error: null, busy: false};
      app.say("good", "The row is saved. Redrive the letter to run it.");
    } catch (e) {
      o.error = e;
      o.busy = false;
    }
    app.redraw();
  }

  // some makes a filter of letters by their ids. The flow is named, so that the right on it is enough.
  const one = (l) => ({...empty(), flow: l.flow, ids: [l.id]});

  function again(f, what) {
    window = redrive(app, {filter: f, what, close: () => { window = null; opened = null; load(); }});
    app.redraw();
  }

  async function drop() {
    const a = asking;
    a.busy = true;
    app.redraw();
    try {
      const answer = await post("v1/dead/drop", {filter: filterOf(a.filter, true)}, {patience: 300000});
      asking = null;
      opened = null;
      app.say("good", `${plural(answer.letters || 0, "letter")} deleted.`);
      starts = [""];
      await load();
    } catch (e) {
      a.error = e;
      a.busy = false;
    }
    app.redraw();
  }

  // download saves all letters that the filter selects, one JSON object a line. Rows stay as they are.
  async function download() {
    if (downloading) {
      downloading.abort();
      return;
    }
    downloading = new AbortController();
    const lines = [];
    let number = 0;
    app.redraw();
    try {
      for await (const e of reports("POST", "v1/dead/list", {body: {filter: filterOf(filter), no_rows: !mayRows()}, signal: downloading.signal, raw: ["letter"]})) {
        if (!e.letter) continue;
        lines.push(e.letter + "\n");
        if (++number % 5000 === 0) app.say("busy", `${exact(number)} letters so far…`);
      }
      parts.save(`dead-letters${filter.flow ? "-" + filter.flow : ""}.ndjson`, lines, "application/x-ndjson");
    } catch (e) {
      if (!downloading.signal.aborted) app.say("bad", e.message);
    }
    downloading = null;
    app.redraw();
  }

  function view() {
    const set = (n) => (e) => { typed = {...typed, [n]: e.target.value}; app.redraw(); };
    const input = (n, label, props = {}) => h("div", {class: "field", key: n},
      h("label", {for: n}, label),
      h("input", {type: "text", id: n, value: typed[n], autocomplete: "off", spellcheck: "false", autocapitalize: "off", "aria-invalid": wrong[n] ? "true" : null, "aria-describedby": wrong[n] ? `${n}-wrong` : null, oninput: set(n), ...props}),
      wrong[n] ? h("span", {class: "bad small", id: `${n}-wrong`}, wrong[n]) : null);
    const flows = [...new Set([...app.flows, filter.flow].filter(Boolean))].sort();
    const mayOperate = filter.flow ? app.may("operate", filter.flow) : app.maySome("operate");
    const first = (starts.length - 1) * perPage;
    return [
      h("div", {class: "bar"}, h("h1", {tabindex: "-1"}, "Dead letters"),
        letters && letters.length ? h("button", {type: "button", onclick: download}, downloading ? "Stop the download" : "Download") : null,
        mayOperate && letters && letters.length ? [
          h("button", {type: "button", onclick: () => again(filter, total === null ? "all letters that the filter selects" : plural(total, "letter"))}, total === null || total === 1 ? "Redrive…" : `Redrive all ${exact(total)}…`),
          h("button", {type: "button", class: "danger", onclick: () => { asking = {filter, what: total === null ? "All letters that the filter selects" : plural(total, "letter"), error: null, busy: false}; app.redraw(); }}, "Delete…")] : null),
      h("form", {key: "find", class: "card", role: "search", "aria-label": "Find letters", onsubmit: search},
        h("div", {class: "fields"},
          h("div", {class: "field", key: "flow"}, h("label", {for: "flow"}, "Flow"),
            h("input", {type: "text", id: "flow", list: "flows-list", value: typed.flow, autocomplete: "off", spellcheck: "false", autocapitalize: "off", oninput: set("flow")}),
            h("datalist", {id: "flows-list"}, flows.map((f) => h("option", {value: f})))),
          input("function", "Function"),
          h("div", {class: "field", key: "code"}, h("label", {for: "code"}, "Code"),
            h("select", {id: "code", value: typed.code, onchange: set("code")}, h("option", {value: ""}, "any"), words.codesOfLetters.map((c) => h("option", {value: c, selected: typed.code === c}, c)))),
          input("since", "Kept since", {placeholder: "2h"}), app.maySome("rows") ? input("text", "Text in row or reason") : null,
          h("div", {class: "actions", key: "find"}, h("button", {class: "primary"}, "Find"),
            names.some((n) => filter[n]) ? h("a", {class: "button", href: "#/letters"}, "Show all") : null)),
        h("details", {class: "more", open: unfolded, ontoggle: (e) => { unfolded = e.target.open; }}, h("summary", {}, "More filters"),
          h("div", {class: "fields"},
            app.maySome("rows") ? [input("key", "Shard key", {placeholder: "101"}), input("field", "Fields of the row", {placeholder: "student.name=Ada; stu_id=5"})] : null,
            input("until", "Kept before", {placeholder: "2026-11-30 08:00"}), input("batch", "Batch or stream")))),
      error ? error.code === "NOT_FOUND" && /keeps no dead letters/.test(error.message)
        ? parts.empty("This cluster keeps no dead letters.", error.message) : parts.problem(error, load) : null,
      letters === null ? parts.loading() : error ? null
        : letters.length === 0 ? (names.some((n) => filter[n])
          ? parts.empty("No letter fits the filter.", "Letters that were redriven or deleted are gone.")
          : parts.empty("No dead letters.", "Every row came to its end. Rows that die are kept here, to be mended and run again."))
          : h("section", {"aria-label": "Letters"}, fullness(), table(),
            more || starts.length > 1 ? parts.pager({from: first + 1, to: first + letters.length, total, more, noun: "letters",
              before: starts.length > 1 ? () => { starts.pop(); load(); } : null,
              next: more ? () => { starts.push(letters[letters.length - 1].position); load(); } : null}) : h("p", {class: "muted small"}, plural(letters.length, "letter"))),
      window ? window.view() : asking ? dropDialog() : opened ? letterDialog() : null,
    ];
  }

  // fullness warns of stores that lose letters.
  function fullness() {
    return Object.values(store).filter((s) => Number(s.refused || 0) > 0 || Number(s.expired || 0) > 0).map((s) => parts.notice(Number(s.refused || 0) > 0 ? "bad" : "warn", s.flow,
      Number(s.refused || 0) > 0 ? `: ${plural(s.refused, "dead row")} could not be kept, because the store was full (${exact(s.limit)} letters). ` : ": ",
      Number(s.expired || 0) > 0 ? `${plural(s.expired, "letter")} were deleted because of their age (over ${duration(Number(s.age_limit_seconds) * 1000)}).` : ""));
  }

  function table() {
    return parts.table("Dead letters", [
      {head: "Kept", cell: (l) => h("button", {type: "button", class: "quiet", onclick: (e) => { e.stopPropagation(); show(l); }}, parts.moment(l.kept_unix_milliseconds), h("span", {class: "hidden"}, `, show letter ${l.id.slice(0, 8)}`))},
      {head: "Flow", cell: (l) => parts.name(l.flow)},
      {head: "Function", class: "wide", cell: (l) => l.function ? parts.name(l.function) : h("span", {class: "muted"}, "as submitted")},
      {head: "Code", cell: (l) => parts.code(l.code)},
      {head: "Reason", class: "reason wide", cell: (l) => l.reason ? parts.name(l.reason.slice(0, 200)) : h("span", {class: "muted"}, (l.masked || []).length ? "hidden" : "–")},
      {head: "Tries", class: "number wide", cell: (l) => l.attempts || 0},
      {head: "", label: "Marks", class: "wide", cell: (l) => [l.edited ? h("span", {class: "tag"}, "edited") : null, l.redrives ? h("span", {class: "tag", title: "times that it was redriven and died again"}, `again ${l.redrives}×`) : null]},
    ], letters, {key: (l) => l.id, row: (l) => ({class: "opens", onclick: () => show(l)})});
  }

  // letterDialog shows one letter, whose row can be changed.
  function letterDialog() {
    const {letter: l, text, busy} = opened;
    const raw = l.row_base64 ? fromBase64(l.row_base64) : null;
    const shown = l.row !== undefined ? pretty(l.row) : raw ? new TextDecoder().decode(raw) : "";
    const mistake = text !== null && l.row !== undefined ? check(text) : null;
    const mayOperate = app.may("operate", l.flow), mayEdit = mayOperate && app.may("rows", l.flow) && !(l.masked || []).length && shown !== "" && isText(raw);
    return parts.dialog(`Letter ${l.id.slice(0, 8)}`, {close: () => { if (text === null || text === shown) { opened = null; app.redraw(); } else { opened.leaving = true; app.redraw(); } }, busy},
      h("dl", {class: "facts"},
        h("dt", {}, "Flow"), h("dd", {}, h("a", {href: parts.path("flow", l.flow)}, parts.name(l.flow)), h("span", {class: "muted"}, ` revision ${l.revision || "unknown"}`)),
        h("dt", {}, "Died in"), h("dd", {}, l.function ? [parts.name(l.function), l.use ? h("span", {class: "muted"}, ` (place ${l.use + 1} in the flow)`) : null] : "no function: the row is as it was submitted"),
        h("dt", {}, "Why"), h("dd", {}, words.explain(l.code), " ", parts.code(l.code)),
        l.reason ? [h("dt", {}, "Reason"), h("dd", {}, h("pre", {}, l.reason))] : null,
        h("dt", {}, "Kept"), h("dd", {}, parts.moment(l.kept_unix_milliseconds), h("span", {class: "muted"}, ` · ${plural(l.attempts || 0, "try", "tries")}${l.redrives ? `, redriven ${l.redrives} times` : ""}${l.edited ? ", row edited" : ""}`)),
        l.source ? [h("dt", {}, "Came from"), h("dd", {}, parts.name(l.source), Number(l.line) ? `, line ${l.line}` : "")] : null,
        h("dt", {}, "Id"), h("dd", {}, h("code", {}, l.id)),
        (l.masked || []).length ? [h("dt", {}, "Hidden from you"), h("dd", {}, l.masked.join(", "))] : null),
      shown === "" ? h("p", {class: "muted"}, "You may not see the row: that needs the right rows.") : [
        h("div", {class: "bar"}, h("h3", {}, "Row"), l.encoding && l.encoding !== "json" ? h("span", {class: "tag"}, l.encoding) : null,
          mayEdit && text === null ? h("button", {type: "button", class: "quiet", onclick: () => { opened.text = shown; app.redraw(); }}, "Edit") : null),
        text === null ? h("pre", {class: shown.length > long ? "row long" : "row", tabindex: "0"}, shown)
          : [h("textarea", {id: "row", wrap: text.length > long ? "off" : null, "aria-label": "Row", rows: Math.min(20, text.split("\n").length + 1), value: text, spellcheck: "false", autocapitalize: "off", "aria-invalid": mistake ? "true" : null, "aria-describedby": mistake ? "row-mistake" : null,
            hook: (el) => el.focus(), oninput: (e) => { opened.text = e.target.value; opened.leaving = false; app.redraw(); }}),
          mistake ? h("p", {class: "bad small", id: "row-mistake"}, `This is not JSON: ${mistake.message}.`) : h("p", {class: "muted small"}, "Numbers keep all their digits.")]],
      parts.problem(opened.error),
      opened.leaving ? parts.notice("warn", "The row is not saved.", h("div", {class: "actions"}, h("button", {type: "button", onclick: () => { opened = null; app.redraw(); }}, "Leave it unsaved"))) : null,
      h("div", {class: "actions"},
        text !== null ? [h("button", {type: "button", class: "primary", disabled: busy || Boolean(mistake) || text === shown, onclick: saveRow}, busy ? "Saving…" : "Save the row"),
          h("button", {type: "button", onclick: () => { opened.text = null; opened.leaving = false; app.redraw(); }}, "Cancel")]
          : [mayOperate ? h("button", {type: "button", class: "primary", onclick: () => again(one(l), "this letter")}, "Redrive…") : null,
            shown !== "" ? h("button", {type: "button", onclick: () => parts.save(`${l.id.slice(0, 8)}.json`, [raw || l.row], "application/octet-stream")}, "Download the row") : null,
            mayOperate ? h("button", {type: "button", class: "danger", onclick: () => { asking = {filter: one(l), what: "This letter", error: null, busy: false}; opened = null; app.redraw(); }}, "Delete…") : null,
            h("button", {type: "button", onclick: () => { opened = null; app.redraw(); }}, "Close")]));
  }

  function dropDialog() {
    return parts.dialog("Delete letters", {close: () => { asking = null; app.redraw(); }, busy: asking.busy},
      h("p", {}, `${asking.what} will be deleted, with the rows. Nothing brings them back.`),
      filterText(asking.filter),
      parts.problem(asking.error),
      h("div", {class: "actions"}, h("button", {type: "button", class: "danger", disabled: asking.busy, onclick: drop}, asking.busy ? "Deleting…" : "Delete"),
        h("button", {type: "button", disabled: asking.busy, hook: (el) => el.focus(), onclick: () => { asking = null; app.redraw(); }}, "Keep them")));
  }

  return page;
}

// filterText shows which letters a filter selects.
export function filterText(f) {
  const set = names.filter((n) => f[n]);
  if (f.ids) return null;
  return h("p", {class: "muted"}, set.length ? set.map((n) => h("span", {class: "tag"}, `${n} `, parts.name(f[n]))) : "All letters of all flows that you may operate.");
}

// isText reports whether bytes are UTF-8, so that a text field does not change them. null stands for a text.
function isText(bytes) {
  if (bytes === null) return true;
  try {
    new TextDecoder("utf-8", {fatal: true}).decode(bytes);
    return true;
  } catch {
    return false;
  }
}
