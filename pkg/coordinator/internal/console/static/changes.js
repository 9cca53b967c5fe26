// The audit log: who changed something, or read rows.

import {h} from "./dom.js";
import {get} from "./api.js";
import * as parts from "./parts.js";
import {timeOf} from "./letters.js";

const step = 100; // entries that are shown at first, and added with each "Show more"

// open opens the page.
export function open(app, args, query) {
  let filter = readFilter(query), typed = {...filter}, entries = null, error = null, limit = step, wrong = "";
  const page = {title: "Changes", view, tick: load, every: 10000, query: (q) => { filter = readFilter(q); typed = {...filter}; limit = step; load(); }};

  async function load() {
    try {
      const answer = await get("v1/audit", {flow: filter.flow, author: filter.author, limit: limit + 1, since_unix_milliseconds: filter.since ? timeOf(filter.since) || 0 : ""});
      entries = (answer.entries || []).reverse();
      error = null;
    } catch (e) {
      error = e;
    }
    app.redraw();
  }

  function submit(event) {
    event.preventDefault();
    wrong = timeOf(typed.since) === null ? "Write a time, or how long ago, such as 2h" : "";
    if (wrong) {
      app.redraw();
      return;
    }
    const address = parts.withQuery("#/changes", typed);
    if (address === location.hash) load();
    else app.go(address);
  }

  function view() {
    const input = (name, label, placeholder) => parts.field(label, {id: name, value: typed[name], placeholder, "aria-invalid": name === "since" && wrong ? "true" : null, oninput: (e) => { typed = {...typed, [name]: e.target.value}; app.redraw(); }});
    const shown = (entries || []).slice(0, limit), more = (entries || []).length > limit;
    return [
      h("div", {class: "bar"}, h("h1", {tabindex: "-1"}, "Changes"),
        shown.length ? h("button", {type: "button", onclick: () => parts.save("changes.ndjson", shown.map((e) => JSON.stringify(e) + "\n"), "application/x-ndjson")}, "Download") : null),
      h("form", {key: "find", class: "card", role: "search", "aria-label": "Find changes", onsubmit: submit},
        h("div", {class: "fields"}, input("flow", "Flow"), input("author", "By"), input("since", "Since", "2h"),
          h("div", {class: "actions"}, h("button", {class: "primary"}, "Find"), Object.values(filter).some(Boolean) ? h("a", {class: "button", href: "#/changes"}, "Show all") : null)),
        wrong ? h("p", {class: "bad small"}, wrong) : null),
      parts.problem(error, entries ? null : load),
      entries === null ? (error ? null : parts.loading())
        : shown.length === 0 ? parts.empty("No entry.", "Changes of documents, and reads of rows, are listed here.")
          : h("section", {"aria-label": "Entries"}, parts.table("Changes", [
            {head: "When", cell: (e) => parts.moment(e.at_unix_milliseconds)},
            {head: "By", cell: (e) => parts.name(e.author || "–", {title: e.address})},
            {head: "Did", cell: (e) => e.action},
            {head: "Flows", class: "wide", cell: (e) => list(e.flows, (f) => h("a", {href: parts.path("flow", f)}, parts.name(f)))},
            {head: "Documents", cell: (e) => list(e.documents, (d) => parts.name(d))},
            {head: "More", class: "reason wide", cell: (e) => e.detail ? parts.name(e.detail, {title: e.detail}) : ""},
          ], shown, {key: (e) => `${e.at_unix_milliseconds} ${e.coordinator} ${e.action} ${e.revision || ""} ${(e.documents || []).join()} ${e.detail || ""}`}),
          h("div", {class: "pager"}, h("span", {class: "muted"}, more ? `The newest ${shown.length}` : `${shown.length} entries`),
            more ? h("button", {type: "button", onclick: () => { limit += step; load(); }}, "Show more") : null)),
    ];
  }

  return page;
}

// list shows some of a list, and how many more there are.
function list(all, show) {
  const some = (all || []).slice(0, 3).flatMap((one, i) => i ? [", ", show(one)] : [show(one)]);
  return (all || []).length > 3 ? [some, h("span", {class: "muted", title: all.join(", ")}, ` and ${all.length - 3} more`)] : some;
}

function readFilter(q) {
  return {flow: q.get("flow") || "", author: q.get("author") || "", since: q.get("since") || ""};
}
