"""Modules of a package that are loaded when they are first used."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection
from types import ModuleType


def loaded_on_use(package: str, names: Collection[str]) -> Callable[[str], ModuleType]:
    """What the package's `__getattr__` is, so that each of these modules is loaded on first use."""

    def get(name: str) -> ModuleType:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return importlib.import_module(f"{package}.{name}")

    return get
