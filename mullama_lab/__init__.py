"""A workbench for JupyterLab on llama.cpp: see and turn what decides the next token.

>>> import mullama_lab as ml
>>> chain = ml.TopK(40) | ml.MinP(0.05) | ml.Temperature(0.8)
>>> chain
TopK(40) | MinP(0.05) | Temperature(0.8)

Names load what they need on first use; the import itself loads nothing heavy.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mullama_lab import engine, errors, hub, labs, plots, studies, widgets
    from mullama_lab.engine.chat import RenderedChat
    from mullama_lab.engine.chat.tools import ToolCall
    from mullama_lab.engine.encoder import MultiVectorEncoder
    from mullama_lab.engine.grammar import Grammar
    from mullama_lab.engine.grammar.walk.walk import GrammarWalk
    from mullama_lab.engine.index import MultiVectorIndex
    from mullama_lab.engine.loop.choices import Choices
    from mullama_lab.engine.loop.run import Run
    from mullama_lab.engine.model import Model
    from mullama_lab.engine.native.devices import devices
    from mullama_lab.engine.session import Session
    from mullama_lab.engine.session.conversation import Conversation
    from mullama_lab.engine.setting import Setting
    from mullama_lab.engine.stages import (
        DRY,
        XTC,
        AdaptiveP,
        Ban,
        Chain,
        Constrain,
        Custom,
        DynamicTemperature,
        Greedy,
        Infill,
        LogitBias,
        Mask,
        MinP,
        Mirostat,
        MirostatV2,
        Penalties,
        TailFree,
        Temperature,
        TopK,
        TopNSigma,
        TopP,
        Typical,
    )
    from mullama_lab.engine.stages.preview import Preview, StageView
    from mullama_lab.engine.steering.control_vector import ControlVector
    from mullama_lab.engine.steering.lora import LoraAdapter
    from mullama_lab.engine.trace import Trace
    from mullama_lab.engine.trace.step import Step
    from mullama_lab.engine.tree import Tree
    from mullama_lab.labs.workbench import Workbench
    from mullama_lab.notebook import load_ipython_extension

    __version__: str

__all__ = [
    "DRY",
    "XTC",
    "AdaptiveP",
    "Ban",
    "Chain",
    "Choices",
    "Constrain",
    "ControlVector",
    "Conversation",
    "Custom",
    "DynamicTemperature",
    "Grammar",
    "GrammarWalk",
    "Greedy",
    "Infill",
    "LogitBias",
    "LoraAdapter",
    "Mask",
    "MinP",
    "Mirostat",
    "MirostatV2",
    "Model",
    "MultiVectorEncoder",
    "MultiVectorIndex",
    "Penalties",
    "Preview",
    "RenderedChat",
    "Run",
    "Session",
    "Setting",
    "StageView",
    "Step",
    "TailFree",
    "Temperature",
    "ToolCall",
    "TopK",
    "TopNSigma",
    "TopP",
    "Trace",
    "Tree",
    "Typical",
    "Workbench",
    "__version__",
    "devices",
    "engine",
    "errors",
    "hub",
    "labs",
    "load_ipython_extension",
    "plots",
    "studies",
    "widgets",
]
__dir__ = __all__.copy  # what tab completion offers

_HOMES = {
    "Choices": "engine.loop.choices",
    "ControlVector": "engine.steering.control_vector",
    "Conversation": "engine.session.conversation",
    "Grammar": "engine.grammar",
    "GrammarWalk": "engine.grammar.walk.walk",
    "LoraAdapter": "engine.steering.lora",
    "Model": "engine.model",
    "MultiVectorEncoder": "engine.encoder",
    "MultiVectorIndex": "engine.index",
    "Preview": "engine.stages.preview",
    "RenderedChat": "engine.chat",
    "Run": "engine.loop.run",
    "Session": "engine.session",
    "Setting": "engine.setting",
    "StageView": "engine.stages.preview",
    "Step": "engine.trace.step",
    "ToolCall": "engine.chat.tools",
    "Trace": "engine.trace",
    "Tree": "engine.tree",
    "Workbench": "labs.workbench",
    "devices": "engine.native.devices",
    "load_ipython_extension": "notebook",
}
_MODULES = {"engine", "errors", "hub", "labs", "plots", "studies", "widgets"}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib import metadata

        value = metadata.version("mullama-lab")
    elif name in _MODULES:
        value = importlib.import_module(f"{__name__}.{name}")
    elif name in __all__:  # what has no home of its own is a stage or the chain
        home = importlib.import_module(f"{__name__}.{_HOMES.get(name, 'engine.stages')}")
        value = getattr(home, name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def _teach_ipython() -> None:
    """Where IPython runs, let it show models, traces and runs; elsewhere load nothing."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is not None:
        from mullama_lab.notebook import register_displays

        register_displays(shell)


_teach_ipython()
