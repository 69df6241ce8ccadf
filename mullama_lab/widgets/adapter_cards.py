"""What acts on a model's weights as cards: LoRA adapters and control vectors, each with its scale.

The cards say what is wanted: observe `steering`. Who observes puts it in force in a session, and
says with `say` what becomes of a text that is under way. What is refused changes nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element

import traitlets

from mullama_lab.engine.latest_only import LatestOnly
from mullama_lab.engine.steering.control_vector import ControlVector
from mullama_lab.engine.steering.lora import LoraAdapter
from mullama_lab.engine.steering.steering import Steering, adapters_of, control_of
from mullama_lab.errors import MullamaError
from mullama_lab.glyphs import brief
from mullama_lab.warned import heard
from mullama_lab.widgets import _card_forms, _front_end
from mullama_lab.widgets._kept import CLOSED, weakly
from mullama_lab.widgets._layer_choice import LayerChoice, is_training
from mullama_lab.widgets._levers import (
    MOST_LEVERS,
    SLIDER,
    Kind,
    Lever,
    Levers,
    Sums,
    at_a_scale,
    changed,
    checked_scale,
    file_in_words,
    in_words,
    place_of,
    read_file,
    steering_of,
    with_on,
)
from mullama_lab.widgets._session_code import in_force_code
from mullama_lab.widgets._view import (
    Undo,
    View,
    must_be_function,
    short_text,
    true_or_false,
    what_failed,
    whole_number,
)

if TYPE_CHECKING:
    from mullama_lab.widgets._layer_choice import Layered

__all__ = ["AdapterCards"]
__dir__ = __all__.copy  # what tab completion offers

MOST_PATH = 4096  # characters


class AdapterCards(View):
    """Adapters and control vectors, a line each: on or off, and how strongly.

    >>> from mullama_lab.engine.steering.control_vector import ControlVector
    >>> cards = AdapterCards()
    >>> key = cards.add(ControlVector({1: [0.5, 0.0]}, name="happy"), 0.8)
    >>> cards.set("happy", 1.2)
    >>> cards
    AdapterCards(happy × 1.2)
    """

    _esm = _front_end.module("adapter_cards")
    _css = _front_end.style("adapter_cards")

    from_browser = ("chosen", "side")

    cards = traitlets.List(traitlets.Dict()).tag(sync=True)
    """One dict a card: key, name, kind, on, scale, about, note, layers."""
    slider = traitlets.List(traitlets.Float(), list(SLIDER), help="The range of the sliders.").tag(
        sync=True
    )
    chosen = traitlets.Unicode("", help="The key of the card that is looked at.").tag(sync=True)
    rows = traitlets.Dict(
        help="The layers of that card, as in LayerStrip, with its key and whether it can be kept."
    ).tag(sync=True)
    in_force = traitlets.Unicode("", help="What acts, in words; empty where nothing does.").tag(
        sync=True
    )
    note = traitlets.Unicode("", help="What is to be said of the text and its cache.").tag(
        sync=True
    )
    advice = traitlets.Unicode("", help="What Run would do about that.").tag(sync=True)
    is_stale = traitlets.Bool(False, help="Whether a text under way can be decoded anew.").tag(
        sync=True
    )
    problem = traitlets.Unicode("", help="Why what was asked for last is not in force.").tag(
        sync=True
    )
    reading = traitlets.Unicode("", help="The file that is read to be added; empty for none.").tag(
        sync=True
    )
    unread = traitlets.Unicode("", help="Why what was to be added last has no card.").tag(sync=True)
    names = traitlets.List(traitlets.Unicode(), help="Vectors of the library that fit.").tag(
        sync=True
    )
    sides = traitlets.Dict(help="What may stand beside the cards: keys and titles.").tag(sync=True)
    side = traitlets.Unicode("", help="The key of what stands there.").tag(sync=True)
    runs_both = traitlets.Bool(False, help="Whether somebody runs the prompt both ways.").tag(
        sync=True
    )
    steering = traitlets.Instance(Steering, ())
    """What the cards that are on make together. Observe it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._levers: Levers = ()
        self._looked: list[str] = []  # keys, of the card that was chosen last first
        self._misfits: dict[str, str] = {}  # why a card is off, by its key
        self._sums = Sums()
        self._must_fit: Callable[[Steering], object] = lambda steering: None
        self._count = 0
        self._adding = LatestOnly("adapter", weakly(self._not_added))
        super().__init__()

    # From Python

    @property
    def adapters(self) -> Mapping[LoraAdapter, float]:
        """The adapters that are on, with their scales; setting it switches all others off."""
        return self.steering.adapters

    @adapters.setter
    def adapters(self, adapters: Mapping[LoraAdapter, float]) -> None:
        wanted = adapters_of(adapters)
        with self._lock:
            self._change(self._with_on(self._levers, LoraAdapter, wanted))

    @property
    def control(self) -> ControlVector | None:
        """The sum of the vectors that are on, None for none; setting it switches all others off."""
        return self.steering.control

    @control.setter
    def control(self, vector: ControlVector | None) -> None:
        wanted = control_of(vector)
        with self._lock:
            vectors = {} if wanted is None else at_a_scale(wanted, self._fitting(self._levers))
            self._change(self._with_on(self._levers, ControlVector, vectors))

    def add(self, weights: LoraAdapter | Layered | str | Path, scale: float = 1.0) -> str:
        """Add an adapter or a vector, or the one in a file, or a vector by its name.

        Args:
            weights: also a Training: its vector then has the layers of its `band`, and the card
                shows how well each layer does.

        Returns:
            the card's key.

        Raises:
            ModelFileError: the file holds neither, or an adapter for another model.
            ValueError: it has a card, or does not fit, or the scale is no finite number.
        """
        if isinstance(weights, (str, Path)):
            weights = read_file(weights)
        choice = None
        if is_training(weights):
            choice = LayerChoice.of(weights)
            weights = choice.pick(*choice.first_choice)
        if not isinstance(weights, (LoraAdapter, ControlVector)):
            raise TypeError(f"{brief(weights)} is neither a LoraAdapter nor a ControlVector.")
        self._must_fit(steering_of([Lever("", weights)]))  # reads it; nobody waits meanwhile
        with self._lock:
            if there := next((one for one in self._levers if one.what == weights), None):
                raise ValueError(f"{there.name} has a card already, and is the same.")
            if len(self._levers) >= MOST_LEVERS:
                raise ValueError(f"there are {MOST_LEVERS} cards, and no more. Remove one first.")
            lever = Lever(self._key(), weights, checked_scale(scale), choice=choice)
            self._change((*self._levers, lever), choose=lever.key)
        return lever.key

    def set(self, which: str | int, scale: float) -> None:
        """Have one act as strongly as this: `cards.set("happy", 0.8)`.

        Args:
            which: its name, or its place among the cards from 0.
            scale: 0 is not at all, and below 0 the other way.
        """
        self._scale([(which, scale)])

    def set_many(self, scales: Mapping[str | int, float]) -> None:
        """The same of several at once: `cards.set_many({"happy": 0.8, "pirate": 0.3})`."""
        if not isinstance(scales, Mapping):
            raise TypeError(f"scales={brief(scales)}: give {{name or place: scale}}.")
        self._scale(scales.items())

    def toggle(self, which: str | int, on: bool | None = None) -> None:
        """Switch one off or on, or over when `on` is left out."""
        with self._lock:
            place = place_of(which, self._levers)
            on = not self._levers[place].on if on is None else bool(on)
            self._change(changed(self._levers, place, on=on))

    def set_layers(self, which: str | int, layers: tuple[int, int]) -> None:
        """Have a vector act in these layers alone: `cards.set_layers("happy", (10, 20))`.

        Any of its layers can be chosen again. A vector that was learnt here is spread over those
        that are chosen, as by `Training.pick`.

        Raises:
            ValueError: there is no layer there, or it is an adapter.
        """
        with self._lock:
            place = place_of(which, self._levers)
            self._put(place, self._levers[place].with_layers(layers))

    def keep(self, which: str | int, name: str, *, replace: bool = False) -> None:
        """Keep a vector that was learnt here, in the layers that are chosen, as `Training.keep`.

        Its card then is that of `ControlVector.named(name)`, with all layers to choose from.

        Raises:
            ValueError: the name is taken, or no name; or it was not learnt here.
            PresetError: it could not be written.
        """
        with self._lock:
            place = place_of(which, self._levers)
            kept = self._levers[place].kept_as(name, over=replace)
            self._put(place, kept)
            self.names = sorted({*self.names, kept.name})

    def remove(self, which: str | int) -> None:
        """Take a card away; what it stands for acts no more."""
        with self._lock:
            place = place_of(which, self._levers)
            self._change(self._levers[:place] + self._levers[place + 1 :])

    def on_run_both(self, callback: Callable[[], object]) -> Undo:
        """Call `callback()` when a run by the model as it is, and one by what is on, are wanted."""
        forget = self._listen("run_both", callback)
        self.runs_both = True

        def undo() -> None:
            forget()
            self.runs_both = bool(self._listeners["run_both"])

        return undo

    def must_fit_with(self, check: Callable[[Steering], object]) -> None:
        """Ask `check(steering)` before it is what the cards make; what it raises refuses it."""
        must_be_function("must_fit_with", check)
        self._must_fit = check

    def fit(self) -> None:
        """Switch off what no longer fits, such as an adapter for the model before."""
        misfits = {}
        for one in self._levers:
            try:
                self._must_fit(steering_of([one]))
            except (MullamaError, ValueError) as error:
                misfits[one.key] = what_failed(error)
        with self._lock:
            fitting = [replace(one, on=one.on and one.key not in misfits) for one in self._levers]
            self._change(tuple(fitting), misfits=misfits)

    def take(self, steering: Steering) -> None:
        """Have the cards say what is in force; those of what is not are switched off.

        A vector that some of them made before is made by the same again, at the same scales, and
        one that is a multiple of a card's is that card at another scale. What has none gets one,
        and the oldest card that is off gives way to it where there are too many.
        """
        self._must_fit(steering)  # reads adapters that were not; nobody waits meanwhile
        with self._lock:
            levers = self._with_on(self._levers, LoraAdapter, steering.adapters)
            if steering.acts != self.steering.acts:
                parts = self._sums.parts_of(steering.acts, self._fitting(levers))
                levers = self._with_on(levers, ControlVector, parts)
            self._change(levers)

    def on_exact(self, callback: Callable[[], object]) -> Undo:
        """Call `callback()` when a text that is under way shall be decoded anew."""
        return self._listen("exact", callback)

    def say(self, note: str, advice: str = "", *, is_stale: bool = False) -> None:
        """Say something of the text and of the cache that it stands on.

        Args:
            advice: what Run would do about it; not said where there is no Run.
            is_stale: whether it is under way, over what other weights computed.
        """
        with self.hold_sync():
            self.note, self.advice, self.is_stale = note, advice, is_stale

    def fail(self, error: str | Exception) -> None:
        """Say why what was asked for last is not in force."""
        self.problem = what_failed(error)

    def settle(self) -> None:
        """Wait until what the browser asked to add is read; for code, not callbacks."""
        self._adding.settle()

    def close(self, why: str = CLOSED) -> None:
        self._adding.close()
        super().close(why)

    def to_code(self) -> str:
        """Python that has the same act, once `ml` and `session` are there."""
        return "\n".join(in_force_code(self.steering))

    # From the browser

    def _on_request(self, op: str, args: dict[str, Any]) -> dict[str, Any]:
        if op == "set":
            seq = whole_number(args, "seq", low=0, high=2**53)
            self.set(short_text(args, "key"), checked_scale(args.get("value")))
            return {"seq": seq}
        if op == "layers":
            seq = whole_number(args, "seq", low=0, high=2**53)
            self.set_layers(short_text(args, "key"), args.get("layers", ()))
            return {"seq": seq}
        if op == "keep":
            return self._keep(args)
        if op == "toggle":
            self.toggle(short_text(args, "key"), true_or_false(args, "on"))
            return {}
        if op == "remove":
            self.remove(short_text(args, "key"))
            return {}
        if op in ("run_both", "exact"):
            self._must_be_heard(op)
            self._tell(op)
            return {}
        if op == "add":
            path = args.get("path")
            if not isinstance(path, str) or not 0 < len(path.strip()) <= MOST_PATH:
                raise ValueError("write the path of a GGUF file: an adapter or a control vector.")
            self._add_aside(Path(path.strip()).expanduser())
            return {}
        return super()._on_request(op, args)

    def _add_aside(self, path: Path) -> None:
        """Add what is in a file, which may be large, on a thread of its own."""
        with self._lock:
            if self.reading:
                raise ValueError(f"{self.reading} is being read. Add another when it is there.")
            with self.hold_sync():
                self.reading, self.unread = file_in_words(path), ""
        self._adding.submit(lambda: self._added(path))

    def _added(self, path: Path) -> None:
        self.add(path)
        self.reading = ""

    def _not_added(self, error: Exception) -> None:
        with self.hold_sync():
            self.reading, self.unread = "", what_failed(error)

    def _keep(self, args: dict[str, Any]) -> dict[str, Any]:
        """Keep a vector by a name; one of the person's own is replaced when that is asked for."""
        name, is_sure = short_text(args, "name"), true_or_false(args, "replace")
        taken = ControlVector.library().get(name)
        if taken is not None and taken.is_own and not is_sure:
            return {"taken": True}
        with heard() as warnings:  # a page has no line of code that they could point to
            self.keep(short_text(args, "key"), name, replace=is_sure)
        return {"taken": False, "warned": " ".join(warnings)}

    @traitlets.validate("chosen")
    def _check_chosen(self, proposal: Any) -> str:
        if proposal["value"] not in ("", *(one.key for one in self._levers)):
            raise traitlets.TraitError(f"no card has the key {brief(proposal['value'])}")
        return proposal["value"]

    @traitlets.validate("side")
    def _check_side(self, proposal: Any) -> str:
        if proposal["value"] not in ("", *self.sides):
            known = ", ".join(map(repr, self.sides)) or "none yet: that takes two cards"
            raise traitlets.TraitError(f"side is {brief(proposal['value'])}; there is {known}")
        return proposal["value"]

    @traitlets.observe("chosen")
    def _note_looked(self, change: Any) -> None:
        key = change["new"]
        self._looked = [key, *(one for one in self._looked if one != key)][:MOST_LEVERS]

    # State

    @property
    def chosen_lever(self) -> Lever | None:
        """The lever that is looked at: of the card that is chosen, or the first."""
        levers = self._levers
        return next(
            (one for one in levers if one.key == self.chosen), levers[0] if levers else None
        )

    @property
    def pair(self) -> Levers:
        """The two that are on and were looked at last, as their cards stand; () if fewer are on."""
        on = [one for one in self._levers if one.on]
        looked = {key: place for place, key in enumerate(self._looked)}
        newest = sorted(on, key=lambda one: looked.get(one.key, MOST_LEVERS))[:2]
        return tuple(one for one in on if one in newest) if len(on) > 1 else ()

    def without(self, *levers: Lever) -> Levers:
        """The levers of the other cards."""
        keys = [lever.key for lever in levers]
        return tuple(one for one in self._levers if one.key not in keys)

    def _scale(self, scales: Iterable[tuple[str | int, float]]) -> None:
        with self._lock:
            levers = self._levers
            for which, scale in scales:
                place = place_of(which, levers)
                levers = changed(levers, place, scale=checked_scale(scale))
            self._change(levers)

    def _key(self) -> str:
        self._count += 1
        return f"card{self._count}"

    def _with_on(self, levers: Levers, kind: Kind, wanted: Mapping[Any, float]) -> Levers:
        """Have just these of a kind on; each that is new has a card."""
        return with_on(levers, kind, wanted, self._key)

    def _fitting(self, levers: Levers) -> Levers:
        return tuple(one for one in levers if one.key not in self._misfits)

    def _put(self, place: int, lever: Lever) -> None:
        """Have another lever on a card."""
        self._change((*self._levers[:place], lever, *self._levers[place + 1 :]))

    def _change(
        self, levers: Levers, *, choose: str | None = None, misfits: Mapping[str, str] | None = None
    ) -> None:
        """Have other cards, unless what they make is refused."""
        steering = steering_of(levers)
        if steering != self.steering:
            self._must_fit(steering)
        self._sums.note(steering.acts, levers)
        keys = [one.key for one in levers]
        if misfits is not None:
            self._misfits = dict(misfits)
        with self.hold_sync():
            self._levers = levers
            self.cards = [self._described(one) for one in levers]
            if choose is not None or self.chosen not in keys:
                self.chosen = choose or (keys[0] if keys else "")
            self._show_layers()
            self.in_force, self.problem = in_words(levers), ""
            self.steering = steering

    @traitlets.observe("chosen")
    def _show_layers(self, _: object = None) -> None:
        """Show the layers of the card that is chosen, if it is one of a vector."""
        lever = self.chosen_lever
        if lever is None or lever.layers is None:
            self.rows = {}
            return
        choice = lever.layer_choice
        can_keep = choice.training is not None
        self.rows = {"key": lever.key, "can_keep": can_keep, **choice.rows()}

    def _described(self, lever: Lever) -> dict[str, Any]:
        return {
            "key": lever.key,
            "name": lever.name,
            "kind": "LoRA" if isinstance(lever.what, LoraAdapter) else "vector",
            "on": lever.on,
            "scale": lever.scale,
            "about": lever.about,
            "note": self._misfits.get(lever.key, ""),
            "layers": list(lever.layers or ()),
        }

    # Without a browser

    def __repr__(self) -> str:
        return f"AdapterCards({self.in_force})"

    def _plain_text(self) -> str:
        return _card_forms.plain_text(self.cards, self.in_force, self.note)

    def _static_html(self) -> Element:
        return _card_forms.static_html(self.cards, self.in_force, self.note)
