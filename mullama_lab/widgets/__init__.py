"""The views: a Python half here, a browser half with the same stem in `widgets/`."""

from __future__ import annotations

from mullama_lab.widgets.adapter_cards import AdapterCards
from mullama_lab.widgets.bench_board import BenchBoard
from mullama_lab.widgets.blend_pad import BlendPad
from mullama_lab.widgets.branch_tree import BranchTree
from mullama_lab.widgets.chain_editor import ChainEditor
from mullama_lab.widgets.dial import Dial
from mullama_lab.widgets.explore_bar import ExploreBar
from mullama_lab.widgets.grammar_bench import GrammarBench
from mullama_lab.widgets.layer_strip import LayerStrip
from mullama_lab.widgets.memory_map import MemoryMap
from mullama_lab.widgets.meters import Meters
from mullama_lab.widgets.model_picker import ModelPicker
from mullama_lab.widgets.next_token import NextToken
from mullama_lab.widgets.panel_bar import PanelBar
from mullama_lab.widgets.plan_board import PlanBoard
from mullama_lab.widgets.rank_board import Hit, RankBoard
from mullama_lab.widgets.run_panel import RunPanel
from mullama_lab.widgets.similarity_grid import SimilarityGrid
from mullama_lab.widgets.time_strip import TimeStrip
from mullama_lab.widgets.token_strip import TokenStrip
from mullama_lab.widgets.vector_trainer import VectorTrainer
from mullama_lab.widgets.what_if import WhatIf

__all__ = [
    "AdapterCards",
    "BenchBoard",
    "BlendPad",
    "BranchTree",
    "ChainEditor",
    "Dial",
    "ExploreBar",
    "GrammarBench",
    "Hit",
    "LayerStrip",
    "MemoryMap",
    "Meters",
    "ModelPicker",
    "NextToken",
    "PanelBar",
    "PlanBoard",
    "RankBoard",
    "RunPanel",
    "SimilarityGrid",
    "TimeStrip",
    "TokenStrip",
    "VectorTrainer",
    "WhatIf",
]
__dir__ = __all__.copy  # what tab completion offers
