"""What acts on weights as plain values: who does it by a fingerprint, and what each of those is.

An adapter is known by its file's path and contents, which stay where they are; a vector is written
whole. `known` is `{"adapters": {fingerprint: ...}, "vectors": {fingerprint: ...}}`: one for all
that is written to one file, so that each is in it once.
What comes from a file is checked as if a stranger had written it.
"""

from __future__ import annotations

import ast
import base64
import math
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from mullama_lab.engine.options import instance, listed, whole
from mullama_lab.engine.steering.control_vector import ControlVector
from mullama_lab.engine.steering.lora import LoraAdapter
from mullama_lab.engine.steering.steering import Steering, adapters_of
from mullama_lab.glyphs import brief

Plain = dict[str, Any]


def packed(steering: Steering) -> Plain:
    """Which adapters at which scales, and which vector; empty where there is none."""
    adapters = {adapter.fingerprint: scale for adapter, scale in steering.adapters.items()}
    vector = steering.control
    return ({"adapters": adapters} if adapters else {}) | (
        {} if vector is None else {"control": vector.fingerprint}
    )


def known_of(steerings: Iterable[Steering]) -> Plain:
    """What all of them name, each once."""
    adapters, vectors = {}, {}
    for steering in steerings:
        adapters |= {one.fingerprint: _adapter_as_plain(one) for one in steering.adapters}
        if (vector := steering.control) is not None and vector.fingerprint not in vectors:
            vectors[vector.fingerprint] = _vector_as_plain(vector)
    return {"adapters": adapters, "vectors": vectors}


def merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> Plain:
    """What two of `known_of` name together."""
    return {name: {**one.get(name, {}), **other.get(name, {})} for name in ("adapters", "vectors")}


def unpacked(plain: Mapping[str, Any], known: Mapping[str, Any]) -> Steering:
    """What `packed` gave.

    Raises:
        KeyError, TypeError, ValueError: it is not of that form.
    """
    adapters = {
        _adapter(fingerprint, known["adapters"][fingerprint]): scale
        for fingerprint, scale in plain.get("adapters", {}).items()
    }
    name = plain.get("control")
    vector = None if name is None else _vector(name, known["vectors"][name])
    return Steering(adapters_of(adapters), vector)


def _adapter_as_plain(adapter: LoraAdapter) -> Plain:
    values = {one.name: getattr(adapter, one.name) for one in fields(adapter)}
    del values["fingerprint"]
    return values | {"path": str(adapter.path), "targets": list(adapter.targets)}


def _adapter(fingerprint: str, plain: Mapping[str, Any]) -> LoraAdapter:
    alpha = plain["alpha"]
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not math.isfinite(alpha):
        raise ValueError(f"an adapter's alpha is {brief(alpha)}")
    texts: Any = {
        name: instance(name, plain[name], str)
        for name in ("architecture", "name", "task_name", "prompt_prefix")
    }
    counts: Any = {
        name: whole(name, plain[name], 0, 1 << 62) for name in ("rank", "n_params", "size_bytes")
    }
    return LoraAdapter(
        path=Path(instance("path", plain["path"], str)),
        alpha=float(alpha),
        targets=tuple(
            instance("a target", one, str) for one in listed("targets", plain["targets"], "names")
        ),
        fingerprint=instance("fingerprint", fingerprint, str),
        **texts,
        **counts,
    )


def _vector_as_plain(vector: ControlVector) -> Plain:
    rows = vector.directions.items()
    return {
        "architecture": vector.architecture,
        "name": vector.name,
        "model": vector.model,
        "code": vector._code,
        "layers": {str(layer): base64.b64encode(row.tobytes()).decode() for layer, row in rows},
    }


def _vector(fingerprint: str, plain: Mapping[str, Any]) -> ControlVector:
    rows = {
        int(layer): np.frombuffer(base64.b64decode(data, validate=True), "<f4")
        for layer, data in plain["layers"].items()
    }
    texts = (instance(name, plain[name], str) for name in ("architecture", "name", "model", "code"))
    architecture, name, model, code = texts
    if code and not _is_arithmetic(code):
        raise ValueError(f"the code of a control vector is {brief(code)}")
    vector = ControlVector(rows, architecture=architecture, name=name, model=model)
    vector._code = code
    if vector.fingerprint != fingerprint:
        raise ValueError("a control vector has other numbers than those that its name is of")
    return vector


def _is_arithmetic(code: str) -> bool:
    """Whether a text, which somebody may run, is arithmetic of vectors that are loaded."""
    try:
        return _is_vector(ast.parse(code, mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _is_vector(node: ast.expr) -> bool:
    match node:
        case ast.BinOp(left, ast.Add() | ast.Sub(), right):
            return _is_vector(left) and _is_vector(right)
        case ast.BinOp(left, ast.Mult(), right):
            return _is_number(left) and _is_vector(right)
        case ast.BinOp(left, ast.Div(), right):
            return _is_vector(left) and _is_number(right)
        case ast.UnaryOp(ast.USub(), operand):
            return _is_vector(operand)
        case ast.Call(
            ast.Attribute(ast.Name("ControlVector"), "load" | "named"), [ast.Constant(said)], []
        ):
            return isinstance(said, str)
        case ast.Call(ast.Attribute(value, "layers"), [ast.Constant(), ast.Constant()] as ends, []):
            return _is_vector(value) and all(map(_is_number, ends))
        case ast.Call(ast.Attribute(value, "normalize"), [], []):
            return _is_vector(value)
    return False


def _is_number(node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node = node.operand
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)
