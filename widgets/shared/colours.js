/** Colours as the page's theme has them. */

/** What CSS makes of some variables on a node, as [r, g, b] each; what is not opaque lies on paper. */
export function colours(node, names) {
  const probe = document.createElement("span");
  node.append(probe);
  const read = (name) => {
    probe.style.color = `var(${name})`;
    const text = getComputedStyle(probe).color;
    const numbers = text.match(/-?[\d.]+/g)?.map(Number) ?? [128, 128, 128];
    const [alpha = 1] = numbers.splice(3);
    return { alpha, rgb: text.startsWith("color(") ? numbers.map((x) => x * 255) : numbers };
  };
  const paper = read("--mll-paper").rgb;
  const found = names.map(read);
  probe.remove();
  return found.map(({ rgb, alpha }) => rgb.map((x, c) => Math.round(x * alpha + paper[c] * (1 - alpha))));
}
