"""What a caller may pass for numbers, names and strings: each checked, each with its rule.

Whatever is wrong with a value, the message names the value, the rule and, where it is not plain
from the rule, the way out.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from itertools import islice
from typing import Any, TypeAlias, TypeVar

import numpy as np
import psutil
from numpy.typing import NDArray

from mullama_lab.engine.native.context import KV_TYPES
from mullama_lab.engine.native.library import RANDOM_SEED
from mullama_lab.glyphs import brief

Stop: TypeAlias = str | int | Iterable[str | int]  # strings, and tokens by id

MAX_SEED = RANDOM_SEED - 1
MAX_STEP = 1 << 20  # llama.cpp's generator is wound forward draw by draw
MAX_TOP = 1024
LONGEST_STOP = 4096  # characters
LONGEST_WAIT = 10**9  # seconds
LONGEST_LIST = 10**7  # values

T = TypeVar("T")


def whole(name: str, value: Any, low: int, high: int, way_out: str = "") -> int:
    """A whole number from `low` to `high`."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name}={brief(value)}: it must be a whole number.{way_out}")
    try:
        number = value.__index__()
    except TypeError:  # an array
        raise TypeError(f"{name}={brief(value)}: it must be one whole number.") from None
    if not low <= number <= high:
        raise ValueError(f"{name}={brief(number)}: it must be from {low} to {high}.{way_out}")
    return number


def flag(name: str, value: Any) -> bool:
    """True or False, or what Python takes for one of them; an array may be neither."""
    try:
        return bool(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name}={brief(value)}: it must be True or False.") from None


def listed(name: str, values: Any, of: str) -> list[Any]:
    """Several values in order; one that is no collection, or one text, is refused."""
    one = isinstance(values, (str, bytes, bytearray, type)) or getattr(values, "ndim", 1) == 0
    if one or not isinstance(values, Iterable):
        raise TypeError(f"{name}={brief(values)}: it must be a list of {of}.")
    must_not_be_endless(name, values, of)
    found = list(islice(values, LONGEST_LIST + 1))  # `itertools.count` has no end
    if len(found) > LONGEST_LIST:
        raise _too_many(name, values, of)
    return found


def must_not_be_endless(name: str, values: Any, of: str) -> None:
    """Refuse what has more values than anybody means, before it is gone through."""
    try:
        n = len(values)
    except (TypeError, AttributeError):  # one that is gone through
        return
    except OverflowError:  # a range of more than 2**63
        n = LONGEST_LIST + 1
    if n > LONGEST_LIST:
        raise _too_many(name, values, of)


def _too_many(name: str, values: object, of: str) -> ValueError:
    return ValueError(f"{name}={brief(values)}: it has more than {LONGEST_LIST} {of}.")


def utf8(what: str, text: str) -> bytes:
    """A text in UTF-8, which has no word for half a character; `what` names it in the message."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{what} has a lone surrogate, {text[error.start]!a}, at {error.start}, which is no "
            "character. Pass text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace') "
            "to have it repaired or replaced."
        ) from None


def instance(name: str, value: Any, kind: type[T], way_out: str = "") -> T:
    """One of our own objects."""
    if not isinstance(value, kind):
        raise TypeError(f"{name}={brief(value)}: it must be a {kind.__name__}.{way_out}")
    return value


def seconds(name: str, value: Any) -> float | None:
    """A time to wait; None is for ever."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name}={brief(value)}: it must be a number of seconds, or None.")
    if not value <= LONGEST_WAIT:  # a NaN neither
        raise ValueError(f"{name}={brief(value)}: it must be at most {LONGEST_WAIT} seconds.")
    return float(value)


def exact(name: str, values: Any, kind: type[np.integer]) -> NDArray[Any]:
    """Whole numbers as an array of `kind`, none of them cut or wrapped round to fit.

    The caller's own array where it is of that kind already.

    Raises:
        ValueError: one is no whole number, or larger than `kind` holds.

    >>> exact("ids", [1, 2], np.int32).dtype.name
    'int32'
    """
    must_not_be_endless(name, values, "whole numbers")
    given = np.asarray(values)
    if given.dtype == kind:
        return given
    ends = np.iinfo(kind)
    if given.size and not (
        given.dtype.kind in "iu" and ends.min <= int(given.min()) and int(given.max()) <= ends.max
    ):
        raise ValueError(
            f"{name}={brief(values)}: they must be whole numbers from {ends.min} to {ends.max}."
        )
    return given.astype(kind)


def token_limit(max_tokens: Any) -> int:
    """How many tokens are generated at most."""
    way_out = " A large number goes on until the context is full."
    return whole("max_tokens", max_tokens, 0, 1 << 31, way_out)


def n_cores() -> int:
    """The processor's cores, each counted once however many threads it runs."""
    return psutil.cpu_count(logical=False) or os.cpu_count() or 1


def threads(n_threads: Any) -> int:
    """How many threads decode; None leaves a core to the rest, or all would wait for one."""
    if n_threads is None:
        return max(1, n_cores() - 1)
    return whole("n_threads", n_threads, 1, 512)


def one_of(name: str, value: Any, known: Iterable[str]) -> str:
    """One of some names, as it is known, where the value may be of a class of texts."""
    names = list(known)
    if not isinstance(value, str) or value not in names:
        raise ValueError(f"{name}={brief(value)}: it must be one of {', '.join(names)}.")
    return names[names.index(value)]


def kv_types(value: Any) -> tuple[str, str]:
    """The types of a cache: one name for both, or one for keys and one for values."""
    names = (value, value) if isinstance(value, str) else value
    if not isinstance(names, (tuple, list)) or len(names) != 2:
        raise ValueError(
            f"kv_type={brief(value)}: it must be one name, or one for keys and one for values."
        )
    keys, values = (one_of("kv_type", name, KV_TYPES) for name in names)
    return keys, values


def seed_or_random(seed: int | None) -> int:
    """A seed; None picks one."""
    if seed is None:
        return secrets.randbelow(1 << 31)
    return whole("seed", seed, 0, MAX_SEED, " None picks one.")


def stop_strings_and_tokens(stop: Stop | None) -> tuple[list[str], list[int]]:
    """Stop strings and the ids of stop tokens; None and () are none.

    Whether the ids are in a vocabulary is for the model to say.
    """
    rule = "it must be a text, a token id, or a list of those."
    one = isinstance(stop, str) or hasattr(stop, "__index__")
    stops: Any = [stop] if one else () if stop is None else stop
    if not isinstance(stops, Iterable) or isinstance(stops, (bytes, dict)):
        raise TypeError(f"stop={brief(stop)}: {rule}")
    must_not_be_endless("stop", stops, "texts and token ids")
    strings: list[str] = []
    tokens: list[int] = []
    for item in stops:
        if not isinstance(item, str):
            if isinstance(item, bool) or not hasattr(item, "__index__"):
                raise TypeError(f"stop={brief(stop)}: {brief(item)} is no text and no token id.")
            tokens.append(whole("a stop token", item, 0, (1 << 31) - 1))
        elif not item:
            raise ValueError(f"stop={brief(stop)}: a stop string has at least one character.")
        elif len(item) > LONGEST_STOP:
            raise ValueError(
                f"stop={item[:40]!r}…: it has {len(item)} characters, and a stop string has at "
                f"most {LONGEST_STOP}. Give the beginning of it."
            )
        else:
            strings.append(item)
    return strings, tokens
