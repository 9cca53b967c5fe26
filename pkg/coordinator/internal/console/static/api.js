// Calls of the coordinator's HTTP API. Paths are relative, so that the console works below any path of a proxy.

import {read} from "./json.js";

// Problem is an answer that says why a call failed: a problem document of the coordinator, or a failure to reach it.
export class Problem extends Error {
  constructor(code, detail, status = 0, wait = 0) {
    super(detail);
    this.code = code;
    this.status = status;
    this.wait = wait; // milliseconds after which it may help to try again; 0 means that nothing is known
  }

  // away reports whether the coordinator did not answer at all, so that another one may.
  get away() {
    return this.code === "NO_ANSWER";
  }
}

const patience = 20000; // milliseconds for a call with one answer

// listeners are told of each call whether the coordinator answered: by app.js, which looks for another one.
export const heard = {answered() {}, away() {}, signedOut() {}};

// send makes a request and returns the response if it is a good one.
async function send(method, path, {query, body, signal, headers} = {}) {
  const url = new URL(path, document.baseURI);
  for (const [name, value] of Object.entries(query || {})) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== undefined && one !== null && one !== "" && one !== false) url.searchParams.append(name, one);
    }
  }
  let response;
  try {
    response = await fetch(url, {
      method, signal, cache: "no-store", redirect: "error", credentials: "same-origin",
      headers: {"KisGrid-Request": "1", ...(body === undefined ? {} : {"Content-Type": "application/json"}), ...headers},
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (signal && signal.aborted && !(signal.reason instanceof DOMException && signal.reason.name === "TimeoutError")) throw error;
    heard.away();
    throw new Problem("NO_ANSWER", "The coordinator does not answer.");
  }
  if (response.status === 502 || response.status === 504) {
    heard.away();
    throw new Problem("NO_ANSWER", `The proxy before the coordinator has no answer of it (${response.status}).`, response.status);
  }
  heard.answered();
  if (response.ok) return response;
  const problem = problemOf(await response.text().catch(() => ""), response.status);
  if (response.status === 401 && !path.startsWith("v1/session")) heard.signedOut();
  throw problem;
}

// problemOf makes the Problem of an answer's text.
function problemOf(text, status) {
  try {
    const p = read(text);
    if (p && p.detail) return new Problem(p.code || `HTTP ${status}`, p.detail, status, Number(p.retry_after_milliseconds || 0));
  } catch {
    // It is no problem document: a proxy may have written it.
  }
  return new Problem(`HTTP ${status}`, text.length < 300 && !text.includes("<") ? text.trim() : "The answer was not understood.", status);
}

// call makes a call with one answer and returns it. The texts of members that are named in raw are not read.
export async function call(method, path, options = {}) {
  const limit = AbortSignal.timeout(options.patience || patience);
  const signal = options.signal ? AbortSignal.any([options.signal, limit]) : limit;
  const response = await send(method, path, {...options, signal});
  let text;
  try {
    text = await response.text();
  } catch (error) {
    if (options.signal && options.signal.aborted) throw error;
    heard.away();
    throw new Problem("NO_ANSWER", "The answer of the coordinator broke off.");
  }
  return text === "" ? null : read(text, options.raw || []);
}

export const get = (path, query, options) => call("GET", path, {...options, query});
export const post = (path, body, options) => call("POST", path, {...options, body});

// reports makes a call that reports while it goes on, and yields each report. It ends with a Problem where the call fails.
export async function* reports(method, path, options = {}) {
  const response = await send(method, path, options);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", ended = false;
  try {
    while (!ended) {
      let piece;
      try {
        piece = await reader.read();
      } catch (error) {
        if (options.signal && options.signal.aborted) throw error;
        heard.away();
        throw new Problem("NO_ANSWER", "The answer of the coordinator broke off.");
      }
      ended = piece.done;
      rest += piece.value || "";
      const lines = rest.split("\n");
      rest = ended ? "" : lines.pop();
      for (const line of lines) {
        if (line.trim() !== "") yield reportOf(line, options.raw || []);
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

// reportOf reads one line of a call that reports. It throws the Problem that the line may be.
function reportOf(line, raw) {
  const report = read(line, raw);
  if (report.error) {
    const e = report.error;
    throw new Problem(e.code && Number.isNaN(Number(e.code)) ? e.code : "ERROR", e.detail || e.message || "The call failed.");
  }
  return report.result;
}

// base64 writes a text as UTF-8 in base64, as the API takes documents and rows.
export function base64(text) {
  const bytes = new TextEncoder().encode(text);
  let binary = "";
  for (let i = 0; i < bytes.length; i += 0x8000) binary += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
  return btoa(binary);
}

// fromBase64 reads bytes.
export function fromBase64(text) {
  return Uint8Array.from(atob(text || ""), (c) => c.charCodeAt(0));
}

// textOf reads a text that the API has written as base64.
export function textOf(base64) {
  return new TextDecoder().decode(fromBase64(base64));
}
