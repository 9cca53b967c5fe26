// Running dead letters again: with a rate, with progress, to be stopped at any time, and with the rows that the flow passes on.

import {h} from "./dom.js";
import {reports, fromBase64} from "./api.js";
import * as parts from "./parts.js";
import {exact, plural} from "./format.js";
import {filterOf, filterText} from "./letters.js";

const mostResults = 1000; // rows that are kept for the viewer; the rest is counted

// redrive opens the window. filter selects the letters, and what says in words which these are.
export function redrive(app, {filter, what, close}) {
  let state = "ready"; // ready, checking, running, stopped or ended
  let rate = "", withResults = false, progress = null, error = null, rows = [], passed = 0, checked = null;
  let cancel = null;
  const mayResults = filter.flow ? app.may("rows", filter.flow) : app.maySome("rows");

  async function run(dry) {
    state = dry ? "checking" : "running";
    error = null;
    cancel = new AbortController();
    const body = {filter: filterOf(filter, true), dry_run: dry};
    if (Number(rate) > 0) {
      body.letters_per_second = Number(rate);
      if (!(body.filter.ids || []).includes("*")) body.filter.ids = [...(body.filter.ids || []), "*"]; // builds that know no rate refuse it
    }
    if (!dry && body.filter.ids && filter.ids) body.filter.gone = true;
    app.redraw();
    const signal = cancel.signal;
    try {
      for await (const e of reports("POST", withResults && !dry ? "v1/dead/redrive-with-results" : "v1/dead/redrive", {body, signal})) {
        if (dry) checked = e;
        else if (!withResults) progress = e;
        else if (e.progress) progress = e.progress;
        else if (e.results) take(e.results);
        app.redraw();
      }
      state = dry ? "ready" : "ended";
    } catch (e) {
      state = dry ? "ready" : "stopped";
      if (!signal.aborted) error = e;
    }
    app.redraw();
  }
  run(true);

  // take keeps the rows of a part of the output, as texts.
  function take(columns) {
    const data = fromBase64(columns.data);
    let from = 0;
    for (const end of columns.ends || []) {
      passed++;
      if (rows.length < mostResults) rows.push(new TextDecoder().decode(data.subarray(from, end)));
      from = end;
    }
  }

  const number = (name) => Number((progress || {})[name] || 0);

  function view() {
    const selected = number("selected"), gone = number("done") + number("filtered") + number("aborted"), ran = gone + number("dead") + number("left");
    const running = state === "running", over = state === "ended" || state === "stopped";
    const leave = () => { if (cancel) cancel.abort(); close(); };
    return parts.dialog(`Redrive ${what}`, {close: leave, busy: running},
      state === "ready" || state === "checking" ? [
        h("p", {class: "muted"}, "Each letter runs again on the active revision, from the function in which it died. A letter whose row ends is deleted; one whose row dies again stays."),
        filterText(filter),
        checked ? h("p", {}, `${plural(checked.selected || 0, "letter")} will run.`) : state === "checking" ? h("p", {class: "muted", role: "status"}, "Counting… You need not wait for it.") : null,
        checked && (checked.reasons || []).length ? [h("h3", {}, "These can't run now"), reasons(checked)] : null,
        h("div", {class: "fields"},
          parts.field("Letters a second", {id: "rate", type: "number", min: 1, max: 100000, placeholder: "as fast as possible", value: rate, oninput: (e) => { rate = e.target.value; app.redraw(); }})),
        mayResults ? h("label", {class: "check"}, h("input", {type: "checkbox", checked: withResults, onchange: (e) => { withResults = e.target.checked; app.redraw(); }}), " Show the rows that the flow passes on") : null,
      ] : null,
      progress || running ? h("div", {class: "progress", "aria-live": "polite"},
        h("progress", {max: Math.max(1, selected), value: ran, "aria-label": "Letters that have run"}),
        h("p", {}, `${exact(ran)} of ${exact(selected)} have run: `,
          h("strong", {}, `${exact(gone)} ended`), ` (${exact(number("done"))} done, ${exact(number("filtered"))} filtered, ${exact(number("aborted"))} aborted), `,
          h("span", {class: number("dead") ? "bad" : ""}, `${exact(number("dead"))} died again`), `, ${exact(number("left"))} left.`)) : null,
      progress && (progress.reasons || []).length ? reasons(progress) : null,
      passed ? [
        h("div", {class: "bar"}, h("h3", {}, `Rows that the flow passed on `, h("span", {class: "muted"}, exact(passed))),
          over ? h("button", {type: "button", class: "quiet", onclick: () => parts.save("redriven.ndjson", rows.map((r) => r + "\n"), "application/x-ndjson")}, rows.length < passed ? `Download the first ${exact(rows.length)}` : "Download") : null),
        h("pre", {class: "row", tabindex: "0"}, rows.slice(-20).join("\n"))] : null,
      parts.problem(error),
      state === "stopped" && !error ? parts.notice("warn", "Stopped.", " Letters that have not run stay as they are. Letters under way end by themselves.") : null,
      state === "ended" ? parts.notice(number("dead") + number("left") ? "warn" : "good", number("dead") + number("left") ? "Some letters stay." : "All letters came to their end.") : null,
      h("div", {class: "actions"},
        state === "ready" || state === "checking" ? h("button", {type: "button", class: "primary", disabled: checked && Number(checked.selected || 0) === 0, onclick: () => { if (cancel) cancel.abort(); run(false); }}, "Redrive") : null,
        running ? h("button", {type: "button", class: "danger", onclick: () => cancel.abort()}, "Stop") : null,
        state === "stopped" ? h("button", {type: "button", class: "primary", onclick: () => { progress = null; run(false); }}, "Go on") : null,
        running ? null : h("button", {type: "button", onclick: leave}, over ? "Close" : "Cancel")));
  }

  // reasons lists why letters died again or could not run.
  function reasons(p) {
    return h("ul", {class: "troubles"}, p.reasons.slice(0, 20).map((r) => h("li", {class: "bad"}, parts.shape("bad"), h("span", {},
      `${exact(r.letters)} × `, r.function ? parts.name(r.function) : r.flow ? parts.name(r.flow) : "", " ", parts.code(r.code), " ", r.reason ? parts.name(r.reason.slice(0, 300)) : ""))));
  }

  return {view};
}
