// Reads JSON without losing digits. JSON.parse makes a Number of each number, and 9007199254740993 becomes 9007199254740992. Here a number
// that a Number does not hold digit by digit stays a text, and rows are never read at all: they stay the text that they are.

// JSONError is a mistake in a text that should be JSON. at is where, as an index into the text.
export class JSONError extends Error {
  constructor(message, text, at) {
    const before = text.slice(0, at).split("\n");
    super(`${message} in line ${before.length}, column ${before[before.length - 1].length + 1}`);
    this.at = at;
    this.line = before.length;
  }
}

// read returns the value of a JSON text. Values of members whose names are in raw stay texts, as they stand there.
export function read(text, raw = []) {
  const r = new Reader(text, new Set(raw));
  const value = r.value();
  r.space();
  if (r.at < text.length) r.fail("there is something behind the value");
  return value;
}

// check returns null if a text is one JSON value, or the JSONError that says where it is wrong.
export function check(text) {
  try {
    read(text);
    return null;
  } catch (error) {
    if (error instanceof JSONError) return error;
    throw error;
  }
}

const number = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?/y;
const plain = /[^"\\\u0000-\u001f]*/y;
const maxDepth = 1000;

// Reader reads one text from the beginning to the end.
class Reader {
  constructor(text, raw) {
    this.text = text;
    this.raw = raw;
    this.at = 0;
    this.depth = 0;
  }

  fail(message) {
    throw new JSONError(message, this.text, this.at);
  }

  // space goes to the next character that is no space.
  space() {
    for (;;) {
      const c = this.text.charCodeAt(this.at);
      if (c !== 32 && c !== 10 && c !== 13 && c !== 9) return;
      this.at++;
    }
  }

  // value reads one value.
  value() {
    this.space();
    switch (this.text[this.at]) {
      case "{": return this.nested(() => this.object());
      case "[": return this.nested(() => this.array());
      case '"': return this.string();
      case "t": return this.word("true", true);
      case "f": return this.word("false", false);
      case "n": return this.word("null", null);
      case undefined: return this.fail("the text ends where a value should be");
    }
    number.lastIndex = this.at;
    const found = number.exec(this.text);
    if (!found) this.fail("there is no JSON value");
    this.at = number.lastIndex;
    const n = Number(found[0]);
    return String(n) === found[0] ? n : found[0];
  }

  nested(readIt) {
    if (++this.depth > maxDepth) this.fail("there are too many values within each other");
    this.at++;
    const value = readIt();
    this.depth--;
    return value;
  }

  word(word, value) {
    if (!this.text.startsWith(word, this.at)) this.fail("there is no JSON value");
    this.at += word.length;
    return value;
  }

  object() {
    const object = Object.create(null); // a member may have any name, also __proto__
    this.space();
    if (this.text[this.at] === "}") {
      this.at++;
      return object;
    }
    for (;;) {
      this.space();
      if (this.text[this.at] !== '"') this.fail("the name of a member must stand in quotes");
      const name = this.string();
      this.space();
      if (this.text[this.at] !== ":") this.fail("a colon must stand behind the name of a member");
      this.at++;
      if (this.raw.has(name)) {
        this.space();
        const from = this.at;
        this.value();
        object[name] = this.text.slice(from, this.at);
      } else {
        object[name] = this.value();
      }
      if (this.end("}")) return object;
    }
  }

  array() {
    const array = [];
    this.space();
    if (this.text[this.at] === "]") {
      this.at++;
      return array;
    }
    for (;;) {
      array.push(this.value());
      if (this.end("]")) return array;
    }
  }

  // end reads a comma or the end of an object or array, and reports whether it was the end.
  end(close) {
    this.space();
    const c = this.text[this.at];
    if (c !== "," && c !== close) this.fail(`a comma or ${close} is missing`);
    this.at++;
    return c === close;
  }

  string() {
    const from = this.at++;
    let escapes = false;
    for (;;) {
      plain.lastIndex = this.at;
      plain.exec(this.text);
      this.at = plain.lastIndex;
      const c = this.text[this.at];
      if (c === '"') break;
      if (c !== "\\") this.fail(c === undefined ? "a closing quote is missing" : "a control character must be written as an escape");
      escapes = true;
      this.at += 2;
    }
    this.at++;
    if (!escapes) return this.text.slice(from + 1, this.at - 1);
    try {
      return JSON.parse(this.text.slice(from, this.at));
    } catch {
      this.at = from;
      return this.fail("there is no such escape in this string");
    }
  }
}

// pretty returns a JSON text with one member a line. It changes nothing but the space between tokens. A text that is not JSON is returned
// as it is.
export function pretty(text) {
  if (check(text)) return text;
  let out = "", depth = 0;
  for (const token of text.match(/"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/gs) || []) {
    switch (token) {
      case "{": case "[":
        out += token + "\n" + "  ".repeat(++depth);
        break;
      case "}": case "]":
        out = out.trimEnd();
        depth--;
        out += /[{[]$/.test(out) ? token : "\n" + "  ".repeat(depth) + token;
        break;
      case ",":
        out += ",\n" + "  ".repeat(depth);
        break;
      case ":":
        out += ": ";
        break;
      default:
        out += token;
    }
  }
  return out;
}

// compact returns a JSON text without space between tokens.
export function compact(text) {
  return (text.match(/"(?:[^"\\]|\\.)*"|[^\s"]+/gs) || []).join("");
}
