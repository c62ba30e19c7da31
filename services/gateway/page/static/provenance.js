// Which model answered, and the way to the card of the one that answers now, which may be another.

import { h, outside } from "./dom.js";

export function buildModelLine(name, version) {
  return h("div", {}, h("dt", {}, "Modelo"),
    h("dd", {}, `${name}, versión ${version} `, h("span", { class: "card-link" }, outside("/modelo/ficha", "Ficha del modelo que responde ahora"))));
}
