/** Colours as the page's theme has them. */

/** What CSS makes of some variables on a node, as [r, g, b] each. */
export function colours(node, names) {
  const probe = document.createElement("span");
  node.append(probe);
  const found = names.map((name) => {
    probe.style.color = `var(${name})`;
    const text = getComputedStyle(probe).color;
    const numbers = text.match(/-?[\d.]+/g)?.map(Number) ?? [128, 128, 128];
    return (text.startsWith("color(") ? numbers.map((x) => x * 255) : numbers).slice(0, 3).map(Math.round);
  });
  probe.remove();
  return found;
}
