// Suspected units: a value far outside its range may have been read in another unit that laboratories report.

import { formatShort } from "./numbers.js";

const NEARER = 2;

const within = (value, range) => !range || (value >= range[0] && value <= range[1]);

/** Return the distance of `value` from a range, as the logarithm of their quotient; 0 inside. */
function distance(value, range) {
  if (within(value, range)) return 0;
  return value > range[1] ? Math.log(value / range[1]) : Math.log(range[0] / value);
}

/**
 * Return the unit that `value` may have been read in, and the value in the unit of the form, or null. A value outside the
 * limits is suspected if the converted one is inside; a value outside the reference, if the converted one is at least
 * twice as near.
 */
export function suspectedUnit({ limites, referencia, otras_unidades: others }, value) {
  const range = referencia ?? limites;
  if (!range || value <= 0 || distance(value, range) === 0) return null;
  const possible = within(value, limites);
  for (const [unit, factor] of Object.entries(others)) {
    const converted = value * factor;
    const nearer = distance(converted, range) * NEARER < distance(value, range);
    if (within(converted, limites) && (nearer || !possible)) return { unit, text: formatShort(converted) };
  }
  return null;
}
