"""AdapterLab: turn LoRA adapters and control vectors, and see what that does to the next token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from mullama_lab.labs.workbench import Workbench

__all__ = ["AdapterLab"]
__dir__ = __all__.copy  # what tab completion offers


class AdapterLab(Workbench):
    """The workbench with the adapters open: prompt, text, what acts on the weights.

        lab = AdapterLab(model, prompt="The weather today is")
        lab.adapters = {ml.LoraAdapter.load("style.gguf"): 0.8}
        lab.control = ml.ControlVector.load("happy.gguf")
        lab.adapter_cards.set("happy", 1.2)       # and toggle, add, remove, set_layers
        trace = lab.run()

    Under the cards a control vector is learnt from pairs that are typed there. Its card shows how
    well each layer does, to choose some by; `lab.adapter_cards.keep` has it in any notebook.

    It takes what `Workbench` takes, and does what that does.
    """

    PANELS: ClassVar[Sequence[str]] = ("adapters",)
