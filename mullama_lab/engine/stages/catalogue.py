"""What a chain editor can offer."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from mullama_lab.engine.stages import samplers as s
from mullama_lab.engine.stages.chain import Stage


def catalogue() -> list[dict[str, Any]]:
    """Every stage but Custom, with its settings and rules."""
    order = (
        s.Temperature, s.TopK, s.TopP, s.MinP, s.Typical, s.TopNSigma, s.XTC, s.Penalties, s.DRY,
        s.DynamicTemperature, s.Mirostat, s.MirostatV2, s.AdaptiveP, s.TailFree, s.LogitBias,
        s.Mask, s.Ban, s.Infill, s.Greedy,
    )  # fmt: skip
    return [_describe(kind) for kind in order]


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
