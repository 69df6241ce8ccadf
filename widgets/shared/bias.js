/** Keys and buttons that ban a token, or make it likelier, wherever a view lists tokens. */
import { button, h } from "./dom.js";

/** Ask for a token to be banned or favoured; resolves to what became of it, fails where nobody listens. */
export const bias = (line, token, ban) =>
  line.ask("bias", { token, ban }).then(({ said }) => said || (ban ? "banned" : "favoured"));

/**
 * The buttons that do what the keys do; `act(ban)` is called, `name(token)` says which token it will be.
 * They take the focus from nothing.
 */
export function biasButtons(act, signs = ["Ban", "Favour"]) {
  const more = { class: "mll-button mll-bias-act", tabindex: -1 };
  const [ban, favour] = signs.map((sign, k) => button(sign, "", () => act(k === 0), more));
  const stay = (event) => event.preventDefault();
  const node = h("span", { class: "mll-bias", on: { pointerdown: stay } }, ban, favour);
  function name(token) {
    const says = [`Ban ${token}, or allow it again (b)`, `Favour ${token}: make it likelier (f)`];
    [ban, favour].forEach((node, k) => node.setAttribute("aria-label", (node.title = says[k])));
  }
  return { node, name };
}
