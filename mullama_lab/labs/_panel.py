"""What a workbench shows beside each other: panels, each with its views and what fills them."""

from __future__ import annotations

from typing import ClassVar

from mullama_lab.engine.loop.run import Run
from mullama_lab.engine.session import Session
from mullama_lab.engine.stages import Chain
from mullama_lab.engine.trace import Trace
from mullama_lab.widgets._view import View


class Panel:
    """One panel of a workbench; a new one is a class of this kind and its line in `Workbench`.

    It begins with a session and ends before another one; the bench tells it in between what
    happens, on any thread. What a hidden panel would have to compute it puts off.

    Attributes:
        key, title: what it is called in Python and on the screen.
        views: those it shows, from left to right or from top to bottom.
        is_shown: whether it is on the screen.
    """

    key: ClassVar[str]
    title: ClassVar[str]
    views: tuple[View, ...]
    is_shown = False

    @property
    def still_views(self) -> tuple[View, ...]:
        """Those that stand in a saved notebook."""
        return self.views

    def show_or_hide(self, is_shown: bool) -> None:
        """Note whether it is on the screen; if it is from now on, catch up."""
        was, self.is_shown = self.is_shown, is_shown
        if is_shown and not was:
            self.catch_up()

    def begin(self, session: Session) -> None:
        """Work on a session from now on."""

    def end(self) -> None:
        """Show nothing more of the session, nor what there was of it."""

    def close(self) -> None:
        """End for good."""

    def code(self, lab: str) -> str:
        """Python that turns its views as they are, in a lab of that name; "" leaves them so."""
        return ""

    # What happens between begin and end.

    def catch_up(self) -> None:
        """It is on the screen from now on: show what was put off."""

    def request_changed(self) -> None:
        """Another prompt or seed is asked for."""

    def chain_changed(self, before: Chain, after: Chain) -> None:
        """The chain was turned."""

    def weights_changed(self) -> None:
        """Other adapters or another control vector act from now on."""

    def follow(self, run: Run) -> None:
        """A generation began, whoever began it."""

    def show(self, trace: Trace | None) -> None:
        """Another trace is the one that is shown, or none is."""

    def turn_to(self, trace: Trace | None, step: int) -> None:
        """Look at a step of a trace, or (None) at the end of the prompt, once it is shown."""

    def stop(self) -> None:
        """End what it has under way; what was found stays."""

    def settle(self) -> None:
        """Wait until all that was asked for is shown; for code, not for callbacks."""
