// One shard key: where its rows go, and what they wait for.

import {h} from "./dom.js";
import {get} from "./api.js";
import * as parts from "./parts.js";
import {check} from "./json.js";
import {exact, duration, plural} from "./format.js";

const most = 50; // rows that are listed one by one

const places = {
  running: "runs in its lane", entering: "is about to run", parked: "is parked in its lane", lane: "waits for its lane", travelling: "is on its way",
  at_worker: "is at the worker", set_aside: "waits here: its key has many rows at the worker", queued: "waits here for room at the worker",
  held_back: "waits here until the old owner is done", no_worker: "waits here for a worker",
};
const waits = {order: "earlier rows of its key", retry: "the next try", key: "the Save of a key", save: "any Save", store: "the store", turn: "its turn"};

// open opens the page.
export function open(app, args, query) {
  let flow = query.get("flow") || "", key = query.get("key") || "", answer = null, error = null, busy = false, asked = null, names = null;
  const page = {title: "Key", view, tick, every: 3000, query: (q) => { flow = q.get("flow") || ""; key = q.get("key") || ""; answer = null; asked = null; look(); }};

  async function tick() {
    if (names === null) {
      names = [];
      const all = (await get("v1/resources/flows")).resources || [];
      names = all.filter((r) => r.status && r.status.shard_key).map((r) => r.name);
      app.flows = all.map((r) => r.name);
      if (!flow && names.length) flow = names[0];
      app.redraw();
      if (flow && key) await look();
      return;
    }
    if (asked) await look();
  }

  // look asks where the key is. A text that is no JSON value is taken for a string.
  async function look() {
    if (!flow || !key) return;
    busy = !answer;
    app.redraw();
    try {
      const value = check(key) ? JSON.stringify(key) : key;
      const rows = app.may("rows", flow);
      answer = await get(`v1/flows/${encodeURIComponent(flow)}/explain`, {key: value, rows: rows ? "true" : "", most: rows ? most : ""});
      asked = {flow, key};
      error = null;
    } catch (e) {
      error = e;
      answer = null;
    }
    busy = false;
    app.redraw();
  }

  function submit(event) {
    event.preventDefault();
    const address = parts.withQuery("#/key", {flow, key});
    if (address === location.hash) look();
    else app.go(address);
  }

  function view() {
    return [
      h("h1", {tabindex: "-1"}, "Key"),
      h("form", {key: "find", class: "card", onsubmit: submit, role: "search", "aria-label": "Find a key"},
        h("div", {class: "fields"},
          h("div", {class: "field", key: "flow"}, h("label", {for: "flow"}, "Flow"),
            h("input", {type: "text", id: "flow", list: "key-flows", required: true, value: flow, autocomplete: "off", spellcheck: "false", autocapitalize: "off", oninput: (e) => { flow = e.target.value; app.redraw(); }}),
            h("datalist", {id: "key-flows"}, (names || []).map((f) => h("option", {value: f})))),
          h("div", {class: "field", key: "key"}, h("label", {for: "key"}, "Value of the shard key"),
            h("input", {type: "text", id: "key", required: true, value: key, placeholder: '101 or "a"', autocomplete: "off", spellcheck: "false", autocapitalize: "off", oninput: (e) => { key = e.target.value; app.redraw(); }})),
          h("div", {class: "actions"}, h("button", {class: "primary"}, "Look")))),
      parts.problem(error),
      busy ? parts.loading() : answer ? result() : error ? null
        : parts.empty("Where is a key?", "All rows with one shard key go to one lane of one worker, in their order. Give a key to see where its rows are, and what they wait for."),
    ];
  }

  function result() {
    const a = answer, rows = a.rows || [];
    return [
      h("section", {"aria-labelledby": "where"}, h("h2", {id: "where"}, "Where it goes"),
        h("div", {class: "card"},
          a.error ? parts.notice("bad", "", a.error.message || "It can go nowhere.") : null,
          h("dl", {class: "facts"},
            h("dt", {}, "Worker"), h("dd", {}, a.worker ? h("strong", {}, parts.name(a.worker)) : "none"),
            a.lanes ? [h("dt", {}, "Lane"), h("dd", {}, `${(a.lane || 0) + 1} of ${a.lanes}`)] : null,
            h("dt", {}, "Slot"), h("dd", {}, String(a.slot || 0)),
            h("dt", {}, "Revision"), h("dd", {}, a.revision && a.revision !== "0" ? a.revision : "none"),
            a.reason ? [h("dt", {}, "Why"), h("dd", {}, a.reason)] : null,
            h("dt", {}, "Rows of the slot"), h("dd", {}, `${exact(a.sent)} at the worker, ${exact(a.queued)} queued, ${exact(a.held)} held back`, h("span", {class: "muted"}, " – other keys share the slot"))))),
      h("section", {"aria-labelledby": "rows"}, h("h2", {id: "rows"}, "Its rows ", h("span", {class: "muted"}, a.looked ? total(a) : "")),
        !app.may("rows", flow) ? parts.empty("You may not see rows of this flow.", "That needs the right rows.")
          : !a.looked ? parts.empty("Nobody has looked for the rows.", "The flow has no shard key, or a coordinator of an older build answered.")
            : rows.length === 0 ? parts.empty("No row of this key is under way.", "All of them have an outcome.") : table(rows),
        (a.unknown || []).map((u) => parts.notice("warn", "Not known: ", u)),
        Number(a.given_up || 0) ? h("p", {class: "muted"}, `${plural(a.given_up, "row")} were given up, and a worker still has them.`) : null),
    ];
  }

  const total = (a) => exact((a.counts || []).reduce((sum, c) => sum + Number(c.rows || 0), 0) || (a.rows || []).length);

  function table(rows) {
    return parts.table("Rows of the key", [
      {head: "Row", cell: (r) => h("code", {title: `${id(r)}`}, id(r).slice(0, 20))},
      {head: "Where", cell: (r) => places[r.where] || r.where || "–"},
      {head: "Function", class: "wide", cell: (r) => r.function ? parts.name(r.function) : "–"},
      {head: "Waits for", cell: (r) => waitsFor(r)},
      {head: "For", class: "number", cell: (r) => duration(r.for_milliseconds)},
    ], rows, {key: (r) => id(r)});
  }

  function waitsFor(r) {
    const text = waits[r.wait] || r.wait;
    return text ? [text, r.connector ? [" ", h("span", {class: "tag"}, parts.name(r.connector))] : null, r.key ? [" ", h("code", {}, parts.name(r.key))] : null] : "–";
  }

  return page;
}

// id names a row by its batch and its place in it.
function id(r) {
  const b = r.batch || {};
  const hex = b.stream ? Array.from(atob(b.stream), (c) => c.charCodeAt(0).toString(16).padStart(2, "0")).join("") : "";
  return `${hex.slice(0, 8)}-${b.sequence || 0}/${r.row || 0}`;
}
