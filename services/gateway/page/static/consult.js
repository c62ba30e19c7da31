// One consultation: the form, its submission, and the answer beside it.

import { showAnswer } from "./answer.js";
import { Submission, post, reasonOf } from "./api.js";
import { announce, button, h } from "./dom.js";
import { buildForm } from "./form.js";

const REFERENCE_LENGTH = 128;

/** Build the view. */
export function buildConsult(spec) {
  const errorBox = h("div", { role: "alert" });
  const submit = h("button", { type: "submit", class: "primary" }, "Calcular");
  const reference = h("input", { id: "reference", type: "text", maxlength: REFERENCE_LENGTH, autocomplete: "off", spellcheck: "false", "aria-describedby": "reference-hint" });
  const root = document.getElementById("patient");
  const panel = document.getElementById("answer");
  const body = document.getElementById("answer-body");
  const empty = [...body.childNodes];
  const submission = new Submission();
  let shown = null; // the content of the answer on screen
  let shownId = null;
  let busy = false;
  let patientNumber = 0; // an answer that arrives after a new patient was started is not shown

  const form = buildForm(root, spec, [
    h("fieldset", { class: "card group" },
      h("legend", {}, h("h2", {}, "Para encontrarlo después")),
      h("div", { class: "field" },
        h("label", { for: reference.id }, "Referencia propia"), reference,
        h("p", { class: "hint", id: "reference-hint" }, "Opcional: un número o nombre suyo, para buscarlo en el historial. No se guarda legible."))),
    errorBox,
    h("div", { class: "actions" }, submit, button("Nuevo paciente", startAnew)),
  ]);

  const content = () => JSON.stringify([form.read(), reference.value.trim()]);
  const typed = () => form.typed() || reference.value.trim() !== "";

  root.addEventListener("input", markStale);
  root.addEventListener("change", markStale);
  root.addEventListener("submit", (event) => {
    event.preventDefault();
    calculate();
  });
  window.addEventListener("beforeunload", (event) => {
    if (typed() && content() !== shown) event.preventDefault(); // the browser asks before typed data are lost
  });

  function markStale() {
    if (shown) panel.classList.toggle("stale", content() !== shown);
  }

  async function calculate() {
    if (busy) return;
    errorBox.replaceChildren();
    const wrong = form.check();
    if (wrong.length > 0) {
      // Without their number, which changes when the next field is left.
      errorBox.append(h("p", { class: "note danger" }, "Revise los campos señalados."));
      wrong[0].focus();
      return;
    }
    const submitted = content();
    const patient = form.read();
    const ownNumber = patientNumber;
    setBusy(true);
    try {
      const answer = await post("predecir", patient, {
        headers: { "Idempotency-Key": submission.key(submitted), ...referenceHeader(reference.value.trim()) },
        repeatable: true,
        waiting: (reason) => ownNumber === patientNumber && announce(`${reason} Se vuelve a intentar…`),
      });
      if (ownNumber !== patientNumber) return;
      shown = submitted;
      if (answer.id !== shownId) showAnswer(body, { answer, patient, spec, toField: form.focus });
      shownId = answer.id;
      panel.classList.add("given");
      markStale();
      location.hash = "resultado";
      document.getElementById("answer-title").focus();
    } catch (rejection) {
      if (ownNumber === patientNumber) showRejection(rejection);
    } finally {
      if (ownNumber === patientNumber) setBusy(false);
    }
  }

  function showRejection(rejection) {
    const unplaced = form.showErrors(rejection.errors ?? []);
    const placed = (rejection.errors?.length ?? 0) > unplaced.length;
    const again = rejection.status !== 422;
    const kept = again && "Lo que ha escrito sigue aquí, y no se registrará dos veces.";
    errorBox.append(h("div", { class: "note danger" },
      h("p", {}, [reasonOf(rejection), ...unplaced, kept].filter(Boolean).join(" ")),
      again && button("Reintentar", calculate, "small")));
    if (!placed) errorBox.querySelector("button, a")?.focus();
  }

  function setBusy(now) {
    busy = now;
    submit.setAttribute("aria-disabled", String(now));
    submit.textContent = now ? "Calculando…" : "Calcular";
    announce(now ? "Calculando…" : "");
  }

  function startAnew() {
    if (typed() && content() !== shown && !window.confirm("¿Borrar lo escrito y empezar con otro paciente?")) return;
    patientNumber += 1;
    setBusy(false);
    form.clear();
    reference.value = "";
    submission.forget();
    shown = shownId = null;
    errorBox.replaceChildren();
    panel.classList.remove("given", "stale");
    body.replaceChildren(...empty);
    form.focus(spec.campos[0].nombre);
  }
}

const referenceHeader = (text) => (text ? { "Referencia-Paciente": encodeURIComponent(text) } : {});
