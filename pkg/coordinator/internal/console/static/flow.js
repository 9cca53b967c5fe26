// One flow: its chain and figures now, its documents, its revisions.

import {h} from "./dom.js";
import {get, post, textOf} from "./api.js";
import * as parts from "./parts.js";
import {chain} from "./chain.js";
import {editor} from "./editor.js";
import {change} from "./change.js";
import {diff} from "./diff.js";
import {count, rate, duration, exact} from "./format.js";

const historyStep = 30; // seconds of a step of the plots
const refreshHistory = 5; // the plots are loaded again with each fifth answer

// open opens the page.
export function open(app, [name = "", tab = "now"]) {
  const page = {title: name, view, tick, every: 3000, close, dirty: () => Boolean(documents && documents.dirty())};
  let flow = null, figure = null, plots = null, connectors = [], error = null, ticks = 0, revisions = null, opened = null, window = null, asking = null;
  const may = (right) => app.may(right, name);
  const documents = tab === "documents" ? editor(app, {
    readOnly: may("define") ? "" : "You may look at these documents, and not change them: that needs the right define.",
    applied: () => loadDocuments().catch((e) => { error = e; app.redraw(); }),
  }) : null;

  async function tick() {
    try {
      const [resources, figures] = await Promise.all([get(`v1/resources/flows/${encodeURIComponent(name)}`), get("v1/figures", {flow: name}).catch(notThere)]);
      const r = resources.resources[0];
      flow = {...r.status, document: r.document};
      figure = (figures.flows || [])[0] || {};
      error = null;
      app.redraw();
      if (tab === "now" && ticks % refreshHistory === 0) {
        const [history, conns] = await Promise.all([get("v1/figures", {flow: name, step_seconds: historyStep}).catch(notThere), get("v1/resources/connectors").catch(() => ({}))]);
        plots = (history.flows || [])[0] || {};
        connectors = conns.resources || [];
      }
      if (tab === "documents" && ticks === 0) await loadDocuments();
      if (tab === "revisions" && ticks % refreshHistory === 0) revisions = ((await get(`v1/flows/${encodeURIComponent(name)}/history`)).revisions || []).reverse();
      ticks++;
    } catch (e) {
      error = e;
    }
    app.redraw();
  }

  // notThere is the answer about a flow that has no figures, because it was never active.
  function notThere(e) {
    if (e.code === "NOT_FOUND") return {};
    throw e;
  }

  // loadDocuments gets the documents of the flow, its functions and connectors, as the cluster has them now.
  async function loadDocuments() {
    const wanted = [["flows", name]];
    for (const s of flow.chain || []) {
      wanted.push(["functions", s.function]);
      if (s.connector) wanted.push(["connectors", s.connector]);
    }
    const names = new Set();
    const once = wanted.filter(([kind, one]) => !names.has(`${kind}/${one}`) && names.add(`${kind}/${one}`));
    const order = {flow: 0, func: 1, conn: 2};
    const all = await Promise.all(once.map(([kind, one]) => get(`v1/resources/${kind}/${encodeURIComponent(one)}`).then((a) => a.resources[0].document, (e) => {
      if (e.code === "NOT_FOUND" || e.code === "PERMISSION_DENIED") return null;
      throw e;
    })));
    documents.put(all.filter(Boolean).map((d) => ({kind: d.kind, name: d.name, yaml: textOf(d.yaml), revision: d.revision})).sort((a, b) => order[a.kind] - order[b.kind]));
    app.redraw();
  }

  function close() {
    if (documents) documents.close();
  }

  function view() {
    if (!flow) return [h("h1", {tabindex: "-1"}, parts.name(name)), error ? parts.problem(error, tick) : parts.loading()];
    const tabs = [["now", "Now"], ["documents", "Documents"], ["revisions", "Revisions"]];
    return [
      h("div", {class: "bar"},
        h("h1", {tabindex: "-1"}, h("a", {href: "#/overview", class: "crumb"}, "Flows"), h("span", {class: "crumb", "aria-hidden": "true"}, "/"), parts.name(name), h("span", {class: "small"}, parts.badge(flow.state))),
        may("operate") ? h("button", {type: "button", onclick: () => ask(Boolean(flow.paused))}, flow.paused ? "Take rows again" : "Pause…") : null,
        h("a", {class: "button", href: parts.withQuery("#/letters", {flow: name})}, "Dead letters")),
      error ? parts.problem(error) : null,
      why(),
      h("nav", {key: "tabs", class: "tabs", "aria-label": "Parts of the flow"}, tabs.map(([id, text]) => h("a", {href: parts.path("flow", name, ...(id === "now" ? [] : [id])), "aria-current": tab === id ? "page" : null}, text))),
      tab === "documents" ? documents.view() || parts.loading() : tab === "revisions" ? revisionsView() : now(),
      window ? window.view() : asking ? pauseDialog() : null,
    ];
  }

  // why says in words why the flow is not as it should be.
  function why() {
    const notes = [];
    if (flow.paused) notes.push(parts.notice("warn", "Paused", ` by ${flow.paused.by || "somebody"} ${flow.paused.at ? "at " : ""}`, flow.paused.at ? parts.moment(flow.paused.at) : null, flow.paused.reason ? `: ${flow.paused.reason}` : "", ". Rows under way go on."));
    if (flow.unserved) notes.push(parts.notice("bad", "No worker can run this flow.", " ", ...flow.unserved.map((r) => h("p", {}, r))));
    for (const [c, by] of Object.entries(flow.degraded || {})) {
      notes.push(parts.notice("warn", `Connector ${c} can't be used.`, ...Object.entries(by).map(([w, reason]) => h("p", {}, `${w}: ${reason}`))));
    }
    if (flow.reasons && flow.reasons.length && flow.state !== "active") {
      notes.push(parts.notice(flow.state === "rejected" ? "bad" : "busy", flow.state === "rejected" ? `Revision ${flow.wanted} was refused${flow.active ? `; ${flow.active} goes on` : ""}.` : `Revision ${flow.wanted} is not active yet.`, ...flow.reasons.map((r) => h("p", {}, r))));
    }
    return notes;
  }

  function now() {
    const s = figure.per_second || {}, total = figure.rows || {};
    const lost = Number(s.dead || 0) + Number(s.failed || 0);
    const by = Object.fromEntries((figure.functions || []).map((f) => [f.function, f]));
    const down = Object.fromEntries(connectors.filter((c) => Object.keys(c.status.down || {}).length).map((c) => [c.name, true]));
    const shared = Object.fromEntries(connectors.map((c) => [c.name, (c.status.flows || []).filter((f) => f !== name)]));
    const steps = plots && plots.steps || [], times = steps.map((p) => Number(p.begins_unix_milliseconds));
    const perSecond = (pick) => steps.map((p) => Number(pick(p) || 0) / historyStep);
    return [
      h("section", {class: "tiles", "aria-label": "The flow now"},
        parts.tile("Rows in", rate(s.in), {unit: "/s", title: `${exact(total.in)} rows since the first coordinator counted`}),
        parts.tile("Done", rate(s.done), {unit: "/s", title: `${exact(total.done)} rows`}),
        parts.tile("Filtered", rate(Number(s.filtered || 0) + Number(s.aborted || 0)), {unit: "/s", title: `${exact(total.filtered)} filtered and ${exact(total.aborted)} aborted rows`}),
        parts.tile("Dead or failed", rate(lost), {unit: "/s", tone: lost > 0 ? "bad" : "", title: `${exact(total.dead)} dead and ${exact(total.failed)} failed rows`}),
        parts.tile("In flight", count(figure.in_flight)),
        parts.tile("Oldest waiting", duration(figure.oldest_milliseconds), {tone: Number(figure.oldest_milliseconds) > 60000 ? "warn" : ""}),
        parts.tile("Parked", count(figure.parked_rows), {title: `${exact(figure.parked_keys)} keys have parked rows`})),
      h("section", {"aria-labelledby": "chain"}, h("h2", {id: "chain"}, "Chain"),
        flow.chain && flow.chain.length
          ? h("div", {class: "chain", hook: watchWidth}, chain(flow.chain, {width, figures: by, down, shared, rowsIn: Number(s.in || 0)}))
          : parts.empty("The chain can't be drawn.", "The flow's document has mistakes: see Documents.")),
      h("section", {"aria-labelledby": "hour"}, h("h2", {id: "hour"}, "Last hour"),
        plots === null ? parts.loading() : h("div", {class: "plots"},
          parts.plot("Rows a second", times, [
            {label: "in", class: "one", values: perSecond((p) => (p.rows || {}).in)},
            {label: "dead or failed", class: "two", values: perSecond((p) => Number((p.rows || {}).dead || 0) + Number((p.rows || {}).failed || 0))}], rate),
          parts.plot("Rows that wait", times, [
            {label: "in flight", class: "one", values: steps.map((p) => Number(p.in_flight || 0))},
            {label: "parked", class: "three", values: steps.map((p) => Number(p.parked_rows || 0))}], count),
          parts.plot("Oldest waiting row", times, [{label: "time", class: "one", values: steps.map((p) => Number(p.oldest_milliseconds || 0))}], duration))),
      functionsView(),
      h("section", {"aria-labelledby": "facts"}, h("h2", {id: "facts"}, "Facts"),
        h("dl", {class: "facts card"},
          h("dt", {}, "Revision"), h("dd", {}, flow.active ? String(flow.active) : "none", flow.wanted !== flow.active ? ` (wanted: ${flow.wanted})` : ""),
          h("dt", {}, "Shard key"), h("dd", {}, flow.shard_key ? [h("code", {}, parts.name(flow.shard_key)), " ", h("a", {href: parts.withQuery("#/key", {flow: name})}, "Look for a key")] : "none: a batch goes to one worker as a whole"),
          h("dt", {}, "Workers"), h("dd", {}, `${flow.applied || 0} of ${flow.of || 0} have the newest documents`),
          h("dt", {}, "Changed"), h("dd", {}, parts.moment(flow.updated)))),
    ];
  }

  let width = 900;

  // watchWidth draws the chain again when its place becomes wider or narrower.
  function watchWidth(el) {
    const measure = () => {
      if (el.clientWidth - 14 !== width && el.clientWidth > 0) {
        width = el.clientWidth - 14;
        app.redraw();
      }
    };
    measure();
    new ResizeObserver(measure).observe(el);
  }

  function functionsView() {
    const order = new Map((flow.chain || []).map((s, i) => [s.function, i]));
    const all = [...figure.functions || []].sort((a, b) => (order.get(a.function) ?? 1e6) - (order.get(b.function) ?? 1e6));
    if (all.length === 0) return null;
    return h("section", {"aria-labelledby": "functions"}, h("h2", {id: "functions"}, "Functions"),
      parts.table("Functions", [
        {head: "Function", cell: (f) => parts.name(f.function)},
        {head: "Rows/s", class: "number", cell: (f) => rate(f.rows_per_second)},
        {head: "Half in", class: "number wide", cell: (f) => f.p50_seconds ? duration(f.p50_seconds * 1000) : "–"},
        {head: "99 % in", class: "number", cell: (f) => f.p99_seconds ? duration(f.p99_seconds * 1000) : "–"},
        {head: "Errors/s", class: "number", cell: (f) => h("span", {class: Number(f.errors_per_second) > 0 ? "bad" : "muted"}, rate(f.errors_per_second))},
        {head: "Retries/s", class: "number wide", cell: (f) => rate(f.retries_per_second)},
        {head: "Rows", class: "number wide", cell: (f) => h("span", {title: exact(f.rows)}, count(f.rows))},
        {head: "Errors", class: "number wide", cell: (f) => h("span", {title: exact(f.errors)}, count(f.errors))},
      ], all, {key: (f) => f.function}));
  }

  // differences returns what changed in each document from one revision to another.
  function differences(before, after) {
    const text = (r) => new Map((r ? r.documents : []).map((d) => [`${d.kind} ${d.name}`, textOf(d.yaml)]));
    const a = text(before), b = text(after);
    return [...new Set([...a.keys(), ...b.keys()])].map((id) => ({id, text: diff(a.get(id) || "", b.get(id) || "")})).filter((d) => d.text);
  }

  function revisionsView() {
    if (!revisions) return parts.loading();
    if (revisions.length === 0) return parts.empty("No revision was ever active.", "A revision is listed here once every worker has accepted it.");
    const active = revisions.findIndex((r) => r.active);
    return h("section", {},
      active < 0 || flow.wanted !== flow.active ? undoNewest(revisions[active]) : null,
      parts.table("Revisions", [
        {head: "Revision", cell: (r) => r.revision},
        {head: "Active since", cell: (r) => parts.moment(r.accepted_unix_milliseconds)},
        {head: "By", cell: (r) => parts.name(r.author || "–")},
        {head: "", label: "State", class: "wide", cell: (r) => [r.active ? h("span", {class: "tag"}, "active") : null, r.enabled ? null : h("span", {class: "tag"}, "off")]},
        {head: "", label: "Actions", class: "number", cell: (r) => [
          h("button", {type: "button", class: "quiet", "aria-expanded": opened === r.revision ? "true" : "false", onclick: () => { opened = opened === r.revision ? null : r.revision; app.redraw(); }}, opened === r.revision ? "Hide differences" : "Differences"),
          may("define") && !r.active ? h("button", {type: "button", class: "quiet", onclick: () => goBack(r)}, "Go back to it") : null]},
      ], revisions, {key: (r) => r.revision, row: (r) => ({"aria-selected": opened === r.revision ? "true" : null})}),
      opened ? changesOf(revisions.findIndex((r) => r.revision === opened)) : null);
  }

  function changesOf(i) {
    if (i < 0) return null;
    const before = revisions[i + 1];
    const all = differences(before, revisions[i]);
    return h("div", {class: "card", key: "changes"},
      h("h2", {}, before ? `Differences from revision ${before.revision} to ${revisions[i].revision}` : `Revision ${revisions[i].revision}, the oldest that is kept`),
      all.length === 0 ? h("p", {class: "muted"}, "The documents are the same: somebody wrote them again.") : all.map((d) => h("div", {key: d.id}, h("h3", {}, parts.name(d.id)), parts.diffView(d.text))));
  }

  // undoNewest offers to drop documents that are not active.
  function undoNewest(active) {
    if (!active || !may("define")) return null;
    return parts.notice("warn", "The newest documents are not active.", " ", h("div", {class: "actions"}, h("button", {type: "button", onclick: () => goBack(active)}, `Drop them and keep revision ${active.revision}`)));
  }

  function goBack(r) {
    window = change(app, {
      title: `Go back to revision ${r.revision}`, intro: "The documents of that revision are written again, as a new revision. Other flows that use the same functions or connectors change, too.",
      documents: r.documents.map((d) => ({kind: d.kind, name: d.name, yaml: textOf(d.yaml)})),
      done: () => { ticks = 0; tick(); },
      close: () => { window = null; app.redraw(); },
    });
    app.redraw();
  }

  function ask(resume) {
    if (resume) {
      pause(true, "");
      return;
    }
    asking = {reason: "", busy: false, error: null};
    app.redraw();
  }

  async function pause(resume, reason) {
    try {
      await post("v1/pause", {flow: name, resume, reason});
      asking = null;
      app.say("good", resume ? `${name} takes rows again.` : `${name} is paused.`);
      await tick();
    } catch (e) {
      if (asking) asking.error = e;
      else app.say("bad", e.message);
    }
    app.redraw();
  }

  function pauseDialog() {
    return parts.dialog(`Pause ${name}`, {close: () => { asking = null; app.redraw(); }},
      h("p", {class: "muted"}, "The flow takes no new rows until somebody lets it go on. Rows under way end, and parked rows stay parked."),
      h("form", {onsubmit: (e) => { e.preventDefault(); pause(false, asking.reason); }},
        parts.field("Why, for those who find it paused", {id: "reason", value: asking.reason, oninput: (e) => { asking.reason = e.target.value; }, hook: (el) => el.focus()}),
        parts.problem(asking.error),
        h("div", {class: "actions", style: {"margin-top": "14px"}}, h("button", {class: "primary"}, "Pause"), h("button", {type: "button", onclick: () => { asking = null; app.redraw(); }}, "Cancel"))));
  }

  return page;
}
