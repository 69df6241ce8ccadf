/** What a picker says of a model, and of how far its loading is. */
import { count, counted } from "./shared/text.js";

/** 98362432 -> "98 MB"; from a thousand on "4.2 GB". */
export const sizeText = (bytes) => (bytes < 1e9 ? `${Math.round(bytes / 1e6)} MB` : `${(bytes / 1e9).toFixed(1)} GB`);

const runs = ({ runs = 0 }) => counted(runs, "run");

/** A session goes by its number below its model. */
export const nameOf = ({ kind, name, number }) => (kind === "session" ? `session ${number}` : name);

/** The columns of a row after its name: what it is, how large, where it is, under which licence. */
export function facts(row) {
  if (row.kind === "session") {
    const room = `holds ${count(row.tokens)} of ${count(row.n_ctx)} tokens`;
    return [row.text ? `${room}: ${row.text}` : room, "", row.at_work ? `at work here, ${runs(row)}` : "share it", ""];
  }
  const places = { model: "new session", before: "load it again" };
  const loaded = row.open ? "open above; load it again" : "on this disk";
  const where = places[row.kind] ?? (row.cached ? loaded : "to be fetched");
  const kept = row.runs && !row.same ? `, ${runs(row)} kept` : "";
  return [row.what, sizeText(row.size), where + kept, row.licence ?? ""];
}

/** What becomes of the runs at work once another row, or what is typed (""), is opened; "" where nothing does. */
export function promise(rows, choice) {
  const here = rows.find((row) => row.at_work);
  const next = rows.find((row) => row.key === choice) ?? {};
  if (!here || next.at_work) return "";
  const along = "Prompt, chain and seed go along.";
  if (next.same) return here.runs ? `The ${runs(here)} here go along: it is the same model.` : "";
  const what = `The tree here, of ${runs(here)},`;
  const stay = here.runs && `${what} is kept with ${here.name}, and shown again once you open that again.`;
  const back = next.runs && `${runs(next)} with ${next.name} will be shown again.`;
  return [stay, back, along].filter(Boolean).join(" ");
}

/** How far it is, in words; "" where nothing is going on. */
export function stateText(state, [done, total], what) {
  const words = {
    fetching: total ? `Fetching ${what}: ${sizeText(done)} of ${sizeText(total)}` : `Opening ${what}…`,
    loading: `Loading ${what}: ${Math.round((100 * done) / (total || 1))}%`,
    opening: `Opening a session on ${what}…`,
    stopping: "Stopping…",
    stopped: "Stopped: nothing was opened.",
    failed: `${what} was not opened.`,
    open: `${what} is open.`,
  };
  return words[state] ?? "";
}

/** A whole number as it was typed, 0 for nothing; what is no number goes to the kernel as it is. */
export const typedWhole = (text) =>
  text.trim() === "" ? 0 : /^\s*-?\d{1,12}\s*$/.test(text) ? Number(text) : text.slice(0, 40);

/** Why a setting has no effect on a choice; "" where it has. */
export function inert(setting, kind) {
  if (kind === "session") return "The session is open: it keeps what it was opened with.";
  return kind === "model" && setting === "n_gpu_layers" ? "The model is loaded: its layers stay where they are." : "";
}
