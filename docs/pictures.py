"""Take the pictures of the labs in a real JupyterLab: `python docs/pictures.py`.

Each lab empty, running, finished and failed, at two sizes, light and dark, goes to docs/pictures,
which git ignores; the ones that the README shows go to docs.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mullama_lab.selfbench.jupyter import headless_chromium, jupyterlab, open_notebook

HERE = Path(__file__).parent
ALL = HERE / "pictures"
PIRATE = HERE.parent / "notebooks" / "data" / "pirate.gguf"
CHANGE_THEME = "(theme) => window.jupyterapp.commands.execute('apputils:change-theme', theme)"
SIZES = ((1400, 757), (1280, 720))
MODEL = "import mullama_lab as ml\nmodel = ml.Model.load('smollm2-135m')"
SESSION = "model, 'The capital of France is', max_tokens={n}, seed=7"
STATES = {  # how many tokens a run has, and what is done with the lab
    "empty": (60, ""),
    "running": (3000, "lab.set(chain=ml.Mask(ban=range(5)) | lab.chain); lab.start();"),
    "finished": (60, "lab.run();"),
    "failed": (60, "lab.panel._answer('run', {'name': 'prompt', 'value': 'word ' * 19000});"),
}
LABS = {
    "sampler_lab": "lab = ml.labs.SamplerLab({session})\n{act}\nlab",
    "branch_lab": "lab = ml.labs.BranchLab({session})\n{act}\nlab",
    "workbench": "lab = ml.Workbench({session}, panels=['samplers', 'tree'])\n{act}\nlab",
    "grammar_lab": "lab = ml.labs.GrammarLab({session})\n{act}\nlab",
    "adapter_lab": "lab = ml.labs.AdapterLab({session})\n{act}\nlab",
    "perf_lab": "lab = ml.labs.PerfLab({session})\n{act}\nlab",
}
TREE = "lab.run(); lab.branch(0, ' the'); lab.branch(0, ' a'); lab.branch(3, ' the')"
GRAMMAR = """lab.grammar_bench.grammar = r'''root   ::= object
object ::= "{" pair ("," " " pair)* "}" # no blanks
pair   ::= string ": " value
value  ::= string | [0-9]+ | object
string ::= "\\"" [a-z]* "\\""'''
lab.grammar_bench.sample = '{"city": "paris", "size": 2 }'
lab.constrain()
lab.run()"""
ADAPTERS = f"""lab.adapter_cards.add(ml.LoraAdapter.load({str(PIRATE)!r}), 0.6)
lab.adapter_cards.add(ml.ControlVector.named('happy'))
lab.run()
lab.wait()"""
FINISHED = {
    "branch_lab": TREE,
    "workbench": TREE,
    "grammar_lab": GRAMMAR,
    "adapter_lab": ADAPTERS,
    "perf_lab": "lab.run(); lab.wait()",
}
RETRIEVAL = """encoder = ml.MultiVectorEncoder(ml.Model.load('colbert-small'))
documents = {
    'open': 'Iterate over an open file to read it line by line.',
    'sorted': 'sorted() makes a new list from the items of anything iterable, in order.',
    'dedent': 'Remove any common leading whitespace from every line of a text.',
    'fill': 'Wrap a paragraph of text and join its lines with newlines.',
    'glob': 'Find the paths that match a pattern of a shell.',
}
many = {f'page {i}': ' '.join(documents.values()) * 2 for i in range(3000)}
lab = ml.labs.RetrievalLab(encoder, DOCUMENTS)
ACT
lab"""
SEARCHES = {  # what is read, and what is done with the lab
    "empty": ("documents", "lab.wait()"),
    "running": ("many", ""),
    "finished": (
        "documents",
        "lab.search('how do I read a file line by line?'); lab.look_at('open')",
    ),
    "failed": ("documents", "lab.wait(); lab.board._tell('search', 'word ' * 3000);"),
}
KEPT = {  # what the README shows
    "sampler_lab_finished_1400_light": "sampler_lab",
    "sampler_lab_finished_1400_dark": "sampler_lab_dark",
    "branch_lab_finished_1400_light": "branch_lab",
    "workbench_finished_1400_light": "workbench",
    "grammar_lab_finished_1400_light": "grammar_lab",
    "adapter_lab_finished_1400_light": "adapter_lab",
    "perf_lab_finished_1400_light": "perf_lab",
    "retrieval_lab_finished_1400_light": "retrieval_lab",
    "token_strip_1400_light": "token_strip",
}
STRIP = "model.session().generate('Once upon a time', max_tokens=90, seed=3)"


def take(
    browser: Any, cell: str, name: str, selector: str = ".mll-lab", *, crop: bool = False
) -> None:
    """A picture in each size and theme of what a cell shows, in a JupyterLab of its own."""
    with jupyterlab(Path(tempfile.mkdtemp())) as server:
        notebook = open_notebook(browser, server, [MODEL, cell], width=1400, height=757)
        page = notebook.page
        for i in (0, 1):
            notebook.run_cell(i)
        page.locator(selector).first.wait_for(timeout=60_000)
        page.evaluate("window.jupyterapp.commands.execute('filebrowser:activate')")
        for width, height in SIZES:
            page.set_viewport_size({"width": width, "height": height})
            for theme in ("Light", "Dark"):
                page.evaluate(CHANGE_THEME, {"theme": f"JupyterLab {theme}"})
                page.mouse.move(0, 0)
                page.wait_for_timeout(1200)
                shown = page.locator(selector).first
                shown.evaluate("(node) => node.scrollIntoView({block: 'start'})")
                page.wait_for_timeout(300)
                path = ALL / f"{name}_{width}_{theme.lower()}.png"
                (shown if crop else page).screenshot(path=str(path))
        notebook.close()


def cells() -> Iterator[tuple[str, str]]:
    """The name of each lab in each state, and the cell that makes it so."""
    for lab, code in LABS.items():
        for state, (n, act) in STATES.items():
            done = FINISHED.get(lab, act) if state == "finished" else act
            yield f"{lab}_{state}", code.format(session=SESSION.format(n=n), act=done)
    for state, (documents, act) in SEARCHES.items():
        cell = RETRIEVAL.replace("DOCUMENTS", documents).replace("ACT", act)
        yield f"retrieval_lab_{state}", cell


def main() -> None:
    ALL.mkdir(exist_ok=True)
    chromium = shutil.which("chromium") or sys.exit("Chromium is needed: apt install chromium")
    with headless_chromium(chromium) as browser:
        for name, cell in cells():
            take(browser, cell, name)
        take(browser, STRIP, "token_strip", ".mll-strip", crop=True)
    for taken, kept in KEPT.items():
        shutil.copyfile(ALL / f"{taken}.png", HERE / f"{kept}.png")


if __name__ == "__main__":
    main()
