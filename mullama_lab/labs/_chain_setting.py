"""One setting of one stage, found again in other chains of the same stages."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from mullama_lab.engine.stages import Chain, Temperature


class ChainSetting(NamedTuple):
    """Which setting of a chain is meant: the place of its stage, and its name.

    >>> from mullama_lab.engine.stages import TopK
    >>> before, after = Chain([TopK(20), Temperature(0.9)]), Chain([TopK(5), Temperature(0.9)])
    >>> setting = ChainSetting.changed_between(before, after)
    >>> setting, setting.value_in(after)
    (ChainSetting(place=0, name='k'), 5.0)
    """

    place: int
    name: str

    @classmethod
    def changed_between(cls, before: Chain, after: Chain) -> ChainSetting | None:
        """The one setting in which chains of the same stages differ; None if it is not just one."""
        if list(map(type, before)) != list(map(type, after)):
            return None
        found = [
            cls(place, name)
            for place, (a, b) in enumerate(zip(before, after, strict=True))
            for name in a.settings()
            if getattr(a, name) != getattr(b, name)
        ]
        return found[0] if len(found) == 1 else None

    @classmethod
    def first_of(cls, chain: Chain) -> ChainSetting | None:
        """The temperature, or the first setting there is; None if there is none."""
        for place, stage in enumerate(chain):
            if isinstance(stage, Temperature):
                return cls(place, "t")
        return next(
            (cls(i, name) for i, stage in enumerate(chain) for name in stage.settings()), None
        )

    def is_in_both(self, one: Chain, other: Chain) -> bool:
        """Whether both chains have the same kind of stage in its place."""
        place = self.place
        return place < min(len(one), len(other)) and type(one[place]) is type(other[place])

    def value_in(self, chain: Chain) -> float:
        """Its value there."""
        return float(getattr(chain[self.place], self.name))

    def copied(self, source: Chain, target: Chain) -> Chain:
        """The target with this one setting as the source has it, if both have such a stage."""
        if not self.is_in_both(source, target):
            return target
        stages = list(target)
        value = getattr(source[self.place], self.name)
        stages[self.place] = replace(stages[self.place], **{self.name: value})
        return Chain(stages)
