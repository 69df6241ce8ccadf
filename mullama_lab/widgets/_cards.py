"""The cards of a chain editor: stages that can be switched off, moved and edited.

Values only; no widget and no lock. A number of a stage is edited as a number, a list (biases,
token ids, breakers) as a short text whose syntax the stage gives (`Stage.lists`). What a stage
accepts is decided by the stage alone: the messages in a card are those of its constructor.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mullama_lab.engine.stages import Chain, Stage
from mullama_lab.engine.stages.catalogue import catalogue

MAX_CARDS = 32
MAX_TEXT = 1000  # characters of a list that is edited as text; a longer one is shown, not edited


@dataclass(frozen=True)
class Card:
    """A stage in the editor: `key` names it for good, `on` says whether it is in the chain."""

    key: str
    stage: Stage
    on: bool = True


def offered() -> list[dict[str, Any]]:
    """The catalogue as the editor's menu shows it, lists included."""
    menu = []
    for entry in catalogue():
        usual = fresh(entry["stage"])
        texts = [
            {"name": n, "label": n, "syntax": rule.syntax, "usual": rule.write(getattr(usual, n))}
            for n, rule in usual.lists().items()
        ]
        entry = {k: v for k, v in entry.items() if k != "source"}
        menu.append(entry | {"texts": texts})
    return menu


def describe(card: Card) -> dict[str, Any]:
    """What a view needs to draw a card."""
    stage = card.stage
    values = {name: getattr(stage, name) for name in stage.settings()}
    texts: dict[str, str | None] = {}
    for name, rule in stage.lists().items():
        text = rule.write(getattr(stage, name))
        texts[name] = text if len(text) <= MAX_TEXT else None
    code = repr(stage)
    return {
        "key": card.key,
        "stage": type(stage).__name__,
        "on": card.on,
        "custom": stage.holds_code,
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
    if stage.holds_code:
        raise ValueError(f"{stage!r} is a Python function: change it in Python, not in its card")
    known = [f.name for f in dataclasses.fields(stage)]
    rules = stage.lists()
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
