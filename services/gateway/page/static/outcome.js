// What became of a prediction: the doctor confirms it, or says what it was instead. The last word counts; all are kept.

import { Submission, post, reasonOf } from "./api.js";
import { announce, button, h } from "./dom.js";

const REASON_LENGTH = 500;

/** Build the part that asks for the outcome of prediction `id`: `open` if the answer named several, `told` is the last known. */
export function buildOutcome(id, predicted, spec, { open: undecided = false, told = null } = {}) {
  const said = h("p", { class: "told", role: "status" });
  const trouble = h("div", { role: "alert" });
  const others = Object.entries(spec.diagnosticos).filter(([code]) => code !== predicted);
  const diagnosis = h("select", { id: `diagnosis-${id}`, "aria-describedby": `trouble-${id}` }, h("option", { value: "" }, "Elija…"),
    others.map(([code, label]) => h("option", { value: code }, label)));
  const reason = h("textarea", { id: `reason-${id}`, rows: 3, maxlength: REASON_LENGTH, "aria-describedby": `reason-hint-${id} trouble-${id}` });
  const correct = button("Corregir…", () => open(correction.hidden));
  const confirm = button("Confirmar", () => send({ aceptada: true }), "primary");
  correct.setAttribute("aria-expanded", "false");
  trouble.id = `trouble-${id}`;
  const correction = h("div", { class: "correction", hidden: true },
    h("div", { class: "field" }, h("label", { for: diagnosis.id }, "Diagnóstico correcto"), diagnosis),
    h("div", { class: "field" }, h("label", { for: reason.id }, "Motivo"), reason,
      h("p", { class: "hint", id: `reason-hint-${id}` }, "Sin nombres ni otros datos que identifiquen al paciente.")),
    h("div", { class: "actions" }, button("Guardar la corrección", save, "primary"), button("Cancelar", () => open(false))));
  tell(told);
  const submission = new Submission();
  let busy = false;

  return h("section", { class: "part outcome" }, h("h3", {}, `${undecided ? "¿Fue" : "¿Se confirma"} «${spec.diagnosticos[predicted] ?? predicted}»?`), said,
    h("div", { class: "actions" }, confirm, correct), correction, trouble);

  function open(wanted) {
    correction.hidden = !wanted;
    correct.setAttribute("aria-expanded", String(wanted));
    trouble.replaceChildren();
    (wanted ? diagnosis : correct).focus();
  }

  function save() {
    if (diagnosis.value) {
      send({ aceptada: false, diagnostico: diagnosis.value, motivo: reason.value.trim() });
      return;
    }
    trouble.replaceChildren(h("p", { class: "note danger" }, "Elija el diagnóstico correcto."));
    diagnosis.focus();
  }

  async function send(outcome) {
    if (busy) return;
    busy = true;
    trouble.replaceChildren();
    for (const control of [diagnosis, reason]) control.removeAttribute("aria-invalid");
    try {
      const headers = { "Idempotency-Key": submission.key(JSON.stringify(outcome)) };
      await post(`/predicciones/${id}/resultado`, outcome, { headers, repeatable: true });
      submission.forget();
      tell(outcome);
      correction.hidden = true;
      correct.setAttribute("aria-expanded", "false");
      correct.focus();
      announce("Anotado.");
    } catch (refusal) {
      showRefusal(refusal);
    } finally {
      busy = false;
    }
  }

  function showRefusal(refusal) {
    const errors = refusal.errors ?? [];
    const next = [409, 422].includes(refusal.status) ? null : "Puede repetirlo: no contará dos veces.";
    trouble.replaceChildren(h("div", { class: "note danger" },
      h("p", {}, [reasonOf(refusal), ...errors.map(({ mensaje }) => mensaje), next].filter(Boolean).join(" ")),
      refusal.status === 409 && h("a", { href: `#prediccion/${id}` }, "Ver la predicción registrada")));
    if (refusal.status === 409) submission.forget(); // that it was answered is all that is still known of it
    if (errors.length === 0 || correction.hidden) return;
    const wrong = errors.some(({ campo }) => campo === "diagnostico") ? diagnosis : reason;
    wrong.setAttribute("aria-invalid", "true");
    wrong.focus();
  }

  function tell(outcome) {
    if (!outcome) {
      said.textContent = "Anótelo cuando lo sepa: sirve para saber si el modelo acierta.";
    } else if (outcome.aceptada) {
      said.textContent = "✓ Anotado: diagnóstico confirmado. Puede cambiarlo.";
    } else {
      said.textContent = `✎ Anotado: corregido a «${spec.diagnosticos[outcome.diagnostico] ?? outcome.diagnostico}». Puede cambiarlo.`;
    }
  }
}
