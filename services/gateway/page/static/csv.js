// The history as a CSV file for a Spanish Excel: UTF-8 with byte order mark, semicolons, decimal commas.

import { formatNumber } from "./numbers.js";
import { isOpen } from "./prediction.js";

// Where a program may see a cell that begins as a formula, also one that separates by commas or tabs and splits our cells
// there. It would run typed text, so an apostrophe is put before it (OWASP, CSV injection).
const FORMULA = /(?<=^|[;,\t\r\n])(?="*[=+\-@＝＋－＠|])|^(?=[\t\r\n\0])/g;

/** A file of predictions that grows page by page and is then downloaded. `reference` is the one all its rows were found by, or "". */
export class CsvFile {
  #columns;
  #parts;
  count = 0;

  constructor(spec, reference) {
    this.#columns = columnsOf(spec, reference);
    this.#parts = ["\ufeff", textOf([this.#columns.map(([name]) => name)])];
  }

  add(rows) {
    this.#parts.push(textOf(rows.map((row) => this.#columns.map(([, value]) => value(row)))));
    this.count += rows.length;
  }

  download() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(this.#parts, { type: "text/csv;charset=utf-8" }));
    link.download = `predicciones-${localTime(new Date()).slice(0, 10)}.csv`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }
}

function columnsOf(spec, reference) {
  const label = (code) => spec.diagnosticos[code] ?? code;
  return [
    ["id", (row) => row.id],
    [`fecha (${new Intl.DateTimeFormat().resolvedOptions().timeZone})`, (row) => localTime(new Date(row.timestamp))],
    ["referencia", (row) => reference || row.referencia], // stored as a hash only
    ["diagnostico", (row) => label(row.output)],
    ["diagnostico_codigo", (row) => row.output],
    ["probabilidad", (row) => row.probabilidad],
    ["conclusion", (row) => row.plausibles && (isOpen(row.plausibles) ? "No concluyente" : "Concluyente")],
    ["plausibles", (row) => row.plausibles?.map(label).join(", ")],
    ["modelo", (row) => row.modelo],
    ["modelo_version", (row) => row.modelo_version],
    ["comprobado", (row) => row.resultado && (row.resultado.aceptada ? "confirmado" : "corregido")],
    ["diagnostico_corregido", (row) => row.resultado?.diagnostico && label(row.resultado.diagnostico)],
    ["motivo", (row) => row.resultado?.motivo],
    ...spec.campos.map(({ nombre, etiqueta, unidad }) => [unidad ? `${etiqueta} (${unidad})` : etiqueta, (row) => row.inputs[nombre]]),
  ];
}

const textOf = (lines) => lines.map((line) => `${line.map(cell).join(";")}\r\n`).join("");

/** Return a moment in the reader's zone, as spreadsheets read it: 2026-11-30 17:04:05. */
function localTime(when) {
  const two = (number) => String(number).padStart(2, "0");
  const day = [String(when.getFullYear()).padStart(4, "0"), two(when.getMonth() + 1), two(when.getDate())];
  return `${day.join("-")} ${[when.getHours(), when.getMinutes(), when.getSeconds()].map(two).join(":")}`;
}

function cell(value) {
  if (value == null) return "";
  if (typeof value === "number") return formatNumber(value);
  if (typeof value === "boolean") return value ? "sí" : "no";
  const text = typeof value === "string" ? value : JSON.stringify(value); // of a list, which no field of ours has
  const harmless = text.replace(FORMULA, "'");
  return /[";\r\n]/.test(harmless) ? `"${harmless.replaceAll('"', '""')}"` : harmless;
}
