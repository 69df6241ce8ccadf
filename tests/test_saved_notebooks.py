"""What a notebook that was saved with views holds of them, and what an export makes of it."""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path

import nbformat
import pytest
from nbconvert import HTMLExporter

import mullama_lab as ml
from mullama_lab import widgets
from mullama_lab.widgets._view import LIVE_OR_STILL

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))
WIDGET = "application/vnd.jupyter.widget-view+json"


def saved_size(shown) -> int:
    """Bytes of an output in a notebook's file."""
    data, _ = shown._repr_mimebundle_()
    return len(json.dumps(data, ensure_ascii=False, indent=1).encode())


def saved_views(book: nbformat.NotebookNode) -> list[dict]:
    """The outputs of views, as a notebook that JupyterLab saved has them."""
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    views = [output.data for output in outputs if LIVE_OR_STILL in output.get("data", {})]
    for data in views:
        data[WIDGET] = {"version_major": 2, "version_minor": 0, "model_id": uuid.uuid4().hex}
    return views


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_an_export_shows_the_static_form_of_each_view_and_asks_for_no_widget(path):
    book = nbformat.read(path, as_version=4)
    views = saved_views(book)
    page, _ = HTMLExporter().from_notebook_node(book)
    assert views
    for data in views:
        assert data["text/html"] in page
        assert data[WIDGET]["model_id"] not in page


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_each_view_of_a_tutorial_takes_at_most_60_kb(path):
    for data in saved_views(nbformat.read(path, as_version=4)):
        assert len(json.dumps(data, ensure_ascii=False, indent=1).encode()) <= 60_000


def test_a_view_of_a_long_trace_and_each_lab_after_runs_take_at_most_60_kb(smollm2):
    with smollm2.session(n_ctx=1024) as session:
        trace = session.generate("Once upon a time", max_tokens=512, seed=7)
        row = session.logits("The capital of France is")
    preview = widgets.NextToken()
    preview.show(ml.Chain.default().preview(row, model=smollm2, seed=7))
    sampler_lab = ml.labs.SamplerLab(smollm2, prompt="Once upon a time", max_tokens=128)
    for _ in range(3):
        sampler_lab.run()
    branch_lab = ml.labs.BranchLab(smollm2, prompt="The capital of France is", max_tokens=128)
    branch_lab.run()
    for shown in (widgets.TokenStrip(trace), preview, sampler_lab, branch_lab):
        assert 1000 < saved_size(shown) <= 60_000, type(shown).__name__
    sampler_lab.close()
    branch_lab.close()


def with_a_grammar(model: ml.Model) -> ml.labs.GrammarLab:
    lab = ml.labs.GrammarLab(model, prompt="The capital of France is", max_tokens=64)
    lab.grammar_bench.grammar = 'root ::= (" " [a-zA-Z]+)+ "."'
    lab.grammar_bench.sample = " Paris is a town."
    lab.constrain()
    return lab


def with_adapters(model: ml.Model) -> ml.labs.AdapterLab:
    lab = ml.labs.AdapterLab(model, prompt="The capital of France is", max_tokens=128)
    lab.adapter_cards.add(ml.LoraAdapter.load(NOTEBOOKS[0].parent / "data" / "pirate.gguf"), 0.6)
    lab.adapter_cards.add(ml.ControlVector.named("happy"))
    return lab


def with_two_panels(model: ml.Model) -> ml.Workbench:
    panels = ["samplers", "tree"]
    return ml.Workbench(model, prompt="Once upon a time", max_tokens=128, panels=panels)


@pytest.mark.parametrize("make", [with_a_grammar, with_adapters, with_two_panels])
def test_a_lab_of_any_arrangement_takes_at_most_60_kb_after_runs(smollm2, make):
    lab = make(smollm2)
    for seed in range(4):
        lab.set(seed=seed)
        lab.run()
    lab.wait()
    assert 1000 < saved_size(lab) <= 60_000
    lab.close()


def test_a_lab_of_many_documents_takes_at_most_60_kb_after_searches(tiny_model):
    with ml.MultiVectorEncoder(tiny_model, n_threads=1) as encoder:
        documents = {f"document {i} of the list": f"What {i} says." for i in range(900)}
        lab = ml.labs.RetrievalLab(encoder, documents, k=900)
        lab.wait()
        for query in ("what does 7 say?", "what do all of them say, one by one? " * 10):
            lab.search(query)
            lab.look_at("document 7 of the list")
        assert 1000 < saved_size(lab) <= 60_000
        lab.close()


def the_tour() -> tuple[list[str], dict[str, str]]:
    """The cells of the tour, and how each task of its table is done."""
    (tour,) = [path for path in NOTEBOOKS if path.stem == "00_tour"]
    cells = [cell.source for cell in nbformat.read(tour, as_version=4).cells]
    rows = [line for cell in cells for line in cell.splitlines() if line.startswith("| ")]
    return cells, dict(line.strip("| ").split(" | ") for line in rows)


def test_the_code_in_the_table_of_the_tour_does_what_it_says(tiny_model, tmp_path, monkeypatch):
    code = {task: re.findall("`([^`]+)`", done) for task, done in the_tour()[1].items()}
    for name in code["mix LoRA adapters"]:
        assert (NOTEBOOKS[0].parent / name).is_file()
    monkeypatch.chdir(tmp_path)
    lab = ml.labs.SamplerLab(tiny_model, max_tokens=4)
    trace = lab.run()
    names = {"ml": ml, "model": tiny_model, "lab": lab}
    table, write = code["have the table in Python"]
    assert len(eval(table, names)) == len(trace) > 0
    exec(write, names)
    assert Path("run.csv").read_text().startswith("step,piece,token")
    save, reopen = code["keep the work itself"]
    exec(save, names)
    lab.close()
    again, shown = reopen.split("; ")
    exec(again, names)
    assert eval(shown, names).trace == trace, "what a cell ends with is shown"
    eval(shown, names).close()


def test_the_tour_leaves_a_lab_whose_text_is_of_its_chain_and_says_who_answers_an_edited_turn():
    cells, how = the_tour()
    code = "\n".join(cells)
    assert code.index("lab.set(") < code.index("lab.chain = before") < code.index("lab.run()")
    assert "Enter" in how["edit a turn"] and "Again" not in how["edit a turn"]


def test_the_lab_of_the_tour_writes_a_text_long_enough_to_be_stopped():
    (made,) = [cell for cell in the_tour()[0] if "lab = ml.labs." in cell]
    assert int(re.search(r"max_tokens=(\d+)", made)[1]) >= 200
