// A value that is strange in the unit asked, and far less so in another that laboratories report, may be a slip.

import { formatShort } from "./numbers.js";

const NEARER = 2;

const within = (value, range) => !range || (value >= range[0] && value <= range[1]);

/** How far `value` lies from a range, as the logarithm of their quotient; 0 inside. */
function distance(value, range) {
  if (within(value, range)) return 0;
  return value > range[1] ? Math.log(value / range[1]) : Math.log(range[0] / value);
}

/**
 * Give the unit that `value` may have been read in, and what it would be in the unit asked, or null. What is refused
 * need only become possible; what is outside the reference is suspected if converting brings it at least twice as near.
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
