"""Setting: all that decides the next token, as one value."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from mullama_lab.engine.options import MAX_STEP, whole
from mullama_lab.engine.stages import Chain, Stage
from mullama_lab.engine.stages.difference import between_chains
from mullama_lab.engine.stages.named_tokens import Spelling
from mullama_lab.engine.stages.schedule import ChainOrSchedule, Schedule
from mullama_lab.engine.steering.control_vector import ControlVector
from mullama_lab.engine.steering.lora import LoraAdapter
from mullama_lab.engine.steering.steering import Steering, adapters_of, control_of
from mullama_lab.glyphs import brief, one_line, visible

# What may be given as the chain of one text, with what acts on the weights or without.
SettingOrChain: TypeAlias = "Setting | ChainOrSchedule"
Steerings: TypeAlias = list[tuple[int, Steering]]  # what acts on the weights, from which step on

_LOADED = re.compile(r"ControlVector\.(?:load|named)\((?:'([^']*)'|\"([^\"]*)\")\)")


@dataclass(frozen=True, init=False, eq=False, repr=False)
class Setting:
    """A chain, LoRA adapters with their scales, and a control vector: all that decides a token.

    Wherever a chain may be given a Setting may be, and then its weights compute that text alone.
    A chain by itself goes with what is in force in the session.

        warm = ml.Setting(ml.Temperature(0.8), adapters={style: 0.8}, control=0.5 * happy)
        session.generate("Once upon a time", warm)
        session.generate_many("Once upon a time", [warm, replace(warm, adapters={})], seeds=7)

    It is an immutable value that prints as code, and `dataclasses.replace` makes one that differs.
    Two are equal if they act alike: stages and adapters that do nothing do not count.

    Args:
        chain: a chain or a stage; None is llama.cpp's default chain.
        adapters: {LoraAdapter: scale}.
        control: a ControlVector; None is none.

    Raises:
        TypeError, ValueError: it is no chain, or as `session.adapters` and `session.control`.

    >>> from mullama_lab.engine.stages import MinP, Temperature, TopK
    >>> Setting(TopK(40) | Temperature(0.8))
    Setting(TopK(40) | Temperature(0.8))
    >>> Setting(TopK(40)).difference(Setting(TopK(20) | MinP(0.1)))
    ['Top-k 40 → 20', 'with Min-p 0.1']
    """

    chain: Chain
    adapters: Mapping[LoraAdapter, float]
    control: ControlVector | None

    def __init__(
        self,
        chain: Chain | Stage | Iterable[Stage] | None = None,
        adapters: Mapping[LoraAdapter, float] | None = None,
        control: ControlVector | None = None,
    ) -> None:
        vars(self).update(
            chain=Chain.of(chain),
            adapters=adapters_of({} if adapters is None else adapters),
            control=control_of(control),
        )

    @cached_property
    def steering(self) -> Steering:
        """What of it acts on the weights."""
        return Steering(self.adapters, self.control)

    def difference(self, other: Setting, spell: Spelling | None = None) -> list[str]:
        """What another one has otherwise, in words, from this one to it.

        Args:
            spell: gives the bytes of a token, such as `model.piece`; None is to name ids.
        """
        if not isinstance(other, Setting):
            raise TypeError(f"a Setting differs from another Setting, not from {brief(other)}.")
        chains = between_chains(self.chain, other.chain, spell or _by_its_id)
        return [*chains, *between_steerings(self.steering, other.steering)]

    def __eq__(self, other: object) -> bool:
        return self._acts == other._acts if isinstance(other, Setting) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._acts)

    @property
    def _acts(self) -> tuple[Any, ...]:
        return tuple(one for one in self.chain if not one.why_inert()), self.steering

    def __repr__(self) -> str:
        return f"Setting({', '.join([repr(self.chain), *self.steering.arguments])})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Setting, (self.chain, dict(self.adapters), self.control)


def planned(value: SettingOrChain, first: int = 0) -> tuple[Schedule, Steerings]:
    """The chains that a caller gives for one text, and what shall act on the weights.

    The second is empty where that is left to the session.

    Args:
        first: the first step that is drawn.

    Raises:
        ValueError, TypeError: as `Schedule.of`; or some steps have a Setting, and others a chain.
    """
    if isinstance(value, Setting):
        return Schedule.of(value.chain, first), [(first, value.steering)]
    if not isinstance(value, Mapping) or not _has_setting(value.values()):
        return Schedule.of(value, first), []
    by_step = {whole("a step", step, 0, MAX_STEP): one for step, one in value.items()}
    for step, one in by_step.items():
        if not isinstance(one, Setting):
            raise TypeError(
                f"step {step} has {brief(one)} where other steps have a Setting: it does not say "
                "what acts on the weights there. Give a Setting for each."
            )
    chains = Schedule.of({step: one.chain for step, one in by_step.items()}, first)
    steerings: Steerings = []
    for step, one in sorted(by_step.items()):
        if step <= first:
            steerings = [(first, one.steering)]
        elif steerings[-1][1] != one.steering:
            steerings.append((step, one.steering))
    return chains, steerings


def setting_or_chain(value: Any) -> Setting | Chain:
    """What a caller may pass for one chain, as a value; None is the default chain."""
    return value if isinstance(value, Setting) else Chain.of(value)


def chain_for_row(value: Any) -> Chain:
    """What a caller may pass as the chain for a row of logits that is there.

    Raises:
        TypeError: it is no chain; or a Setting, whose weights cannot compute that row any more.
    """
    if isinstance(value, Setting):
        raise TypeError(
            "the row is computed already, so the adapters and the vector of a Setting play no "
            "part: give its chain, setting.chain, and a row that was computed with them "
            "(session.steer(setting), then session.logits(prompt))."
        )
    return Chain.of(value)


def between_steerings(before: Steering, after: Steering) -> list[str]:
    """What acts on the weights otherwise, in words.

    >>> between_steerings(Steering(), Steering(control=ControlVector({1: [1.0]}, name="happy")))
    ['with control vector happy']
    """
    ours, theirs = dict(before.acting), dict(after.acting)
    both = [adapter for adapter in ours if adapter in theirs and ours[adapter] != theirs[adapter]]
    found = [f"adapter {_stem(one.path)} {ours[one]:g} → {theirs[one]:g}" for one in both]
    found += [f"without adapter {_stem(one.path)}" for one in ours if one not in theirs]
    found += [
        f"with adapter {_stem(one.path)} {theirs[one]:g}" for one in theirs if one not in ours
    ]
    a, b = before.acts, after.acts
    if a == b:
        return found
    if a is None or b is None:
        return [*found, f"with{'out' if b is None else ''} control vector {_called(a or b)}"]
    was, now = _called(a), _called(b)
    said = "another control vector" if was == now else f"control vector {was} → {now}"
    return [*found, said]


def _called(vector: ControlVector | None) -> str:
    """A vector's code with the names of its files, or its own name."""
    code = repr(vector)
    if code.startswith("<"):
        return one_line(visible(vector.name if vector else "")) or "without a name"
    return _LOADED.sub(lambda found: _stem(Path(found[1] or found[2])), code)


def _stem(path: Path) -> str:
    return one_line(visible(path.stem))


def _by_its_id(token: int) -> bytes:
    return b"<%d>" % token


def _has_setting(values: Iterable[object]) -> bool:
    return any(isinstance(one, Setting) for one in values)
