// The frame of the console: who the viewer is, which page is shown, and which coordinator answers.

import {h, render} from "./dom.js";
import {get, call, heard, Problem} from "./api.js";
import * as parts from "./parts.js";
import * as overview from "./overview.js";
import * as flow from "./flow.js";
import * as apply from "./apply.js";
import * as letters from "./letters.js";
import * as key from "./key.js";
import * as changes from "./changes.js";
import * as signin from "./signin.js";

// Each page is a module with open(app, args, query), which returns {title, view(), tick?(), every?, close?(), dirty?()}:
// view describes the page; tick loads what has changed, each "every" milliseconds; dirty says that the viewer has typed something.
const pages = {overview, flow, apply, letters, key, changes};

// menu lists the pages that have an entry, with the right that one needs for them. A playground takes its place here once coordinators
// have the call for it.
const menu = [
  ["overview", "Overview", "view"],
  ["letters", "Dead letters", "view"],
  ["key", "Key", "view"],
  ["changes", "Changes", "view"],
];

const retryEvery = 2000; // milliseconds between two looks for a coordinator
const identifyEvery = 60000; // milliseconds after which the viewer's rights are asked for again

// app is what pages know of the frame.
const app = {
  me: null, // the answer of the call WhoAmI; null means that it is not known yet
  signedOut: false,
  flows: [], // names of flows, for lists to choose from
  notices: [],
  may, maySome, redraw, go, say,
};

let page = null; // the page that is shown
let shown = ""; // its address
let timer = 0;
let signedIn = ""; // the name of the viewer for whom the page was opened
const link = {lost: 0, others: [], trying: false, elsewhere: null}; // lost: since when no coordinator answers, 0 means that one does

// matches reports whether a name fits a pattern in which a star stands for any characters.
function matches(pattern, name) {
  const parts = pattern.split("*");
  if (parts.length === 1) return pattern === name;
  if (!name.startsWith(parts[0])) return false;
  let at = parts[0].length;
  for (const part of parts.slice(1, -1)) {
    const i = name.indexOf(part, at);
    if (i < 0) return false;
    at = i + part.length;
  }
  const end = parts[parts.length - 1];
  return name.length - at >= end.length && name.endsWith(end);
}

// may reports whether the viewer has a right on a flow. The coordinator decides: this only keeps buttons away that would not work.
function may(right, flow) {
  if (!app.me) return false;
  return app.me.everything || (app.me.grants || []).some((g) => (g.rights || []).includes(right) && (g.flows || []).some((p) => matches(p, flow)));
}

// maySome reports whether the viewer has a right on some flow.
function maySome(right) {
  return Boolean(app.me) && (app.me.everything || (app.me.grants || []).some((g) => (g.rights || []).includes(right)));
}

let drawing = 0;

// redraw draws the page soon: once, however often it is called before.
function redraw() {
  if (drawing) return;
  drawing = requestAnimationFrame(() => {
    drawing = 0;
    draw();
  });
}

// go shows another page.
function go(address) {
  location.hash = address.replace(/^#/, "");
}

// say shows a message for a moment, and has it read out.
function say(tone, text) {
  const one = {tone, text, key: String(Math.random())};
  app.notices = [...app.notices, one].slice(-3);
  redraw();
  setTimeout(() => {
    app.notices = app.notices.filter((n) => n !== one);
    redraw();
  }, 6000);
}

// open shows the page of the address.
function open() {
  const [address, text = ""] = location.hash.replace(/^#\/?/, "").split("?");
  if (location.hash === shown && page) return;
  const moved = shown.split("?")[0] !== location.hash.split("?")[0];
  if (page && !moved && page.query) {
    shown = location.hash;
    page.query(new URLSearchParams(text));
    return;
  }
  if (page && page.close) page.close();
  shown = location.hash;
  let args;
  try {
    args = address.split("/").map(decodeURIComponent);
  } catch {
    args = ["overview"];
  }
  const module = pages[args[0] || "overview"] || pages.overview;
  page = module.open(app, args.slice(1), new URLSearchParams(text));
  page.name = Object.keys(pages).find((name) => pages[name] === module);
  draw();
  if (app.focusHeading) {
    const heading = document.querySelector("main h1");
    if (heading) heading.focus({preventScroll: true});
    scrollTo(0, 0);
  }
  app.focusHeading = true;
  tick();
}

// tick loads what has changed, and comes again.
async function tick() {
  clearTimeout(timer);
  const current = page;
  if (!current || !current.tick || app.signedOut) return;
  if (!link.lost && !document.hidden) await current.tick().catch(report);
  if (page === current && current.every) {
    clearTimeout(timer);
    timer = setTimeout(tick, current.every);
  }
}

// report tells of an error that no page has taken.
function report(error) {
  if (error instanceof Problem && (error.away || error.status === 401)) return; // the frame shows it
  if (error && error.name === "AbortError") return;
  app.say("bad", error && error.message ? error.message : String(error));
}

// identify asks who the viewer is.
async function identify() {
  const before = JSON.stringify(app.me);
  app.me = await get("v1/whoami");
  if (before !== JSON.stringify(app.me)) redraw();
}

// learn notes the addresses of coordinators, for the time when this one has ended.
async function learn() {
  if (!maySome("view")) return;
  const answer = await get("v1/resources/coordinators");
  link.others = (answer.resources || []).map((r) => r.status && r.status.http).filter(Boolean);
}

heard.answered = () => {
  if (!link.lost) return;
  link.lost = 0;
  link.elsewhere = null;
  redraw();
  tick();
};

heard.away = () => {
  if (!link.lost) link.lost = Date.now();
  redraw();
  seek();
};

heard.signedOut = () => {
  app.signedOut = true;
  app.me = null;
  redraw();
};

// seek looks for a coordinator until one answers: this one, or another one that this one has named. A page that did not come from the
// address of a coordinator came through a proxy, which finds another one by itself.
async function seek() {
  if (link.trying) return;
  link.trying = true;
  while (link.lost) {
    await new Promise((resolve) => setTimeout(resolve, retryEvery));
    if (!link.lost) break;
    const direct = link.others.includes(location.host);
    const others = direct ? link.others.filter((address) => address !== location.host) : [];
    const answers = await Promise.all([
      call("GET", "v1/whoami", {patience: 3000}).then(() => true, (error) => !(error instanceof Problem && error.away)),
      ...others.map((address) => answering(address)),
    ]);
    if (answers[0]) break;
    const there = others.find((_, i) => answers[i + 1]);
    link.elsewhere = there || null;
    if (there && !(page && page.dirty && page.dirty())) {
      location.replace(`${location.protocol}//${there}${location.pathname}${location.hash}`);
      break;
    }
    redraw();
  }
  link.trying = false;
}

// answering reports whether a server answers at an address. Its answer can't be read from here, and need not be.
async function answering(address) {
  try {
    await fetch(`${location.protocol}//${address}/livez`, {mode: "no-cors", cache: "no-store", signal: AbortSignal.timeout(3000)});
    return true;
  } catch {
    return false;
  }
}

// start begins when the page has been loaded, and after each sign-in.
async function start() {
  app.signedOut = false;
  try {
    await identify();
  } catch (error) {
    if (error instanceof Problem && error.status === 401) {
      app.signedOut = true;
    } else if (!(error instanceof Problem && error.away)) {
      app.failed = error;
    }
    draw();
    return;
  }
  app.failed = null;
  if (page && app.me.name === signedIn) { // after a token has expired, the page still has what the viewer was typing
    draw();
    tick();
  } else {
    shown = "";
    open();
  }
  signedIn = app.me.name;
  learn().catch(report);
}

// signOut forgets the token.
async function signOut() {
  await call("DELETE", "v1/session").catch(report);
  app.me = null;
  signedIn = "";
  start();
}

// draw draws the frame and the page.
function draw() {
  const root = document.getElementById("app");
  document.title = page && !app.signedOut && app.me ? `${page.title} – KisGrid` : "KisGrid";
  if (app.signedOut) {
    render(root, header(), signin.view(app, start));
    return;
  }
  if (!app.me) {
    render(root, header(), h("main", {id: "main", tabindex: "-1"}, app.failed ? parts.problem(app.failed, start) : link.lost ? lost() : parts.loading()));
    return;
  }
  render(root, header(), link.lost ? lost() : null,
    h("main", {id: "main", key: shown.split("?")[0] || "overview", tabindex: "-1"}, page ? page.view() : null),
    h("div", {class: "toasts", "aria-live": "polite"}, app.notices.map((n) => h("div", {key: n.key, class: `notice ${n.tone}`}, parts.shape(n.tone), h("div", {}, n.text)))));
}

// header shows the name, the menu and the viewer.
function header() {
  const items = app.me ? menu.filter(([, , right]) => maySome(right)) : [];
  const current = page && (page.name === "flow" || page.name === "apply" ? "overview" : page.name);
  return h("header", {key: "header"},
    h("a", {class: "brand", href: "#/overview", "aria-label": "KisGrid: overview"},
      h("svg", {viewBox: "0 0 20 20", "aria-hidden": "true"},
        h("path", {d: "M2 5h7M11 5h7M2 15h7M11 15h7M5 2v7M5 11v7M15 2v7M15 11v7"})), "KisGrid"),
    h("nav", {"aria-label": "Pages"}, items.map(([id, title]) => h("a", {href: `#/${id}`, "aria-current": current === id ? "page" : null}, title))),
    app.me ? h("div", {class: "me"},
      h("span", {class: `dot ${link.lost ? "bad" : "good"}`, title: link.lost ? "The coordinator does not answer" : "The coordinator answers"}),
      parts.name(app.me.name || "anybody", {title: app.me.everything ? "There is no access file: everybody may do everything" : "Your name in the access file"}),
      app.me.session ? h("button", {type: "button", class: "quiet", onclick: signOut}, "Sign out") : null) : null);
}

// lost says that no coordinator answers, and what the page does about it.
function lost() {
  const direct = link.others.includes(location.host);
  const others = link.others.filter((address) => direct && address !== location.host);
  return h("div", {class: "notice bad lost", role: "alert", key: "lost"}, parts.shape("bad"), h("div", {},
    h("strong", {}, "The coordinator does not answer. "),
    link.elsewhere ? "You have changes that are not applied. Another coordinator answers: "
      : others.length ? "Looking for another one. The page shows how things were before." : "Trying again every 2 seconds. The page shows how things were before.",
    link.elsewhere ? h("a", {href: `${location.protocol}//${link.elsewhere}${location.pathname}${location.hash}`}, link.elsewhere) : null));
}

// Keys for those who don't use a mouse: / goes to the first filter of the page.
addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (/^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName) || document.querySelector("dialog[open]")) return;
  const first = document.querySelector("main input[type=search], main input[type=text]");
  if (first) {
    event.preventDefault();
    first.focus();
  }
});

addEventListener("hashchange", () => { if (app.me) open(); });
addEventListener("beforeunload", (event) => { if (page && page.dirty && page.dirty() && !link.elsewhere) event.preventDefault(); });
document.addEventListener("visibilitychange", () => { if (!document.hidden) tick(); });
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  document.getElementById("main")?.focus();
});
setInterval(() => { if (app.me && !link.lost && !document.hidden) { identify().catch(report); learn().catch(report); } }, identifyEvery);

start();
