"""A chain as cards: switch a stage off, turn its settings, move it, add one, remove one.

`editor.chain` is always the last valid chain; observe it. A value that a stage refuses changes
nothing: from the browser it becomes the message below its number, from Python it is raised.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element

import traitlets

from mullama_lab.engine.stages import Chain, Stage
from mullama_lab.engine.stages.named_tokens import Spelling, said_of_tokens
from mullama_lab.engine.stages.presets import Presets
from mullama_lab.errors import PresetError
from mullama_lab.glyphs import brief
from mullama_lab.widgets import _front_end, _static
from mullama_lab.widgets._card_edits import (
    Cards,
    added,
    biased,
    changed,
    moved,
    of_chain,
    removed,
    toggled,
)
from mullama_lab.widgets._cards import (
    MAX_CARDS,
    Card,
    chain_code,
    chain_of,
    describe,
    fresh,
    offered,
    what_stages_did,
)
from mullama_lab.widgets._view import (
    View,
    must_be_function,
    short_text,
    true_or_false,
    whole_number,
)

if TYPE_CHECKING:
    from mullama_lab.engine.stages.preview import Preview

__all__ = ["ChainEditor"]
__dir__ = __all__.copy  # what tab completion offers


class ChainEditor(View):
    """Edit a chain, by hand or from Python.

    >>> from mullama_lab.engine.stages import MinP, TopK
    >>> editor = ChainEditor(TopK(40) | MinP(0.05))
    >>> editor.set("TopK", k=20)
    >>> editor.toggle("MinP", on=False)
    >>> editor.chain
    Chain([TopK(20)])
    """

    _esm = _front_end.module("chain_editor")
    _css = _front_end.style("chain_editor")

    cards = traitlets.List(traitlets.Dict()).tag(sync=True)
    """One dict a card, in order: key, stage, on, values, texts, inert, code, custom, tokens,
    each_token."""
    catalogue = traitlets.List(traitlets.Dict()).tag(sync=True)
    """The stages that can be added, with the range of each slider."""
    code = traitlets.Unicode().tag(sync=True)
    """Python of the chain in force."""
    notes = traitlets.Dict().tag(sync=True)
    """What a lab says about a card, by key; `annotate` fills it."""
    changed = traitlets.Bool().tag(sync=True)
    """Whether `reset` would change anything."""
    presets = traitlets.List(traitlets.Dict()).tag(sync=True)
    """The chains that have a name: name, own (saved by this person), code."""
    preset = traitlets.Unicode().tag(sync=True)
    """The name of the chain in force, the one taken or saved last of several; "" if it has none."""
    chain = traitlets.Instance(Chain)
    """The chain in force: the cards that are on. Observe it; set it to replace the cards."""

    def __init__(self, chain: Chain | Stage | Iterable[Stage] | None = None) -> None:
        self._lock = threading.RLock()
        self._fits: Callable[[Sequence[Stage]], object] = lambda stages: None
        self._spell: Spelling | None = None
        self._publishing = threading.local()
        self._taken = ""  # the preset that was taken or saved last
        self._deleted: tuple[str, Chain] | None = None  # the preset that was deleted last
        self._count = 0
        self._version = 0
        self._home: Cards = ()
        self._cards: Cards = ()
        super().__init__(catalogue=offered(), chain=Chain.of(chain))
        if not self._cards:
            self._adopt(self.chain)
        with contextlib.suppress(PresetError, OSError):  # said when somebody asks for them
            self._list_presets()

    # From Python

    def set(self, which: str | int, **settings: Any) -> None:
        """Change settings of one card: `editor.set("TopK", k=20)`.

        Args:
            which: the name of a stage, or its place among the cards from 0.
            settings: the settings by name; lists also as the text that the card shows.
        Raises:
            ValueError, TypeError: what the stage says; the chain stays as it was.
        """
        self._change(lambda cards: changed(cards, which, settings))

    def toggle(self, which: str | int, on: bool | None = None) -> None:
        """Switch a card on or off, or over when `on` is left out."""
        self._change(lambda cards: toggled(cards, which, on))

    def must_fit_with(self, check: Callable[[Sequence[Stage]], object]) -> None:
        """Ask `check(stages)` of stages before they come into force; what it raises refuses them.

        Those that are in force already are not asked about again.
        """
        must_be_function("must_fit_with", check)
        self._fits = check

    def spell_with(self, spell: Spelling) -> None:
        """Say the tokens that stages name by their pieces: `editor.spell_with(model.piece)`."""
        must_be_function("spell_with", spell)
        with self._lock:
            self._spell = spell
            self._version += 1
        self._publish()

    def add(self, stage: Stage | str, at: int | None = None) -> str:
        """Add a stage, or one by name at its defaults; returns its key.

        Args:
            at: its place; None is the end, and for a Constrain the head: stages before it may leave
                nothing that its grammar allows.
        """
        stage = stage if isinstance(stage, Stage) else fresh(stage)
        key = self._key()
        self._change(lambda cards: added(cards, Card(key, stage), at))
        return key

    def bias(self, token: int, change: float) -> str:
        """Make a token likelier or less likely, in a LogitBias before all other stages.

            editor.bias(198, -math.inf)      # "banned"; once more, and it is "allowed again"
            editor.bias(262, 1.0)            # its logit gains 1: "favoured by 1"

        Args:
            change: what its logit gains; minus infinity bans it.

        Returns what became of it.
        """
        key, after = self._key(), 0.0

        def edit(cards: Cards) -> Cards:
            nonlocal after
            cards, after = biased(cards, key, token, change)
            return cards

        self._change(edit)
        if after:
            return "banned" if math.isinf(after) else f"favoured by {after:g}"
        return "allowed again"

    def remove(self, which: str | int) -> None:
        """Take a card away."""
        self._change(lambda cards: removed(cards, which))

    def move(self, which: str | int, to: int) -> None:
        """Move a card to another place, counted from 0 when it is gone from its own."""
        self._change(lambda cards: moved(cards, which, to))

    def reset(self) -> None:
        """Back to the chain that was last given from Python."""
        self._change(lambda cards: self._home)

    def load_preset(self, name: str) -> None:
        """Put the chain of that name in place of the cards; `reset` brings them back.

        Raises: as `Chain.preset`.
        """
        chain = Chain.preset(name)
        if len(chain) > MAX_CARDS:
            raise ValueError(f"{name!r} has {len(chain)} stages; the editor holds {MAX_CARDS}.")
        self._change(lambda cards: of_chain(chain, cards, self._key), taken=name)

    def save_preset(self, name: str, *, replace: bool = False) -> None:
        """Keep the chain in force by a name.

        Raises: as `Chain.save`.
        """
        self.chain.save(name, replace=replace)
        self._taken = name
        self._list_presets()

    def delete_preset(self, name: str) -> None:
        """Forget a chain that was kept by a name; `restore_preset` brings the last one back.

        The chain in force stays as it is.

        Raises: as `Chain.delete_preset`; PresetError also where the chain cannot be read.
        """
        chain = Chain.preset(name)
        Chain.delete_preset(name)
        self._deleted = name, chain
        self._list_presets()

    def restore_preset(self) -> str:
        """Keep the chain that was deleted last by its name again; returns the name.

        Raises: as `Chain.save`; ValueError also where none was deleted.
        """
        if self._deleted is None:
            raise ValueError("no preset was deleted here, so there is none to bring back.")
        name, chain = self._deleted
        chain.save(name)
        self._deleted = None
        self._list_presets()
        return name

    def annotate(self, notes: Preview | Sequence[str] | None) -> None:
        """Say on each card in force what its stage did: a Preview, or a text a stage."""
        if notes is None:
            texts: Sequence[str] = ()
        else:
            texts = what_stages_did(notes) if hasattr(notes, "before") else notes  # type: ignore[assignment]
        with self._lock:
            on = [card.key for card in self._cards if card.on]
        if texts and len(texts) != len(on):
            return  # about a chain that is no longer in force
        self.notes = dict(zip(on, map(str, texts), strict=False))

    def to_code(self) -> str:
        """Python that makes the chain in force, without a browser."""
        return f"import mullama_lab as ml\n\nchain = {self.code}"

    # From the browser

    def _on_request(self, op: str, args: dict[str, Any]) -> dict[str, Any]:
        act = {
            "set": self._request_set,
            "toggle": lambda a: self.toggle(short_text(a, "key"), true_or_false(a, "on")),
            "move": lambda a: self.move(
                short_text(a, "key"), whole_number(a, "to", low=0, high=MAX_CARDS)
            ),
            "add": lambda a: {"key": self.add(short_text(a, "stage"))},
            "remove": lambda a: self.remove(short_text(a, "key")),
            "reset": lambda a: self.reset(),
            "list_presets": lambda a: self._list_presets(),
            "load_preset": lambda a: self.load_preset(short_text(a, "name")),
            "save_preset": lambda a: self.save_preset(
                short_text(a, "name"), replace=true_or_false(a, "replace")
            ),
            "delete_preset": lambda a: self.delete_preset(short_text(a, "name")),
            "restore_preset": lambda a: {"name": self.restore_preset()},
        }.get(op)
        if act is None:
            return super()._on_request(op, args)
        return act(args) or {}

    def _request_set(self, args: dict[str, Any]) -> dict[str, Any]:
        value = args.get("value")
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise TypeError(f"a setting is a number or a text, not {brief(value)}")
        seq = whole_number(args, "seq", low=0, high=2**53)
        self.set(short_text(args, "key"), **{short_text(args, "name"): value})
        return {"seq": seq}

    # Without a browser

    def __repr__(self) -> str:
        return f"ChainEditor({self.chain!r})"

    def _plain_text(self) -> str:
        lines = [f"ChainEditor: {self.chain!r}"]
        for i, card in enumerate(self._cards):
            note = self._remark(card)
            lines.append(f"  {i} {card.stage!r}" + (f"  ({note})" if note else ""))
        return "\n".join(lines)

    def _static_html(self) -> Element:
        e = _static.element
        rows = []
        for card in self._cards:
            note = self._remark(card)
            rows.append(
                e(
                    "li",
                    e("code", repr(card.stage)),
                    e("span", f"  {note}", style=_static.QUIET) if note else None,
                )
            )
        return e(
            "div",
            e("b", "Chain"),
            e("ol", *rows, start="0", style="margin:4px 0;padding-inline-start:24px"),
            e("code", self.code, style=_static.QUIET),
            style=_static.FONT,
        )

    def _remark(self, card: Card) -> str:
        """What stands behind a stage: that it is off, why it does nothing, the tokens it names."""
        if not card.on:
            return "off"
        if why := card.stage.why_inert():
            return f"no effect: {why}"
        return "" if self._spell is None else said_of_tokens(card.stage, self._spell)

    # State

    def _key(self) -> str:
        with self._lock:
            self._count += 1
            return f"card{self._count}"

    def _change(self, edit: Callable[[Cards], Cards], *, taken: str = "") -> None:
        with self._lock:
            cards = edit(self._cards)
            self._must_fit(chain_of(cards))
            self._cards, self._taken = cards, taken or self._taken
            self._version += 1
        self._publish()

    def _must_fit(self, chain: Chain) -> None:
        in_force = chain_of(self._cards).stages
        self._fits([stage for stage in chain if stage not in in_force])

    def _publish(self) -> None:
        """Traits from cards, outside the lock; whoever comes last publishes the newest."""
        while True:
            with self._lock:
                version, cards, home = self._version, self._cards, self._home
                spell = self._spell
            chain = chain_of(cards)
            self._publishing.now = True
            try:
                with self.hold_sync():
                    self.cards = [describe(card, spell) for card in cards]
                    self.code = chain_code(chain)
                    self.preset = self._name_in_force()
                    self.changed = [(c.stage, c.on) for c in cards] != [
                        (c.stage, c.on) for c in home
                    ]
                    self.chain = chain
            finally:
                self._publishing.now = False
            with self._lock:
                if version == self._version:
                    return

    @traitlets.validate("chain")
    def _check_chain(self, proposal: Any) -> Chain:
        if not getattr(self._publishing, "now", False):
            self._must_fit(proposal["value"])
        return proposal["value"]

    @traitlets.observe("chain")
    def _chain_was_set(self, change: Any) -> None:
        if not getattr(self._publishing, "now", False):
            self._adopt(change.new)

    def _adopt(self, chain: Chain) -> None:
        """New cards from a chain; a stage that stays of its kind keeps its card's key."""
        with self._lock:
            self._cards = self._home = of_chain(chain, self._cards, self._key)
            self._version += 1
        self.notes = {}
        self._publish()

    def _list_presets(self) -> None:
        named = Presets({}, Chain)
        try:
            named = Chain.presets()
        finally:  # the built-in ones are there whatever became of the file
            self.presets = [
                {"name": name, "own": name in named.own, "code": chain_code(chain)}
                for name, chain in named.items()
            ]
            self.preset = self._name_in_force()

    def _name_in_force(self) -> str:
        names = [preset["name"] for preset in self.presets if preset["code"] == self.code]
        return self._taken if self._taken in names else next(iter(names), "")
