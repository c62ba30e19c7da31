// Elements of the page, built from code: no text is parsed as HTML.

/** Return an element. Attributes: `on…` are listeners, `true` is an attribute without value, false and null are left out. */
export function h(tag, attributes, ...children) {
  return build(document.createElement(tag), attributes, children);
}

function build(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat(2).filter((child) => child != null && child !== false));
  return element;
}

/** Return a button that does not submit its form. */
export function button(text, onclick, kind) {
  return h("button", { type: "button", class: kind, onclick }, text);
}

/** Return a link that opens in another tab, so that typed data are kept. */
export function outside(href, text) {
  return h("a", { href, target: "_blank", rel: "noopener" }, text, h("span", { class: "hidden-text" }, " (se abre en otra pestaña)"));
}

/** Announce `text` to screen readers. */
export function announce(text) {
  document.getElementById("status").textContent = text;
}

/** Return a bar; `from` and `to` are fractions of its width, from 0 to 1. */
export function bar(from, to, kind = "") {
  const svg = (tag, attributes, ...children) => build(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
  const part = (name, x, width) => svg("rect", { class: name, x: `${x * 100}%`, width: `${width * 100}%`, height: 10, rx: 5 });
  return svg("svg", { class: `bar ${kind}`, "aria-hidden": "true", width: "100%", height: 10 }, // the number is next to it
    part("track", 0, 1), part("filled", from, Math.max(to - from, 0.004)));
}
