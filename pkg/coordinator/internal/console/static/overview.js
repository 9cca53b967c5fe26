// The overview: the flows and their rates, rows that wait or died, and the troubles that somebody should look at.

import {h} from "./dom.js";
import {get, post, reports} from "./api.js";
import * as parts from "./parts.js";
import * as words from "./words.js";
import {count, rate, duration, exact, plural} from "./format.js";

const perPage = 50;
const keptRates = 60; // points of the small lines, one for each answer of figures

// The rates that were seen lately stay when the viewer goes to another page and comes back.
const seen = new Map(); // by flow: rates, the newest last

// note keeps the rates of an answer.
function note(figures) {
  let total = 0;
  for (const f of figures.flows || []) {
    const now = Number((f.per_second || {}).in || 0);
    total += now;
    push(f.flow, now);
  }
  push("", total);
}

function push(name, value) {
  const values = seen.get(name) || [];
  values.push(value);
  if (values.length > keptRates) values.shift();
  seen.set(name, values);
}

// open opens the page.
export function open(app, args, query) {
  let flows = null, figures = null, connectors = [], workers = [], coordinators = [], stores = null, away = "", error = null;
  let search = query.get("q") || "", at = 0, sorted = "", slow = 0;

  // tick loads the figures, and with each second answer everything else. The page is drawn first when all of it is there.
  async function tick() {
    try {
      const all = slow++ % 2 === 0;
      const list = (kind) => get(`v1/resources/${kind}`).then((a) => a.resources || []);
      const answers = await Promise.all([get("v1/figures"), ...all ? [loadFlows(), list("workers"), list("coordinators"), list("connectors")] : []]);
      note(answers[0]);
      figures = answers[0];
      if (all) [, flows, workers, coordinators, connectors] = answers;
      error = null;
    } catch (e) {
      error = e;
      slow = 0;
    }
    app.redraw();
    if (slow % 8 === 1) loadStores();
  }

  async function loadFlows() {
    const answer = await get("v1/resources/flows");
    away = answer.away || "";
    const all = (answer.resources || []).map((r) => ({name: r.name, ...r.status}));
    app.flows = all.map((f) => f.name);
    return all;
  }

  // loadStores asks how many dead letters each flow has: a list of one letter says so for all.
  async function loadStores() {
    const found = {};
    try {
      for await (const e of reports("POST", "v1/dead/list", {body: {no_rows: true, limit: 1}})) {
        if (e.store) found[e.store.flow] = e.store;
      }
      stores = found;
    } catch (e) {
      stores = stores || {};
      if (e.code !== "NOT_FOUND" && e.code !== "NO_ANSWER") app.say("bad", e.message); // NOT_FOUND: the cluster keeps no dead letters
    }
    app.redraw();
  }

  // rows joins states and figures, in the order in which the viewer wants them: flows with trouble first, if not told otherwise.
  function rows() {
    const by = new Map((figures && figures.flows || []).map((f) => [f.flow, f]));
    const all = flows.filter((f) => f.name.toLowerCase().includes(search.toLowerCase()))
      .map((f) => ({...f, figure: by.get(f.name) || {}, letters: Number((stores && stores[f.name] || {}).letters || 0)}));
    const rank = (f) => ({bad: 0, warn: 1, busy: 2}[words.state(f.state).tone] ?? 3);
    const orders = {
      rate: (f) => -Number((f.figure.per_second || {}).in || 0),
      flight: (f) => -Number(f.figure.in_flight || 0),
      oldest: (f) => -Number(f.figure.oldest_milliseconds || 0),
      letters: (f) => -f.letters,
      "": rank,
    };
    const order = orders[sorted];
    return all.sort((a, b) => order(a) - order(b) || (a.name < b.name ? -1 : 1));
  }

  // troubles lists the things that somebody should look at, the worst first: [tone, address, texts].
  function troubles() {
    const list = [];
    for (const f of flows) {
      const {tone, meaning} = words.state(f.state);
      if (tone !== "bad" && tone !== "warn") continue;
      const why = f.paused ? f.paused.reason : (f.unserved || [])[0] || (f.reasons || [])[0] || Object.entries(f.degraded || {}).map(([c, by]) => `${c}: ${Object.values(by)[0]}`)[0];
      list.push([tone, parts.path("flow", f.name), [parts.name(f.name), ` is ${f.state}. `, h("span", {class: "muted"}, why || meaning)]]);
    }
    for (const c of coordinators) {
      if (c.status && c.status.cut_off) list.push(["bad", null, [`Coordinator ${c.status.address} is cut off from most workers.`]]);
      else if (c.status && c.status.missed) list.push(["warn", null, [`Coordinator ${c.status.address} can't reach ${plural(c.status.missed, "worker")}.`]]);
    }
    for (const c of figures && figures.coordinators || []) {
      if (c.reason) list.push(["warn", null, [`The figures of coordinator ${c.address} are missing: `, h("span", {class: "muted"}, c.reason)]]);
    }
    for (const s of Object.values(stores || {})) {
      if (Number(s.refused || 0) > 0) {
        list.push(["bad", letters(s.flow), [parts.name(s.flow), ` has lost ${plural(s.refused, "dead row")}: the store of its letters is full.`]]);
      } else if (Number(s.limit) > 0 && Number(s.letters) >= 0.9 * Number(s.limit)) {
        list.push(["warn", letters(s.flow), [parts.name(s.flow), ` has ${exact(s.letters)} of at most ${exact(s.limit)} dead letters.`]]);
      }
    }
    return list.sort((a, b) => (a[0] === "bad" ? 0 : 1) - (b[0] === "bad" ? 0 : 1));
  }

  const letters = (flow) => parts.withQuery("#/letters", {flow});

  function view() {
    if (error && !flows) return [heading(), parts.problem(error, tick)];
    if (!flows) return [heading(), parts.loading()];
    const all = rows();
    if (at >= all.length) at = 0;
    const part = all.slice(at, at + perPage);
    const total = (pick) => (figures.flows || []).reduce((sum, f) => sum + Number(pick(f) || 0), 0);
    const oldest = Math.max(0, ...(figures.flows || []).map((f) => Number(f.oldest_milliseconds || 0)));
    const dead = Object.values(stores || {}).reduce((sum, s) => sum + Number(s.letters || 0), 0);
    const lost = total((f) => (f.per_second || {}).dead) + total((f) => (f.per_second || {}).failed);
    const trouble = troubles();
    return [
      heading(app.maySome("define") || app.maySome("connect") ? h("a", {class: "button", href: "#/apply"}, "Apply documents…") : null),
      error ? parts.problem(error) : null,
      away ? parts.notice("warn", "etcd does not answer.", ` The page shows the state that this coordinator knew before. Rows go on; documents can't be changed. `, h("span", {class: "muted"}, away)) : null,
      h("section", {class: "tiles", "aria-label": "The cluster now"},
        parts.tile("Rows in", rate(total((f) => (f.per_second || {}).in)), {unit: "/s", plot: parts.spark(seen.get(""))}),
        parts.tile("Dead or failed", rate(lost), {unit: "/s", tone: lost > 0 ? "bad" : ""}),
        parts.tile("In flight", count(total((f) => f.in_flight)), {title: "Rows without an outcome"}),
        parts.tile("Oldest waiting", duration(oldest), {tone: oldest > 60000 ? "warn" : ""}),
        parts.tile("Parked", count(total((f) => f.parked_rows)), {title: "Rows that wait in workers for a key, a Save, a retry or a store"}),
        parts.tile("Dead letters", stores ? count(dead) : "…", {href: "#/letters"})),
      trouble.length ? h("section", {"aria-labelledby": "trouble"},
        h("h2", {id: "trouble"}, "Needs attention ", h("span", {class: "muted"}, trouble.length)),
        h("ul", {class: "troubles"}, trouble.slice(0, 6).map(([tone, to, text]) => h("li", {class: tone}, parts.shape(tone), to ? h("a", {href: to}, text) : h("span", {}, text)))),
        trouble.length > 6 ? h("p", {class: "muted"}, `and ${trouble.length - 6} more below`) : null) : null,
      h("section", {key: "flows", "aria-labelledby": "flows"},
        h("div", {class: "bar"}, h("h2", {id: "flows"}, "Flows ", h("span", {class: "muted"}, flows.length)),
          flows.length > 5 ? h("input", {type: "search", placeholder: "Find a flow", "aria-label": "Find a flow", value: search,
            oninput: (e) => { search = e.target.value; at = 0; app.redraw(); }}) : null),
        flows.length === 0
          ? parts.empty("No flow yet.", ["A flow is a chain of functions, described by YAML documents. Apply some: ", h("code", {}, "kisgrid apply -f conf/"), "."])
          : all.length === 0 ? parts.empty(`No flow has “${search}” in its name.`)
            : parts.table("Flows", columns, part, {key: (f) => f.name, sorted, sort: (by) => { sorted = sorted === by ? "" : by; at = 0; app.redraw(); }}),
        all.length > perPage ? parts.pager({from: at + 1, to: at + part.length, total: all.length, noun: "flows",
          before: at > 0 ? () => { at -= perPage; app.redraw(); } : null,
          next: at + perPage < all.length ? () => { at += perPage; app.redraw(); } : null}) : null),
      h("div", {class: "columns"}, workersView(), h("div", {}, coordinatorsView(), connectorsView())),
    ];
  }

  const columns = [
    {head: "Flow", cell: (f) => h("a", {href: parts.path("flow", f.name)}, parts.name(f.name))},
    {head: "State", cell: (f) => parts.badge(f.state)},
    {head: "Rows/s", class: "number", sort: "rate", cell: (f) => h("span", {class: "with-spark"}, parts.spark(seen.get(f.name), {width: 64, height: 18}), rate((f.figure.per_second || {}).in))},
    {head: "Dead, failed/s", class: "number wide", cell: (f) => {
      const lost = Number((f.figure.per_second || {}).dead || 0) + Number((f.figure.per_second || {}).failed || 0);
      return h("span", {class: lost > 0 ? "bad" : "muted"}, rate(lost));
    }},
    {head: "In flight", class: "number wide", sort: "flight", cell: (f) => count(f.figure.in_flight)},
    {head: "Oldest", class: "number wide", sort: "oldest", cell: (f) => Number(f.figure.oldest_milliseconds || 0) > 0 ? duration(f.figure.oldest_milliseconds) : h("span", {class: "muted"}, "–")},
    {head: "Parked", class: "number wide", cell: (f) => Number(f.figure.parked_rows || 0) > 0 ? count(f.figure.parked_rows) : h("span", {class: "muted"}, "–")},
    {head: "Letters", class: "number", sort: "letters", cell: (f) => f.letters > 0 ? h("a", {href: letters(f.name)}, count(f.letters)) : h("span", {class: "muted"}, "–")},
  ];

  function workersView() {
    const by = new Map((figures.workers || []).map((w) => [w.id, w]));
    return h("section", {"aria-labelledby": "workers"},
      h("h2", {id: "workers"}, "Workers ", h("span", {class: "muted"}, workers.length)),
      workers.length === 0 ? parts.empty("No worker runs.", "Rows wait until one does.") : parts.table("Workers", [
        {head: "Worker", cell: (w) => parts.name(w.status.name || w.name, {title: w.name})},
        {head: "State", cell: (w) => {
          const cordoned = w.status.cordoned;
          const state = w.status.session === "none" ? "away" : w.status.draining ? "draining" : cordoned ? "cordoned" : "ready";
          return [parts.badge(state, cordoned && cordoned.reason ? `${cordoned.by}: ${cordoned.reason}` : undefined), app.me.everything || mayCordon() ? cordonButton(w) : null];
        }},
        {head: "Holds", class: "number", cell: (w) => {
          const window = (by.get(w.name) || {}).window;
          if (!window) return h("span", {class: "muted", title: (by.get(w.name) || {}).reason}, "–");
          const part = Number(window.limit_bytes) > 0 ? Number(window.held_bytes || 0) / Number(window.limit_bytes) : 0;
          return h("span", {title: `${exact(window.held_rows)} rows; ${Math.round(part * 100)} % of the bytes that it may hold`}, meter(part), `${count(window.held_rows)} rows`);
        }},
        {head: "Lanes", class: "number wide", cell: (w) => w.status.lanes},
        {head: "Build", class: "wide", cell: (w) => parts.name(w.status.build || "–", {class: "muted cut"})},
      ], workers, {key: (w) => w.name}));
  }

  const mayCordon = () => (app.me.grants || []).some((g) => g.rights.includes("operate") && g.flows.includes("*"));

  function cordonButton(w) {
    const on = Boolean(w.status.cordoned);
    return h("button", {type: "button", class: "quiet", onclick: async () => {
      try {
        await post("v1/cordon", {worker: w.name, uncordon: on, reason: on ? "" : "from the console"});
        app.say("good", on ? `${w.status.name} gets rows again.` : `${w.status.name} gets no new rows.`);
        slow = 0;
        await tick();
      } catch (e) {
        app.say("bad", e.message);
      }
    }, "aria-label": `${on ? "Uncordon" : "Cordon"} ${w.status.name}`}, on ? "Uncordon" : "Cordon");
  }

  function coordinatorsView() {
    return h("section", {"aria-labelledby": "coordinators"},
      h("h2", {id: "coordinators"}, "Coordinators ", h("span", {class: "muted"}, coordinators.length)),
      parts.table("Coordinators", [
        {head: "Address", cell: (c) => parts.name(c.status.address, {title: c.name})},
        {head: "", label: "Role", cell: (c) => [c.status.leader ? h("span", {class: "tag"}, "leader") : null, figures.coordinator === c.name ? h("span", {class: "tag"}, "answers you") : null]},
        {head: "Streams", class: "number", cell: (c) => count(c.status.streams)},
        {head: "Workers", class: "number", cell: (c) => c.status.sessions ?? "–"},
      ], coordinators, {key: (c) => c.name}));
  }

  function connectorsView() {
    return h("section", {"aria-labelledby": "connectors"},
      h("h2", {id: "connectors"}, "Connectors ", h("span", {class: "muted"}, connectors.length)),
      connectors.length === 0 ? parts.empty("No connector.", "Flows that keep nothing need none.") : parts.table("Connectors", [
        {head: "Connector", cell: (c) => parts.name(c.name)},
        {head: "State", cell: (c) => parts.badge(c.status.state, Object.entries(c.status.down || {}).map(([w, why]) => `${w}: ${why}`).join("\n"))},
        {head: "Flows", class: "number", cell: (c) => h("span", {title: (c.status.flows || []).join(", ")}, (c.status.flows || []).length)},
      ], connectors, {key: (c) => c.name}));
  }

  return {title: "Overview", view, tick, every: 3000};
}

// meter draws a part of a whole.
function meter(part) {
  const width = Math.max(0, Math.min(1, part)) * 34;
  return h("svg", {class: `meter ${part > 0.9 ? "bad" : ""}`, width: 36, height: 8, "aria-hidden": "true"},
    h("rect", {class: "all", x: 0.5, y: 0.5, width: 35, height: 7, rx: 2}), h("rect", {class: "part", x: 1, y: 1, width, height: 6, rx: 1.5}));
}

// heading makes the page's title.
function heading(...kids) {
  return h("div", {class: "bar"}, h("h1", {tabindex: "-1"}, "Overview"), ...kids);
}
