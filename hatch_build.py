"""Put the browser half of the widgets, and the notebooks, into the wheel.

The scripts and style sheets in `widgets/` live beside the package, where they are edited.
An editable install reads them there, so this hook adds nothing to it. A wheel
gets copies: `mullama_lab/widgets/static/` and `mullama_lab/_notebooks/`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

CARRIED = {
    "widgets": ("mullama_lab/widgets/static", ("*.js", "*.css")),
    "widgets/shared": ("mullama_lab/widgets/static/shared", ("*.js", "*.css")),
    "notebooks": ("mullama_lab/_notebooks", ("*.ipynb",)),
    "notebooks/data": ("mullama_lab/_notebooks/data", ("*",)),
}


class BrowserHalfHook(BuildHookInterface):
    """Adds what CARRIED lists to a standard wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        for folder, (home, patterns) in CARRIED.items():
            for pattern in patterns:
                for source in sorted(Path(self.root, folder).glob(pattern)):
                    if source.is_file():
                        build_data["force_include"][str(source)] = f"{home}/{source.name}"
