"""The project's list of nasty values, for whatever takes a value from a caller."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import mullama_lab as ml


class Hostile(Exception):
    """What an object of the caller's raises: it may come out of any call."""


def _raise(*_: object) -> Any:
    raise Hostile


def hostile(*names: str) -> Any:
    return type("Hostility", (), dict.fromkeys(names, _raise))()


def nested(depth: int) -> list[Any]:
    inner: list[Any] = []
    for _ in range(depth):
        inner = [inner]
    return inner


def ring() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


def closed_model(folder: Path) -> ml.Model:
    model = ml.Model.load(folder / "tiny.gguf")
    model.close()
    return model


def nasty_values(folder: Path) -> dict[str, Callable[[], Any]]:
    """The project's list: a name and how the value is made."""
    loop = folder / "loop"
    if not loop.is_symlink():
        loop.symlink_to(loop)
    closed = closed_model(folder)
    plain = {
        **{repr(value): value for value in (None, True, False, 0, -1, 1, 2**31, -(2**31) - 1)},
        **{repr(value): value for value in (2**63, -(2**63) - 1, 0.5, -0.0, 1e308, 1j, ...)},
        **{str(value): value for value in (float("nan"), float("inf"), float("-inf"))},
        "2**5000": 2**5000,
        **{ascii(text): text for text in ("", " ", "\0", "\ud800", "\u202e", "\N{MAN}\u200d", "a")},
        **{ascii(text): text for text in ("nan", "1", "../x", "hf:a/../b", "\x1b[2J", "\r\n")},
        "a long text": "ab " * 40_000,
        "a long word": "a" * 120_000,
        **{repr(value): value for value in (b"", b"abc\xff", (), (1,), ("a", "b"), [], [None])},
        **{
            repr(value): value for value in ([1, "a"], [-1], [2**63], [float("nan")], [[1], [2, 3]])
        },
        **{repr(value): value for value in ({}, {1: 2}, {"a": None}, range(0), range(10**9))},
        **{repr(value): value for value in (set(), {1, 2}, frozenset("ab"), slice(1), int, list)},
        "ragged lists": [[1], [2, 3]],
        "nested lists": nested(100),
        "lists nested too deep": nested(2000),
        "more digits than Python writes": 2**70_000,
        "a range without a length": range(10**30),
        "a ring": ring(),
        "float64": np.float64(0.5),
        "int8": np.int8(-1),
        "0-d": np.array(1),
        "0-d float": np.array(np.nan),
        "2-d": np.zeros((2, 2), np.float32),
        "no numbers": np.zeros(0, np.float32),
        "complex": np.zeros(3, complex),
        "object": np.array([None, "a", 1], object),
        "texts": np.array(["a", "b"]),
        "uint64": np.array([2**64 - 1], np.uint64),
        "nans": np.full(259, np.nan, np.float32),
        "infs": np.full(259, -np.inf),
        "dates": np.array(["2020-01-01"], "datetime64[D]"),
        "records": np.zeros(2, [("a", "i4"), ("b", "f4")]),
        "structured": np.void(b"abc"),
        "a model": ml.Model,
        "a closed model": closed,
        "a function": len,
        "a function of nothing": lambda: None,
        "a module": sys,
        "an error": ValueError("x"),
        "an object": object(),
        **{f"{name} raises": hostile(name) for name in ("__index__", "__len__", "__iter__")},
        **{
            f"{name} raises": hostile(name)
            for name in ("__repr__", "__str__", "__eq__", "__bool__")
        },
        **{f"{name} raises": hostile(name) for name in ("__float__", "__array__", "__fspath__")},
        "all of it raises": hostile("__repr__", "__str__", "__iter__", "__len__", "__index__"),
        "a folder": folder,
        "a link to itself": loop,
        "below a file": folder / "tiny.gguf" / "x",
        "a device": Path("/dev/null"),
        "an endless device": Path("/dev/full"),
        "a long name": folder / ("x" * 300),
    }
    made: dict[str, Callable[[], Any]] = {
        "a generator": lambda: (value for value in (1, None, "a")),
        "an empty generator": lambda: iter(()),
        "a bytearray": lambda: bytearray(b"abc"),
        "a memoryview": lambda: memoryview(b"abc"),
    }
    return {**{name: (lambda value=value: value) for name, value in plain.items()}, **made}
