"""Stages and chains: what turns a row of logits into the next token.

    from mullama_lab.engine import stages as s

    chain = s.TopK(40) | s.Temperature(0.8)

A stage is whole in one class: its settings, its sampler, and all that the rest asks about it; a
module holds a family of them. `chain_sampler.py` puts a chain to work, for a generation and for
a preview alike; `moment.py` does where only a part of the row was kept.

Names, defaults and meanings are llama.cpp's. All but `TailFree`, `Mask`, `Ban`, `Constrain` and
`Custom` are carried out by llama.cpp's own sampler of that name: llama.cpp dropped tail-free
sampling, has no sampler for a mask, for words or for Python, and a slow one for grammars.
"""

from __future__ import annotations

from mullama_lab.engine.stages.ban import Ban
from mullama_lab.engine.stages.chain import Chain as Chain
from mullama_lab.engine.stages.constrain import Constrain
from mullama_lab.engine.stages.custom import Custom
from mullama_lab.engine.stages.cutting import (
    XTC,
    Greedy,
    MinP,
    TailFree,
    TopK,
    TopNSigma,
    TopP,
    Typical,
)
from mullama_lab.engine.stages.learning import AdaptiveP, Mirostat, MirostatV2
from mullama_lab.engine.stages.penalties import DRY, Penalties
from mullama_lab.engine.stages.setting import NumberRule as NumberRule
from mullama_lab.engine.stages.shaping import DynamicTemperature, Temperature
from mullama_lab.engine.stages.stage import Stage as Stage
from mullama_lab.engine.stages.stage_sampler import State as State
from mullama_lab.engine.stages.tokens import Infill, LogitBias, Mask

__all__ = [
    "DRY",
    "STAGES",
    "XTC",
    "AdaptiveP",
    "Ban",
    "Chain",
    "Constrain",
    "Custom",
    "DynamicTemperature",
    "Greedy",
    "Infill",
    "LogitBias",
    "Mask",
    "MinP",
    "Mirostat",
    "MirostatV2",
    "NumberRule",
    "Penalties",
    "Stage",
    "State",
    "TailFree",
    "Temperature",
    "TopK",
    "TopNSigma",
    "TopP",
    "Typical",
    "every_kind",
]
__dir__ = __all__.copy  # what tab completion offers

# In the order of an editor's menu.
STAGES: tuple[type[Stage], ...] = (
    Temperature, TopK, TopP, MinP, Typical, TopNSigma, XTC, Penalties, DRY, DynamicTemperature,
    Mirostat, MirostatV2, AdaptiveP, TailFree, LogitBias, Mask, Ban, Constrain, Infill, Greedy,
    Custom,
)  # fmt: skip


def every_kind() -> list[type[Stage]]:
    """Every kind of stage: those of `STAGES`, then any that was defined since."""
    return list(dict.fromkeys([*STAGES, *Stage.kinds.values()]))
