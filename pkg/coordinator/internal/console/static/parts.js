// Pieces that several pages use.

import {h} from "./dom.js";
import * as words from "./words.js";
import {time, iso, ago, exact} from "./format.js";

// link makes a link to a page of the console: its name and arguments.
export function link(to, ...kids) {
  return h("a", {href: to}, ...kids);
}

// path makes the address of a page. Arguments may have any characters.
export function path(page, ...args) {
  return "#/" + [page, ...args.map(encodeURIComponent)].join("/");
}

// withQuery adds a query to the address of a page. Empty values are left out.
export function withQuery(address, query) {
  const q = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== "" && one !== null && one !== undefined && one !== false) q.append(name, one);
    }
  }
  return q.size ? `${address}?${q}` : address;
}

// name shows a name or another text of the user, in which the writing direction of one text does not change that of others.
export function name(text, props = {}) {
  return h("bdi", {...props}, text);
}

// badge shows a state: a shape and a word, so that colour is not needed to read it.
export function badge(state, title) {
  const {tone, meaning} = words.state(state);
  return h("span", {class: `badge ${tone}`, title: title || meaning}, shape(tone), state || "unknown");
}

// shape is the mark of a tone: a disc for good, a ring for busy, a triangle for warnings, a square for bad things.
export function shape(tone) {
  const inner = {
    good: h("circle", {cx: 5, cy: 5, r: 4}),
    busy: h("circle", {cx: 5, cy: 5, r: 3.2, class: "ring"}),
    warn: h("path", {d: "M5 .8 9.6 9.2H.4Z"}),
    bad: h("rect", {x: 1, y: 1, width: 8, height: 8, rx: 1}),
    off: h("path", {d: "M1 5h8", class: "ring"}),
  }[tone];
  return h("svg", {class: "shape", viewBox: "0 0 10 10", "aria-hidden": "true"}, inner);
}

// moment shows a time, with how long ago it was and the full time in its title.
export function moment(when) {
  if (!when || when === "0") return "–";
  return h("time", {datetime: iso(when), title: `${ago(when)} · ${iso(when)}`}, time(when));
}

// code shows a code with its meaning in the title.
export function code(name) {
  return h("span", {class: "code", title: words.explain(name)}, words.code(name));
}

// notice shows a message: tone is good, warn, bad or busy.
export function notice(tone, title, ...kids) {
  return h("div", {class: `notice ${tone}`, role: tone === "bad" ? "alert" : "status"},
    shape(tone), h("div", {}, title ? h("strong", {}, title) : null, ...kids));
}

// problem shows why a call failed: in plain words, then what the coordinator said, with the code.
export function problem(error, again) {
  if (!error) return null;
  const known = words.explain(error.code);
  return h("div", {class: "notice bad", role: "alert"}, shape("bad"),
    h("div", {},
      h("strong", {}, known || "This did not work."), " ",
      error.message && error.message !== known ? h("span", {class: "detail"}, error.message) : null, " ",
      error.code ? h("span", {class: "code"}, words.code(error.code)) : null,
      again ? h("div", {class: "actions"}, h("button", {type: "button", onclick: again}, "Try again")) : null));
}

// empty shows that a list has nothing, and why.
export function empty(title, ...kids) {
  return h("div", {class: "empty"}, h("p", {class: "empty-title"}, title), ...kids.map((kid) => h("p", {}, kid)));
}

// loading shows that something is on its way. It becomes visible only after a moment, so that fast answers do not flicker.
export function loading(text = "Loading…") {
  return h("p", {class: "loading", role: "status"}, text);
}

// tile shows one figure with its name.
export function tile(label, value, {unit, tone, title, plot: line, href} = {}) {
  const inner = [
    h("span", {class: "tile-label"}, label),
    h("span", {class: `tile-value ${tone || ""}`}, value, unit ? h("span", {class: "unit"}, " " + unit) : null),
    line || null,
  ];
  return href ? h("a", {class: "tile", title, href}, inner) : h("div", {class: "tile", title}, inner);
}

// table makes a table. columns are {head, cell(row), class, sort}; rows have a key.
export function table(caption, columns, rows, {sorted, sort, row: rowProps, key} = {}) {
  return h("div", {key: caption, class: "scroll", tabindex: "0", role: "group", "aria-label": caption},
    h("table", {},
      h("caption", {class: "hidden"}, caption),
      h("thead", {}, h("tr", {}, columns.map((c) => {
        const by = sort && c.sort;
        return h("th", {scope: "col", class: c.class, "aria-sort": by && sorted === c.sort ? "descending" : null},
          by ? h("button", {type: "button", class: "sort", onclick: () => sort(c.sort)}, c.head, sorted === c.sort ? h("span", {"aria-hidden": "true"}, " ↓") : null)
            : c.head || h("span", {class: "hidden"}, c.label || ""));
      }))),
      h("tbody", {}, rows.map((row) => h("tr", {key: key ? key(row) : undefined, ...(rowProps ? rowProps(row) : {})},
        columns.map((c, i) => h(i === 0 ? "th" : "td", {class: c.class, scope: i === 0 ? "row" : null}, c.cell(row))))))));
}

// pager shows which part of a list is shown, and goes to others.
export function pager({from, to, total, more, before, next, noun}) {
  const of = total === undefined || total === null ? (more ? ` of more` : "") : ` of ${exact(total)}`;
  return h("nav", {class: "pager", "aria-label": `Pages of ${noun}`},
    h("span", {class: "muted"}, to > 0 ? `${exact(from)}–${exact(to)}${of} ${noun}` : ""),
    h("button", {type: "button", disabled: !before, onclick: before || null}, "Previous"),
    h("button", {type: "button", disabled: !next, onclick: next || null}, "Next"));
}

// spark draws a small line of numbers.
export function spark(values, {width = 96, height = 22, label} = {}) {
  if (!values || values.length < 2) return h("svg", {class: "spark", width, height, "aria-hidden": "true"});
  const top = Math.max(...values, 1e-9);
  const step = width / (values.length - 1);
  const points = values.map((v, i) => `${(i * step).toFixed(1)},${(height - 2 - (v / top) * (height - 4)).toFixed(1)}`);
  return h("svg", {class: "spark", width, height, viewBox: `0 0 ${width} ${height}`, role: label ? "img" : null, "aria-label": label, "aria-hidden": label ? null : "true"},
    h("polygon", {points: `0,${height} ${points.join(" ")} ${width},${height}`}), h("polyline", {points: points.join(" ")}));
}

// plot draws lines over time. lines are {label, class, values}; times are milliseconds, one for each value.
export function plot(title, times, lines, show) {
  const width = 560, height = 150, left = 46, bottom = 20, top = 8;
  const all = lines.flatMap((l) => l.values);
  const max = niceTop(Math.max(...all, 0));
  const x = (i) => left + (times.length < 2 ? 0 : (i / (times.length - 1)) * (width - left - 6));
  const y = (v) => top + (1 - v / max) * (height - top - bottom);
  const last = lines.map((l) => `${l.label}: ${show(l.values[l.values.length - 1] || 0)}`).join(", ");
  return h("figure", {class: "plot"},
    h("figcaption", {}, h("span", {class: "plot-title"}, title),
      h("span", {class: "legend"}, lines.map((l) => h("span", {class: l.class}, l.label)))),
    times.length < 2
      ? h("p", {class: "muted plot-empty"}, "The history begins now: the first points come within a minute.")
      : h("svg", {viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title}. Now ${last}.`},
        [0, 0.5, 1].map((part) => h("g", {},
          h("line", {class: "grid", x1: left, x2: width - 6, y1: y(max * part), y2: y(max * part)}),
          h("text", {x: left - 6, y: y(max * part) + 4, "text-anchor": "end"}, show(max * part)))),
        (times.length < 8 ? [0, 1] : [0, 0.5, 1]).map((part) => {
          const i = Math.round((times.length - 1) * part);
          return h("text", {x: x(i), y: height - 5, "text-anchor": part === 0 ? "start" : part === 1 ? "end" : "middle"}, time(new Date(Number(times[i]))).slice(-8, -3));
        }),
        lines.map((l) => h("polyline", {class: `line ${l.class}`, points: l.values.map((v, i) => `${x(i).toFixed(1)},${y(v).toFixed(1)}`).join(" ")}))));
}

// niceTop returns the upper end of an axis: 1, 2 or 5 times a power of ten.
function niceTop(max) {
  if (max <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(max));
  return [1, 2, 5, 10].map((n) => n * power).find((n) => n >= max);
}

// field makes a labelled input. kids, if there are any, stand in place of the input.
export function field(label, props, ...kids) {
  const id = props.id;
  return h("div", {class: `field ${props.wide ? "wide" : ""}`},
    h("label", {for: id}, label),
    kids.length ? kids : h("input", {type: "text", autocomplete: "off", spellcheck: "false", autocapitalize: "off", ...props, wide: null}));
}

// choice makes a labelled list to choose from. options are texts, or [value, text].
export function choice(label, {id, value, onchange}, options) {
  return h("div", {class: "field"},
    h("label", {for: id}, label),
    h("select", {id, value, onchange}, options.map((o) => {
      const [v, text] = Array.isArray(o) ? o : [o, o];
      return h("option", {value: v, selected: v === value}, text);
    })));
}

// dialog shows a window over the page until close is called. Escape closes it, unless it is busy.
export function dialog(title, {close, busy}, ...kids) {
  return h("dialog", {
    key: "dialog", "aria-labelledby": "dialog-title",
    hook: (el) => { if (!el.open) el.showModal(); },
    oncancel: (event) => { event.preventDefault(); if (!busy) close(); },
    onclose: close, // browsers close a window when Escape is pressed again and again
  }, h("h2", {id: "dialog-title"}, title), ...kids);
}

// diffView shows the lines of a difference, as diff -u writes them.
export function diffView(text) {
  return h("pre", {class: "diff", tabindex: "0", "aria-label": "Difference"}, text.replace(/\n$/, "").split("\n").map((line) => {
    const tone = line.startsWith("@@") || line.startsWith("---") || line.startsWith("+++") ? "at" : line.startsWith("+") ? "add" : line.startsWith("-") ? "del" : "";
    return h("span", {class: tone}, line + "\n");
  }));
}

// save gives the viewer a file.
export function save(fileName, parts, type) {
  const url = URL.createObjectURL(new Blob(parts, {type}));
  const a = document.createElement("a");
  a.href = url;
  a.download = fileName;
  a.click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
