"""Labs: benches that join a Session, studies and widgets for one activity.

Displaying a lab shows it. A lab is a widget, as its views are: `ipywidgets.VBox([lab])`.
"""

from __future__ import annotations

from mullama_lab.labs.adapter_lab import AdapterLab
from mullama_lab.labs.branch_lab import BranchLab
from mullama_lab.labs.grammar_lab import GrammarLab
from mullama_lab.labs.perf_lab import PerfLab
from mullama_lab.labs.retrieval_lab import RetrievalLab
from mullama_lab.labs.sampler_lab import SamplerLab
from mullama_lab.labs.workbench import Workbench

__all__ = [
    "AdapterLab",
    "BranchLab",
    "GrammarLab",
    "PerfLab",
    "RetrievalLab",
    "SamplerLab",
    "Workbench",
]
__dir__ = __all__.copy  # what tab completion offers
