"""Run a function on a stack of its own, large enough for whatever is nested in what it reads.

llguidance follows rules, definitions and references by calling itself. A line of 5000 rules, each
the next one, takes a usual stack of 8 MB, past which the process ends.

Ctrl-C ends the wait at once. The thread goes on to its end, which nothing can hurry; an exit gives
it the seconds of `leaving`. If it takes longer, Python may end it within native code, and with it
the process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from mullama_lab.engine.leaving import Users

T = TypeVar("T")

STACK = 1 << 29  # bytes, of which only those that are used take memory
_readings = Users()
_sizing = threading.Lock()  # the size for new threads is one for all of Python


def on_deep_stack(function: Callable[[], T]) -> T:
    """What a function gives, or raises, on a thread with a large stack.

    Raises:
        MemoryError: there is no room for such a stack.
    """
    outcome: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            outcome.append(function())
        except BaseException as error:
            errors.append(error)
        finally:
            _readings.leave()

    thread = threading.Thread(target=work, name="mullama_lab grammar", daemon=True)
    _readings.enter_too()
    with _sizing:
        before = threading.stack_size(STACK)
        try:
            thread.start()
        except RuntimeError:
            _readings.leave()
            raise MemoryError(f"no room for a stack of {STACK} bytes, to read a grammar.") from None
        finally:
            threading.stack_size(before)
    thread.join()
    if errors:
        raise errors[0]
    return outcome[0]
