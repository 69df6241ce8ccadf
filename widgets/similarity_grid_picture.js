/** A heat map as one picture to keep: names, cells, and above them what it shows. */
import { shortened } from "./similarity_grid_paint.js";
import { rgb } from "./similarity_grid_pixels.js";

const MARGIN = 12;
const LINE = 18;
const BESIDE = 168;

/**
 * A canvas with what is in sight of a matrix. `above` and `cells` are its canvases, `says` lines of
 * text, `names` those of its rows, `top` where the first of them begins and `high` how high each is.
 */
export function pictureOf({ above, cells }, { says, names, top, high }, palette) {
  const ratio = cells.width / parseFloat(cells.style.width);
  const left = MARGIN + (names.length ? BESIDE : 0);
  const down = MARGIN + says.length * LINE;
  const first = down + above.height / ratio;
  const whole = document.createElement("canvas");
  whole.width = Math.max(cells.width + (left + MARGIN) * ratio, 480 * ratio);
  whole.height = cells.height + (first + MARGIN) * ratio;
  const context = whole.getContext("2d");
  context.fillStyle = rgb(palette.paper);
  context.fillRect(0, 0, whole.width, whole.height);
  context.drawImage(above, left * ratio, down * ratio);
  context.drawImage(cells, left * ratio, first * ratio);
  context.scale(ratio, ratio);
  context.fillStyle = rgb(palette.text);
  context.font = `11px ${palette.font}`;
  const write = (text, width, y) => context.fillText(shortened(context, text, width), MARGIN, y);
  says.forEach((line, k) => write(line, whole.width / ratio - 2 * MARGIN, MARGIN + (k + 0.7) * LINE));
  names.forEach((name, k) => write(name, BESIDE - 8, first + top + (k + 0.5) * high + 4));
  return whole;
}

/** A canvas as a PNG. */
export const png = (canvas) =>
  new Promise((resolve, reject) => {
    const took = (blob) => (blob ? resolve(blob) : reject(new Error("The browser makes no picture of this size.")));
    canvas.toBlob(took, "image/png");
  });
