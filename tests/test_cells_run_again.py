"""Cells that run again and again in a real kernel: sessions, threads and memory stay as they are.

A few runs of each by default; `pytest tests/test_cells_run_again.py --cases 50` by hand.
"""

from __future__ import annotations

import json
import time

import psutil
import pytest

SETUP = """
import mullama_lab as ml
import ipywidgets
from mullama_lab.engine.encoder import MultiVectorEncoder
model = ml.Model.load({path!r})
session = model.session()
trace = session.generate("Hello", seed=1, max_tokens=50)
preview = ml.Chain.default().preview(session.logits("Hello"), model=model, seed=1)
encoder = MultiVectorEncoder(model, n_threads=1)
texts = {{"dedent": "Remove any common leading whitespace.", "fill": "Fill a paragraph."}}
tree = ml.Tree()
tree.add(trace)
"""
COUNT = """
import gc, json, threading
from ipywidgets.widgets import widget
from mullama_lab.engine.session import Session
gc.collect()
print(json.dumps({
    "sessions": sum(isinstance(one, Session) and not one.closed for one in gc.get_objects()),
    "threads": threading.active_count(),
    "widgets": len(widget._instances),
    "channels": len(widget.comm.get_comm_manager().comms),
    "in Out": sum(isinstance(one, (ml.labs.SamplerLab, widget.Widget)) for one in Out.values()),
}))
"""
CELLS = {
    "SamplerLab": "lab = ml.labs.SamplerLab(model, max_tokens=8)\nlab.run()\nlab",
    "SamplerLab by display": "display(ml.labs.SamplerLab(session))",
    "AdapterLab": "lab = ml.labs.AdapterLab(model, max_tokens=8)\nlab.run()\nlab",
    "GrammarLab": "lab = ml.labs.GrammarLab(model, max_tokens=8)\nlab.constrain()\nlab.run()\nlab",
    "BranchLab": "lab = ml.labs.BranchLab(model, max_tokens=8)\nlab.run()\nlab.explore(4, 2)\nlab",
    "PerfLab": "lab = ml.labs.PerfLab(model, max_tokens=8)\nlab.run()\nlab.wait()\nlab",
    "RetrievalLab": "lab = ml.labs.RetrievalLab(encoder, texts)\nlab.search('whitespace')\nlab",
    "a lab that nothing shows": "lab = ml.labs.SamplerLab(model)\nlab.wait()",
    "labs in a loop": "for _ in range(3):\n    lab = ml.labs.SamplerLab(model)",
    "a part of a lab": "lab = ml.labs.SamplerLab(model)\nlab.strip",
    "a trace": "trace",
    "a run": "session.start('Hello', max_tokens=4, seed=1)",
    "a preview": "preview",
    "ChainEditor": "ml.widgets.ChainEditor()",
    "NextToken": "ml.widgets.NextToken()",
    "RunPanel": "ml.widgets.RunPanel()",
    "TokenStrip": "strip = ml.widgets.TokenStrip(trace)\nstrip",
    "BranchTree": "ml.widgets.BranchTree(tree)",
    "WhatIf": "ml.widgets.WhatIf()",
    "AdapterCards": "ml.widgets.AdapterCards()",
    "Dial": "ml.widgets.Dial()",
    "BlendPad": "ml.widgets.BlendPad()",
    "LayerStrip": "ml.widgets.LayerStrip()",
    "TimeStrip": "ml.widgets.TimeStrip(ml.studies.timing.timing(trace))",
    "BenchBoard": "ml.widgets.BenchBoard()",
    "PlanBoard": "ml.widgets.PlanBoard()",
    "Meters": "ml.widgets.Meters(ml.studies.monitor.Monitor(session))",
    "MemoryMap": "ml.widgets.MemoryMap(session)",
    "VectorTrainer": "ml.widgets.VectorTrainer()",
    "GrammarBench": "ml.widgets.GrammarBench()",
    "ExploreBar": "ml.widgets.ExploreBar()",
    "RankBoard": "ml.widgets.RankBoard()",
    "SimilarityGrid": "ml.widgets.SimilarityGrid()",
}
WARM_UP = 2  # runs
MOST_GROWTH = 1.5e6  # bytes a run; a lab that stays open takes 3 MB of a tiny model


@pytest.fixture(scope="module")
def notebook_kernel(kernel, tiny_path):
    kernel.run(SETUP.format(path=str(tiny_path)) + "import mullama_lab.widgets", "setup")
    yield kernel
    assert "Traceback" not in kernel.console.read_text()


def stand(kernel):
    return json.loads(kernel.run(COUNT, "count"))


def must_stand(kernel, most):
    """Wait for what a run of a cell left to end, such as the thread that watches a Run.

    It may have been there still when the most was counted.
    """
    end = time.monotonic() + 10
    while (more := _more(stand(kernel), most)) and time.monotonic() < end:
        time.sleep(0.1)
    assert not more, most


def _more(now, most):
    return {name: n for name, n in now.items() if n > most[name]}


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_that_runs_again_leaves_nothing_of_the_run_before(
    name, notebook_kernel, pytestconfig
):
    kernel = notebook_kernel
    process = psutil.Process(kernel.pid)
    n = pytestconfig.getoption("cases") or 4
    for _ in range(WARM_UP):
        kernel.run(CELLS[name], name)
    before, memory = stand(kernel), process.memory_info().rss
    for _ in range(n):
        kernel.run(CELLS[name], name)
    grown = process.memory_info().rss - memory
    must_stand(kernel, before)
    assert grown < 8e6 + n * MOST_GROWTH, f"{grown / n / 1e6:.1f} MB a run"
    if pytestconfig.getoption("cases"):
        print(f"\n{name}: {before}, {grown / n / 1e6:.2f} MB a run over {n}")


def test_without_ids_of_cells_the_same_source_is_the_same_cell(notebook_kernel):
    for _ in range(2):
        notebook_kernel.run("lab = ml.labs.SamplerLab(model)\nlab")
    before = stand(notebook_kernel)
    for _ in range(3):
        notebook_kernel.run("lab = ml.labs.SamplerLab(model)\nlab")
    must_stand(notebook_kernel, before)


def test_what_a_person_keeps_stays_with_all_that_it_made(notebook_kernel):
    kernel = notebook_kernel
    for _ in range(3):
        kernel.run("lab = ml.labs.SamplerLab(model, max_tokens=4)\nkept = [lab]\nlab.run()", "kept")
        kernel.run("all_kept = globals().get('all_kept', []) + kept", "keeping")
    said = kernel.run("print([(len(lab.trace) > 0, lab.session.closed) for lab in all_kept])")
    assert said.strip() == "[(True, True), (True, True), (True, False)]"
