// The history as a CSV file for a Spanish Excel: UTF-8 with byte order mark, semicolons, decimal commas.

import { formatNumber } from "./numbers.js";
import { isOpen } from "./prediction.js";

const FORMULA = /^[=+\-@\t\r＝＋－＠|]/;

export function downloadCsv(rows, spec) {
  const columns = [
    ["id", (row) => row.id],
    ["fecha", (row) => row.timestamp],
    ["diagnostico", (row) => row.output],
    ["probabilidad", (row) => row.probabilidad],
    ["conclusion", (row) => row.plausibles && (isOpen(row.plausibles) ? "No concluyente" : "Concluyente")],
    ["plausibles", (row) => row.plausibles?.join(", ")],
    ["modelo", (row) => row.modelo],
    ["modelo_version", (row) => row.modelo_version],
    ["comprobado", (row) => row.resultado && (row.resultado.aceptada ? "confirmado" : "corregido")],
    ["diagnostico_corregido", (row) => row.resultado?.diagnostico],
    ["motivo", (row) => row.resultado?.motivo],
    ...spec.campos.map(({ nombre, unidad }) => [unidad ? `${nombre} (${unidad})` : nombre, (row) => row.inputs[nombre]]),
  ];
  const lines = [columns.map(([name]) => name), ...rows.map((row) => columns.map(([, value]) => value(row)))];
  const text = `\ufeff${lines.map((line) => line.map(cell).join(";")).join("\r\n")}\r\n`;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
  link.download = `predicciones-${new Date().toISOString().slice(0, 10)}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function cell(value) {
  if (value == null) return "";
  if (typeof value === "number") return formatNumber(value);
  if (typeof value === "boolean") return value ? "sí" : "no";
  const harmless = FORMULA.test(value) ? `'${value}` : value; // a spreadsheet must not run typed text
  return /[";\r\n]/.test(harmless) ? `"${harmless.replaceAll('"', '""')}"` : harmless;
}
