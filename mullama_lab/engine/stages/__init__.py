"""Stages and chains: what turns a row of logits into the next token.

from mullama_lab.engine import stages as s

chain = s.TopK(40) | s.Temperature(0.8)
"""

from __future__ import annotations

from mullama_lab.engine.stages.ban import Ban
from mullama_lab.engine.stages.chain import Chain, Setting, Stage
from mullama_lab.engine.stages.samplers import (
    XTC,
    AdaptiveP,
    Custom,
    DynamicTemperature,
    Greedy,
    Infill,
    MinP,
    Mirostat,
    MirostatV2,
    TailFree,
    Temperature,
    TopK,
    TopNSigma,
    TopP,
    Typical,
)
from mullama_lab.engine.stages.stage_samplers import State
from mullama_lab.engine.stages.token_samplers import DRY, LogitBias, Mask, Penalties

__all__ = [
    "DRY",
    "XTC",
    "AdaptiveP",
    "Ban",
    "Chain",
    "Custom",
    "DynamicTemperature",
    "Greedy",
    "Infill",
    "LogitBias",
    "Mask",
    "MinP",
    "Mirostat",
    "MirostatV2",
    "Penalties",
    "Setting",
    "Stage",
    "State",
    "TailFree",
    "Temperature",
    "TopK",
    "TopNSigma",
    "TopP",
    "Typical",
]
