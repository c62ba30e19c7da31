// The history of predictions: filters, search by id or patient reference, paging, print and CSV.

import { get, post, reasonOf } from "./api.js";
import { CsvFile } from "./csv.js";
import { announce, button, h } from "./dom.js";
import { formatMoment, formatPercent } from "./numbers.js";
import { isOpen } from "./prediction.js";

const PAGE = 25;
const SAVED_PAGE = 500; // the most that the server returns at once
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

export function buildHistory(root, spec) {
  const since = h("input", { id: "since", type: "date" });
  const until = h("input", { id: "until", type: "date" });
  const diagnosis = h("select", { id: "of-diagnosis" }, h("option", { value: "" }, "Todos"),
    Object.entries(spec.diagnosticos).map(([code, label]) => h("option", { value: code }, label)));
  const search = h("input", { id: "search", type: "search", autocomplete: "off", spellcheck: "false", maxlength: 128, "aria-describedby": "search-hint" });
  const body = h("tbody", { role: "rowgroup" });
  const summaryLine = h("p", { class: "muted", role: "status" });
  const errorBox = h("div", { role: "alert" });
  const more = button("Ver más", () => load(false));
  const save = button("Guardar como CSV", () => saveAll({ query: filtered, cursor: null, file: new CsvFile(spec, reference) }));
  const cancel = button("Cancelar", () => endSaving("Cancelado: no se ha guardado nada."));
  const savingLine = h("p", { class: "muted saving" });
  const print = button("Imprimir", () => window.print());
  let rows = [];
  let unreadable = 0; // rows of the database among them that cannot be read
  let following = null;
  let filtered = null; // the filters of the rows on screen: a cursor is valid for them only
  let reference = ""; // the one that the rows on screen were found by
  let saving = 0; // a response to a cancelled one is not saved
  let latest = 0; // responses to an older request are not shown

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
  root.append(filters, errorBox, h("div", { class: "card results" }, h("div", { class: "results-top" }, summaryLine, h("div", { class: "actions" }, save, cancel, print)), savingLine, table, more));
  cancel.hidden = true;

  return { open: () => load(true) };

  async function load(fresh) {
    const turn = (latest += 1);
    errorBox.replaceChildren();
    if (fresh) summaryLine.textContent = "Buscando…";
    if (fresh && cancel.hidden) savingLine.textContent = "";
    const typed = search.value.trim();
    try {
      const query = fresh ? await filter(typed) : filtered;
      const page = await fetchPage(query, fresh ? null : following);
      if (turn !== latest) return;
      filtered = query;
      if (fresh) reference = typeof query !== "string" && query.has("referencia") ? typed : "";
      rows = fresh ? page.predicciones : [...rows, ...page.predicciones];
      following = page.siguiente;
      unreadable = (fresh ? 0 : unreadable) + (page.ilegibles ?? []).length;
      body.replaceChildren(...rows.map((row) => line(row, spec)));
      summaryLine.textContent = summary();
    } catch (rejection) {
      if (turn !== latest) return;
      if (fresh) summaryLine.textContent = rows.length > 0 ? "Se muestra lo último que se encontró." : "";
      errorBox.append(h("div", { class: "note danger" }, h("p", {}, reasonOf(rejection)), button("Reintentar", () => load(fresh), "small")));
    }
    more.hidden = following === null;
    table.hidden = rows.length === 0;
    save.disabled = print.disabled = rows.length === 0;
    announce(summaryLine.textContent);
  }

  function summary() {
    if (rows.length === 0) return `No hay predicciones que mostrar.${lost(unreadable)}`;
    return `${inWords(rows.length)}${following ? ", y hay más" : ""}.${lost(unreadable)}`;
  }

  /** Save all predictions of the filters, not only those on screen; `progress` holds what is left to fetch. */
  async function saveAll(progress) {
    const turn = (saving += 1);
    const { query, file } = progress;
    errorBox.replaceChildren();
    cancel.hidden = false;
    if (document.activeElement === save) cancel.focus();
    save.hidden = true;
    try {
      do {
        const page = await fetchPage(query, progress.cursor, SAVED_PAGE);
        if (turn !== saving) return;
        file.add(page.predicciones);
        progress.unreadable = (progress.unreadable ?? 0) + (page.ilegibles ?? []).length;
        progress.cursor = page.siguiente;
        savingLine.textContent = `Guardando: ${inWords(file.count)}…`;
      } while (progress.cursor !== null);
      file.download();
      endSaving(`Guardado: ${inWords(file.count)}.${lost(progress.unreadable)}`);
    } catch (rejection) {
      if (turn !== saving) return;
      endSaving(`Interrumpido tras ${inWords(file.count)}: no se ha guardado nada todavía.`);
      errorBox.append(h("div", { class: "note danger" }, h("p", {}, reasonOf(rejection)), button("Reintentar", () => saveAll(progress), "small")));
    }
  }

  function endSaving(text) {
    saving += 1;
    save.hidden = false;
    if (document.activeElement === cancel) save.focus();
    cancel.hidden = true;
    savingLine.textContent = text;
    announce(text);
  }

  /** Return the filters: an id, or the parameters of a search. */
  async function filter(text) {
    if (UUID.test(text)) return text.toLowerCase();
    const query = new URLSearchParams();
    if (since.value) query.set("desde", new Date(`${since.value}T00:00`).toISOString());
    if (until.value) query.set("hasta", dayAfter(until.value).toISOString());
    if (diagnosis.value) query.set("output", diagnosis.value);
    if (text) query.set("referencia", (await post("referencias", { referencia: text }, { repeatable: true })).hash);
    return query;
  }

  async function fetchPage(query, cursor, limit = PAGE) {
    if (typeof query === "string") return { predicciones: [await get(`predicciones/${query}`)], siguiente: null };
    return get(`predicciones?${new URLSearchParams({ limite: limit, ...Object.fromEntries(query), ...(cursor && { cursor }) })}`);
  }

  function clear() {
    filters.reset();
    load(true);
  }
}

/** Return a sentence on rows of the database that cannot be read, or "". */
const lost = (count) => (count === 0 ? "" : ` ${count === 1 ? "1 no se puede" : `${count} no se pueden`} leer: avise a quien administra el sistema.`);
const inWords = (count) => (count === 1 ? "1 predicción" : `${count} predicciones`);

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
    cell("Comprobado", feedbackText(row.resultado, spec)),
    cell("Identificador", h("a", { href: `#prediccion/${row.id}`, class: "code", title: row.id }, shortened(row.id))));
}

const shortened = (id) => `…${id.slice(-12)}`;

/** Return the doctor's feedback in a few words. */
export function feedbackText(feedback, spec) {
  if (!feedback) return "—";
  return feedback.aceptada ? "Confirmado" : `Corregido: ${spec.diagnosticos[feedback.diagnostico] ?? feedback.diagnostico}`;
}
