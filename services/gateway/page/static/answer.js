// The answer: the most probable diagnosis, its probability, and remarks on the data.

import { button, h } from "./dom.js";
import { showExplanation } from "./explanation.js";
import { formatMoment, formatPercent, formatRounded, inHundred } from "./numbers.js";
import { buildFeedback } from "./feedback.js";
import { buildModelLine, buildProbabilities, buildSheet } from "./prediction.js";

/** Show `answer` (a Respuesta) in `body`; `toField` moves the focus to a field of the form. */
export function showAnswer(body, { answer, patient, spec, toField }) {
  const explanation = h("section", { class: "part" });
  const parts = [
    h("p", { class: "note stale-note", role: "status" }, "Ha cambiado los datos: este resultado es de los anteriores. Pulse «Calcular» para actualizarlo."),
    headline(answer, spec),
    answer.baja_prevalencia && h("p", { class: "note warn" },
      h("strong", {}, `${answer.etiqueta}, poco frecuente: `), `${formatPercent(answer.prevalencia)} de los casos con los que aprendió el modelo. Conviene confirmarlo.`),
    remarks(answer.avisos, spec, toField),
    h("section", { class: "part" }, h("h3", {}, "Todos los diagnósticos"), buildProbabilities(answer, spec)),
    explanation,
    buildFeedback(answer.id, answer.prediccion, spec, { open: !answer.concluyente }),
    h("details", { class: "part sheet" }, h("summary", {}, "Datos enviados"), buildSheet(patient, spec)),
    provenance(answer),
  ];
  body.replaceChildren(...parts.filter(Boolean));
  showExplanation(explanation, answer, patient, spec);
}

function headline(answer, spec) {
  if (!answer.concluyente) {
    return h("div", { class: "headline open" },
      h("p", { class: "diagnosis" }, "No concluyente"),
      h("p", {}, `Con estos datos el modelo no puede elegir entre ${answer.plausibles.length} diagnósticos:`),
      h("ul", {}, answer.plausibles.map((code) =>
        h("li", {}, h("strong", {}, spec.diagnosticos[code] ?? code), ` — ${formatRounded(answer.probabilidades[code])}`))),
      h("p", { class: "muted" }, "Otra determinación o un dato que falte puede decidirlo."));
  }
  return h("div", { class: "headline" },
    h("p", { class: "diagnosis" }, answer.etiqueta),
    h("p", { class: "sure" }, h("span", { class: "figure" }, formatRounded(answer.probabilidad)), " de probabilidad"),
    h("p", {}, `De cada 100 pacientes con datos como estos, ${inHundred(answer.probabilidad)} tendrían este diagnóstico.`));
}

function remarks(list, spec, toField) {
  if (list.length === 0) return null;
  const label = (name) => spec.campos.find(({ nombre }) => nombre === name)?.etiqueta ?? name;
  return h("section", { class: "part" },
    h("h3", {}, list.length === 1 ? "Un aviso" : `${list.length} avisos`),
    h("ul", { class: "remarks" }, list.map(({ campo, mensaje }) =>
      h("li", {}, h("span", {}, mensaje), " ", seeField(label(campo), () => toField(campo))))));
}

function seeField(label, onclick) {
  const see = button("Ver el dato", onclick, "link");
  see.append(h("span", { class: "hidden-text" }, `: ${label}`));
  return see;
}

function provenance({ id, modelo }) {
  return h("dl", { class: "provenance" },
    h("div", {}, h("dt", {}, "Calculado"), h("dd", {}, formatMoment(Date.now()))),
    buildModelLine(modelo.nombre, modelo.version),
    h("div", {}, h("dt", {}, "Identificador"), h("dd", { class: "code" }, h("a", { href: `#prediccion/${id}` }, id))));
}
