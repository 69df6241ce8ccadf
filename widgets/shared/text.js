/** Numbers as people read them, and bytes of a model as text in which nothing is invisible. */

/** A binary column of a message as a typed array. */
export const typed = (view, Type) =>
  new Type(view.buffer.slice(view.byteOffset ?? 0, (view.byteOffset ?? 0) + view.byteLength));

/** Sizes (int32) and bytes of pieces -> one Uint8Array each. */
export function splitPieces(sizes, bytes) {
  const all = typed(bytes, Uint8Array);
  let end = 0;
  return Array.from(typed(sizes, Int32Array), (size) => all.subarray(end, (end += size)));
}

export const known = (x) => typeof x === "number" && Number.isFinite(x);
/** 0.1234 -> "12.3%"; small ones keep two digits; what is not known is "n/a". */
export function percent(p) {
  if (!known(p)) return "n/a";
  const x = p * 100;
  if (x === 0 || x === 100) return `${x}%`;
  if (x < 0.001) return "<0.001%";
  if (x > 99.99) return ">99.99%";
  return `${x >= 99.9 ? x.toFixed(2) : x >= 10 ? x.toFixed(1) : x.toPrecision(2)}%`;
}
export const number = (x, digits = 3) => (known(x) ? String(Number(x.toPrecision(digits))) : "n/a");
/** How much of the chances is gone where −ln of what is left is known, at least and at most: "93%", "90% to 93%". */
export function removedShare(low, high) {
  const [least, most] = [low, high].map((nats) => percent(-Math.expm1(-nats)));
  return least === most || number(low) === number(high) ? least : `${least} to ${most}`;
}
/** A similarity or a contribution as it is printed everywhere: three digits, a real minus. */
export const shown = (x) => (Number.isFinite(x) ? x.toFixed(3).replace("-", "−") : "n/a");
export const count = (x) => (known(x) ? Math.round(x).toLocaleString("en-US") : "n/a");
/** "1 token", "2 tokens". */
export const counted = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;
export function duration(ms) {
  if (!known(ms)) return "n/a";
  if (ms < 1) return `${Math.round(ms * 1000)} µs`;
  return ms < 1000 ? `${number(ms)} ms` : `${number(ms / 1000)} s`;
}

const CONTROLS = (
  "NUL SOH STX ETX EOT ENQ ACK BEL BS HT LF VT FF CR SO SI " +
  "DLE DC1 DC2 DC3 DC4 NAK SYN ETB CAN EM SUB ESC FS GS RS US"
).split(" ");
const NAMES = new Map(
  Object.entries({
    "\u007f": "DEL",
    "\u00a0": "NBSP",
    "\u00ad": "SHY",
    "\u034f": "CGJ",
    "\u061c": "ALM",
    "\u180e": "MVS",
    "\u200b": "ZWSP",
    "\u200c": "ZWNJ",
    "\u200d": "ZWJ",
    "\u200e": "LRM",
    "\u200f": "RLM",
    "\u2028": "LSEP",
    "\u2029": "PSEP",
    "\u202a": "LRE",
    "\u202b": "RLE",
    "\u202c": "PDF",
    "\u202d": "LRO",
    "\u202e": "RLO",
    "\u202f": "NNBSP",
    "\u2060": "WJ",
    "\u2066": "LRI",
    "\u2067": "RLI",
    "\u2068": "FSI",
    "\u2069": "PDI",
    "\u3000": "IDSP",
    "\ufeff": "BOM",
  }),
);
const EMOJI = "\\p{Extended_Pictographic}\\p{Emoji_Modifier}?\\ufe0f?";
const HIDDEN =
  "[\\p{Cc}\\p{Cf}\\p{Zs}\\p{Zl}\\p{Zp}\\p{Co}\\p{Cn}\\p{Cs}" +
  "\\u034f\\u115f\\u1160\\u17b4\\u17b5\\u3164\\uffa0\\ufe00-\\ufe0f\\u{e0100}-\\u{e01ef}]";
const SEEN = new RegExp(`(${EMOJI}(?:\\u200d${EMOJI})*)|(${HIDDEN})`, "gu");

function glyph(character) {
  if (character === " ") return { kind: "space", text: "·" };
  if (character === "\n") return { kind: "newline", text: "↵" };
  if (character === "\t") return { kind: "tab", text: "⇥" };
  const code = character.codePointAt(0);
  const name = CONTROLS[code] ?? NAMES.get(character) ?? `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
  return { kind: "hidden", text: name };
}

/** Text -> parts {kind, text}; kinds: text, space, newline, tab, hidden. */
export function visible(text) {
  const parts = [];
  const plain = (run) => {
    if (!run) return;
    const alone = parts.at(-1)?.kind !== "text" && /^[\p{M}\p{Emoji_Modifier}]/u.test(run);
    parts.push({ kind: "text", text: alone ? `◌${run}` : run });
  };
  let from = 0;
  for (const match of text.matchAll(SEEN)) {
    if (match[1]) continue;
    plain(text.slice(from, match.index));
    parts.push(glyph(match[2]));
    from = match.index + match[2].length;
  }
  plain(text.slice(from));
  return parts;
}

/** Text to read on: spaces stay spaces, with `lines` newlines stay newlines, the rest is seen. */
export const readable = (text, { lines = false } = {}) =>
  visible(text)
    .map((part) => (part.kind === "space" ? " " : lines && part.kind === "newline" ? "\n" : part.text))
    .join("");

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
/** Bytes of the character at `i`: its length, 0 when invalid, -1 when the end cuts it off. */
function characterAt(bytes, i) {
  const lead = bytes[i];
  const size =
    lead < 0x80
      ? 1
      : lead >= 0xc2 && lead < 0xe0
        ? 2
        : lead >= 0xe0 && lead < 0xf0
          ? 3
          : lead >= 0xf0 && lead < 0xf5
            ? 4
            : 0;
  for (let k = 1; k < size; k++) {
    if (i + k >= bytes.length) return -1;
    if ((bytes[i + k] & 0xc0) !== 0x80) return 0;
  }
  if (size < 2) return size;
  try {
    utf8.decode(bytes.subarray(i, i + size));
    return size;
  } catch {
    return 0;
  }
}

/** Bytes as the text that they are, for a file; what is no text as it is shown. */
export function textOf(bytes) {
  try {
    return utf8.decode(bytes);
  } catch {
    return plainParts(pieceCells([bytes]).cells[0]);
  }
}

const hex = (bytes) => [...bytes].map((b) => b.toString(16).toUpperCase().padStart(2, "0")).join(" ");

/**
 * Pieces (Uint8Array each) -> {cells, open}. A character that several pieces form together is
 * written in the first of them; each other one gets a part of kind "tick". Bytes that are no
 * character are kind "bytes". From piece `open` on, more pieces may still change the picture.
 */
export function pieceCells(pieces) {
  const owner = pieces.flatMap((piece, k) => Array(piece.length).fill(k));
  const bytes = Uint8Array.from(pieces.flatMap((piece) => [...piece]));
  const cells = pieces.map(() => []);
  let open = pieces.length;
  let text = "";
  let broken = [];
  const flush = (k) => {
    if (text) cells[k].push(...visible(text));
    if (broken.length) cells[k].push({ kind: "bytes", text: hex(broken) });
    text = "";
    broken = [];
  };
  let i = 0;
  while (i < bytes.length) {
    const size = characterAt(bytes, i);
    const mine = owner[i];
    if (size < 0) open = Math.min(open, mine);
    if (size > 0) {
      if (broken.length) flush(mine);
      text += utf8.decode(bytes.subarray(i, i + size));
    } else {
      if (text) flush(mine);
      broken.push(bytes[i]);
    }
    const next = i + Math.max(1, size);
    if (next >= bytes.length || owner[next] !== mine) {
      flush(mine);
      for (let k = i + 1; k < next; k++)
        if (owner[k] !== owner[k - 1]) cells[owner[k]].push({ kind: "tick", text: "‧" });
    }
    i = next;
  }
  return { cells, open };
}

/** Parts as one string, for labels and tables. */
export const plainParts = (parts) => parts.map((part) => part.text).join("");
