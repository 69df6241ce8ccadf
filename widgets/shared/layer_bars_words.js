/** What the layers of a control vector are, in words and as lanes of bars. */
import { span } from "./brush.js";
import { counted, known, number, percent } from "./text.js";

const apart = (x) => (known(x) ? `, ${number(x)} sd apart` : "");

/** The lanes of bars, the one that decides first: shares of the longest, which `scale` says; null is not known. */
export function lanesOf(rows) {
  const lane = (name, values, unit) => {
    const most = Math.max(...values.filter(known).map(Math.abs), 0);
    const shares = values.map((x) => (known(x) ? (most ? x / most : 0) : null));
    return { name, shares, scale: `to ${number(most)}${unit}` };
  };
  const length = lane("length", rows.norms, "");
  return rows.separation?.some(known) ? [lane("held out", rows.separation, " sd"), length] : [length];
}

/** What one layer is, in words. */
export function layerText(rows, i) {
  const held = rows.n_held_out ? `${apart(rows.separation[i])}, ${percent(rows.accuracy[i])} in order` : "";
  return `layer ${rows.layers[i]}: length ${number(rows.norms[i])}${held}`;
}

/** What is chosen, and how well that does on average. */
export function rangeText(rows, [first, last]) {
  const { layers, n_held_out: n } = rows;
  const said = `${span([first, last], "layer")} of ${layers[0]}–${layers.at(-1)}`;
  if (!n) return said;
  const own = layers.map((layer, i) => (layer >= first && layer <= last ? i : -1)).filter((i) => i >= 0);
  const mean = (values) => own.reduce((sum, i) => sum + (values[i] ?? NaN), 0) / own.length;
  const order = percent(mean(rows.accuracy));
  return `${said}: ${order} of ${counted(n, "held-out pair")} in order${apart(mean(rows.separation))}`;
}
