/** The field in which a branch gets its name, in the place of the name. */
import { h } from "./shared/dom.js";

/** `done(name, focused)` once, with null where the name shall stay; `focused` if the field had the focus. */
export function nameField(row, done) {
  const field = h("input", {
    class: "mll-field mll-bt-naming",
    maxlength: 80,
    value: row.name,
    dir: "auto",
    "aria-label": `Name of ${row.called}`,
    placeholder: row.called,
  });
  let open = true;
  const end = (keep) => {
    if (!open) return;
    open = false;
    const focused = field.ownerDocument.activeElement === field;
    done(keep && field.value !== row.name ? field.value : null, focused);
  };
  field.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.key === "Enter") end(true);
    if (event.key === "Escape") end(false);
  });
  field.addEventListener("blur", () => end(true));
  return field;
}
