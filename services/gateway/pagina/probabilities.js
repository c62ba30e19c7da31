// The probability of every diagnosis, in words and as bars, from the most to the least probable.

import { bar, h } from "./dom.js";
import { formatPercent } from "./numbers.js";

export function buildProbabilities({ probabilidades, prediccion, plausibles = [] }, spec) {
  const sorted = Object.entries(probabilidades).sort(([, one], [, other]) => other - one);
  return h("ol", { class: "bars" }, sorted.map(([code, share]) => {
    const candidate = code === prediccion || plausibles.includes(code);
    return h("li", { class: candidate ? "candidate" : null },
      h("span", { class: "name" }, spec.diagnosticos[code] ?? code),
      h("span", { class: "share" }, formatPercent(share)),
      bar(0, share));
  }));
}
