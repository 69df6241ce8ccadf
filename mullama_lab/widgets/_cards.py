"""The cards of a chain editor: stages that can be switched off, moved and edited.

Values only; no widget and no lock. A number of a stage is edited as a number, a list (biases,
token ids, breakers) as a short text whose syntax stands in `TEXTS`. What a stage accepts is
decided by the stage alone: the messages shown in a card are those of its constructor.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mullama_lab.engine.stages import Chain, Custom, Stage
from mullama_lab.engine.stages.catalogue import catalogue
from mullama_lab.glyphs import brief

MAX_CARDS = 32
MAX_TEXT = 1000  # characters of a list that is edited as text; a longer one is shown, not edited
MAX_IDS = 4096


@dataclass(frozen=True)
class Card:
    """A stage in the editor: `key` names it for good, `on` says whether it is in the chain."""

    key: str
    stage: Stage
    on: bool = True


@dataclass(frozen=True)
class TextRule:
    """How a list is written as one line of text, and read back."""

    label: str
    syntax: str
    read: Callable[[str], Any]
    write: Callable[[Any], str]


def _read_ids(text: str) -> list[int]:
    ids: list[int] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = re.fullmatch(r"(\d{1,10})(?:\s*-\s*(\d{1,10}))?", part)
        if match is None:
            raise ValueError(f"{part!r} is not a token id. Write ids such as 12, 15, 100-120.")
        first, last = int(match[1]), int(match[2] or match[1])
        if not 0 <= last - first < MAX_IDS - len(ids):
            raise ValueError(
                f"{part!r} must go up and name at most {MAX_IDS} ids in all. "
                "Give longer lists from Python."
            )
        ids.extend(range(first, last + 1))
    return ids


def _write_ids(ids: Iterable[int] | None) -> str:
    spans: list[list[int]] = []
    for token in ids or ():
        if spans and token == spans[-1][1] + 1:
            spans[-1][1] = token
        else:
            spans.append([token, token])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)


def _read_biases(text: str) -> dict[int, float]:
    biases: dict[int, float] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = re.fullmatch(r"(\d{1,10})\s*:\s*([-+]?(?:inf|\d*\.?\d+(?:e[-+]?\d+)?))", part, re.I)
        if match is None:
            raise ValueError(
                f"{part!r} is not a bias. Write token: bias, as in 262: -1.5, 198: -inf."
            )
        biases[int(match[1])] = float(match[2])
    return biases


def _write_biases(biases: Iterable[tuple[int, float]]) -> str:
    return ", ".join(f"{t}: {b:.6g}" if math.isfinite(b) else f"{t}: -inf" for t, b in biases)


def _read_strings(text: str) -> list[str]:
    try:
        strings = json.loads(f"[{text}]")
    except ValueError:
        strings = None
    if strings is None or not all(isinstance(s, str) for s in strings):
        raise ValueError(
            f"{brief(text)} is not a list of quoted texts. Write them with commas, "
            'as in "\\n", ":".'
        )
    return strings


def _write_strings(strings: Iterable[str]) -> str:
    return ", ".join(json.dumps(s, ensure_ascii=False) for s in strings)


TEXTS: dict[str, dict[str, TextRule]] = {
    "LogitBias": {
        "biases": TextRule(
            "biases", "token id: bias, separated by commas; 262: -1.5, 198: -inf bans 198",
            _read_biases, _write_biases,
        )
    },
    "Mask": {
        "allow": TextRule(
            "allow", "token ids, as in 12, 15, 100-120; empty allows all",
            lambda text: _read_ids(text) or None, _write_ids,
        ),
        "ban": TextRule(
            "ban", "token ids, as in 12, 15, 100-120; empty bans none", _read_ids, _write_ids
        ),
    },
    "Ban": {
        "words": TextRule(
            "words", 'quoted words and phrases, as in "delve", "a testament to"',
            _read_strings, _write_strings,
        )
    },
    "DRY": {
        "breakers": TextRule(
            "breakers", 'quoted texts that end a phrase, as in "\\n", ":"',
            _read_strings, _write_strings,
        )
    },
}  # fmt: skip


def offered() -> list[dict[str, Any]]:
    """The catalogue as the editor's menu shows it, lists included."""
    menu = []
    for entry in catalogue():
        rules = TEXTS.get(entry["stage"], {})
        usual = fresh(entry["stage"])
        texts = [
            {"name": n, "label": r.label, "syntax": r.syntax, "usual": r.write(getattr(usual, n))}
            for n, r in rules.items()
        ]
        entry = {k: v for k, v in entry.items() if k != "source"}
        menu.append(entry | {"texts": texts})
    return menu


def describe(card: Card) -> dict[str, Any]:
    """What a view needs to draw a card."""
    stage = card.stage
    values = {name: getattr(stage, name) for name in stage.settings()}
    texts: dict[str, str | None] = {}
    for name, rule in TEXTS.get(type(stage).__name__, {}).items():
        text = rule.write(getattr(stage, name))
        texts[name] = text if len(text) <= MAX_TEXT else None
    code = repr(stage)
    return {
        "key": card.key,
        "stage": type(stage).__name__,
        "on": card.on,
        "custom": isinstance(stage, Custom),
        "values": values,
        "texts": texts,
        "inert": stage.why_inert(),
        "code": code if len(code) <= 120 else code[:119] + "…",
    }


def edited(stage: Stage, settings: Mapping[str, Any]) -> Stage:
    """The stage with some settings changed; a list may be given as its text.

    Raises:
        ValueError, TypeError: what the stage's own constructor says, or an unknown setting.
    """
    name = type(stage).__name__
    if isinstance(stage, Custom):
        raise ValueError(f"{stage!r} is a Python function: change it in Python, not in its card")
    known = [f.name for f in dataclasses.fields(stage)]
    rules = TEXTS.get(name, {})
    values = {}
    for key, value in settings.items():
        if key not in known:
            raise ValueError(f"{name} has no setting {key!r}; it has {', '.join(known) or 'none'}")
        if isinstance(value, str) and key in rules:
            value = rules[key].read(value)
        values[key] = value
    kept = {key: getattr(stage, key) for key in known}
    return type(stage)(**(kept | values))


def fresh(name: object) -> Stage:
    """The stage of that name at its default values, for the menu."""
    entries = {entry["stage"]: entry for entry in catalogue()}
    if not isinstance(name, str) or name not in entries:
        raise ValueError(f"unknown stage {name!r}; known are {', '.join(sorted(entries))}")
    return Stage.from_dict({"stage": name})


def chain_of(cards: Iterable[Card]) -> Chain:
    """The chain that the cards switched on make, in their order."""
    return Chain(card.stage for card in cards if card.on)


def chain_code(chain: Chain) -> str:
    """The chain as Python under the name `ml`."""
    stages = [f"ml.{stage!r}" for stage in chain]
    return " | ".join(stages) if len(stages) > 1 else f"ml.Chain([{', '.join(stages)}])"
