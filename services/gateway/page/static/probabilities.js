// The probability of every diagnosis, in words and as bars, from the most to the least probable.

import { bar, h } from "./dom.js";
import { formatPercent } from "./numbers.js";

/** Whether more than one diagnosis could not be ruled out; of old predictions (null) it is not known. */
export const isOpen = (plausibles) => plausibles != null && plausibles.length > 1;

export function buildProbabilities({ probabilidades, prediccion, plausibles }, spec) {
  const sorted = Object.entries(probabilidades).sort(([, one], [, other]) => other - one);
  return h("ol", { class: "bars" }, sorted.map(([code, share]) => {
    const candidate = code === prediccion || Boolean(plausibles?.includes(code));
    return h("li", { class: candidate ? "candidate" : null },
      h("span", { class: "name" }, spec.diagnosticos[code] ?? code),
      h("span", { class: "share" }, formatPercent(share)),
      bar(0, share));
  }));
}
