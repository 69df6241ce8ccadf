"""The tutorials as pages: Sphinx reads only what lies below its own folder, so they are copied."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx


def copy_notebooks(app: Sphinx) -> None:
    """Lay the notebooks into `docs/notebooks`, which git ignores; only what has changed."""
    copies = Path(app.srcdir) / "notebooks"
    copies.mkdir(exist_ok=True)
    originals = {path.name: path for path in Path(app.srcdir).parent.glob("notebooks/*.ipynb")}
    for copy in copies.glob("*.ipynb"):
        if copy.name not in originals:
            copy.unlink()
    for name, original in originals.items():
        copy = copies / name
        if not copy.is_file() or copy.read_bytes() != original.read_bytes():
            shutil.copyfile(original, copy)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("builder-inited", copy_notebooks)
    return {"parallel_read_safe": True}
