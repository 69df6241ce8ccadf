/** A bar whose buttons are one tab stop, as in the toolbar pattern of WAI-ARIA; fields in it are stops of their own. */
import { keys } from "./dom.js";

/** ← and → go from one button of the bar to the next, Home and End to its ends. Returns what undoes it. */
export function toolbar(bar, label) {
  bar.setAttribute("role", "toolbar");
  bar.setAttribute("aria-label", label);
  const buttons = () => [...bar.querySelectorAll("button:enabled")].filter((one) => !one.closest("[hidden],[popover]"));
  let stop = null; // the button that Tab leads to
  function rove(to) {
    const all = buttons();
    stop = all.includes(to) ? to : (all[0] ?? null);
    for (const one of all) one.tabIndex = one === stop ? 0 : -1;
  }
  const go = (place) => (event) => {
    const all = buttons();
    const at = all.indexOf(event.target);
    if (at < 0) return false;
    all[(place(at, all.length) + all.length) % all.length].focus();
  };
  const unbind = keys(bar, {
    ArrowLeft: go((at) => at - 1),
    ArrowRight: go((at) => at + 1),
    Home: go(() => 0),
    End: go((_, n) => n - 1),
  });
  bar.addEventListener("focusin", ({ target }) => buttons().includes(target) && rove(target));
  const change = new MutationObserver(() => rove(stop)); // the button may be disabled, or another one come
  change.observe(bar, { subtree: true, childList: true, attributes: true, attributeFilter: ["disabled", "hidden"] });
  rove(null);
  return () => {
    change.disconnect();
    unbind();
  };
}
