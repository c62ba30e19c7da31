// A patient's data as they were sent, for the screen and for print.

import { h } from "./dom.js";
import { formatNumber } from "./numbers.js";

export function buildSheet(patient, spec) {
  const known = spec.campos.filter(({ nombre, tipo }) => (tipo === "flag" ? patient[nombre] === true : patient[nombre] != null));
  const rows = known.map(({ nombre, tipo, etiqueta, unidad }) => h("div", {},
    h("dt", {}, etiqueta),
    h("dd", {}, { flag: () => "Sí", choice: () => patient[nombre] }[tipo]?.() ?? `${formatNumber(patient[nombre])} ${unidad}`.trim())));
  return h("dl", { class: "sheet-list" }, rows);
}
