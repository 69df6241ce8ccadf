"""Which sessions a monitor is about."""

from __future__ import annotations

import weakref
from typing import Any, NamedTuple

from mullama_lab.counted import counted
from mullama_lab.engine.model import Model
from mullama_lab.engine.options import listed
from mullama_lab.engine.session import Session
from mullama_lab.engine.session.gauges import Gauges
from mullama_lab.glyphs import brief


class Watched(NamedTuple):
    """Which sessions are monitored; holds none of them.

    Attributes:
        gauges: of sessions that were named.
        models: whose sessions are monitored.
        everything: all sessions are.
    """

    gauges: tuple[Gauges, ...]
    models: tuple[weakref.ref[Model], ...]
    everything: bool
    label: str

    @classmethod
    def of(cls, on: object) -> Watched:
        if on is None:
            return cls((), (), True, "every session")
        one = isinstance(on, (Session, Model))
        named: list[Any] = [on] if one else listed("on", on, "Sessions and Models")
        if not named:
            raise ValueError("on=[]: there is nothing to monitor. None is every session.")
        gauges, models = [], []
        for each in named:
            if not isinstance(each, (Session, Model)):
                raise TypeError(f"on={brief(each)}: it must be a Session or a Model.")
            each.must_be_open()
            if isinstance(each, Model):
                models.append(weakref.ref(each))
            else:
                gauges.append(each.gauges)
        gauges, models = list(dict.fromkeys(gauges)), list(dict.fromkeys(models))
        kinds = ((len(gauges), "session"), (len(models), "model"))
        label = " and ".join(counted(n, kind) for n, kind in kinds if n)
        return cls(tuple(gauges), tuple(models), False, label)

    def wants(self, gauges: Gauges) -> bool:
        return self.everything or gauges.model in self.models or gauges in self.gauges

    def open_now(self) -> list[Gauges]:
        models = Model.opened() if self.everything else [ref() for ref in self.models]
        theirs = [
            session.gauges for model in models if model is not None for session in model.sessions
        ]
        return list(dict.fromkeys([*self.gauges, *theirs]))
