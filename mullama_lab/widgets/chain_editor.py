"""A chain as cards: switch a stage off, turn its settings, move it, add one, remove one.

`editor.chain` is always the last valid chain; observe it. A value that a stage refuses changes
nothing: from the browser it becomes the message below its number, from Python it is raised.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element

import traitlets

from mullama_lab.engine.stages import Chain, Stage
from mullama_lab.engine.stages.presets import Presets
from mullama_lab.errors import PresetError
from mullama_lab.glyphs import brief
from mullama_lab.widgets import _front_end, _static
from mullama_lab.widgets._cards import (
    MAX_CARDS,
    MAX_TEXT,
    Card,
    chain_code,
    chain_of,
    describe,
    edited,
    fresh,
    offered,
)
from mullama_lab.widgets._view import View, short_text, true_or_false, whole_number

if TYPE_CHECKING:
    from mullama_lab.engine.stages.preview import Preview

Cards = tuple[Card, ...]


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
    """One dict a card, in order: key, stage, on, values, texts, inert, code, custom."""
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
    chain = traitlets.Instance(Chain)
    """The chain in force: the cards that are on. Observe it; set it to replace the cards."""

    def __init__(self, chain: Chain | Stage | Iterable[Stage] | None = None) -> None:
        self._lock = threading.RLock()
        self._publishing = threading.local()
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

        def edit(cards: Cards) -> Cards:
            card = cards[self._find(which, cards)]
            new = dataclasses.replace(card, stage=edited(card.stage, settings))
            return tuple(new if c is card else c for c in cards)

        self._change(edit)

    def toggle(self, which: str | int, on: bool | None = None) -> None:
        """Switch a card on or off, or over when `on` is left out."""

        def edit(cards: Cards) -> Cards:
            card = cards[self._find(which, cards)]
            new = dataclasses.replace(card, on=not card.on if on is None else bool(on))
            return tuple(new if c is card else c for c in cards)

        self._change(edit)

    def add(self, stage: Stage | str, at: int | None = None) -> str:
        """Add a stage, or one by name at its defaults, at a place (the end); returns its key."""
        stage = stage if isinstance(stage, Stage) else fresh(stage)
        key = self._key()

        def edit(cards: Cards) -> Cards:
            if len(cards) >= MAX_CARDS:
                raise ValueError(f"the editor holds at most {MAX_CARDS} stages. Remove one first.")
            place = len(cards) if at is None else _place(at, len(cards))
            return (*cards[:place], Card(key, stage), *cards[place:])

        self._change(edit)
        return key

    def remove(self, which: str | int) -> None:
        """Take a card away."""
        self._change(lambda cards: _without(cards, self._find(which, cards)))

    def move(self, which: str | int, to: int) -> None:
        """Move a card to another place, counted from 0 when it is gone from its own."""

        def edit(cards: Cards) -> Cards:
            i = self._find(which, cards)
            rest = _without(cards, i)
            place = _place(to, len(rest))
            return (*rest[:place], cards[i], *rest[place:])

        self._change(edit)

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
        self._change(lambda cards: self._cards_for(chain, cards))

    def save_preset(self, name: str, *, replace: bool = False) -> None:
        """Keep the chain in force by a name.

        Raises: as `Chain.save`.
        """
        self.chain.save(name, replace=replace)
        self._list_presets()

    def annotate(self, notes: Preview | Sequence[str] | None) -> None:
        """Say on each card in force what its stage did: a Preview, or a text a stage."""
        if notes is None:
            texts: Sequence[str] = ()
        else:
            texts = _what_stages_did(notes) if hasattr(notes, "before") else notes  # type: ignore[assignment]
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
        }.get(op)
        if act is None:
            raise ValueError(f"a chain editor does not know {op!r}")
        return act(args) or {}

    def _request_set(self, args: dict[str, Any]) -> dict[str, Any]:
        value = args.get("value")
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise TypeError(f"a setting is a number or a text, not {brief(value)}")
        if isinstance(value, str) and len(value) > MAX_TEXT:
            raise ValueError(f"a text of {len(value)} characters; at most {MAX_TEXT} can be edited")
        seq = whole_number(args, "seq", low=0, high=2**53)
        self.set(short_text(args, "key"), **{short_text(args, "name"): value})
        return {"seq": seq}

    # Without a browser

    def __repr__(self) -> str:
        return f"ChainEditor({self.chain!r})"

    def _plain_text(self) -> str:
        lines = [f"ChainEditor: {self.chain!r}"]
        for i, card in enumerate(self._cards):
            why = card.stage.why_inert()
            note = "off" if not card.on else f"no effect: {why}" if why else ""
            lines.append(f"  {i} {card.stage!r}" + (f"  ({note})" if note else ""))
        return "\n".join(lines)

    def _static_html(self) -> Element:
        e = _static.element
        rows = []
        for card in self._cards:
            why = card.stage.why_inert()
            note = "off" if not card.on else f"no effect: {why}" if why else ""
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
            e("ol", *rows, style="margin:4px 0;padding-inline-start:24px"),
            e("code", self.code, style=_static.QUIET),
            style=_static.FONT,
        )

    # State

    def _key(self) -> str:
        with self._lock:
            self._count += 1
            return f"card{self._count}"

    def _find(self, which: str | int, cards: Cards) -> int:
        names = [type(card.stage).__name__ for card in cards]
        if isinstance(which, int) and not isinstance(which, bool):
            if -len(cards) <= which < len(cards):
                return which % len(cards)
            raise ValueError(f"there is no card {brief(which)}; there are {len(cards)}, from 0")
        known = enumerate(cards) if isinstance(which, str) else ()
        found = [i for i, card in known if which in (card.key, names[i])]
        if not found:
            raise ValueError(f"no card is {brief(which)}; there are {', '.join(names) or 'none'}")
        if len(found) > 1:
            raise ValueError(
                f"{len(found)} cards are {brief(which)}; say which by its place: {found}"
            )
        return found[0]

    def _change(self, edit: Callable[[Cards], Cards]) -> None:
        with self._lock:
            self._cards = edit(self._cards)
            self._version += 1
        self._publish()

    def _publish(self) -> None:
        """Traits from cards, outside the lock; whoever comes last publishes the newest."""
        while True:
            with self._lock:
                version, cards, home = self._version, self._cards, self._home
            chain = chain_of(cards)
            self._publishing.now = True
            try:
                with self.hold_sync():
                    self.cards = [describe(card) for card in cards]
                    self.code = chain_code(chain)
                    self.changed = [(c.stage, c.on) for c in cards] != [
                        (c.stage, c.on) for c in home
                    ]
                    self.chain = chain
            finally:
                self._publishing.now = False
            with self._lock:
                if version == self._version:
                    return

    @traitlets.observe("chain")
    def _chain_was_set(self, change: Any) -> None:
        if not getattr(self._publishing, "now", False):
            self._adopt(change.new)

    def _adopt(self, chain: Chain) -> None:
        """New cards from a chain; a stage that stays of its kind keeps its card's key."""
        with self._lock:
            self._cards = self._home = self._cards_for(chain, self._cards)
            self._version += 1
        self.notes = {}
        self._publish()

    def _cards_for(self, chain: Chain, cards: Cards) -> Cards:
        left = list(cards)
        found = []
        for stage in chain:
            same = next((c for c in left if type(c.stage) is type(stage)), None)
            if same:
                left.remove(same)
            found.append(Card(same.key if same else self._key(), stage))
        return tuple(found)

    def _list_presets(self) -> None:
        named = Presets({}, Chain)
        try:
            named = Chain.presets()
        finally:  # the built-in ones are there whatever became of the file
            self.presets = [
                {"name": name, "own": name in named.own, "code": chain_code(chain)}
                for name, chain in named.items()
            ]


def _without(cards: Cards, i: int) -> Cards:
    return cards[:i] + cards[i + 1 :]


def _place(to: int, n: int) -> int:
    if isinstance(to, bool) or not isinstance(to, int) or not -n - 1 <= to <= n:
        raise ValueError(f"a place is a whole number from 0 to {n}, not {brief(to)}")
    return to if to >= 0 else n + 1 + to


def _what_stages_did(preview: Any) -> list[str]:
    texts = []
    before = preview.before
    for after in preview.stages:
        if after.n_kept < before.n_kept:
            share = 100 * float(after.removed_mass)
            texts.append(f"keeps {after.n_kept:,} · removes {share:.2g}%")
        elif after.changed:
            texts.append(f"removes none · entropy {before.entropy:.2f} to {after.entropy:.2f}")
        else:
            texts.append("changes nothing here")
        before = after
    return texts
