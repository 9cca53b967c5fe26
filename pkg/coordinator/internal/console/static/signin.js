// Signing in with a token. The coordinator keeps it in a cookie that scripts can't read.

import {h} from "./dom.js";
import {post} from "./api.js";
import * as parts from "./parts.js";

let token = "", error = null, busy = false;

// view describes the page. start is called once the viewer is known.
export function view(app, start) {
  const submit = async (event) => {
    event.preventDefault();
    busy = true;
    error = null;
    app.redraw();
    try {
      await post("v1/session", {}, {headers: {Authorization: `Bearer ${token.trim()}`}});
      token = "";
      await start();
    } catch (e) {
      error = e;
    }
    busy = false;
    app.redraw();
  };
  return h("main", {id: "main", class: "signin", tabindex: "-1", key: "signin"},
    h("form", {class: "card", onsubmit: submit},
      h("h1", {tabindex: "-1"}, "Sign in"),
      h("p", {class: "muted"}, "This cluster asks who you are. A token is the text that ", h("code", {}, "kisgrid token new"), " printed for you."),
      parts.field("Token", {id: "token", type: "password", value: token, autocomplete: "current-password", required: true, oninput: (e) => { token = e.target.value; },
        hook: (el) => el.focus(), "aria-describedby": error ? "token-error" : null}),
      error ? h("div", {id: "token-error"}, parts.problem(error)) : null,
      h("div", {class: "actions"}, h("button", {class: "primary", disabled: busy}, busy ? "Signing in…" : "Sign in")),
      h("p", {class: "muted small"}, "With a certificate or a proxy that has asked for your password you need no token: then ask whoever runs the cluster to list you in its access file.")));
}
