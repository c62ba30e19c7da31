// The explanation of an answer: requested after the answer is on screen, so that it delays nothing.

import { post } from "./api.js";
import { bar, button, h } from "./dom.js";
import { formatNumber, formatPercent, formatPoints } from "./numbers.js";

const SHOWN = 6;
const NEGLIGIBLE = 0.0005;

/** Show in `section` what each feature of `patient` contributed to `answer`. */
export async function showExplanation(section, answer, patient, spec) {
  const show = (...children) => section.replaceChildren(h("h3", {}, "Qué ha pesado"), ...children);
  show(h("p", { class: "muted", role: "status" }, "Calculando…"));
  try {
    const explanation = await post("explicar", patient);
    if (sameModel(explanation, answer)) show(...content(explanation, patient, spec));
    else show(h("p", { class: "muted" }, "El modelo ha cambiado desde este resultado, así que ya no se puede decir qué pesó en él."));
  } catch (rejection) {
    show(h("p", { class: "muted" }, `No se ha podido calcular. ${rejection.message}`),
      button("Reintentar", () => showExplanation(section, answer, patient, spec), "small"));
  }
}

// The model that answered may have been replaced meanwhile; then another one explains.
const sameModel = (explanation, answer) => explanation.modelo.version === answer.modelo.version && explanation.prediccion === answer.prediccion;

function content({ prediccion, base, contribuciones, metodo }, patient, spec) {
  const weighty = contribuciones.filter(({ aporte }) => Math.abs(aporte) >= NEGLIGIBLE);
  const shown = weighty.length === SHOWN + 1 ? SHOWN + 1 : SHOWN; // a rest of one feature is shown by name
  const rest = weighty.slice(shown).reduce((sum, { aporte }) => sum + aporte, 0);
  const rows = weighty.slice(0, shown).map(({ campo, aporte }) => ({ text: described(campo, patient, spec), aporte }));
  if (weighty.length > shown) rows.push({ text: `Los otros ${weighty.length - shown} datos juntos`, aporte: rest });
  const scale = Math.max(...rows.map(({ aporte }) => Math.abs(aporte)), Number.EPSILON) * 2;
  const name = spec.diagnosticos[prediccion] ?? prediccion;
  return [
    h("p", {}, `Cuánto sube o baja cada dato la probabilidad de «${name}», desde un ${formatPercent(base)} de partida:`),
    h("ol", { class: "bars both" }, rows.map(({ text, aporte }) => h("li", {},
      h("span", { class: "name" }, text),
      h("span", { class: "share" }, formatPoints(aporte)),
      bar(0.5 + Math.min(aporte / scale, 0), 0.5 + Math.max(aporte / scale, 0), aporte < 0 ? "down" : "up")))),
    h("p", { class: "hint" }, metodo),
  ];
}

function described(name, patient, spec) {
  const field = spec.campos.find(({ nombre }) => nombre === name);
  if (!field) return name;
  const value = patient[name];
  if (field.tipo === "flag") return `${field.etiqueta}: ${value ? "sí" : "no"}`;
  if (value == null) return `${field.etiqueta}: no consta`;
  return `${field.etiqueta}: ${typeof value === "number" ? formatNumber(value) : value} ${field.unidad}`.trim();
}
