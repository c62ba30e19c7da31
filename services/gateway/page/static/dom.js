// Elements of the page, built from code: no text is parsed as HTML.

/** Return an element. Attributes: `on…` are listeners, `true` is an attribute without value, false and null are left out. */
export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
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
  const ns = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(ns, "svg");
  svg.setAttribute("class", `bar ${kind}`);
  svg.setAttribute("aria-hidden", "true"); // the number is next to it
  svg.setAttribute("width", "100%");
  svg.setAttribute("height", "10");
  const track = document.createElementNS(ns, "rect");
  const filled = document.createElementNS(ns, "rect");
  for (const [rect, x, width] of [[track, 0, 1], [filled, from, Math.max(to - from, 0.004)]]) {
    rect.setAttribute("x", `${x * 100}%`);
    rect.setAttribute("width", `${width * 100}%`);
    rect.setAttribute("height", "10");
    rect.setAttribute("rx", "5");
  }
  track.setAttribute("class", "track");
  filled.setAttribute("class", "filled");
  svg.append(track, filled);
  return svg;
}
