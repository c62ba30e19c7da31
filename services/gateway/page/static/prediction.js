// Parts that the answer and the record of a prediction show: probabilities, the data sent, and the model.

import { bar, h, outside } from "./dom.js";
import { formatNumber, formatPercent } from "./numbers.js";

/** Return whether more than one diagnosis is plausible; unknown (false) for old predictions, which have null. */
export const isOpen = (plausibles) => plausibles != null && plausibles.length > 1;

/** Build the probability of every diagnosis, as text and bars, the most probable first. */
export function buildProbabilities({ probabilidades, prediccion, plausibles }, spec) {
  const sorted = Object.entries(probabilidades).sort(([, one], [, other]) => other - one);
  return h("ol", { class: "bars" }, sorted.map(([code, share]) => {
    const candidate = code === prediccion || Boolean(plausibles?.includes(code));
    return h("li", { class: candidate ? "candidate" : null },
      h("span", { class: "name" }, spec.diagnosticos[code] ?? code),
      h("span", { class: "share" }, formatPercent(share)),
      bar(0, share));
  }));
}

/** Build a patient's data as they were sent. */
export function buildSheet(patient, spec) {
  const known = spec.campos.filter(({ nombre, tipo }) => (tipo === "flag" ? patient[nombre] === true : patient[nombre] != null));
  const rows = known.map(({ nombre, tipo, etiqueta, unidad }) => h("div", {},
    h("dt", {}, etiqueta),
    h("dd", {}, { flag: () => "Sí", choice: () => patient[nombre] }[tipo]?.() ?? `${formatNumber(patient[nombre])} ${unidad}`.trim())));
  return h("dl", { class: "sheet-list" }, rows);
}

/** Build the model of an answer, and a link to the card of the serving model, which may be another one. */
export function buildModelLine(name, version) {
  return h("div", {}, h("dt", {}, "Modelo"),
    h("dd", {}, `${name}, versión ${version} `, h("span", { class: "card-link" }, outside("modelo/ficha", "Ficha del modelo que responde ahora"))));
}
