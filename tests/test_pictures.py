"""`docs/pictures.py` still drives the labs: each of its cells runs, and ends as its name says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

import mullama_lab as ml

DOCS = Path(__file__).resolve().parents[1] / "docs"


def the_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pictures", DOCS / "pictures.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PICTURES = the_script()
CELLS = dict(PICTURES.cells())
STATES = {  # of a run panel, and of a board
    "empty": ("idle", "empty"),
    "running": ("queued", "prompt", "running", "indexing"),
    "finished": ("finished", "ready"),
    "failed": ("failed",),
}


def shown_by(cell: str, model: ml.Model):
    """What a cell ends with, after all of it has run."""
    *before, last = cell.splitlines()
    names = {"ml": ml, "model": model}
    exec("\n".join(before), names)
    return eval(last, names)


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_of_a_picture_leaves_its_lab_as_the_name_says(smollm2, until, name):
    lab = shown_by(CELLS[name], smollm2)
    try:
        kind, _, state = name.rpartition("_")
        assert type(lab).__name__.lower() == kind.replace("_", "")
        if state != "running":
            lab.wait()
        view = lab.board if kind == "retrieval_lab" else lab.panel
        until(lambda: view.state in STATES[state])
    finally:
        lab.close()


def test_each_picture_of_the_readme_is_one_that_is_taken(smollm2):
    assert isinstance(shown_by(PICTURES.STRIP, smollm2), ml.Trace)
    for taken, kept in PICTURES.KEPT.items():
        name, _, theme = taken.rpartition("_")
        name, _, width = name.rpartition("_")
        assert name in CELLS or name == "token_strip"
        assert int(width) in dict(PICTURES.SIZES) and theme in ("light", "dark")
        assert (DOCS / f"{kept}.png").is_file()
        assert f"docs/{kept}.png" in (DOCS.parent / "README.md").read_text(encoding="utf-8")
