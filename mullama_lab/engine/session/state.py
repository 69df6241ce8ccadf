"""What a saved session holds, as arrays and plain values, and whether it fits.

Writing and reading the file is the business of `sealed_file.py`; here is what stands in it. What
comes from a file is checked as if a stranger had written it: a right checksum says only that
nothing happened to the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.cache.cuts import Provenance
from mullama_lab.engine.cache.sequences import Held
from mullama_lab.engine.native.state import STATE_VERSION
from mullama_lab.engine.options import flag, instance, kv_types, whole
from mullama_lab.engine.steering import file as steering_file
from mullama_lab.engine.steering.steering import Steering
from mullama_lab.engine.text import Text
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.tree import Tree
from mullama_lab.errors import SessionFileError, SessionMismatch
from mullama_lab.glyphs import brief

KIND, FORMAT = "mullama_lab session", 1
TOKENS = "tokens."  # and the id of the sequence
SETTINGS = {
    "n_ctx": int,
    "n_batch": int,
    "n_ubatch": int,
    "n_threads": int,
    "n_seq_max": int,
    "flash_attention": str,
    "kv_type": list,
    "kv_unified": bool,
    "reproducible": bool,
}
NEWER = {"reproducible": False}  # settings that older files do not name
ANY_VALUE = ("n_batch", "n_ubatch", "n_threads")  # settings that the cache does not depend on
AT_LEAST = ("n_ctx", "n_seq_max")  # settings that may grow

Arrays = Mapping[str, NDArray[Any]]


@dataclass(slots=True)
class Contents:
    """What is saved of a session."""

    model: Mapping[str, Any]  # its fingerprint, and how it is called
    settings: Mapping[str, Any]
    state: NDArray[np.uint8]
    held: Mapping[int, Held]
    trace: Trace | None = None
    tree: Tree | None = None
    steering: Steering = field(default_factory=Steering)  # in force
    left_out: str = ""
    state_version: int = field(default=STATE_VERSION)

    def packed(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Arrays and plain values, for a file."""
        arrays: dict[str, NDArray[Any]] = {"state": self.state}
        for sequence, held in self.held.items():
            arrays[f"{TOKENS}{sequence}"] = np.array(held.text.tokens, np.int32)
        known = steering_file.known_of([self.steering])  # and in force in the two below
        for name, thing in (("trace", self.trace), ("tree", self.tree)):
            if thing is not None:
                plain = thing.to_dict()
                known = steering_file.merged(known, plain.pop("steering"))
                arrays[name] = _bytes(plain)
        arrays["steering"] = _bytes(known)
        about = {
            "kind": KIND,
            "format": FORMAT,
            "state_version": self.state_version,
            "model": dict(self.model),
            "settings": dict(self.settings),
            "sequences": {str(s): _plain(held) for s, held in self.held.items()},
            "in_force": steering_file.packed(self.steering),
            "left_out": self.left_out,
        }
        return arrays, about


def unpacked(name: str, arrays: Arrays, about: Mapping[str, Any]) -> Contents:
    """What `packed` gave.

    Raises:
        SessionFileError: it is not of that form.
        SessionMismatch: it is of another version.
    """
    if about.get("kind") != KIND:
        raise SessionFileError(f"{name} holds no session. Give a file that session.save wrote.")
    for key, ours in (("format", FORMAT), ("state_version", STATE_VERSION)):
        if about.get(key) != ours:
            raise SessionMismatch(
                f"{name} was saved with {key} {about.get(key)!r:.20}, and this installation has "
                f"{ours}. Load it with the version of mullama_lab and llama.cpp that saved it."
            )
    try:
        state = _typed(arrays["state"], np.uint8)
        held = {whole("a sequence", int(s), 0, 255): _held(arrays, s, plain)
                for s, plain in about["sequences"].items()}  # fmt: skip
        known = _json(arrays, "steering") or {}
        trace, tree = (_with(known, _json(arrays, name)) for name in ("trace", "tree"))
        return Contents(
            model=dict(about["model"]),
            settings=_settings(about["settings"]),
            state=state,
            held={0: Held(), **held},
            trace=None if trace is None else Trace.from_dict(trace),
            tree=None if tree is None else Tree.from_dict(tree),
            steering=steering_file.unpacked(about.get("in_force", {}), known),
            left_out=str(about["left_out"]),
        )
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        said = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise SessionFileError(
            f"{name} has a right checksum but is not what a session saves: {said}. "
            "It was made by another program; save the session again."
        ) from error


def _plain(held: Held) -> dict[str, Any]:
    return {
        "spans": held.spans,
        "is_mine": held.extends_last_span,
        "kept": held.kept,
        "epoch": held.text.epoch,
        "segments": [(len(part.tokens), part.generated) for part in held.text.segments],
        "prompt_end": held.provenance.prompt_end,
        "n_canonical": held.provenance.n_canonical,
    }


def _held(arrays: Arrays, sequence: str, plain: Mapping[str, Any]) -> Held:
    tokens = _typed(arrays[TOKENS + sequence], np.int32).tolist()
    spans = [
        (whole("a span", number, 0, 1 << 62), whole("its length", n, 1, 1 << 31))
        for number, n in plain["spans"]
    ]
    if sum(n for _, n in spans) != len(tokens):
        raise ValueError(f"the cells of sequence {sequence} are not as many as its tokens")
    text, rest = Text(epoch=instance("epoch", plain.get("epoch", ""), str)), tokens
    for n, generated in plain.get("segments", [(len(tokens), False)] if tokens else []):
        n = whole("a segment", n, 1, len(rest))
        text.extend(rest[:n], generated=bool(generated))
        rest = rest[n:]
    if rest:
        raise ValueError(f"the segments of sequence {sequence} are not as long as its tokens")
    provenance = Provenance(
        whole("prompt_end", plain.get("prompt_end", 0), 0, 1 << 31),
        whole("n_canonical", plain.get("n_canonical", 0), 0, len(tokens)),
    )
    return Held(
        text, provenance, spans, bool(plain["is_mine"]) and bool(spans), bool(plain["kept"])
    )


def _settings(plain: Mapping[str, Any]) -> dict[str, Any]:
    settings = {**NEWER, **plain}
    if {key: type(value) for key, value in settings.items()} != SETTINGS:
        raise ValueError(f"its settings are {dict(plain)!r:.200}")
    return settings


def _typed(array: NDArray[Any], kind: type[np.generic]) -> NDArray[Any]:
    if array.dtype != kind or array.ndim != 1:
        raise ValueError(f"an array is {array.dtype} of {array.ndim} dimensions")
    return array


def _bytes(plain: Mapping[str, Any]) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(plain).encode(), np.uint8)


def _with(known: Mapping[str, Any], plain: Any) -> Any:
    """A trace or a tree, which an older file wrote with what was in force in it."""
    return {"steering": known, **plain} if plain is not None else None


def _json(arrays: Arrays, name: str) -> Any:
    return json.loads(arrays[name].tobytes()) if name in arrays else None


# Whether it fits.


def must_be_of(name: str, saved: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Refuse what was saved with another model; the message names what differs."""
    differs = [
        what
        for key, what in (
            ("size_bytes", "the size of its file"),
            ("header", "its metadata, vocabulary or tensors"),
            ("weights", "its weights"),
        )
        if saved.get(key) != ours[key]
    ]
    if differs:
        raise SessionMismatch(
            f"{name} was saved with another model than {ours['name']}, which differs in "
            f"{_listed(differs)}. It was saved with "
            f"{saved.get('name')!s:.80} ({saved.get('file')!s:.80}, "
            f"{saved.get('size_bytes')!s:.20} bytes); load that one."
        )


def settings_for(name: str, saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The settings to open the session with: those saved, or those wanted where that can be."""
    bad = []
    grows = AT_LEAST if saved["kv_unified"] else AT_LEAST[:1]  # else each has a buffer of its own
    for key, value in wanted.items():
        if key not in saved:
            raise TypeError(f"{key} is no setting of a session. There are {', '.join(saved)}.")
        was = saved[key]
        if value is None or key in ANY_VALUE:
            continue
        if isinstance(was, bool):
            value = flag(key, value)
        elif isinstance(was, int):
            value = whole(key, value, 1, 1 << 24)
        elif isinstance(was, str) and not isinstance(value, str):
            raise TypeError(f"{key}={brief(value)}: it must be a text such as {was!r}.")
        if key in grows and isinstance(value, int) and isinstance(was, int):
            if value < was:
                bad.append(f"{key}={brief(value)} is less than the {was!r} it was saved with")
        elif _same(key, value) != was:
            bad.append(f"{key}={brief(value)} is not the {was!r} it was saved with")
    if bad:
        raise SessionMismatch(
            f"{name} does not fit these settings: {'; '.join(bad)}. "
            "Leave them out: a session opens as it was saved."
        )
    here = {key: value for key, value in saved.items() if key != "n_threads"}  # of that machine
    return here | {key: value for key, value in wanted.items() if value is not None}


def _same(key: str, value: Any) -> Any:
    """A setting as it is saved."""
    return list(kv_types(value)) if key == "kv_type" else value


def _listed(what: Iterable[str]) -> str:
    *first, last = what
    return f"{', '.join(first)} and {last}" if first else last
