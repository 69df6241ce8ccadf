"""A control vector layer by layer: how long it is in each, and which of them are chosen.

What a training knows of each layer, how far apart it puts pairs that were held out, is drawn over
that. Observe `layers`; `vector` is what is chosen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element

import traitlets

from mullama_lab.glyphs import one_line, visible
from mullama_lab.widgets import _front_end, _static
from mullama_lab.widgets._layer_choice import LayerChoice, in_words
from mullama_lab.widgets._view import View, whole_number

if TYPE_CHECKING:
    from mullama_lab.engine.steering.control_vector import ControlVector
    from mullama_lab.widgets._layer_choice import Layered

__all__ = ["LayerStrip"]
__dir__ = __all__.copy  # what tab completion offers

BAR = 120  # pixels of the longest bar in the static form


class LayerStrip(View):
    """The layers of a control vector as bars, of which a range is chosen.

        trained = ml.studies.control_vectors.train(pairs, on=model)
        strip = ml.widgets.LayerStrip(trained)
        session.control = strip.vector        # once the layers are brushed

    >>> from mullama_lab.engine.steering.control_vector import ControlVector
    >>> strip = LayerStrip(ControlVector({3: [0.6, 0.8], 4: [0.0, 2.0], 5: [1.0, 0.0]}))
    >>> strip.layers = [3, 4]
    >>> strip
    LayerStrip(layers 3 to 4 of 3 to 5)

    Args:
        what: a ControlVector, of which the lengths are known; or a Training, whose held-out
            separation and accuracy are drawn too. None shows an empty strip.
        layers: the first and the last that are chosen, both counted in; None is all of a vector,
            and of a Training its `band`.

    Raises:
        TypeError: it is neither.
        ValueError: there is no layer there.
    """

    _esm = _front_end.module("layer_strip")
    _css = _front_end.style("layer_strip")

    name = traitlets.Unicode("", help="What the vector is called.").tag(sync=True)
    rows = traitlets.Dict(
        help="layers, norms, n_held_out; of a Training separation, which may be None, and accuracy."
    ).tag(sync=True)
    layers = traitlets.List(
        traitlets.Int(), [], help="The first and the last layer that are chosen."
    ).tag(sync=True)

    def __init__(
        self, what: Layered | None = None, *, layers: tuple[int, int] | None = None
    ) -> None:
        self._choice: LayerChoice | None = None
        super().__init__()
        if what is not None:
            self.put_to(what, layers=layers)

    def put_to(self, what: Layered, *, layers: tuple[int, int] | None = None) -> None:
        """Show the layers of another one."""
        choice = LayerChoice.of(what)
        chosen = choice.first_choice if layers is None else choice.checked(layers)
        with self.hold_sync():
            self._choice = choice
            self.name = one_line(visible(choice.vector.name))
            self.rows = choice.rows()
            self.layers = list(chosen)

    @property
    def vector(self) -> ControlVector | None:
        """The vector of the layers that are chosen; that of a Training is spread over them.

        None for an empty strip.
        """
        return None if self._choice is None else self._choice.pick(*self._ends)

    @property
    def _ends(self) -> tuple[int, int]:
        first, last = self.layers or (0, 0)
        return first, last

    @traitlets.validate("layers")
    def _check_layers(self, proposal: Any) -> list[int]:
        value = proposal["value"]
        if self._choice is None:
            if value:
                raise traitlets.TraitError("an empty strip has no layers to choose.")
            return value
        try:
            return list(self._choice.checked(value))
        except (ValueError, TypeError) as error:
            raise traitlets.TraitError(str(error)) from None

    # From the browser

    def _on_request(self, op: str, args: dict[str, Any]) -> dict[str, Any]:
        if op != "set":
            return super()._on_request(op, args)
        seq = whole_number(args, "seq", low=0, high=2**53)
        self.layers = args.get("layers")
        return {"seq": seq}

    # Without a browser

    def __repr__(self) -> str:
        if not self.rows:
            return "LayerStrip()"
        name = f"{self.name}, " if self.name else ""
        return f"LayerStrip({name}{in_words(self._ends, self.rows)})"

    def _table(self) -> tuple[list[str], list[list[str]]]:
        """Headings, and a row a layer."""
        rows = self.rows
        if not rows:
            return ["layer"], []
        first, last = self._ends
        columns = {
            "layer": [str(layer) for layer in rows["layers"]],
            "length": [f"{norm:.3g}" for norm in rows["norms"]],
        }
        if rows["n_held_out"]:
            apart = rows["separation"]
            columns["apart"] = ["n/a" if one is None else f"{one:.2f}" for one in apart]
            columns["in order"] = [f"{one:.0%}" for one in rows["accuracy"]]
        columns["chosen"] = ["yes" * (first <= layer <= last) for layer in rows["layers"]]
        return list(columns), [list(row) for row in zip(*columns.values(), strict=True)]

    def _plain_text(self) -> str:
        return _static.table_as_text(repr(self), *self._table())

    def _static_html(self) -> Element:
        e = _static.element
        columns, rows = self._table()
        return e(
            "div",
            e("b", "Layers "),
            e("span", repr(self)),
            self._bars(),
            _static.table(columns, rows, title="Layer by layer"),
            style=_static.FONT,
        )

    def _bars(self) -> Element | None:
        """A bar a layer: its separation where that is known, else its length."""
        if not self.rows:
            return None
        e, known = _static.element, self.rows.get("separation", [])
        is_apart = any(one is not None for one in known)
        values = known if is_apart else self.rows["norms"]
        most, (first, last) = max(0.0, *(one or 0.0 for one in values)) or 1.0, self._ends
        what = "standard deviations apart" if is_apart else "length"
        lines = []
        for layer, value in zip(self.rows["layers"], values, strict=True):
            chosen = first <= layer <= last
            wide = max(0.0, (value or 0.0) / most * BAR)
            colour = "rgba(47,111,180,.8)" if chosen else "rgba(128,128,128,.45)"
            style = f"width:{wide:.0f}px;height:8px;display:inline-block;background:{colour}"
            bar = e("td", e("span", style=style), style=f"text-align:left;width:{BAR}px")
            number = "n/a" if value is None else f"{value:.2f}"
            mark = "▸" if chosen else ""
            lines.append(e("tr", e("td", mark), e("td", str(layer)), bar, e("td", number)))
        title = e(
            "caption",
            f"{what}, to {most:.2f}; ▸ chosen",
            style=f"{_static.QUIET};white-space:nowrap",
        )
        style = "font-size:11px;line-height:1.1;border-spacing:4px 0;text-align:right"
        return e("table", title, *lines, style=style)
