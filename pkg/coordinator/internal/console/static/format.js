// How numbers and times are shown.

const whole = new Intl.NumberFormat("en-US", {maximumFractionDigits: 0});
const short = new Intl.NumberFormat("en-US", {notation: "compact", maximumFractionDigits: 1});
const small = new Intl.NumberFormat("en-US", {maximumSignificantDigits: 2});

// count shows a whole number: 1,204 or, from 100,000 on, 1.2M. It takes the texts that 64-bit numbers are.
export function count(n) {
  const value = Number(n || 0);
  return Math.abs(value) < 100000 ? whole.format(value) : short.format(value);
}

// exact shows a whole number with all its digits.
export function exact(n) {
  return String(n || 0).replace(/\B(?=(\d{3})+$)/g, ",");
}

// rate shows a number a second.
export function rate(n) {
  const value = Number(n || 0);
  if (value === 0) return "0";
  if (value < 0.01) return "<0.01";
  return value < 10 ? small.format(value) : count(value);
}

// plural shows a number with its noun.
export function plural(n, noun, nouns = noun + "s") {
  return `${exact(n)} ${Number(n) === 1 ? noun : nouns}`;
}

// duration shows milliseconds in the unit that fits.
export function duration(milliseconds) {
  const ms = Number(milliseconds || 0);
  if (ms <= 0) return "0";
  if (ms < 1) return `${small.format(ms * 1000)} µs`;
  if (ms < 1000) return `${small.format(ms)} ms`;
  const s = ms / 1000;
  if (s < 60) return `${s < 10 ? s.toFixed(1) : Math.round(s)} s`;
  const steps = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const i = steps.findIndex(([size]) => s >= size);
  const big = Math.floor(s / steps[i][0]);
  const rest = Math.floor((s - big * steps[i][0]) / steps[i + 1][0]);
  return `${big} ${steps[i][1]}${rest ? ` ${rest} ${steps[i + 1][1]}` : ""}`;
}

// two writes a number with two digits.
const two = (n) => String(n).padStart(2, "0");

// time shows a moment by the viewer's clock: the time of day alone if it is today.
export function time(when) {
  const d = when instanceof Date ? when : new Date(typeof when === "string" && /^\d+$/.test(when) ? Number(when) : when);
  if (Number.isNaN(d.getTime())) return "–";
  const clock = `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`;
  const day = `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())}`;
  return d.toDateString() === new Date().toDateString() ? clock : `${day} ${clock}`;
}

// iso shows a moment in full, in UTC, for titles.
export function iso(when) {
  const d = new Date(typeof when === "string" && /^\d+$/.test(when) ? Number(when) : when);
  return Number.isNaN(d.getTime()) ? "" : d.toISOString();
}

// ago shows how long ago a moment was.
export function ago(when) {
  const d = new Date(typeof when === "string" && /^\d+$/.test(when) ? Number(when) : when);
  const ms = Date.now() - d.getTime();
  return ms < 1500 ? "just now" : `${duration(ms)} ago`;
}
