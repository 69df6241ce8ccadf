"""One setting of one stage, found again in other chains, whatever their order."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from mullama_lab.engine.stages import Chain, Stage, Temperature
from mullama_lab.engine.stages.schedule import StageName, names_of


class ChainSetting(NamedTuple):
    """Which setting of a chain is meant: the kind of its stage, how many are before it, its name.

    >>> from mullama_lab.engine.stages import TopK
    >>> before, after = Chain([TopK(20), Temperature(0.9)]), Chain([TopK(5), Temperature(0.9)])
    >>> setting = ChainSetting.changed_between(before, after)
    >>> setting.label, setting.value_in(after), setting.value_in(Chain([Temperature(1), TopK(7)]))
    ('TopK k', 5.0, 7.0)
    """

    stage: StageName
    name: str

    @classmethod
    def changed_between(cls, before: Chain, after: Chain) -> ChainSetting | None:
        """The one setting in which chains of the same stages differ; None if it is not just one."""
        found = cls.changed(before, after) if names_of(before) == names_of(after) else []
        return found[0] if len(found) == 1 else None

    @classmethod
    def changed(cls, before: Chain, after: Chain) -> list[ChainSetting]:
        """The settings that two chains have both, but not of one value."""
        there = set(cls.all_of(after))
        both = [setting for setting in cls.all_of(before) if setting in there]
        return [one for one in both if one.value_in(before) != one.value_in(after)]

    @classmethod
    def all_of(cls, chain: Chain) -> list[ChainSetting]:
        """Every setting of a chain that is a number, in its order."""
        return [cls(stage, name) for stage in names_of(chain) for name in stage.kind.settings()]

    @classmethod
    def first_of(cls, chain: Chain) -> ChainSetting | None:
        """The temperature, or the first setting there is; None if there is none."""
        there = cls.all_of(chain)
        at_best = [setting for setting in there if setting.stage.kind is Temperature]
        return next(iter(at_best or there), None)

    @property
    def label(self) -> str:
        """Its name with its stage's, as a person reads it."""
        return f"{self.stage.kind.__name__} {self.name}"

    @property
    def named(self) -> str:
        """The same in words; a stage of one number, as most are, is named alone."""
        kind, rule = self.stage.kind, self.stage.kind.settings()[self.name]
        is_all = kind._positional == (self.name,)
        return kind.label if is_all else f"{kind.label} {rule.label or self.name.replace('_', ' ')}"

    def stage_in(self, chain: Chain) -> Stage | None:
        """The stage that has it there; None if there is no such stage."""
        place = self.stage.place_in(chain)
        return None if place is None else chain[place]

    def value_in(self, chain: Chain) -> float | None:
        """Its value there; None if there is no such stage."""
        stage = self.stage_in(chain)
        return None if stage is None else float(getattr(stage, self.name))

    def copied(self, source: Chain, target: Chain) -> Chain:
        """The target with this one setting as the source has it, if both have such a stage."""
        theirs, ours = self.stage_in(source), self.stage_in(target)
        if theirs is None or ours is None:
            return target
        return self.stage.put(replace(ours, **{self.name: getattr(theirs, self.name)}), target)
