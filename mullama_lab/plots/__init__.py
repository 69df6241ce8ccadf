"""Pictures for papers: what the views show, drawn with matplotlib.

Every function draws on the Axes that it is given, or on new ones, and returns them;
`ax.figure.savefig("figure.pdf")` keeps the picture. matplotlib is loaded by the first of them.
"""

from __future__ import annotations

from mullama_lab.plots.levers import blend, strengths, training
from mullama_lab.plots.performance import (
    depth_curve,
    latency,
    memory,
    memory_over_time,
    scaling,
    throughput,
    throughput_over_time,
    tuning,
)
from mullama_lab.plots.retrieval import rank_board, similarity_grid, versus
from mullama_lab.plots.tokens import next_token, seed_fan, token_strip

__all__ = [
    "blend",
    "depth_curve",
    "latency",
    "memory",
    "memory_over_time",
    "next_token",
    "rank_board",
    "scaling",
    "seed_fan",
    "similarity_grid",
    "strengths",
    "throughput",
    "throughput_over_time",
    "token_strip",
    "training",
    "tuning",
    "versus",
]
__dir__ = __all__.copy  # what tab completion offers
