// The form: groups and fields in the order of the patient class, and their values.

import { h } from "./dom.js";
import { buildField } from "./fields.js";

/** Build the form of `spec` (see form.json) into `root`; `actions` come after its last group. */
export function buildForm(root, spec, actions) {
  const fields = spec.campos.map((field) =>
    Object.assign(buildField(field, sharedNote(field, spec.campos)), { group: field.grupo, flag: field.tipo === "flag" }));
  const groups = [...new Set(fields.map((field) => field.group))];
  root.replaceChildren(...groups.map((group) => {
    const members = fields.filter((field) => field.group === group);
    const notes = spec.campos.filter((field) => field.grupo === group && sharedNote(field, spec.campos) === noteId(field));
    return h("fieldset", { class: "card group" },
      h("legend", {}, h("h2", {}, group)),
      notes.map((field) => h("p", { class: "hint group-note", id: noteId(field) }, noteText(field, spec.campos))),
      grid("measures", members.filter((field) => !field.flag)),
      grid("flags", members.filter((field) => field.flag)));
  }), ...actions);

  const byName = new Map(fields.map((field) => [field.name, field]));
  return {
    read: () => Object.fromEntries(fields.map((field) => [field.name, field.value()])),
    typed: () => fields.some((field) => field.typed()),
    clear: () => fields.forEach((field) => field.clear()),
    focus: (name) => byName.get(name)?.focus(),
    /** Check every field, show its problem next to it, and return the fields with a problem. */
    check() {
      return fields.filter((field) => {
        const problem = field.problem();
        field.show(problem);
        return problem;
      });
    },
    /** Show the errors of the server next to their fields; return the sentences that belong to no field. */
    showErrors(errors) {
      const unplaced = [];
      for (const { campo, mensaje } of errors) {
        const field = byName.get(campo);
        if (field) field.show(mensaje);
        else unplaced.push(mensaje);
      }
      byName.get(errors.find(({ campo }) => byName.has(campo))?.campo)?.focus();
      return unplaced;
    },
  };
}

const grid = (kind, fields) => fields.length > 0 && h("div", { class: kind }, fields.map((field) => field.node));

// A description that several fields of a group share is shown once, above them.
const alike = (field, all) => all.filter((other) => other.grupo === field.grupo && other.descripcion === field.descripcion);
const noteId = (field) => `note-${field.nombre}`;
function sharedNote(field, all) {
  const sharers = field.descripcion ? alike(field, all) : [];
  return sharers.length > 1 ? noteId(sharers[0]) : undefined;
}
const noteText = (field, all) => `${alike(field, all).map((other) => other.etiqueta).join(", ")}: ${lowerFirst(field.descripcion)}`;
const lowerFirst = (text) => text.charAt(0).toLowerCase() + text.slice(1);
