// Entry point of the page: the fragment of the address selects the view; it never holds data of patients.

import { get } from "./api.js";
import { buildConsult } from "./consult.js";
import { button, h } from "./dom.js";
import { buildHistory } from "./history.js";
import { buildKeyDialog } from "./key.js";
import { showRecord } from "./record.js";

const VIEWS = ["consulta", "historial", "prediccion"];

const view = Object.fromEntries(VIEWS.map((name) => [name, document.getElementById(name)]));
const title = document.getElementById("title");

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the fragment selects the view
  document.getElementById("principal").focus();
});
window.addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true; // on paper nothing can be opened
});
buildKeyDialog();
start();

async function start() {
  let spec;
  try {
    spec = await get("pagina/form.json");
  } catch (rejection) {
    document.getElementById("patient").replaceChildren(
      h("div", { class: "note danger", role: "alert" }, h("p", {}, `${rejection.message} El formulario no se ha podido preparar.`), button("Reintentar", start, "small")));
    return;
  }
  buildConsult(spec);
  const history = buildHistory(view.historial, spec);
  window.addEventListener("hashchange", () => show(spec, history, true));
  show(spec, history, false);
}

function show(spec, history, moved) {
  const [requested, id] = location.hash.slice(1).split("/");
  const name = VIEWS.includes(requested) && (requested !== "prediccion" || id) ? requested : "consulta";
  for (const other of VIEWS) view[other].hidden = other !== name;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const heading = { consulta: spec.titulo, historial: "Historial", prediccion: "Predicción registrada" }[name];
  title.textContent = heading;
  document.title = `${heading} · Predecir`;
  if (name === "historial") history.open();
  if (name === "prediccion") showRecord(view.prediccion, id, spec);
  if (moved && requested !== "resultado") {
    title.focus();
    window.scrollTo(0, 0);
  }
}
