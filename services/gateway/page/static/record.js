// One recorded prediction: data, answer and feedback, also for print.

import { get, reasonOf } from "./api.js";
import { button, h } from "./dom.js";
import { formatMoment, formatPercent } from "./numbers.js";
import { feedbackText } from "./history.js";
import { buildFeedback } from "./feedback.js";
import { buildModelLine, buildProbabilities, buildSheet, isOpen } from "./prediction.js";

let latest = 0; // a response for another prediction than that of the address is not shown

export async function showRecord(root, id, spec) {
  const turn = (latest += 1);
  root.replaceChildren(h("p", { class: "muted", role: "status" }, "Buscando…"));
  try {
    const row = await get(`predicciones/${encodeURIComponent(id)}`);
    if (turn === latest) root.replaceChildren(...content(row, spec));
  } catch (rejection) {
    if (turn !== latest) return;
    const late = rejection.status === 404 ? " Si es de hace un momento, puede tardar un instante en registrarse." : "";
    root.replaceChildren(h("div", { class: "note danger", role: "alert" }, h("p", {}, `${reasonOf(rejection)}${late}`),
      button("Reintentar", () => showRecord(root, id, spec), "small")));
  }
}

function content(row, spec) {
  const open = isOpen(row.plausibles);
  const label = spec.diagnosticos[row.output] ?? row.output;
  return [
    h("p", { class: "actions" }, h("a", { href: "#historial" }, "← Historial"), button("Imprimir", () => window.print())),
    h("div", { class: "record" },
      h("section", { class: "card answer" },
        open && h("p", {}, h("strong", {}, "No concluyente"), `: el modelo no podía elegir entre ${row.plausibles.length} diagnósticos.`),
        h("h2", {}, open ? `Más probable: ${label}` : label),
        h("p", {}, `${formatPercent(row.probabilidad)} de probabilidad, el ${formatMoment(row.timestamp)}.`),
        buildProbabilities({ probabilidades: row.probabilidades, prediccion: row.output, plausibles: row.plausibles }, spec),
        buildFeedback(row.id, row.output, spec, { open, last: row.resultado }),
        feedbackList(row.resultados ?? [], spec)),
      h("section", { class: "card" },
        h("h2", {}, "Datos enviados"), buildSheet(row.inputs, spec),
        h("dl", { class: "provenance" },
          buildModelLine(row.modelo, row.modelo_version),
          h("div", {}, h("dt", {}, "Identificador"), h("dd", { class: "code" }, row.id))))),
  ];
}

function feedbackList(list, spec) {
  if (list.length === 0) return "";
  return h("section", { class: "part" }, h("h3", {}, "Lo anotado hasta ahora"),
    h("ul", {}, list.map((feedback) => h("li", {}, `${formatMoment(feedback.timestamp)}: ${feedbackText(feedback, spec)}`, feedback.motivo && ` (${feedback.motivo})`))));
}
