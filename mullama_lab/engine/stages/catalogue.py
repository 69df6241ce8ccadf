"""What a chain editor can offer."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from mullama_lab.engine.stages import Stage, every_kind


def catalogue() -> list[dict[str, Any]]:
    """Every stage that an editor can set, with its settings and rules."""
    return [_describe(kind) for kind in every_kind() if not is_set_in_python(kind)]


def is_set_in_python(kind: type[Stage]) -> bool:
    """Whether what a stage is about can be set in an editor neither as numbers nor as text."""
    return bool(fields(kind)) and not kind.settings() and not kind.texts()


def _describe(kind: type[Stage]) -> dict[str, Any]:
    rules = kind.settings()
    settings = [
        {
            "name": f.name,
            "label": f.name.replace("_", " "),
            "kind": rule.kind,
            "low": rule.low,
            "high": rule.high,
            "slider": list(rule.slider),
            "step": rule.step,
            "scale": rule.scale,
            "default": f.default,
            "help": rule.help,
        }
        for f in fields(kind)
        if (rule := rules.get(f.name))
    ]
    return {
        "stage": kind.__name__,
        "label": kind.label,
        "summary": (kind.__doc__ or "").split("\n")[0],
        "source": kind.source,
        "settings": settings,
    }
