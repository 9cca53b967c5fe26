// Applying documents that the viewer pastes or chooses as files, as kisgrid apply does.

import {h} from "./dom.js";
import * as parts from "./parts.js";
import {change} from "./change.js";

const nameKeys = {flow: "flow_name", func: "fname", conn: "cname"};

// split finds the documents of a text: they are parted by lines of three dashes, and say what they are and what they are called.
export function split(text) {
  const documents = [], wrong = [];
  text.split(/^---[ \t]*$/m).forEach((yaml, i) => {
    if (yaml.replace(/#.*$/gm, "").trim() === "") return;
    const value = (key) => (new RegExp(`^${key}:[ \\t]*(?:"([^"]*)"|'([^']*)'|([^#\\n]*))`, "m").exec(yaml) || []).slice(1).find((v) => v !== undefined)?.trim();
    const kind = value("kistype"), name = nameKeys[kind] && value(nameKeys[kind]);
    if (!nameKeys[kind]) wrong.push(`Document ${i + 1} needs a line kistype: flow, func or conn.`);
    else if (!name) wrong.push(`Document ${i + 1} needs a line ${nameKeys[kind]}: with its name.`);
    else documents.push({kind, name, yaml: yaml.replace(/^\n/, "")});
  });
  return {documents, wrong};
}

// open opens the page.
export function open(app) {
  let text = "", window = null, error = null;
  const add = async (files) => {
    try {
      const texts = await Promise.all([...files].map((f) => f.text()));
      text = [text, ...texts].filter((t) => t.trim() !== "").map((t) => t.replace(/\n*$/, "\n")).join("---\n");
      error = null;
    } catch {
      error = "A file can't be read.";
    }
    app.redraw();
  };

  function view() {
    const {documents, wrong} = split(text);
    return [
      h("h1", {tabindex: "-1"}, "Apply documents"),
      h("p", {class: "muted"}, "Documents are compared with those of the cluster before anything is written. Documents that are not given stay as they are."),
      h("div", {class: "card"},
        parts.field("Documents, parted by lines of three dashes", {id: "documents"},
          h("textarea", {id: "documents", rows: 18, value: text, spellcheck: "false", wrap: "off", autocapitalize: "off", oninput: (e) => { text = e.target.value; app.redraw(); },
            ondragover: (e) => e.preventDefault(), ondrop: (e) => { if (e.dataTransfer.files.length) { e.preventDefault(); add(e.dataTransfer.files); } }})),
        parts.field("Or choose files", {id: "files"}, h("input", {id: "files", type: "file", multiple: true, accept: ".yml,.yaml", onchange: (e) => { add(e.target.files); e.target.value = ""; }})),
        error ? parts.notice("bad", error) : null,
        wrong.length && text.trim() ? parts.notice("warn", "", ...wrong.map((w) => h("p", {}, w))) : null,
        documents.length ? h("p", {}, documents.map((d) => h("span", {class: "tag"}, parts.name(`${d.kind} ${d.name}`)))) : null,
        h("div", {class: "actions"}, h("button", {type: "button", class: "primary", disabled: documents.length === 0 || wrong.length > 0, onclick: () => {
          window = change(app, {title: "Apply documents", intro: "All of them change in one transaction.", documents, done: (e) => { if (!e) text = ""; }, close: () => { window = null; app.redraw(); }});
          app.redraw();
        }}, "Compare…"))),
      window ? window.view() : null,
    ];
  }

  return {title: "Apply documents", view, dirty: () => text.trim() !== ""};
}
