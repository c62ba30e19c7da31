// One field of the form, built from its declaration in the patient class: a number, a choice or a flag.
//
// Every field has: name, node, focus(), value() (null if unknown), problem() (a sentence, or null), show(problem),
// typed() (whether the doctor entered anything) and clear().

import { button, h } from "./dom.js";
import { formatNumber, formatRange, parseNumber, readAsThousands } from "./numbers.js";
import { suspectedUnit } from "./units.js";

const FEW_CHOICES = 4;

/** Build the field that `spec` declares; `noteId` is the id of a note shared with other fields of its group. */
export function buildField(spec, noteId) {
  if (spec.tipo === "flag") return flagField(spec);
  return spec.tipo === "choice" ? choiceField(spec, noteId) : numberField(spec, noteId);
}

function numberField(spec, noteId) {
  const id = `f-${spec.nombre}`;
  const input = h("input", {
    id, type: "text", autocomplete: "off", spellcheck: "false", inputmode: spec.tipo === "integer" ? "numeric" : "decimal",
    "aria-describedby": described(id, noteId),
  });
  const unknown = spec.obligatorio ? unknownBox(id, spec) : null;
  const hint = [spec.referencia && `Referencia: ${formatRange(spec.referencia)}`, !noteId && spec.descripcion]
    .filter(Boolean).join(". ");
  const shownMessages = messages(id, hint);
  const node = h("div", { class: "field" },
    h("label", { for: id }, spec.etiqueta, unknown && h("span", { class: "needed" }, " (necesario)")),
    h("div", { class: "with-unit" }, input, spec.unidad && h("span", { class: "unit", id: `${id}-unit` }, spec.unidad)),
    shownMessages.nodes, unknown?.node);

  const field = {
    name: spec.nombre, node, focus: () => input.focus(),
    value: () => (input.value.trim() === "" ? null : parseNumber(input.value)),
    typed: () => input.value.trim() !== "" || Boolean(unknown?.box.checked),
    problem() {
      const value = field.value();
      if (value === null) return unknown && !unknown.box.checked ? missing(spec) : null;
      return faultOf(spec, input.value, value);
    },
    show(problem) {
      shownMessages.show(problem, input);
      shownMessages.notice.replaceChildren();
      const value = field.value();
      if (value === null || Number.isNaN(value)) return;
      const change = (text) => button(`Cambiar a ${text} ${spec.unidad}`.trim(), () => {
        input.value = text;
        field.show(field.problem());
        input.focus();
        input.dispatchEvent(new Event("input", { bubbles: true }));
      }, "small");
      const thousands = readAsThousands(input.value);
      const slip = suspectedUnit(spec, value);
      if (thousands !== null) {
        const whole = formatNumber(thousands);
        shownMessages.notice.append(h("span", {}, `«${input.value.trim()}» se lee como ${formatNumber(value)}, no como ${whole}: el punto separa decimales. `),
          faultOf(spec, whole, thousands) === null ? change(whole) : "", " ");
      }
      if (slip) {
        shownMessages.notice.append(h("span", {}, `¿Está en ${slip.unit}? ${formatNumber(value)} en ${slip.unit} son ${slip.text} ${spec.unidad}. `), change(slip.text));
      } else if (!problem && spec.referencia && (value < spec.referencia[0] || value > spec.referencia[1])) {
        shownMessages.notice.append(`Por ${value < spec.referencia[0] ? "debajo" : "encima"} de la referencia.`);
      }
    },
    clear() {
      input.value = "";
      if (unknown) unknown.box.checked = false;
      field.show(null);
    },
  };
  input.addEventListener("blur", () => field.typed() && field.show(field.problem()));
  input.addEventListener("input", () => {
    if (unknown && input.value.trim() !== "") unknown.box.checked = false;
    if (input.getAttribute("aria-invalid") && !field.problem()) field.show(null);
  });
  unknown?.box.addEventListener("change", () => {
    if (unknown.box.checked) input.value = "";
    field.show(null);
  });
  return field;
}

function faultOf(spec, typed, value) {
  if (Number.isNaN(value)) {
    return /^\s*[<>≤≥]/.test(typed)
      ? `${spec.etiqueta}: escriba solo el número, sin «${typed.trim()[0]}».`
      : `${spec.etiqueta}: escriba un número, con coma o punto para los decimales y sin separar los millares.`;
  }
  const noun = spec.tipo === "integer" ? "un número entero" : "un número";
  const [low, high] = spec.limites ?? [-Infinity, Infinity];
  if ((spec.tipo === "integer" && !Number.isInteger(value)) || value < low || value > high) {
    const range = spec.limites ? ` entre ${formatNumber(low)} y ${formatNumber(high)} ${spec.unidad}`.trimEnd() : "";
    return `${spec.etiqueta}: debe ser ${noun}${range}.`;
  }
  return null;
}

function choiceField(spec, noteId) {
  const id = `f-${spec.nombre}`;
  const shownMessages = messages(id, !noteId && spec.descripcion);
  const few = spec.opciones.length <= FEW_CHOICES;
  const options = [...spec.opciones.map((option) => [option, option]), ["", "No consta"]];
  // The legend announces radios. A required choice has no default.
  const radios = few ? options.map(([value], index) => h("input", {
    type: "radio", name: id, id: `${id}-${index}`, value, checked: !spec.obligatorio && value === "",
  })) : [];
  const select = few ? null : h("select", { id, "aria-describedby": described(id, noteId) },
    spec.obligatorio && h("option", { value: "?" }, "Elija…"),
    options.map(([value, text]) => h("option", { value, selected: !spec.obligatorio && value === "" }, text)));
  const name = [spec.etiqueta, spec.obligatorio && h("span", { class: "needed" }, " (necesario)")];
  const node = few
    ? h("fieldset", { class: "field plain", "aria-describedby": described(id, noteId) }, h("legend", {}, name),
        h("div", { class: "segments" }, radios.map((radio, index) => h("label", { for: radio.id }, radio, h("span", {}, options[index][1])))),
        shownMessages.nodes)
    : h("div", { class: "field" }, h("label", { for: id }, name), select, shownMessages.nodes);
  const chosen = () => (few ? radios.find((radio) => radio.checked)?.value ?? "?" : select.value);

  const field = {
    name: spec.nombre, node, focus: () => (few ? radios.find((radio) => radio.checked) ?? radios[0] : select).focus(),
    value: () => (["", "?"].includes(chosen()) ? null : chosen()),
    typed: () => (spec.obligatorio ? chosen() !== "?" : chosen() !== ""),
    problem: () => (chosen() === "?" ? missing(spec) : null),
    show: (problem) => shownMessages.show(problem, few ? node : select),
    clear() {
      for (const radio of radios) radio.checked = !spec.obligatorio && radio.value === "";
      if (select) select.value = spec.obligatorio ? "?" : "";
      field.show(null);
    },
  };
  node.addEventListener("change", () => field.show(null));
  return field;
}

function flagField(spec) {
  const id = `f-${spec.nombre}`;
  const shownMessages = messages(id, spec.descripcion);
  const box = h("input", { type: "checkbox", id, "aria-describedby": described(id) });
  const node = h("div", { class: "field flag" }, h("label", { for: id }, box, h("span", {}, spec.etiqueta)), shownMessages.nodes);
  const field = {
    name: spec.nombre, node, focus: () => box.focus(), value: () => box.checked, typed: () => box.checked, problem: () => null,
    show: (problem) => shownMessages.show(problem, box),
    clear() {
      box.checked = false;
      field.show(null);
    },
  };
  box.addEventListener("change", () => field.show(null));
  return field;
}

const described = (id, noteId) => [`${id}-unit`, `${id}-hint`, `${id}-problem`, `${id}-notice`, noteId].filter(Boolean).join(" ");
const missing = (spec) => `${spec.etiqueta}: falta este dato; si no se conoce, marque «No consta».`;

function unknownBox(id, spec) {
  const box = h("input", { type: "checkbox", id: `${id}-unknown` });
  const label = h("label", { for: box.id }, box, h("span", {}, "No consta", h("span", { class: "hidden-text" }, `: ${spec.etiqueta}`)));
  return { box, node: h("div", { class: "unknown" }, label) };
}

function messages(id, hint) {
  const problem = h("p", { class: "problem", id: `${id}-problem` });
  const notice = h("p", { class: "notice", id: `${id}-notice`, "aria-live": "polite" });
  const show = (text, control) => {
    problem.textContent = text ?? "";
    if (text) control.setAttribute("aria-invalid", "true");
    else control.removeAttribute("aria-invalid");
  };
  return { nodes: [h("p", { class: "hint", id: `${id}-hint` }, hint), problem, notice], notice, show };
}
