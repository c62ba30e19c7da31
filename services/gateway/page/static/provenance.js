// The model of an answer, and a link to the card of the serving model, which may be another one.

import { h, outside } from "./dom.js";

export function buildModelLine(name, version) {
  return h("div", {}, h("dt", {}, "Modelo"),
    h("dd", {}, `${name}, versión ${version} `, h("span", { class: "card-link" }, outside("/modelo/ficha", "Ficha del modelo que responde ahora"))));
}
