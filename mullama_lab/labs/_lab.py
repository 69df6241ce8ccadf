"""What every lab has: views closed together, settings set all or none, three forms of display.

A lab lives as long as somebody holds it or a cell shows it. When a cell that made a lab runs
again and makes another one, the new one takes the old one's place, which is closed: a person who
runs a cell again means the same lab anew, and IPython's output history would keep each of them.
"""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import monotonic
from typing import Any, NoReturn

from mullama_lab.errors import ClosedError, MullamaError
from mullama_lab.glyphs import brief
from mullama_lab.widgets import _cells, _pages
from mullama_lab.widgets._kept import Kept, Shelf
from mullama_lab.widgets._view import View, all_forms, still_forms

log = logging.getLogger(__name__)

CLOSED = "The lab was closed. Run the cell that makes it to go on."
MOMENT = 1.0  # seconds
REPLACED = "A newer run of its cell took this lab's place. Run this cell again to see that one."

_alive: weakref.WeakSet[Lab] = weakref.WeakSet()
_newest: _cells.NewestRuns[weakref.ref[Lab]] = _cells.NewestRuns()  # by the cell that made them


class Lab(Shelf):
    """Views that are shown and closed together.

    It is a widget, and so is each view in it, such as `lab.strip`:
    `ipywidgets.VBox([lab, ...])` lays it out beside others and keeps it alive.

    Args:
        children: its views, as they are laid out.
    """

    _closed = ""  # why it was closed; empty while it is open
    _of_its_picture = (
        "A picture of the lab as it was. To go on: Run › Run All Above Selected Cell, then this "
        "cell, which begins anew."
    )

    def __init__(self, children: Iterable[Kept], *css_classes: str) -> None:
        self._undo: list[Callable[[], object]] = []  # called on close, the last first
        super().__init__(children, *css_classes)
        _replace_earlier_labs(self)

    def __reduce__(self) -> NoReturn:  # what pickle asks
        raise TypeError(
            f"a {type(self).__name__} has views in a page, so it cannot be copied or pickled. "
            "What it made can, such as lab.trace, and lab.to_code() makes it again."
        )

    def close(self, why: str = CLOSED) -> None:
        """Let go of all that it holds, and of the views. Closing twice is fine.

        What it made, such as traces, stays as long as somebody holds it. Where the lab is on a
        page it says there that it was closed.

        Raises:
            TypeError: `why` is no text.
        """
        must_be_text("why", why)
        self._closed = self._closed or why
        while self._undo:
            self._undo.pop()()
        super().close(self._closed)

    def __del__(self) -> None:
        self._undo = []  # a finalizer waits for nothing: what it held lets go by itself
        super().__del__()

    def _must_be_open(self) -> None:
        """Refuse to begin anything when it was closed.

        Raises:
            ClosedError: it was.
        """
        if self._closed:
            raise ClosedError(self._closed)

    def _observe(self, view: View, act: Callable[[Any], object], *names: str) -> None:
        """Call `act(change)` when a trait changes, until the lab is closed."""
        view.observe(act, list(names))
        self._undo.append(lambda: view.unobserve(act, list(names)))

    def _set(
        self,
        settings: Mapping[str, object],
        known: Mapping[str, Sequence[object]],
        hint: str = "",
    ) -> None:
        """Set several settings, or none if one is refused.

        Args:
            known: what has each setting; they are set in this order.
            hint: said behind what is known when one is not.

        Raises:
            ValueError, TypeError: there is no such setting, or what is wrong with its value.
            ClosedError: the lab was closed.
        """
        self._must_be_open()
        if unknown := sorted(set(settings) - set(known)):
            raise ValueError(
                f"a {type(self).__name__} has no setting {unknown[0]!r}; it has "
                f"{', '.join(known)}.{hint}"
            )
        set_together(
            (owner, name, settings[name])
            for name, owners in known.items()
            if name in settings
            for owner in owners
        )

    # Showing it

    def _still_views(self) -> Sequence[View]:
        """The views that its static and its plain form show."""
        return [part for part in self._all_parts() if isinstance(part, View)]

    def _wait_a_moment(self) -> None:
        """Wait for what the views are to show at first, unless a run goes on, which comes first."""
        end = monotonic() + MOMENT
        for view in self._still_views():
            if not any(part._is_at_work for part in self._all_parts()):
                view._wait_to_show(end - monotonic())

    def _still_forms(self) -> dict[str, str]:
        return still_forms(self._still_views(), self._of_its_picture)

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        if self._closed:
            return self._still_forms(), {}
        self._wait_a_moment()
        _pages.offer(self)
        return all_forms(super()._repr_mimebundle_(), self._still_forms())

    def snapshot(self) -> None:
        """Put the static form in the notebook, where it stays when the kernel is gone."""
        from IPython.display import display

        self._wait_a_moment()
        display(self._still_forms(), raw=True)


def _replace_earlier_labs(lab: Lab) -> None:
    """Close the labs that an earlier run of this cell made, and free what nobody holds."""
    if (here := _cells.current_run()) is not None:
        old = [made for ref in _newest.add(here, weakref.ref(lab)) if (made := ref()) is not None]
        for one in reversed(old):
            try:
                one.close(REPLACED)
            except Exception:
                log.exception("a lab that was replaced could not be closed")
        _cells.forget_outputs([part for one in old for part in one._all_parts()])
        del old
    if _alive:  # contexts are large, and Python's collector does not see how large
        gc.collect()
    _alive.add(lab)


def set_together(values: Iterable[tuple[object, str, object]]) -> None:
    """Set attributes, each given as (owner, name, value), or none if one is refused.

    Raises:
        ValueError, TypeError, MullamaError: what is wrong with a value.
    """
    before: list[tuple[object, str, object]] = []
    try:
        for owner, name, value in values:
            old = getattr(owner, name)
            setattr(owner, name, value)
            before.append((owner, name, old))
    except (MullamaError, ValueError, TypeError):
        for owner, name, old in reversed(before):
            setattr(owner, name, old)
        raise


def must_be_text(name: str, value: object) -> None:
    """Refuse what is no text; TypeError."""
    if not isinstance(value, str):
        raise TypeError(f"{name}={brief(value)}: it must be a text.")
