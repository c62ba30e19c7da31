// The probability of every diagnosis, as text and bars, the most probable first.

import { bar, h } from "./dom.js";
import { formatPercent } from "./numbers.js";

/** Return whether more than one diagnosis is plausible; unknown (false) for old predictions, which have null. */
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
