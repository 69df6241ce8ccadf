"""PerfLab: where the time of a run goes, where the memory went, and what else would fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from mullama_lab.labs.workbench import Workbench

__all__ = ["PerfLab"]
__dir__ = __all__.copy  # what tab completion offers


class PerfLab(Workbench):
    """The workbench with time and memory open: prompt, text, meters, what each token cost.

        lab = PerfLab(model, prompt="Once upon a time")
        trace = lab.run()
        lab.wait()
        lab.time_strip.chosen = [10, 19]          # what a brush over the bars does
        lab.time_strip.sums["lines"]
        lab.memory_map.memory.kv_bytes
        lab.monitor.to_pandas()
        lab.plan_board.n_ctx = 16384              # plans it; lab.plan_board.fits
        lab.set(panels=["bench"])
        lab.bench_board.threads = "1, 2, 4"
        lab.bench_board.run()                     # once nothing is generated
        lab.wait()
        lab.bench_result.to_pandas()

    The monitor reads while a run goes on and the panel is on the screen.

    It takes what `Workbench` takes, and does what that does.
    """

    PANELS: ClassVar[Sequence[str]] = ("time", "memory")
