// The difference of two texts, line by line.

const context = 3; // unchanged lines around changed ones
const most = 4000; // lines; texts beyond that are shown as replaced in whole

// diff returns what changes from one text to another, as diff -u writes it, or "" if nothing does.
export function diff(before, after) {
  if (before === after) return "";
  const a = linesOf(before), b = linesOf(after);
  const changes = a.length + b.length > most ? [...a.map((l) => ["-", l]), ...b.map((l) => ["+", l])] : compare(a, b);
  const near = changes.map(() => false);
  changes.forEach(([sign], i) => {
    if (sign !== " ") for (let j = Math.max(0, i - context); j <= Math.min(changes.length - 1, i + context); j++) near[j] = true;
  });
  const out = [];
  let line = 1, left = 0;
  changes.forEach(([sign, text], i) => {
    if (near[i]) {
      if (left || i === 0) {
        if (left) out.push(`@@ line ${line} @@`);
        left = 0;
      }
      out.push(sign + text);
    } else {
      left++;
    }
    if (sign !== "-") line++;
  });
  return out.join("\n");
}

function linesOf(text) {
  const lines = text.split("\n");
  if (lines[lines.length - 1] === "") lines.pop();
  return lines;
}

// compare finds the longest list of lines that both have, in their order.
function compare(a, b) {
  let from = 0, endA = a.length, endB = b.length;
  while (from < endA && from < endB && a[from] === b[from]) from++;
  while (endA > from && endB > from && a[endA - 1] === b[endB - 1]) endA--, endB--;
  const n = endA - from, m = endB - from;
  const length = Array.from({length: n + 1}, () => new Uint16Array(m + 1));
  for (let i = n - 1; i >= 0; i--) {
    for (let j = m - 1; j >= 0; j--) {
      length[i][j] = a[from + i] === b[from + j] ? length[i + 1][j + 1] + 1 : Math.max(length[i + 1][j], length[i][j + 1]);
    }
  }
  const out = a.slice(0, from).map((l) => [" ", l]);
  let i = 0, j = 0;
  while (i < n || j < m) {
    if (i < n && j < m && a[from + i] === b[from + j]) {
      out.push([" ", a[from + i]]);
      i++, j++;
    } else if (i < n && (j === m || length[i + 1][j] >= length[i][j + 1])) {
      out.push(["-", a[from + i++]]);
    } else {
      out.push(["+", b[from + j++]]);
    }
  }
  return [...out, ...a.slice(endA).map((l) => [" ", l])];
}
