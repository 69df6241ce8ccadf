"""Run the notebooks top to bottom and save them with their outputs: `python notebooks/run.py`.

The reference to a live view, whose kernel is gone, is left out: only the view's static and text
forms are kept, and the mark that they are a view's. A bar of progress is left out too.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
LIVE = "application/vnd.jupyter.widget-view+json"


def run(path: Path) -> None:
    """Execute one notebook and write it back."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, store_widget_state=False, coalesce_streams=True).execute(
        cwd=str(HERE)
    )
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(LIVE, None)
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if not _is_a_bar(output)]
    notebook.metadata["language_info"] = {"name": "python"}
    nbformat.write(notebook, path)


def _is_a_bar(output: nbformat.NotebookNode) -> bool:
    """Whether it is where a bar of progress was, which has no text when it is done."""
    return output.get("data") == {"text/plain": ""}


if __name__ == "__main__":
    for name in sys.argv[1:] or sorted(map(str, HERE.glob("*.ipynb"))):
        print(name)
        run(Path(name))
