// Draws the chain of a flow: its functions in their order, the rows between them, and the stores that they use.

import {h} from "./dom.js";
import {path} from "./parts.js";
import {rate, duration} from "./format.js";

const height = 88, gap = 46, storeHeight = 44;

// chain draws steps: [{function, mode, connector}] into a width of so many pixels. figures has, by function, what it does; down has the
// connectors that can't be used; shared has, by connector, the other flows that use it; in is the rate of rows that come in.
export function chain(steps, {width, figures, down, shared, rowsIn}) {
  const stores = steps.some((s) => s.connector);
  const flat = steps.length * 176 + (steps.length - 1) * gap + 2 * 54 <= width;
  const box = flat
    ? {width: Math.min(220, (width - 2 * 54 - (steps.length - 1) * gap) / steps.length)}
    : {width: Math.max(150, Math.min(300, width - (stores ? 24 + 26 + 118 : 24)))};
  const at = (i) => flat ? {x: 54 + i * (box.width + gap), y: 10} : {x: 12, y: 26 + i * (height + 30)};
  const last = at(steps.length - 1);
  const size = flat
    ? {width: last.x + box.width + 54, height: 10 + height + (stores ? 40 + storeHeight + 22 : 12)}
    : {width: 12 + box.width + (stores ? 26 + 118 + 12 : 12), height: last.y + height + 28};
  const strongest = Math.max(rowsIn, ...steps.map((s) => Number((figures[s.function] || {}).rows_per_second || 0)), 1e-9);
  const thick = (n) => 1.5 + 4.5 * Math.sqrt(Math.max(0, n) / strongest);
  const words = steps.map((s) => `${s.function} (${s.mode}${s.connector ? `, ${s.connector}` : ""})`).join(", then ");

  return h("svg", {width: size.width, height: size.height, viewBox: `0 0 ${size.width} ${size.height}`, role: "group", "aria-label": `The chain: ${words}`},
    edges(), steps.map(step));

  // edges draws the way of the rows.
  function edges() {
    const lines = [];
    for (let i = 0; i <= steps.length; i++) {
      const into = i < steps.length ? Number((figures[steps[i].function] || {}).rows_per_second || 0) : 0;
      const rows = i === 0 ? rowsIn : into;
      const w = i === steps.length ? 1.5 : thick(rows);
      const label = i === 0 ? `${rate(rows)}/s` : null;
      if (flat) {
        const y = 10 + height / 2, from = i === 0 ? 8 : at(i - 1).x + box.width, to = i === steps.length ? size.width - 8 : at(i).x;
        lines.push(h("g", {key: `edge${i}`}, h("path", {class: "edge", d: `M${from} ${y}H${to - 7}`, "stroke-width": w}), h("path", {class: "head", d: `M${to} ${y}l-9 -5v10z`}),
          label ? h("text", {class: "dim", x: 6, y: y - 10}, label) : null));
      } else {
        const x = 12 + box.width / 2, from = i === 0 ? 2 : at(i - 1).y + height, to = i === steps.length ? size.height - 2 : at(i).y;
        lines.push(h("g", {key: `edge${i}`}, h("path", {class: "edge", d: `M${x} ${from}V${to - 7}`, "stroke-width": w}), h("path", {class: "head", d: `M${x} ${to}l-5 -9h10z`}),
          label ? h("text", {class: "dim", x: x + 12, y: from + 13}, label) : null));
      }
    }
    return lines;
  }

  // step draws one function and the store that it uses.
  function step(s, i) {
    const {x, y} = at(i), f = figures[s.function] || {};
    const errors = Number(f.errors_per_second || 0), retries = Number(f.retries_per_second || 0);
    const letters = Math.floor((box.width - 24) / 7.4);
    const trouble = errors > 0 ? `${rate(errors)} errors/s` : retries > 0 ? `${rate(retries)} retries/s` : "";
    return h("g", {key: `step${i}`, class: errors > 0 ? "wrong" : ""},
      s.connector ? store(s, i, x, y) : null,
      h("rect", {class: "box", x, y, width: box.width, height, rx: 7}),
      h("text", {class: "title", x: x + 12, y: y + 22}, h("title", {}, s.function), cut(s.function, letters)),
      h("text", {class: "dim", x: x + 12, y: y + 39}, s.mode || "not known"),
      h("text", {x: x + 12, y: y + 60}, `${rate(f.rows_per_second)} rows/s`),
      h("text", {class: errors > 0 ? "red" : retries > 0 ? "amber" : "dim", x: x + 12, y: y + 77}, trouble || (Number(f.p99_seconds) > 0 ? `p99 ${duration(f.p99_seconds * 1000)}` : "no run lately")));
  }

  // store draws the connector of a step, with the number of other flows that use it.
  function store(s, i, x, y) {
    const others = shared[s.connector] || [];
    const w = flat ? Math.min(150, box.width) : 118;
    const sx = flat ? x + (box.width - w) / 2 : x + box.width + 26, sy = flat ? y + height + 40 : y + (height - storeHeight) / 2;
    const wire = flat ? `M${x + box.width / 2} ${y + height}V${sy}` : `M${x + box.width} ${y + height / 2}H${sx}`;
    const label = `${s.connector}${others.length ? `, which also ${others.join(", ")} use${others.length === 1 ? "s" : ""}` : ""}`;
    return h("g", {},
      h("path", {class: "wire", d: wire}),
      h("rect", {class: `store ${down[s.connector] ? "down" : ""}`, x: sx, y: sy, width: w, height: storeHeight, rx: 10}, h("title", {}, label)),
      h("text", {class: "title", x: sx + w / 2, y: sy + 19, "text-anchor": "middle"}, cut(s.connector, Math.floor(w / 8))),
      others.length === 1
        ? h("a", {href: path("flow", others[0])}, h("text", {class: "dim title", x: sx + w / 2, y: sy + 35, "text-anchor": "middle"}, cut(`also ${others[0]}`, Math.floor(w / 7.6))))
        : h("text", {class: "dim", x: sx + w / 2, y: sy + 35, "text-anchor": "middle"}, others.length ? `and ${others.length} other flows` : down[s.connector] ? "can't be used" : s.mode === "Save" ? "is written" : "is read"));
  }
}

// cut shortens a text to so many letters.
function cut(text, letters) {
  const all = [...text];
  return all.length <= letters ? text : all.slice(0, Math.max(1, letters - 1)).join("") + "…";
}
