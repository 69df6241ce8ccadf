"""What is worked out once for each model, and forgotten with it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from mullama_lab.engine.leaving import usable_in_forks

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model

# Results of one function that are kept for one model, those asked for last. Texts that go on side
# by side may have each a grammar of its own, which is asked for again before they begin.
MOST = 32

P = ParamSpec("P")
T = TypeVar("T")


def once_per_model(
    function: Callable[Concatenate[Model, P], T],
) -> Callable[Concatenate[Model, P], T]:
    """Remember what a function gives for a model, and for other values that can be dict keys.

    A result must not hold the model, or neither would ever be freed. One thread at a time works
    one out, and what is known is given meanwhile.
    """
    known: WeakKeyDictionary[Model, dict[Any, T]] = WeakKeyDictionary()
    lock, at_work = usable_in_forks(threading.Lock()), usable_in_forks(threading.Lock())

    def found(model: Model, key: Any) -> list[T]:
        """The result in a list; empty where it is to be worked out."""
        with lock:
            results = known.setdefault(model, {})
            if key not in results:
                return []
            results[key] = results.pop(key)  # the last in order
            return [results[key]]

    def keep(model: Model, key: Any, result: T) -> T:
        with lock:
            results = known.setdefault(model, {})
            if len(results) >= MOST:
                results.pop(next(iter(results)))
            results[key] = result
            return result

    @wraps(function)
    def remembered(model: Model, *values: P.args, **named: P.kwargs) -> T:
        key = values, tuple(named.items())
        if result := found(model, key):
            return result[0]
        with at_work:
            if result := found(model, key):  # another thread has worked it out
                return result[0]
            return keep(model, key, function(model, *values, **named))

    return remembered
