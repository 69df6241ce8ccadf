"""What two chains do not have in common, in words."""

from __future__ import annotations

from dataclasses import fields

from mullama_lab.engine.stages.chain import Chain
from mullama_lab.engine.stages.chain_setting import ChainSetting
from mullama_lab.engine.stages.named_tokens import Spelling, said_of_tokens
from mullama_lab.engine.stages.schedule import names_of
from mullama_lab.engine.stages.stage import Stage


def between_chains(before: Chain, after: Chain, spell: Spelling) -> list[str]:
    """What two chains do not have in common; stages without effect in both do not count.

    >>> from mullama_lab.engine.stages import MinP, Penalties, Temperature, TopK
    >>> before = TopK(40) | Penalties(repeat=1.1) | Temperature(0.8)
    >>> between_chains(before, MinP(0.05) | Penalties(repeat=1.2) | Temperature(1.2), bytes)
    ['Penalties repeat 1.1 → 1.2', 'Temperature 0.8 → 1.2', 'without Top-k 40', 'with Min-p 0.05']
    """
    before, after = _acting(before, after), _acting(after, before)
    names, others = names_of(before), names_of(after)
    common = [name for name in names if name in others]
    found = [
        f"{setting.named} {setting.value_in(before):g} → {setting.value_in(after):g}"
        for setting in ChainSetting.changed(before, after)
    ]
    for name in common:
        a, b = (chain[name.place_in(chain) or 0] for chain in (before, after))
        found += _other_texts(a, b)
    lost = [stage for stage, name in zip(before, names) if name not in others]
    new = [stage for stage, name in zip(after, others) if name not in names]
    found += [f"without {_in_words(stage, spell)}" for stage in lost]
    found += [f"with {_in_words(stage, spell)}" for stage in new]
    if common != [name for name in others if name in names]:
        found.append("the stages in another order")
    return found


def _acting(chain: Chain, other: Chain) -> Chain:
    """Without the stages that have no effect here and none in the other chain."""
    acts = {
        name for one in (chain, other) for name, stage in zip(names_of(one), one) if _acts(stage)
    }
    return Chain(stage for name, stage in zip(names_of(chain), chain) if name in acts)


def _acts(stage: Stage) -> bool:
    return not stage.why_inert()


def _other_texts(a: Stage, b: Stage) -> list[str]:
    """What two stages of one kind do not share that is no number, such as a list of tokens."""
    kind = "grammar" if a.masks_rows else a.label
    names = [field.name for field in fields(a) if field.name not in a.settings()]
    others = [name for name in names if getattr(a, name) != getattr(b, name)]
    main = a._positional or ([] if a.settings() else list(a.texts()))
    return [f"another {kind}" if name in main else f"other {kind} {name}" for name in others]


def _in_words(stage: Stage, spell: Spelling) -> str:
    """A stage that only one of two chains has."""
    if stage.masks_rows:
        return "a grammar"
    if tokens := said_of_tokens(stage, spell):
        return f"{stage.label} ({tokens})"
    return " ".join([stage.label, ", ".join(stage._arguments())]).strip()
