// One consultation: the form, its submission, and the answer beside it.

import { showAnswer } from "./answer.js";
import { Submission, post, reasonOf } from "./api.js";
import { announce, button, h } from "./dom.js";
import { buildForm } from "./form.js";

const REFERENCE_LENGTH = 128;
const UUID = /[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/;

/** Build the view; gives what the page needs of it. */
export function buildConsult(spec) {
  const trouble = h("div", { role: "alert" });
  const submit = h("button", { type: "submit", class: "primary" }, "Calcular");
  const reference = h("input", { id: "reference", type: "text", maxlength: REFERENCE_LENGTH, autocomplete: "off", spellcheck: "false", "aria-describedby": "reference-hint" });
  const root = document.getElementById("patient");
  const panel = document.getElementById("answer");
  const body = document.getElementById("answer-body");
  const empty = [...body.childNodes];
  const submission = new Submission();
  let shown = null; // the content that the answer on screen belongs to
  let shownId = null;
  let busy = false;
  let turn = 0; // a patient's answer that comes when another is being typed is not shown

  const form = buildForm(root, spec, [
    h("fieldset", { class: "card group" },
      h("legend", {}, h("h2", {}, "Para encontrarlo después")),
      h("div", { class: "field" },
        h("label", { for: reference.id }, "Referencia propia"), reference,
        h("p", { class: "hint", id: "reference-hint" }, "Opcional: un número o nombre suyo, para buscarlo en el historial. No se guarda legible."))),
    trouble,
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
    if (typed() && content() !== shown) event.preventDefault(); // the browser asks before typing is lost
  });

  function markStale() {
    if (shown) panel.classList.toggle("stale", content() !== shown);
  }

  async function calculate() {
    if (busy) return;
    trouble.replaceChildren();
    const wrong = form.check();
    if (wrong.length > 0) {
      const said = wrong.length === 1 ? "Revise el campo señalado." : `Revise los ${wrong.length} campos señalados.`;
      trouble.append(h("p", { class: "note danger" }, said));
      wrong[0].focus();
      return;
    }
    const asked = content();
    const patient = form.read();
    const mine = turn;
    setBusy(true);
    try {
      const answer = await post("/predecir", patient, {
        headers: { "Idempotency-Key": submission.key(asked), ...referenceHeader(reference.value.trim()) },
        repeatable: true,
        waiting: (reason) => mine === turn && announce(`${reason} Se vuelve a intentar…`),
      });
      if (mine !== turn) return;
      shown = asked;
      if (answer.id !== shownId) showAnswer(body, { answer, patient, spec, toField: form.focus });
      shownId = answer.id;
      panel.classList.add("given");
      markStale();
      location.hash = "resultado";
      document.getElementById("answer-title").focus();
    } catch (refusal) {
      if (mine === turn) showRefusal(refusal);
    } finally {
      if (mine === turn) setBusy(false);
    }
  }

  function showRefusal(refusal) {
    const unplaced = form.showErrors(refusal.errors ?? []);
    const placed = (refusal.errors?.length ?? 0) > unplaced.length;
    const answered = refusal.status === 409;
    const again = !answered && refusal.status !== 422;
    const [recorded] = (answered && UUID.exec(refusal.message)) || [];
    if (answered) submission.forget();
    const kept = again && "Lo que ha escrito sigue aquí, y no se registrará dos veces.";
    trouble.append(h("div", { class: "note danger" },
      h("p", {}, [reasonOf(refusal), ...unplaced, kept].filter(Boolean).join(" ")),
      recorded && h("a", { href: `#prediccion/${recorded}` }, "Ver la predicción registrada"),
      again && button("Reintentar", calculate, "small")));
    if (!placed) trouble.querySelector("button, a")?.focus();
  }

  function setBusy(now) {
    busy = now;
    submit.setAttribute("aria-disabled", String(now));
    submit.textContent = now ? "Calculando…" : "Calcular";
    announce(now ? "Calculando…" : "");
  }

  function startAnew() {
    if (typed() && content() !== shown && !window.confirm("¿Borrar lo escrito y empezar con otro paciente?")) return;
    turn += 1;
    setBusy(false);
    form.clear();
    reference.value = "";
    submission.forget();
    shown = shownId = null;
    trouble.replaceChildren();
    panel.classList.remove("given", "stale");
    body.replaceChildren(...empty);
    form.focus(spec.campos[0].nombre);
  }
}

const referenceHeader = (text) => (text ? { "Referencia-Paciente": encodeURIComponent(text) } : {});
