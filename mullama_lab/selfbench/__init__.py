"""`mullama-lab selfbench`: what the workbench costs, beside its peers, in one run.

Each row is a figure, what it is compared with, their ratio and the target. Ours and the peer's
runs alternate, so that a busy or throttled machine slows both; the ratio is the median over the
pairs. Run it on a machine that does nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mullama_lab.selfbench.table import Row


def every_row(models: Sequence[str], chromium: str | None) -> Iterator[Row]:
    """All figures, each as soon as it was measured; the slider's only with a browser."""
    from mullama_lab.engine.model import Model
    from mullama_lab.selfbench import (
        browser,
        encoding,
        generation,
        grammars,
        growth,
        late_interaction,
        monitor,
        sequences,
        side_by_side,
        steering,
        studies,
    )

    yield generation.import_time()
    for name in models:
        with Model.load(name) as model:
            yield from generation.rows(model)
            yield from sequences.rows(model)
            yield from side_by_side.rows(model)
            yield from studies.rows(model)
            yield from grammars.rows(model)
            yield from steering.rows(model)
            yield from monitor.rows(model)
    yield from encoding.rows()
    yield from late_interaction.rows()
    yield from growth.rows()
    if chromium is not None:
        yield from browser.rows(models[0], chromium)
