/** The colours of a map, from the least to the most, and what follows the theme. */

export const HEAT = ["--mll-heat-0", "--mll-heat-1", "--mll-heat-2", "--mll-heat-3", "--mll-heat-4"];

/** The colour at a share, 0 to 1, of the way along `stops` ([r, g, b] each). */
export function mixed(stops, share) {
  const at = share * (stops.length - 1);
  const k = Math.min(stops.length - 2, Math.floor(at));
  return stops[k].map((x, c) => Math.round(x + (stops[k + 1][c] - x) * (at - k)));
}

/** Call `act` when the theme may have changed; returns what undoes it. */
export function onTheme(act) {
  const watch = new MutationObserver(act);
  for (const node of [document.body, document.documentElement]) {
    watch.observe(node, { attributeFilter: ["class", "theme", "data-jp-theme-light", "data-jp-theme-name"] });
  }
  const system = matchMedia("(prefers-color-scheme: dark)");
  system.addEventListener("change", act);
  return () => {
    watch.disconnect();
    system.removeEventListener("change", act);
  };
}
