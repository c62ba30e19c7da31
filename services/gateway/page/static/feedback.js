// The doctor's feedback on a prediction, which confirms or corrects it. The latest counts; all are stored.

import { Submission, post, reasonOf } from "./api.js";
import { announce, button, h } from "./dom.js";

const REASON_LENGTH = 500;

/** Build the feedback on prediction `id`; `open` if several diagnoses were plausible, `last` is the latest feedback. */
export function buildFeedback(id, predicted, spec, { open: undecided = false, last = null } = {}) {
  const summary = h("p", { class: "status-line", role: "status" });
  const errorBox = h("div", { role: "alert" });
  const others = Object.entries(spec.diagnosticos).filter(([code]) => code !== predicted);
  const diagnosis = h("select", { id: `diagnosis-${id}`, "aria-describedby": `error-${id}` }, h("option", { value: "" }, "Elija…"),
    others.map(([code, label]) => h("option", { value: code }, label)));
  const reason = h("textarea", { id: `reason-${id}`, rows: 3, maxlength: REASON_LENGTH, "aria-describedby": `reason-hint-${id} error-${id}` });
  const correct = button("Corregir…", () => open(correction.hidden));
  const confirm = button("Confirmar", () => send({ aceptada: true }), "primary");
  correct.setAttribute("aria-expanded", "false");
  errorBox.id = `error-${id}`;
  const correction = h("div", { class: "correction", hidden: true },
    h("div", { class: "field" }, h("label", { for: diagnosis.id }, "Diagnóstico correcto"), diagnosis),
    h("div", { class: "field" }, h("label", { for: reason.id }, "Motivo"), reason,
      h("p", { class: "hint", id: `reason-hint-${id}` }, "Sin nombres ni otros datos que identifiquen al paciente.")),
    h("div", { class: "actions" }, button("Guardar la corrección", save, "primary"), button("Cancelar", () => open(false))));
  show(last);
  const submission = new Submission();
  let busy = false;

  return h("section", { class: "part feedback" }, h("h3", {}, `${undecided ? "¿Fue" : "¿Se confirma"} «${spec.diagnosticos[predicted] ?? predicted}»?`), summary,
    h("div", { class: "actions" }, confirm, correct), correction, errorBox);

  function open(visible) {
    correction.hidden = !visible;
    correct.setAttribute("aria-expanded", String(visible));
    errorBox.replaceChildren();
    (visible ? diagnosis : correct).focus();
  }

  function save() {
    if (diagnosis.value) {
      send({ aceptada: false, diagnostico: diagnosis.value, motivo: reason.value.trim() });
      return;
    }
    errorBox.replaceChildren(h("p", { class: "note danger" }, "Elija el diagnóstico correcto."));
    diagnosis.focus();
  }

  async function send(feedback) {
    if (busy) return;
    busy = true;
    errorBox.replaceChildren();
    for (const control of [diagnosis, reason]) control.removeAttribute("aria-invalid");
    try {
      const headers = { "Idempotency-Key": submission.key(JSON.stringify(feedback)) };
      await post(`predicciones/${id}/resultado`, feedback, { headers, repeatable: true });
      submission.forget();
      show(feedback);
      open(false);
      announce("Anotado.");
    } catch (rejection) {
      showRejection(rejection);
    } finally {
      busy = false;
    }
  }

  function showRejection(rejection) {
    const errors = rejection.errors ?? [];
    const next = rejection.status === 422 ? null : "Puede repetirlo: no contará dos veces.";
    errorBox.replaceChildren(h("div", { class: "note danger" },
      h("p", {}, [reasonOf(rejection), ...errors.map(({ mensaje }) => mensaje), next].filter(Boolean).join(" "))));
    if (errors.length === 0 || correction.hidden) return;
    const wrong = errors.some(({ campo }) => campo === "diagnostico") ? diagnosis : reason;
    wrong.setAttribute("aria-invalid", "true");
    wrong.focus();
  }

  function show(feedback) {
    if (!feedback) {
      summary.textContent = "Anótelo cuando lo sepa: sirve para saber si el modelo acierta.";
    } else if (feedback.aceptada) {
      summary.textContent = "✓ Anotado: diagnóstico confirmado. Puede cambiarlo.";
    } else {
      summary.textContent = `✎ Anotado: corregido a «${spec.diagnosticos[feedback.diagnostico] ?? feedback.diagnostico}». Puede cambiarlo.`;
    }
  }
}
