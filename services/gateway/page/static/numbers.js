// Numbers and dates in Spanish notation; a number and its unit stay on one line.

const plain = new Intl.NumberFormat("es-ES", { maximumSignificantDigits: 12, useGrouping: false });
const short = new Intl.NumberFormat("es-ES", { maximumSignificantDigits: 3, useGrouping: false });
const tenths = new Intl.NumberFormat("es-ES", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const moment = new Intl.DateTimeFormat("es-ES", { dateStyle: "medium", timeStyle: "short" });

const NUMBER = /^[+-]?(\d+([.,]\d*)?|[.,]\d+)$/;

/** Return the number in typed text, with a comma or a point before decimals; NaN for anything else. */
export function parseNumber(text) {
  const trimmed = text.trim().replace("−", "-");
  return NUMBER.test(trimmed) ? Number(trimmed.replace(",", ".")) : NaN;
}

/** Return "1.500" read with the point as separator of thousands, or null. */
export const readAsThousands = (text) => (/^[1-9]\d{0,2}\.\d{3}$/.test(text.trim()) ? Number(text.trim().replace(".", "")) : null);

export const formatNumber = (value) => plain.format(value);
export const formatShort = (value) => short.format(value);
export const formatMoment = (when) => moment.format(new Date(when));

/** Return a range in words: "0,2 a 6". */
export const formatRange = ([low, high]) => `${plain.format(low)} a ${plain.format(high)}`;

/** Return a probability in percent; never "0 %" or "100 %" for a value that is only close to it. */
export function formatPercent(share) {
  if (share > 0 && share < 0.001) return "<\u00a00,1\u00a0%";
  if (share < 1 && share > 0.999) return ">\u00a099,9\u00a0%";
  return `${tenths.format(share * 100)}\u00a0%`;
}

/** Return the same as a whole number, for a headline. */
export function formatRounded(share) {
  if (share > 0 && share < 0.01) return "<\u00a01\u00a0%";
  if (share < 1 && share > 0.99) return ">\u00a099\u00a0%";
  return `${Math.round(share * 100)}\u00a0%`;
}

/** Return a probability as a count of people in a hundred, which readers understand better than a fraction. */
export function inHundred(share) {
  const count = Math.round(share * 100);
  if (count >= 100) return "más de 99";
  if (count <= 0) return "menos de 1";
  return `unos ${count}`;
}

/** Return a change of probability in percentage points, with its sign. */
export function formatPoints(change) {
  const points = Math.abs(change * 100);
  const text = points < 0.1 ? "<\u00a00,1" : tenths.format(points);
  return `${change < 0 ? "−" : "+"}${text}\u00a0${text === "1,0" ? "punto" : "puntos"}`;
}
