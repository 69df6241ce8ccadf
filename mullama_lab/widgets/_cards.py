"""The cards of a chain editor: stages that can be switched off, moved and edited.

Values only; no widget and no lock. A number of a stage is edited as a number, what is none (biases,
token ids, a grammar) as a text whose syntax the stage gives (`Stage.texts`). What a stage
accepts is decided by the stage alone: the messages in a card are those of its constructor.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mullama_lab.engine.stages import Chain, Stage
from mullama_lab.engine.stages.catalogue import catalogue, is_set_in_python
from mullama_lab.engine.stages.named_tokens import Spelling, each_token, said_of_tokens
from mullama_lab.engine.stages.setting import TextRule

if TYPE_CHECKING:
    from mullama_lab.engine.stages.preview import Preview

MAX_CARDS = 32


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
            {
                "name": n,
                "label": n,
                "syntax": rule.syntax,
                "usual": rule.write(getattr(usual, n)),
                "longest": rule.longest,
                "lines": rule.lines,
            }
            for n, rule in usual.texts().items()
        ]
        entry = {k: v for k, v in entry.items() if k != "source"}
        menu.append(entry | {"texts": texts})
    return menu


def describe(card: Card, spell: Spelling | None = None) -> dict[str, Any]:
    """What a view needs to draw a card; the tokens that it names are said if they can be spelt."""
    stage = card.stage
    values = {name: getattr(stage, name) for name in stage.settings()}
    texts: dict[str, str | None] = {}
    for name, rule in stage.texts().items():
        text = rule.write(getattr(stage, name))
        texts[name] = text if text is not None and len(text) <= rule.longest else None
    code = repr(stage)
    return {
        "key": card.key,
        "stage": type(stage).__name__,
        "on": card.on,
        "custom": is_set_in_python(type(stage)),
        "values": values,
        "texts": texts,
        "inert": stage.why_inert(),
        "tokens": "" if spell is None else said_of_tokens(stage, spell),
        "each_token": "" if spell is None else each_token(stage, spell),
        "code": code if len(code) <= 120 else code[:119] + "…",
    }


def edited(stage: Stage, settings: Mapping[str, Any]) -> Stage:
    """The stage with some settings changed; a list may be given as its text.

    Raises:
        ValueError, TypeError: what the stage's own constructor says, or an unknown setting.
    """
    name = type(stage).__name__
    if is_set_in_python(type(stage)):
        raise ValueError(f"{stage.in_brief()} is set in Python, not in its card")
    known = [f.name for f in dataclasses.fields(stage)]
    rules = stage.texts()
    values = {}
    for key, value in settings.items():
        if key not in known:
            raise ValueError(f"{name} has no setting {key!r}; it has {', '.join(known) or 'none'}")
        if isinstance(value, str) and key in rules:
            value = _read(value, rules[key])
        values[key] = value
    kept = {key: getattr(stage, key) for key in known}
    return type(stage)(**(kept | values))


def _read(text: str, rule: TextRule) -> Any:
    if len(text) > rule.longest:
        raise ValueError(f"a text of {len(text)} characters; at most {rule.longest} can be edited")
    return rule.read(text)


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
    stages = [stage.to_code() for stage in chain]
    return " | ".join(stages) if len(stages) > 1 else f"ml.Chain([{', '.join(stages)}])"


def what_stages_did(preview: Preview) -> list[str]:
    """What each stage of a Preview did, as its card says it."""
    texts = []
    before = preview.before
    for after in preview.stages:
        if after.n_kept < before.n_kept:
            removed = _shortly(max(0.0, float(after.removed_mass)))
            texts.append(f"keeps {after.n_kept:,} · removes {removed}")
        elif after.changed:
            texts.append(f"entropy {before.entropy:.2f} to {after.entropy:.2f}")
        else:
            texts.append("changes nothing here")
        before = after
    return texts


def _shortly(p: float) -> str:
    """A probability as the heads of the next token's table write it."""
    x = 100 * p
    if x in (0, 100):
        return f"{x:g}%"
    if not 0.001 <= x <= 99.99:
        return "<0.001%" if x < 0.001 else ">99.99%"
    if 10 <= x < 99:
        return f"{math.floor(x + 0.5)}%"
    digits = f"{x:.2f}" if x >= 99.9 else f"{x:.1f}" if x >= 10 else f"{x:#.2g}".rstrip(".")
    return f"{digits}%"
