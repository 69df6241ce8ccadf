"""Text in which nothing is invisible, as in `widgets/shared/text.js`; a caller's value, in brief.

Spaces, newlines and tabs stay what they are here; the browser half also marks those.
"""

from __future__ import annotations

import codecs
import unicodedata
from collections.abc import Iterable

_CONTROLS = [
    "NUL", "SOH", "STX", "ETX", "EOT", "ENQ", "ACK", "BEL", "BS", "HT", "LF", "VT", "FF", "CR",
    "SO", "SI", "DLE", "DC1", "DC2", "DC3", "DC4", "NAK", "SYN", "ETB", "CAN", "EM", "SUB", "ESC",
    "FS", "GS", "RS", "US",
]  # fmt: skip
_NAMES = {
    "\u007f": "DEL",
    "\u00a0": "NBSP", "\u00ad": "SHY", "\u034f": "CGJ", "\u061c": "ALM", "\u180e": "MVS",
    "\u200b": "ZWSP", "\u200c": "ZWNJ", "\u200d": "ZWJ", "\u200e": "LRM", "\u200f": "RLM",
    "\u2028": "LSEP", "\u2029": "PSEP", "\u202a": "LRE", "\u202b": "RLE", "\u202c": "PDF",
    "\u202d": "LRO", "\u202e": "RLO", "\u202f": "NNBSP", "\u2060": "WJ", "\u2066": "LRI",
    "\u2067": "RLI", "\u2068": "FSI", "\u2069": "PDI", "\u3000": "IDSP", "\ufeff": "BOM",
}  # fmt: skip
_HIDDEN = {"Cc", "Cf", "Zs", "Zl", "Zp", "Co", "Cn", "Cs"}
_HEX = "mullama_lab.hex"  # an error handler of codecs
_FILLERS = "\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0"


def visible(text: str) -> str:
    """Write hidden characters as `[NAME]`; keep space, newline and tab."""
    if text.isascii() and text.isprintable():  # as mostly, such as thousands of lines of a log
        return text
    return "".join(
        _glyph(character) if _is_hidden(text, i) else character for i, character in enumerate(text)
    )


def brief(value: object, length: int = 80) -> str:
    """How a message shows a value that a caller gave: the beginning of its repr.

    A value may have none: it is nested too deep, has too many digits, or its own code fails.

    >>> brief([1, "a"]), brief(2**5000), brief("abc", 3)
    ("[1, 'a']", 'about 2**5000', "'ab")
    """
    if isinstance(value, int) and value.bit_length() > 200:
        return f"about {'-' * (value < 0)}2**{value.bit_length() - 1}"
    try:
        return repr(value)[:length]
    except Exception:
        return f"<{type(value).__name__}>"


def one_line(text: str) -> str:
    """Ends of lines and tabs as the signs the strip has for them."""
    return text.replace("\n", "↵").replace("\t", "⇥")


def visible_piece(piece: bytes) -> str:
    """Bytes of one piece as text: `[F0 9F]` for what is no character."""
    return visible(piece.decode("utf-8", _HEX))


def piece_label(piece: bytes) -> str:
    """A piece on its own, as views name one: its spaces and ends of lines are signs.

    >>> piece_label(b" leg")
    '·leg'
    """
    return one_line(visible_piece(piece)).replace(" ", "·") or "(empty)"


def visible_pieces(pieces: Iterable[bytes]) -> list[str]:
    """A text for each piece; a character of several pieces is in the last of them."""
    decoder = codecs.getincrementaldecoder("utf-8")(_HEX)
    texts = [visible(decoder.decode(piece)) for piece in pieces]
    if texts:
        texts[-1] += visible(decoder.decode(b"", final=True))
    return texts


def _is_hidden(text: str, i: int) -> bool:
    character = text[i]
    if character in " \n\t":
        return False
    if "\ufe00" <= character <= "\ufe0f" or character == "\u200d":
        return not _in_emoji(text, i)
    return character in _FILLERS or unicodedata.category(character) in _HIDDEN


def _in_emoji(text: str, i: int) -> bool:
    """Joiners and variation selectors between pictures belong to the picture."""

    def pictured(k: int) -> bool:
        return 0 <= k < len(text) and (
            unicodedata.category(text[k]) in ("So", "Sk") or text[k] == "\ufe0f"
        )

    return pictured(i - 1) and (text[i] != "\u200d" or pictured(i + 1))


def _glyph(character: str) -> str:
    code = ord(character)
    name = _CONTROLS[code] if code < len(_CONTROLS) else _NAMES.get(character, f"U+{code:04X}")
    return f"[{name}]"


def _bytes_as_hex(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return f"[{error.object[error.start : error.end].hex(' ').upper()}]", error.end


codecs.register_error(_HEX, _bytes_as_hex)
