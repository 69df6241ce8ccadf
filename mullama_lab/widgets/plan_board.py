"""PlanBoard: settings of a session to turn, and what they would take of the memory.

The board plans nothing: it calls those who said `on_change`, who must return at once and show a
plan later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element

import traitlets

from mullama_lab.counted import size_in_words
from mullama_lab.engine.native.context import KV_TYPES
from mullama_lab.engine.options import kv_types
from mullama_lab.engine.session.checks import MOST_TOKENS
from mullama_lab.glyphs import brief
from mullama_lab.widgets import _front_end, _static
from mullama_lab.widgets._memory_parts import buffers_of
from mullama_lab.widgets._view import Undo, View, what_failed, whole_number

if TYPE_CHECKING:
    from mullama_lab.studies.planner import Plan

__all__ = ["PlanBoard"]
__dir__ = __all__.copy  # what tab completion offers

MOST = {"n_ctx": MOST_TOKENS, "n_seq_max": 256, "n_ubatch": 1 << 16}
TURNED = ("n_ctx", "kv_type", "n_seq_max", "n_ubatch")
USUAL = {"flash_attention": "auto", "kv_unified": True, "reproducible": False}  # has no lever
OF_OTHERS = "What follows was planned for other settings."
LEAST_BATCH = 512  # n_batch, where no session was begun with


class PlanBoard(View):
    """n_ctx, the type of the cache, sequences and n_ubatch; and the bytes that these would take.

        board = ml.widgets.PlanBoard(n_ctx=4096)
        plan = ml.studies.planner.plan
        undo = board.on_change(lambda board: board.show(plan("smollm2-135m", **board.settings)))
        board.n_ctx = 8192

    `labs.PerfLab` has one that plans beside what a person does.

    Args:
        n_ctx, kv_type, n_seq_max, n_ubatch: as for `model.session`.
        n_ctx_train: tokens the model was trained with, where the slider of n_ctx ends.

    Raises:
        ValueError: one is out of range.
    """

    _esm = _front_end.module("plan_board")
    _css = _front_end.style("plan_board")

    n_ctx = traitlets.Int(4096, help="Tokens the context has room for.").tag(sync=True)
    kv_type = traitlets.Any("f16", help="Of keys and values in the cache, or of each.").tag(
        sync=True
    )
    n_seq_max = traitlets.Int(8, help="Sequences there may be at once.").tag(sync=True)
    n_ubatch = traitlets.Int(512, help="Tokens that are computed at once.").tag(sync=True)
    n_ctx_train = traitlets.Int(32768, help="Where the slider of n_ctx ends.").tag(sync=True)
    kv_types = traitlets.List(traitlets.Any(), list(KV_TYPES), help="Those to choose from.").tag(
        sync=True
    )
    whole = traitlets.Dict(help="What is planned, with its parts; empty before.").tag(sync=True)
    said = traitlets.Unicode("", help="How much that is of what is free.").tag(sync=True)
    fits = traitlets.Bool(
        None, allow_none=True, help="Whether it is free; None before these settings are planned."
    ).tag(sync=True)
    stale = traitlets.Bool(False, help="Whether what is planned is of other settings.").tag(
        sync=True
    )
    problem = traitlets.Unicode("", help="Why there is no plan.").tag(sync=True)

    def __init__(
        self,
        *,
        n_ctx: int = 4096,
        kv_type: str | tuple[str, str] = "f16",
        n_seq_max: int = 8,
        n_ubatch: int = 512,
        n_ctx_train: int = 32768,
    ) -> None:
        self._n_batch, self._others = LEAST_BATCH, {}
        self._planned: Plan | None = None
        self._planned_for: dict[str, Any] = {}
        super().__init__(
            n_ctx=n_ctx,
            kv_type=kv_type,
            n_seq_max=n_seq_max,
            n_ubatch=n_ubatch,
            n_ctx_train=n_ctx_train,
        )

    @property
    def settings(self) -> dict[str, Any]:
        """The settings, for `studies.planner.plan` and `model.session`."""
        return {
            "n_ctx": self.n_ctx,
            "kv_type": self.kv_type,
            "n_seq_max": self.n_seq_max,
            "n_batch": max(self._n_batch, self.n_ubatch),
            "n_ubatch": self.n_ubatch,
            **self._others,
        }

    def begin_with(self, settings: Mapping[str, Any], n_ctx_train: int) -> None:
        """Take over `session.settings`, also those that the board has no lever for.

        Args:
            n_ctx_train: as of the session's model.
        """
        with self.hold_sync():
            self._n_batch = settings["n_batch"]
            self._others = {
                name: settings[name] for name, usual in USUAL.items() if settings[name] != usual
            }
            self.n_ctx_train = n_ctx_train
            for name in TURNED:
                setattr(self, name, settings[name])
            self._mark()

    def on_change(self, callback: Callable[[PlanBoard], object]) -> Undo:
        """Call `callback(board)` when a setting was turned; returns what undoes it."""
        return self._listen("change", callback)

    def show(self, planned: Plan, settings: Mapping[str, Any] | None = None) -> None:
        """Show a plan.

        Args:
            settings: what it is a plan of; None takes those that the board has now. Where the
                board has others by then, it is shown as stale.

        Raises:
            TypeError: it is none.
        """
        if not hasattr(type(planned), "fits") or not hasattr(planned, "by_device"):
            raise TypeError(f"{brief(planned)} is no Plan: see studies.planner.plan.")
        if settings is not None and not isinstance(settings, Mapping):
            raise TypeError(f"settings={brief(settings)}: they go by name, as board.settings do.")
        with self.hold_sync():
            self.problem = ""
            self._planned, self._planned_for = planned, {**self.settings, **(settings or {})}
            self.whole = {**buffers_of(planned), "title": "Predicted"}
            self._mark()

    def fail(self, error: str | Exception) -> None:
        """Say why there is no plan of these settings; the last one stays, dimmed."""
        self.problem = what_failed(error)

    def clear(self) -> None:
        """Show no plan."""
        with self.hold_sync():
            self._planned, self.whole, self.problem = None, {}, ""
            self._mark()

    def to_code(self) -> str:
        """Python that opens such a session, once `model` is there."""
        given = ", ".join(f"{name}={value!r}" for name, value in self.settings.items())
        return f"session = model.session({given})"

    # Inside.

    @traitlets.validate("n_ctx", "n_seq_max", "n_ubatch")
    def _check_number(self, proposal: Any) -> int:
        name = proposal["trait"].name
        try:
            return whole_number({name: proposal["value"]}, name, low=1, high=MOST[name])
        except ValueError as error:
            raise traitlets.TraitError(str(error)) from None

    @traitlets.validate("kv_type")
    def _check_type(self, proposal: Any) -> str | tuple[str, str]:
        try:
            keys, values = kv_types(proposal["value"])
        except ValueError as error:
            raise traitlets.TraitError(str(error)) from None
        return keys if keys == values else (keys, values)

    @traitlets.observe(*TURNED)
    def _turned(self, _: Any) -> None:
        with self.hold_sync():
            if self.kv_type not in self.kv_types:  # a pair is offered once there was one
                self.kv_types = [*KV_TYPES, self.kv_type]
            self._mark()
        self._tell("change", self)

    def _mark(self) -> None:
        """Say of the plan whether it is one of these settings, and if so whether that fits."""
        planned = self._planned
        self.stale = planned is not None and self._planned_for != self.settings
        if planned is None or self.stale:
            self.said, self.fits = "", None
        else:
            self.said, self.fits = _against_free(planned), planned.fits

    # From the browser

    def _on_request(self, op: str, args: dict[str, Any]) -> dict[str, Any]:
        if op != "set":
            return super()._on_request(op, args)
        seq = whole_number(args, "seq", low=0, high=2**53)
        name = args.get("name")
        if name not in TURNED:
            raise ValueError(f"a plan board has no setting {brief(name)}")
        setattr(self, name, args.get("value"))
        return {"seq": seq}

    # Without a browser

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value}" for name, value in self.settings.items())
        planned = f": {self.whole['words']}" if self.whole and not self.stale else ""
        return f"PlanBoard({given}{planned})"

    def _rows(self) -> list[list[str]]:
        return [[part["label"], part["words"]] for part in self.whole.get("parts", [])]

    def _plain_text(self) -> str:
        lines = filter(None, [self.problem, repr(self), OF_OTHERS if self.stale else ""])
        return _static.table_as_text("\n".join(lines), ["part", "size"], self._rows())

    def _static_html(self) -> Element:
        e = _static.element
        return e(
            "div",
            e("b", "Plan "),
            e("span", repr(self)),
            e("div", self.problem) if self.problem else None,
            e("div", OF_OTHERS if self.stale else self.said, style=_static.QUIET),
            _static.table(["part", "size"], self._rows(), title="Part by part"),
            style=_static.FONT,
        )


def _against_free(planned: Plan) -> str:
    """How much of what is free would be taken, device by device."""
    taken, free = planned.by_device, planned.free
    several = len(taken) > 1
    where = "free or held by the open session" if planned.in_place else "free now"
    said = [
        (f"{device}: " if several else "")
        + f"{size_in_words(size)} of the {size_in_words(free.get(device, 0))} that are {where}"
        for device, size in taken.items()
    ]
    return f"{'; '.join(said)}: {'it fits' if planned.fits else 'it does not fit'}"
