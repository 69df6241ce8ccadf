"""The distribution of the next token after each stage of a chain, as linked bars.

It shows Previews and computes none: whoever turns a setting calls `show` again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element

import traitlets

from mullama_lab.engine.options import flag
from mullama_lab.engine.trace.stale import STALE
from mullama_lab.glyphs import brief, visible, visible_piece
from mullama_lab.widgets import _front_end, _static
from mullama_lab.widgets._picture import GONE, REMOVED, UNLISTED, picture
from mullama_lab.widgets._token_view import TokenView
from mullama_lab.widgets._view import Undo, must_be_function, whole_number

if TYPE_CHECKING:
    from mullama_lab.engine.stages.preview import Preview

__all__ = ["NextToken"]
__dir__ = __all__.copy  # what tab completion offers

SCALES = ("linear", "log")
MAX_AFTER = 80  # characters of the prompt's end
MAX_TEXT = 600  # characters of a note or a message


class NextToken(TokenView):
    """Each stage of a chain as a column, each likely token as a row.

    >>> view = NextToken()
    >>> view.fail("MinP(1) removed every token")
    >>> print(view)
    NextToken(failed: MinP(1) removed every token)
    """

    _esm = _front_end.module("next_token")
    _css = _front_end.style("next_token")

    view = traitlets.Dict().tag(sync=True)
    """The picture (see `_picture`) with `seq`, `note`, `after`, `back`, `error`; empty at first."""
    scale = traitlets.Enum(SCALES, "linear").tag(sync=True)
    """What the length of a bar is: probability from 0 to 1, or its logarithm from 0.01 %."""
    explains = traitlets.Bool(False).tag(sync=True)
    """Whether somebody can say what would have kept a token, or drawn it."""

    def __init__(self, *, scale: str = "linear") -> None:
        self._seq = 0
        self._explain: Callable[[int], str] | None = None
        super().__init__(scale=scale)

    def explain_with(self, explain: Callable[[int], str]) -> None:
        """Ask this for a remark on a token id that is looked at; it is called on any thread."""
        must_be_function("explain_with", explain)
        self._explain = explain
        self.explains = True

    def on_back(self, callback: Callable[[], object]) -> Undo:
        """Call `callback()` when the place that `back` names is asked for."""
        return self._listen("back", callback)

    def show(
        self,
        preview: Preview,
        note: str = "",
        *,
        after: str = "",
        back: str = "",
        stale: bool = False,
    ) -> None:
        """Draw a preview; what is on screen changes in place.

        Args:
            note: what else is to be said about it, such as what the cache holds.
            after: the text the token would follow; its end is shown.
            back: where a button leads back to; none without it. See `on_back`.
            stale: whether the text is stale at that step, so that its own row was another one.
        """
        shown = {**picture(preview), "back": back, "stale": flag("stale", stale)}
        self._publish(shown, note=note, after=after)

    def fail(self, message: str | Exception) -> None:
        """Say why there is no new picture; the last one stays, dimmed."""
        kept = {k: v for k, v in self.view.items() if k not in ("seq", "error")}
        note, after = kept.pop("note", ""), kept.pop("after", "")
        self._publish(kept, note=note, after=after, error=str(message))

    def clear(self) -> None:
        """Show nothing, as at first."""
        self.view = {}

    def to_code(self) -> str:
        """Python that computes what is shown, once `model`, `chain` and `prompt` are there."""
        seed, step = self.view.get("seed", 0), self.view.get("step", 0)
        return (
            "session = model.session()\n"
            "row = session.logits(prompt)\n"
            "view = chain.preview(row, model=model, history=session.prompt_tokens(prompt), "
            f"seed={seed}, step={step})"
        )

    def _publish(self, shown: dict[str, Any], *, note: str, after: str, error: str = "") -> None:
        self._seq += 1
        tail = after if len(after) <= MAX_AFTER else "…" + after[-MAX_AFTER:]
        self.view = {
            **shown, "seq": self._seq, "note": note[:MAX_TEXT], "after": tail,
            "error": error[:MAX_TEXT],
        }  # fmt: skip

    def _on_request(self, op: str, args: dict[str, Any]) -> dict[str, Any]:
        if op == "explain" and self._explain is not None:
            token = whole_number(args, "token", low=0, high=2**31 - 1)
            return {"seq": self.view.get("seq", 0), "text": self._explain(token)[:MAX_TEXT]}
        if op == "back":
            self._must_be_heard("back")
            self._tell("back")
            return {}
        if op == "scale":
            if args.get("scale") not in SCALES:
                raise ValueError(f"scale is {brief(args.get('scale'))}; it must be linear or log")
            self.scale = args["scale"]
            return {}
        return super()._on_request(op, args)

    def _wait_to_show(self, seconds: float) -> None:
        self._wait_for(lambda: self.view, seconds, "view")

    # Without a browser

    def __repr__(self) -> str:
        if self.view.get("error"):
            return f"NextToken(failed: {self.view['error']})"
        if not self.view:
            return "NextToken()"
        return f"NextToken({self._title()})"

    def _title(self) -> str:
        view = self.view
        chosen = next((row["bytes"] for row in view["rows"] if row["id"] == view["choice"]), "")
        text = visible_piece(bytes.fromhex(chosen))
        after = f"after {visible(view['after'])!r}, " if view["after"] else ""
        stale = f" ({STALE} in the text)" if view["stale"] else ""
        return f"{after}seed {view['seed']}, step {view['step']}{stale}: draws {text!r}"

    def _table(self) -> tuple[list[str], list[list[str]]]:
        view = self.view
        columns = ["token", "id", "before", *[head["name"] for head in view["columns"][1:]]]
        rows = []
        for i, row in enumerate(view["rows"]):
            text = repr(visible_piece(bytes.fromhex(row["bytes"])))
            mark = "* " if row["id"] == view["choice"] else "  "
            cells = [_cell(column[i]) for column in view["cells"]]
            rows.append([mark + text, str(row["id"]), *cells])
        heads = view["columns"]
        rows.append(["  kept", "", *[f"{head['kept']}" for head in heads]])
        rows.append(["  removed", "", *[f"{head['removed']:.1%}" for head in heads]])
        rows.append(["  entropy", "", *[f"{head['entropy']:.2f}" for head in heads]])
        return columns, rows

    def _plain_text(self) -> str:
        if not self.view.get("rows"):
            return repr(self)
        columns, rows = self._table()
        widths = [max(len(line[i]) for line in [columns, *rows]) for i in range(len(columns))]
        lines = [
            "  ".join(
                text.ljust(width) if i == 0 else text.rjust(width)
                for i, (text, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in [columns, *rows]
        ]
        return "\n".join([repr(self), *lines])

    def _static_html(self) -> Element:
        e = _static.element
        if not self.view.get("rows"):
            return e("pre", repr(self))
        table = _static.table(*self._table(), title="Probability after each stage")
        table.set("open", "open")
        note = self.view["note"]
        return e(
            "div",
            e("b", "Next token "),
            e("span", self._title()),
            e("div", note, style=_static.QUIET) if note else None,
            table,
            style=_static.FONT,
        )


def _cell(cell: float | None) -> str:
    if cell is GONE:
        return ""
    if cell == REMOVED:
        return "removed"
    return "n/a" if cell == UNLISTED else f"{cell:.1%}"
