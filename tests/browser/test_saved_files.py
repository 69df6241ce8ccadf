"""What the views of a workbench save as files, in a real JupyterLab on a tiny model."""

from __future__ import annotations

import csv
import io
import os
import re
from base64 import b64encode
from pathlib import Path
from xml.etree import ElementTree

import pytest

from mullama_lab.glyphs import piece_label

SETUP = """
import mullama_lab as ml
from mullama_lab.engine import tiny
model = ml.Model.load(tiny.write("tiny.gguf"))
chain = ml.TopK(40) | ml.Mask(ban=[2]) | ml.Temperature(0.8)
panels = ["samplers", "tree", "what-if"]
bench = ml.Workbench(model, "Once <b>", chain=chain, seed=1, max_tokens=12, panels=panels)
bench
"""
RUN = "trace = bench.run()"
AGAIN = "bench.panel.seed = 2\nbench.run()"
LONG = """bench.chain = (ml.Penalties(repeat=1.1, frequency=0.25) | ml.DRY(0.8) | ml.XTC(0.1, 0.3)
    | ml.DynamicTemperature(0.9, 0.5, 1.5))"""
DRAWN = """(svg) => {
    const page = document.createElement('div');
    page.innerHTML = svg;
    document.body.append(page);
    const { left, right, bottom } = page.firstChild.getBoundingClientRect();
    const words = [...page.querySelectorAll('text')].map((node) => [
        node.textContent, node.getBoundingClientRect()]);
    page.remove();
    const apart = (a, b) => a.right <= b.left || b.right <= a.left
        || a.bottom <= b.top + 3 || b.bottom <= a.top + 3;
    return {
        out: words.filter(([, box]) => box.left < left || box.right > right || box.bottom > bottom),
        met: words.filter(([, one]) => words.some(([, b]) => one !== b && !apart(one, b))),
    };
}"""


@pytest.fixture
def page(notebook):
    page = notebook([SETUP, RUN, "print(*trace.tokens)", LONG, AGAIN], width=1400, height=757)
    page.run_cell(0)
    page.page.locator(".mll-nt tbody tr").first.wait_for()
    return page


def menu(view, what):
    view.get_by_role("button", name=f"Save {what} as…").click()


def saved(view, what, kind):
    """The name and the text, or the bytes, of the file that a view's menu makes."""
    menu(view, what)
    with view.page.expect_download() as download:
        view.get_by_role("button", name=kind, exact=True).click()
    data = Path(download.value.path()).read_bytes()
    return download.value.suggested_filename, data if kind == "PNG" else data.decode()


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text, newline="")))


def words_of(text):
    return "\n".join(ElementTree.fromstring(text).itertext())


def test_each_view_of_a_workbench_saves_what_it_shows(page):
    menu(page.view, "tokens")
    page.page.get_by_role("button", name="CSV", exact=True).click()
    page.page.get_by_text("There is nothing to save yet.").wait_for()
    page.page.keyboard.press("Escape")
    page.run_cell(1)
    page.page.locator(".mll-wi-bar").nth(11).wait_for(state="attached")
    page.run_cell(2)
    tokens = page.outputs().strip().splitlines()[-1].split()

    name, text = saved(page.view, "next token", "CSV")
    rows = rows_of(text)
    assert name == "next-token.csv" and len(rows) > 10
    assert list(rows[0])[:4] == ["token", "id", "drawn", "before"]
    assert [row["drawn"] for row in rows].count("drawn") == 1
    name, text = saved(page.view, "next token", "SVG")
    assert name == "next-token.svg" and "TopK(40)" in words_of(text)

    name, data = saved(page.view, "next token", "PNG")
    assert name == "next-token.png" and data.startswith(b"\x89PNG") and len(data) > 5000

    name, text = saved(page.view, "tokens", "CSV")
    assert name == "tokens.csv" and [row["token"] for row in rows_of(text)] == tokens
    name, text = saved(page.view, "tokens", "SVG")
    assert name == "tokens.svg" and "before the chain" in words_of(text)

    name, text = saved(page.view, "what if", "CSV")
    assert name == "what-if.csv" and len(rows_of(text)) == len(tokens)
    name, text = saved(page.view, "what if", "SVG")
    assert name == "what-if.svg" and "choices" in words_of(text)

    name, text = saved(page.view, "tree", "CSV")
    assert name == "tree.csv" and [row["tokens"] for row in rows_of(text)] == ["12"]
    name, text = saved(page.view, "tree", "SVG")
    assert name == "tree.svg" and "run 1" in words_of(text).splitlines()
    assert page.page.evaluate(DRAWN, text) == {"out": [], "met": []}

    page.page.get_by_role("button", name="Runs (1)").click()
    name, text = saved(page.view, "runs", "CSV")
    assert name == "runs.csv" and [row["tokens"] for row in rows_of(text)] == ["12"]
    menu(page.view, "runs")
    page.page.keyboard.press("Escape")  # the menu closes, the drawer stays
    entry = page.page.get_by_role("button", name="CSV", exact=True)
    entry.wait_for(state="hidden")
    assert page.page.get_by_role("button", name="Save runs as…").is_visible()


def test_no_heading_is_cut_in_the_picture_of_the_next_token(page):
    page.run_cell(3)
    page.page.locator(".mll-nt thead th:has-text('DynamicTemperature')").wait_for()
    _, text = saved(page.view, "next token", "SVG")
    assert "…" not in words_of(text)
    assert "DynamicTemperature(" in words_of(text).splitlines()
    assert page.page.evaluate(DRAWN, text) == {"out": [], "met": []}


BLEND = """
import mullama_lab as ml
from mullama_lab.engine import tiny
model = ml.Model.load(tiny.write("tiny.gguf", n_layer=5))
lab = ml.labs.AdapterLab(model, "Hello", seed=3, max_tokens=6)
lab.adapter_cards.add(ml.ControlVector({1: [0.5, -1.0] * 16}, name="happy"))
lab.adapter_cards.add(ml.ControlVector({1: [1.0, 0.5] * 16, 3: [2.0, 1.0] * 16}, name="a < b"))
lab
"""
SEEN = """async (url) => {
    const image = new Image();
    image.src = url;
    await image.decode();
    const sheet = document.createElement('canvas');
    [sheet.width, sheet.height] = [image.width, image.height];
    const context = sheet.getContext('2d');
    context.drawImage(image, 0, 0);
    const { data } = context.getImageData(0, 0, sheet.width, sheet.height);
    return new Set(new Uint32Array(data.buffer)).size;
}"""


def n_colours(page, png):
    """How many colours a picture has, as the browser shows it."""
    return page.page.evaluate(SEEN, f"data:image/png;base64,{b64encode(png).decode()}")


def keep(name, data):
    """Beside the screenshots, to be looked at."""
    folder = os.environ.get("MULLAMA_SCREENSHOTS")
    if folder:
        Path(folder, name).write_bytes(data)


def test_the_views_of_adapters_save_what_they_show(notebook):
    page = notebook([BLEND], width=1400, height=757)
    page.run_cell(0)
    dial, pad = page.page.locator(".mll-dl"), page.page.locator(".mll-bp")
    dial.locator("tbody tr").first.wait_for()
    name, text = saved(dial, "effect", "CSV")
    rows = rows_of(text)
    assert name == "effect.csv" and list(rows[0]) == ["token", "id", "at 0", "at 1"]
    assert len(rows) == dial.locator("tbody tr").count()
    name, text = saved(dial, "effect", "SVG")
    assert name == "effect.svg" and "without and with a < b" in words_of(text)
    fills = dict(re.findall(r'fill="(#\w+)"[^>]*>(token|[\d.]+% ◆)<', text))
    assert len(fills) == 2, "heads are fainter than figures, as on the page"
    assert page.page.evaluate(DRAWN, text) == {"out": [], "met": []}
    _, data = saved(dial, "effect", "PNG")
    keep("effect.png", data)
    page.settled()
    page.picture("saved-dial", of=".mll-lab")

    cards = page.page.locator(".mll-ac")
    name, text = saved(cards, "layers", "CSV")
    assert name == "layers.csv" and [row["layer"] for row in rows_of(text)] == ["1", "3"]
    _, text = saved(cards, "layers", "SVG")
    assert {"a < b", "layers 1–3 of 1–3"} <= set(words_of(text).split("\n"))
    assert page.page.evaluate(DRAWN, text) == {"out": [], "met": []}
    _, data = saved(cards, "layers", "PNG")
    keep("layers.png", data)

    page.page.get_by_role("button", name="Pad", exact=True).click()
    pad.locator(".mll-bp-far:text-is('289 cells')").wait_for()
    name, text = saved(pad, "map", "CSV")
    assert name == "map.csv" and list(rows_of(text)[0]) == ["a < b", "happy", "KL, nats"]
    assert len(rows_of(text)) == 289
    _, text = saved(pad, "map", "SVG")
    assert "Blend of happy and a < b" in words_of(text)
    assert page.page.evaluate(DRAWN, text) == {"out": [], "met": []}
    name, data = saved(pad, "map", "PNG")
    keep(name, data)
    assert name == "map.png" and n_colours(page, data) > 50  # with the map in it
    name, text = saved(pad, "effect", "CSV")
    assert list(rows_of(text)[0]) == ["token", "id", "without", "with both"]
    page.settled()
    page.picture("saved-pad", of=".mll-lab")


def test_a_comparison_saves_its_tokens_side_by_side(page):
    page.run_cell(1)
    page.run_cell(4)
    page.page.get_by_role("button", name="Runs (2)").click()
    for tick in page.page.locator(".mll-rp-drawer input[type=checkbox]").all():
        tick.check()
    drawer = page.page.locator(".mll-rp-drawer")
    name, text = saved(drawer, "comparison", "CSV")
    rows = rows_of(text)
    assert name == "comparison-of-run-1-run-2.csv"
    assert list(rows[0])[:4] == ["step", "run 1", "run 1: chance", "run 1: chance after the chain"]
    shown = drawer.locator(".mll-cmp-aligned tbody th").all_inner_texts()
    assert [row["step"] for row in rows] == shown
    _, text = saved(drawer, "comparison", "SVG")
    assert "run 2 parts from run 1" in words_of(text).replace("\n", " ")
    assert page.page.evaluate(DRAWN, text) == {"out": [], "met": []}
    name, data = saved(drawer, "comparison", "PNG")
    keep(name, data)
    assert data.startswith(b"\x89PNG")
    page.settled()
    page.picture("saved-comparison", of=".mll-lab")
    drawer.get_by_role("button", name="Save comparison as…").click()
    page.page.keyboard.press("Escape")  # the menu closes, the drawer stays
    assert drawer.is_visible()


def test_a_tree_of_two_branches_saves_both(page):
    page.run_cell(1)
    page.run_cell(4)
    tree = page.page.locator(".mll-bt")
    tree.locator(".mll-row").nth(2).wait_for()
    _, text = saved(tree, "tree", "SVG")
    assert {"run 1", "run 2"} <= set(words_of(text).splitlines())
    assert page.page.evaluate(DRAWN, text) == {"out": [], "met": []}
    name, data = saved(tree, "tree", "PNG")
    keep(name, data)
    assert name == "tree.png" and data.startswith(b"\x89PNG")


RETRIEVAL = """
import numpy as np
from mullama_lab.engine.multivector import MultiVector
from mullama_lab.widgets import Hit, RankBoard, SimilarityGrid

def hand(pieces, vectors):
    ends = np.cumsum([len(piece) for piece in pieces])
    return MultiVector(
        vectors=np.asarray(vectors, np.float32), ids=np.arange(len(pieces)), kind="query",
        pieces=tuple(piece.encode() for piece in pieces), text="".join(pieces),
        spans=np.stack([np.r_[0, ends[:-1]], ends], axis=1),
    )

LONG = "Donaudampfschifffahrtsgesellschaftskapitaen"
query = hand(["remove", LONG, " space"], np.eye(3))
document = hand(["one", LONG * 2, " three"], np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]]))
parts = {"a < b": [0.5, 0.25, 0.75], LONG * 2: [0.75, 0.5, 0.0]}
hits = [Hit(name, np.array(row, np.float32), "", document, before=2 - k)
        for k, (name, row) in enumerate(parts.items())]
board = RankBoard(title="results")
board.show(query, hits)
grid = SimilarityGrid(query, document, title="a grid")
empty = RankBoard(title="nothing")
empty.show(query, [])
"""
NAME = "Donaudampfschifffahrtsgesellschaftskapitaen"


def test_results_and_their_matrix_are_saved_with_their_names_in_full(notebook):
    page = notebook([RETRIEVAL, "board", "grid", "empty"], width=1400, height=757)
    for cell in range(4):
        page.run_cell(cell)
    board, empty = page.page.locator(".mll-rb").first, page.page.locator(".mll-rb").nth(1)
    grid = page.page.locator(".mll-sg")
    board.locator(".mll-rb-row").nth(1).wait_for()
    _, text = saved(board, "results", "SVG")
    words = words_of(text).splitlines()
    assert {"a < b", "1st", "1.500", "2nd", "1.250"} <= set(words)
    assert "".join(words).count(NAME) == 4 and "…" not in "".join(words)
    assert page.page.evaluate(DRAWN, text) == {"out": [], "met": []}
    name, data = saved(board, "results", "PNG")
    keep("results.png", data)
    assert name == f"remove{NAME}-space.png" and n_colours(page, data) > 3

    menu(empty, "results")
    for kind in ("CSV", "SVG", "PNG"):
        empty.get_by_role("button", name=kind, exact=True).click()
        empty.get_by_text("There is nothing to save yet.").wait_for()
    page.page.keyboard.press("Escape")

    grid.locator(".mll-heat-names .mll-sg-name").nth(2).wait_for()
    _, text = saved(grid, "matrix", "SVG")
    words = words_of(text).splitlines()
    assert f"1 {NAME}" in words and NAME * 2 in words
    assert page.page.evaluate(DRAWN, text) == {"out": [], "met": []}
    name, data = saved(grid, "matrix", "PNG")
    keep(name, data)
    assert name == "a-grid.png" and n_colours(page, data) > 8  # with the cells in it


BENCH = """
import mullama_lab as ml
from mullama_lab.engine import tiny
lab = ml.labs.GrammarLab(ml.Model.load(tiny.write("tiny.gguf")), "Hello", seed=3, max_tokens=6)
lab.grammar_bench.grammar = r'root ::= "{" [a-b \\n]+ "}"'
lab.grammar_bench.sample = "{ax"
lab
"""


def test_a_text_in_a_grammar_is_saved_with_what_may_come(notebook):
    page = notebook([BENCH], width=1400, height=757)
    page.run_cell(0)
    bench = page.page.locator(".mll-gb")
    bench.locator(".mll-gb-rest:has-text('x')").wait_for()
    bench.locator(".mll-gb-sample").fill("{a")
    bench.locator(".mll-gb-rest").wait_for(state="detached")
    name, text = saved(bench, "text in grammar", "CSV")
    chips = bench.locator(".mll-gb-chip b").all_inner_texts()
    tokens = [row["token"] for row in rows_of(text)]
    assert name == "text-in-grammar.csv" and {"a", "b", " ", "\n", "}"} <= set(tokens)
    assert [piece_label(token.encode()) for token in tokens] == chips
    _, text = saved(bench, "text in grammar", "SVG")
    assert {"{", "a", "root", "may come"} <= set(words_of(text).splitlines())
    assert page.page.evaluate(DRAWN, text) == {"out": [], "met": []}
    name, data = saved(bench, "text in grammar", "PNG")
    keep(name, data)
    page.settled()
    page.picture("saved-grammar", of=".mll-lab")
