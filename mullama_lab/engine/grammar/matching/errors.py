"""What llguidance says where it cannot carry a grammar out, in words that tell what to change."""

from __future__ import annotations

import re

LONGEST_REASON = 500  # characters of what llguidance says; it may quote all of an expression
_REST = re.compile(r"\n<(?:state|backtrace)>.*", re.S)  # what only its makers can use
NOTHING_GOES_ON = "no token goes on with what it allows"
_LIMITS = {
    "NoExtensionBias": NOTHING_GOES_ON,
    "grammar.symbols.len() < u16::MAX": (
        "it has more rules and alternatives than the 65 525 that llguidance can number. Take out "
        "rules, or write fewer repetitions and groups"
    ),
    "consider making your grammar left-recursive": (
        "at one place of the text it can go on in more ways than llguidance follows, which are "
        "2000. Give it fewer alternatives or optional properties; for a rule that ends with "
        "itself write a repetition"
    ),
    "too many expressions constructed": (
        "its repetitions and classes are more than llguidance follows. Repeat fewer times"
    ),
}


def in_words(said: str) -> str:
    """What llguidance has against a grammar, or why it stopped; empty if it said nothing."""
    for sign, words in _LIMITS.items():
        if sign in said:
            return words
    return _REST.sub("", said).strip().rstrip(".")[:LONGEST_REASON]
