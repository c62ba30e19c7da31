// Recent predictions: filters, search by id or by the doctor's own reference, more on demand, print and CSV.

import { get, post, reasonOf } from "./api.js";
import { downloadCsv } from "./csv.js";
import { announce, button, h } from "./dom.js";
import { formatMoment, formatPercent } from "./numbers.js";
import { isOpen } from "./probabilities.js";

const PAGE = 25;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

export function buildHistory(root, spec) {
  const since = h("input", { id: "since", type: "date" });
  const until = h("input", { id: "until", type: "date" });
  const diagnosis = h("select", { id: "of-diagnosis" }, h("option", { value: "" }, "Todos"),
    Object.entries(spec.diagnosticos).map(([code, label]) => h("option", { value: code }, label)));
  const search = h("input", { id: "search", type: "search", autocomplete: "off", spellcheck: "false", maxlength: 128, "aria-describedby": "search-hint" });
  const body = h("tbody", { role: "rowgroup" });
  const said = h("p", { class: "muted", role: "status" });
  const trouble = h("div", { role: "alert" });
  const more = button("Ver más", () => load(false));
  const save = button("Guardar como CSV", () => downloadCsv(rows, spec));
  const print = button("Imprimir", () => window.print());
  let rows = [];
  let following = null;
  let filtered = null; // what the rows on screen were asked by: a cursor goes with no other filters
  let latest = 0; // answers to an older question are not shown

  const filters = h("form", { class: "card filters", novalidate: true, autocomplete: "off", "aria-label": "Filtros" },
    field("Desde", since), field("Hasta", until), field("Diagnóstico", diagnosis),
    h("div", { class: "field search" }, h("label", { for: search.id }, "Identificador o referencia propia"), search,
      h("p", { class: "hint", id: "search-hint" }, "Enteros: la referencia no se guarda legible, así que no se puede buscar por una parte.")),
    h("div", { class: "actions" }, h("button", { type: "submit", class: "primary" }, "Buscar"), button("Quitar filtros", clear)));
  filters.addEventListener("submit", (event) => {
    event.preventDefault();
    load(true);
  });
  const table = h("table", { class: "history", role: "table" },
    h("caption", { class: "hidden-text" }, "Predicciones, de la más nueva a la más antigua"),
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, ["Fecha", "Diagnóstico", "Probabilidad", "Comprobado", "Identificador"].map((text) => h("th", { scope: "col", role: "columnheader" }, text)))),
    body);
  root.append(filters, trouble, h("div", { class: "card results" }, h("div", { class: "results-top" }, said, h("div", { class: "actions" }, save, print)), table, more));

  return { open: () => load(true) };

  async function load(fresh) {
    const turn = (latest += 1);
    trouble.replaceChildren();
    if (fresh) said.textContent = "Buscando…";
    try {
      const wanted = fresh ? await filter() : filtered;
      const found = await ask(wanted, fresh ? null : following);
      if (turn !== latest) return;
      filtered = wanted;
      rows = fresh ? found.predicciones : [...rows, ...found.predicciones];
      following = found.siguiente;
      body.replaceChildren(...rows.map((row) => line(row, spec)));
      said.textContent = summary();
    } catch (refusal) {
      if (turn !== latest) return;
      if (fresh) said.textContent = rows.length > 0 ? "Se muestra lo último que se encontró." : "";
      trouble.append(h("div", { class: "note danger" }, h("p", {}, reasonOf(refusal)), button("Reintentar", () => load(fresh), "small")));
    }
    more.hidden = following === null;
    table.hidden = rows.length === 0;
    save.disabled = print.disabled = rows.length === 0;
    announce(said.textContent);
  }

  function summary() {
    if (rows.length === 0) return "No hay predicciones que mostrar.";
    return `${rows.length === 1 ? "1 predicción" : `${rows.length} predicciones`}${following ? ", y hay más" : ""}.`;
  }

  /** Read the filters: an id, or the parameters of a search. */
  async function filter() {
    const text = search.value.trim();
    if (UUID.test(text)) return text.toLowerCase();
    const wanted = new URLSearchParams({ limite: PAGE });
    if (since.value) wanted.set("desde", new Date(`${since.value}T00:00`).toISOString());
    if (until.value) wanted.set("hasta", dayAfter(until.value).toISOString());
    if (diagnosis.value) wanted.set("output", diagnosis.value);
    if (text) wanted.set("referencia", (await post("/referencias", { referencia: text }, { repeatable: true })).hash);
    return wanted;
  }

  async function ask(wanted, cursor) {
    if (typeof wanted === "string") return { predicciones: [await get(`/predicciones/${wanted}`)], siguiente: null };
    return get(`/predicciones?${wanted}${cursor ? `&${new URLSearchParams({ cursor })}` : ""}`);
  }

  function clear() {
    filters.reset();
    load(true);
  }
}

function dayAfter(day) {
  const date = new Date(`${day}T00:00`);
  date.setDate(date.getDate() + 1);
  return date;
}

function field(label, control) {
  return h("div", { class: "field" }, h("label", { for: control.id }, label), control);
}

function line(row, spec) {
  const cell = (name, ...content) => h("td", { role: "cell" }, h("span", { class: "cell-name", "aria-hidden": "true" }, name), h("span", {}, ...content));
  const label = spec.diagnosticos[row.output] ?? row.output;
  return h("tr", { role: "row" },
    cell("Fecha", formatMoment(row.timestamp)),
    cell("Diagnóstico", isOpen(row.plausibles) ? `No concluyente. Más probable: ${label}` : label),
    cell("Probabilidad", formatPercent(row.probabilidad)),
    cell("Comprobado", outcomeText(row.resultado, spec)),
    cell("Identificador", h("a", { href: `#prediccion/${row.id}`, class: "code", title: row.id }, shortened(row.id))));
}

const shortened = (id) => `…${id.slice(-12)}`;

/** What is known of a prediction afterwards, in a few words. */
export function outcomeText(outcome, spec) {
  if (!outcome) return "—";
  return outcome.aceptada ? "Confirmado" : `Corregido: ${spec.diagnosticos[outcome.diagnostico] ?? outcome.diagnostico}`;
}
