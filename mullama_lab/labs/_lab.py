"""What every lab is: some views on one bench, settings that change together, three forms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

import traitlets

from mullama_lab.errors import MullamaError
from mullama_lab.widgets._view import View, still_forms


class Lab:
    """Views that are shown and closed together.

    Attributes:
        view: all of them as they are laid out.
    """

    view: Any

    def __init__(self, views: Sequence[View]) -> None:
        self._views = tuple(views)
        self._undo: list[Callable[[], object]] = []  # the last comes first

    def __reduce__(self) -> NoReturn:  # what copy and pickle ask
        raise TypeError(
            f"a {type(self).__name__} has views in a page, so it cannot be copied or pickled. "
            "What it made can, such as lab.trace, and lab.to_code() makes it again."
        )

    def close(self) -> None:
        """Let go of all that it holds, and of the views."""
        while self._undo:
            self._undo.pop()()
        for view in self._views:
            view.close()

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
        """
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

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        live = self.view._repr_mimebundle_() or {}
        data, metadata = live if isinstance(live, tuple) else (live, {})
        return {**data, **still_forms(self._views)}, metadata

    def snapshot(self) -> None:
        """Put the static form in the notebook, where it stays when the kernel is gone."""
        from IPython.display import display

        display(still_forms(self._views), raw=True)


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
    except (traitlets.TraitError, MullamaError, ValueError, TypeError) as error:
        for owner, name, old in reversed(before):
            setattr(owner, name, old)
        if isinstance(error, traitlets.TraitError):
            raise ValueError(str(error)) from None
        raise
