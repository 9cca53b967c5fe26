// The page as a function of its state: h describes elements, and render changes the document where it differs from the description. Text
// always becomes a text node, so that no row, name or reason can become markup.

const svgSpace = "http://www.w3.org/2000/svg";

// Props that are properties of the element and not attributes, because an attribute is only their first value.
const properties = new Set(["value", "checked", "disabled", "selected", "indeterminate", "readOnly"]);

// h describes an element. props may have:
//   key    tells elements with the same parent apart, so that they keep their state when their order changes
//   hook   is called with the element once it is in the document
//   style  is an object of CSS properties, set through the DOM, which the Content-Security-Policy allows
//   on…    are handlers; all other props are attributes. false and null leave an attribute out.
// kids are descriptions, texts, numbers, or arrays of them; false and null are left out.
export function h(tag, props, ...kids) {
  return {tag, props: props || {}, key: props ? props.key : undefined, kids: flat(kids, [])};
}

// flat puts nested arrays of kids into one.
function flat(kids, into) {
  for (const kid of kids) {
    if (Array.isArray(kid)) flat(kid, into);
    else if (kid !== null && kid !== undefined && kid !== false && kid !== true) into.push(typeof kid === "object" ? kid : String(kid));
  }
  return into;
}

// render makes the children of an element those that are described.
export function render(parent, ...kids) {
  const hooks = [];
  patchKids(parent, flat(kids, []), parent.namespaceURI === svgSpace, hooks);
  for (const run of hooks) run();
}

// patchKids makes the child nodes of el those of the descriptions. A node is used again for a description with the same tag and key.
function patchKids(el, kids, inSvg, hooks) {
  const keyed = new Map(), wanted = new Set(kids.map((kid) => kid.key));
  for (const node of el.childNodes) {
    if (keyOf(node) !== undefined) keyed.set(keyOf(node), node);
  }
  let at = el.firstChild;
  for (const kid of kids) {
    let node = null;
    if (typeof kid !== "string" && kid.key !== undefined) {
      node = keyed.get(kid.key) || null;
      keyed.delete(kid.key);
      // Nodes before it that are not wanted go, so that the node need not move: an element that moves loses the focus.
      while (node && at !== node && !(keyOf(at) !== undefined && wanted.has(keyOf(at)))) at = drop(at);
    } else if (at && keyOf(at) === undefined) {
      node = at;
    }
    if (node && !fits(node, kid)) node = null;
    if (node) {
      if (node === at) at = at.nextSibling;
      else el.insertBefore(node, at);
      update(node, kid, inSvg, hooks);
    } else {
      el.insertBefore(create(kid, inSvg, hooks), at);
    }
  }
  while (at) at = drop(at);
}

// keyOf returns the key of a node; undefined means that it has none.
function keyOf(node) {
  return node.$described ? node.$described.key : undefined;
}

// drop removes a node and returns the one behind it. A window is closed first, so that the focus goes back to where it was before.
function drop(node) {
  const next = node.nextSibling;
  if (node.tagName === "DIALOG" && node.open) {
    node.onclose = null;
    node.close();
  }
  node.remove();
  return next;
}

// fits reports whether a node can become what is described.
function fits(node, kid) {
  if (typeof kid === "string") return node.nodeType === Node.TEXT_NODE;
  return Boolean(node.$described) && node.$described.tag === kid.tag && node.$described.key === kid.key;
}

// create makes the node of a description.
function create(kid, inSvg, hooks) {
  if (typeof kid === "string") return document.createTextNode(kid);
  const svg = inSvg || kid.tag === "svg";
  const el = svg ? document.createElementNS(svgSpace, kid.tag) : document.createElement(kid.tag);
  el.$described = {tag: kid.tag, key: kid.key, props: {}};
  if (kid.props.hook) hooks.push(() => kid.props.hook(el)); // before those of its kids: a window opens before a field in it takes the focus
  update(el, kid, inSvg, hooks);
  return el;
}

// update changes a node into what is described.
function update(node, kid, inSvg, hooks) {
  if (typeof kid === "string") {
    if (node.data !== kid) node.data = kid;
    return;
  }
  const before = node.$described.props;
  node.$described = kid;
  patchKids(node, kid.kids, inSvg || kid.tag === "svg", hooks);
  for (const name of Object.keys(before)) {
    if (!(name in kid.props)) set(node, name, null, before[name]);
  }
  for (const [name, value] of Object.entries(kid.props)) set(node, name, value, before[name]);
}

// set sets one prop of an element.
function set(el, name, value, before) {
  if (name === "key" || name === "hook") return;
  if (name.startsWith("on")) {
    el[name.toLowerCase()] = value || null;
    return;
  }
  if (name === "style") {
    for (const one of Object.keys(before || {})) {
      if (!value || !(one in value)) el.style.removeProperty(one);
    }
    for (const [one, text] of Object.entries(value || {})) {
      if (!before || before[one] !== text) el.style.setProperty(one, text);
    }
    return;
  }
  if (properties.has(name) && name in el) {
    // A field that the user has changed differs from what was described last, so it is compared itself.
    if (el[name] !== (value ?? "")) el[name] = value ?? "";
    return;
  }
  if (value === before) return;
  if (value === null || value === undefined || value === false) el.removeAttribute(name);
  else el.setAttribute(name, value === true ? "" : String(value));
}
