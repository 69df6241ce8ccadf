"""What a person does to the cards of a chain editor: each edit takes cards and gives new ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from mullama_lab.engine.stages import Chain, LogitBias
from mullama_lab.glyphs import brief
from mullama_lab.widgets._cards import MAX_CARDS, Card, edited

Cards: TypeAlias = tuple[Card, ...]


def place_of(which: str | int, cards: Cards) -> int:
    """The place of a card, by its key, the name of its stage, or its place.

    Raises:
        ValueError: none is it, or more than one.
    """
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
        raise ValueError(f"{len(found)} cards are {brief(which)}; say which by its place: {found}")
    return found[0]


def changed(cards: Cards, which: str | int, settings: Mapping[str, Any]) -> Cards:
    """One card with other settings."""
    i = place_of(which, cards)
    return _with(cards, i, replace(cards[i], stage=edited(cards[i].stage, settings)))


def toggled(cards: Cards, which: str | int, on: bool | None) -> Cards:
    """One card switched on or off, or over."""
    i = place_of(which, cards)
    return _with(cards, i, replace(cards[i], on=not cards[i].on if on is None else bool(on)))


def added(cards: Cards, card: Card, at: int | None) -> Cards:
    """One more card, at a place; without one at the end, or first if it is a mask."""
    if len(cards) >= MAX_CARDS:
        raise ValueError(f"the editor holds at most {MAX_CARDS} stages. Remove one first.")
    usual = 0 if card.stage.masks_rows else len(cards)
    place = usual if at is None else _place(at, len(cards))
    return (*cards[:place], card, *cards[place:])


def removed(cards: Cards, which: str | int) -> Cards:
    """Without a card."""
    i = place_of(which, cards)
    return cards[:i] + cards[i + 1 :]


def moved(cards: Cards, which: str | int, to: int) -> Cards:
    """One card at another place, counted when it is gone from its own."""
    card = cards[place_of(which, cards)]
    rest = removed(cards, which)
    place = _place(to, len(rest))
    return (*rest[:place], card, *rest[place:])


def biased(cards: Cards, key: str, token: int, change: float) -> tuple[Cards, float]:
    """A token that gains `change` in a LogitBias before all other stages, and what it gains then.

    A second ban lifts the first; what gains nothing any more is in no card.

    Args:
        key: of the card, if there is none yet.
    """
    old = next((card for card in cards if isinstance(card.stage, LogitBias)), None)
    stage = old.stage if old is not None else None
    biases = dict(stage.biases) if isinstance(stage, LogitBias) else {}
    now = biases.pop(token, 0.0)
    banned = math.isinf(now)
    after = 0.0 if banned and change == now else change if banned else now + change
    if after:
        biases[token] = after
    rest = tuple(card for card in cards if card is not old)
    card = Card(old.key if old else key, LogitBias(biases)) if biases else None
    return ((card, *rest) if card else rest), after


def of_chain(chain: Chain, cards: Cards, new_key: Callable[[], str]) -> Cards:
    """Cards for a chain; a stage that stays of its kind keeps the key of its card."""
    left = list(cards)
    found = []
    for stage in chain:
        same = next((card for card in left if type(card.stage) is type(stage)), None)
        if same:
            left.remove(same)
        found.append(Card(same.key if same else new_key(), stage))
    return tuple(found)


def _with(cards: Cards, i: int, card: Card) -> Cards:
    return (*cards[:i], card, *cards[i + 1 :])


def _place(to: int, n: int) -> int:
    if isinstance(to, bool) or not isinstance(to, int) or not -n - 1 <= to <= n:
        raise ValueError(f"a place is a whole number from 0 to {n}, not {brief(to)}")
    return to if to >= 0 else n + 1 + to
