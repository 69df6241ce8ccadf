"""Control vectors by name: those that everybody has, and those that a person keeps.

Each is a GGUF file that says which model it was learnt on and how it did on pairs that it was not
learnt from. The built-in ones are made by `notebooks/make_vectors.py`; a person's lie in the
configuration folder.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mullama_lab.engine import kept
from mullama_lab.engine.gguf.file import read_header
from mullama_lab.engine.options import flag
from mullama_lab.errors import ModelFileError, PresetError
from mullama_lab.glyphs import brief, one_line, visible
from mullama_lab.warned import warn

if TYPE_CHECKING:
    import pandas

    from mullama_lab.engine.steering.control_vector import ControlVector

BUILT_IN = Path(__file__).parent / "vectors"
KIND = "control vector"
PREFIX = "mullama_lab."  # of the keys that say how one was learnt
LEAST_ACCURACY = 0.9
LEAST_MOVED = 0.75


@dataclass(frozen=True)
class Learnt:
    """How a control vector was learnt, and how it did on pairs that were held out.

    Attributes:
        model_name: of the model.
        n_pairs, n_held_out: how many pairs it was learnt from, and tried on.
        accuracy, separation: of the held-out pairs, as in `Training`; the means over its layers.
        up, down: by how many nats the log-probability of the wanted text of a held-out pair rose
            against that of the other, under the vector and under its opposite; nan where that was
            not measured.
        moved: the share of the held-out pairs that both moved the way they should; nan likewise.
    """

    model_name: str
    n_pairs: int
    n_held_out: int
    accuracy: float
    separation: float
    up: float = math.nan
    down: float = math.nan
    moved: float = math.nan

    @property
    def weakness(self) -> str:
        """Why it should not be relied on; "" where nothing speaks against it."""
        if not self.accuracy >= LEAST_ACCURACY:
            return f"it puts only {self.accuracy:.0%} of the held-out pairs in order"
        if self.moved < LEAST_MOVED:
            return f"it moves only {self.moved:.0%} of the held-out pairs both ways"
        return ""


@dataclass(frozen=True)
class VectorCard:
    """What a control vector in the library says of itself.

    Attributes:
        name: what `ControlVector.named` opens it by.
        model: the fingerprint of the model it is for.
        first, last: its layers.
        learnt: how it was learnt, and how well.
        is_own: whether this person kept it.
    """

    name: str
    model: str
    first: int
    last: int
    learnt: Learnt
    is_own: bool


class VectorLibrary(Mapping[str, VectorCard]):
    """The control vectors that can be opened by name: {name: VectorCard}.

    It prints as a table: of the held-out pairs, the share that each puts in order, how many
    standard deviations it puts them apart, and by how many nats it and its opposite move them; see
    `Learnt`.
    """

    def __init__(self, cards: Mapping[str, VectorCard]) -> None:
        self._cards = dict(cards)

    def __getitem__(self, name: str) -> VectorCard:
        return self._cards[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._cards)

    def __len__(self) -> int:
        return len(self._cards)

    def _ipython_key_completions_(self) -> list[str]:
        return list(self)

    def to_pandas(self) -> pandas.DataFrame:
        """One row a vector, by name; needs pandas."""
        import pandas as pd

        rows = [
            {
                "model": card.learnt.model_name,
                "layers": f"{card.first}-{card.last}",
                **{key: value for key, value in asdict(card.learnt).items() if key != "model_name"},
                "weakness": card.learnt.weakness,
                "is_own": card.is_own,
            }
            for card in self.values()
        ]
        return pd.DataFrame(rows, index=pd.Index(list(self), name="name"))

    def __repr__(self) -> str:
        rows = [COLUMNS, *map(_row, self.values())]
        widths = [max(map(len, column)) for column in zip(*rows)]
        return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


COLUMNS = ("name", "model", "layers", "in order", "apart", "up, down", "")


def _row(card: VectorCard) -> tuple[str, ...]:
    learnt = card.learnt
    remarks = [f"weak: {learnt.weakness}"] * bool(learnt.weakness) + ["yours"] * card.is_own
    return (
        card.name,
        one_line(visible(learnt.model_name)),
        f"{card.first}-{card.last}",
        f"{learnt.accuracy:.0%} of {learnt.n_held_out}",
        f"{learnt.separation:.1f}",
        "" if math.isnan(learnt.up) else f"{learnt.up:+.1f}, {learnt.down:+.1f}",
        "; ".join(remarks),
    )


def library(vector_type: type[ControlVector]) -> VectorLibrary:
    """See `ControlVector.library`."""
    cards = {}
    for path in [*sorted(BUILT_IN.glob("*.gguf")), *sorted(_own_folder().glob("*.gguf"))]:
        try:
            card = _card(path, vector_type)
            cards.setdefault(card.name, card)
        except (ModelFileError, ValueError) as error:
            warn(f"{path} is left out: {error}")
    return VectorLibrary(cards)


def named(name: str, vector_type: type[ControlVector]) -> ControlVector:
    """See `ControlVector.named`."""
    name = kept.checked_name(KIND, name)
    path = next((path for path in _places(name) if path.is_file()), None)
    if path is None:
        raise kept.unknown(KIND, name, library(vector_type))
    vector, card = vector_type.load(path), _card(path, vector_type)
    if card.learnt.weakness:
        warn(f"the control vector {name!r} is weak: {card.learnt.weakness}.")
    vector._code = f"ControlVector.named({name!r})"
    return vector


def keep(vector: ControlVector, name: str, learnt: Learnt, *, replace: bool = False) -> None:
    """Have a person's vector by a name.

    Raises:
        ValueError: the name is taken, or no name.
        PresetError: it could not be written.
    """
    name = kept.checked_name(KIND, name)
    built_in, own = _places(name)
    if built_in.is_file():
        raise ValueError(f"{name!r} is the name of a built-in vector. Keep it by another name.")
    if own.is_file() and not flag("replace", replace):
        raise ValueError(
            f"there is a control vector {name!r} already. Keep it by another name, or replace "
            "that one with replace=True."
        )
    try:
        own.parent.mkdir(parents=True, exist_ok=True)
        write(own, vector, learnt)
    except OSError as error:
        raise PresetError(
            f"{own} could not be written: {kept.reason(error)}. Make room, or set "
            "MULLAMA_LAB_CONFIG to a folder that can be written to."
        ) from error


def delete(name: str, vector_type: type[ControlVector]) -> None:
    """See `ControlVector.delete_named`."""
    name = kept.checked_name(KIND, name)
    built_in, own = _places(name)
    if built_in.is_file():
        raise ValueError(f"{name!r} is a built-in control vector, which cannot be deleted.")
    try:
        own.unlink()
    except FileNotFoundError:
        raise kept.unknown(KIND, name, library(vector_type)) from None
    except OSError as error:
        raise PresetError(f"{own} could not be deleted: {kept.reason(error)}.") from error


def write(path: Path, vector: ControlVector, learnt: Learnt) -> None:
    """Save a vector with what is known of it, called as its file is."""
    vector._write(
        path, path.stem, {f"{PREFIX}{key}": value for key, value in asdict(learnt).items()}
    )


def _own_folder() -> Path:
    return kept.folder() / "control_vectors"


def _places(name: str) -> tuple[Path, Path]:
    """Where a vector of that name would be: built in, or a person's own."""
    return BUILT_IN / f"{name}.gguf", _own_folder() / f"{name}.gguf"


def _card(path: Path, vector_type: type[ControlVector]) -> VectorCard:
    """What a file in the library says of itself.

    Raises:
        ModelFileError: it is damaged, or does not say how it was learnt.
    """
    vector = vector_type.load(path)
    said = read_header(path).metadata
    values: dict[str, Any] = {}
    for field in fields(Learnt):
        value = said.get(f"{PREFIX}{field.name}")
        kind = {"str": str, "int": int, "float": float}[str(field.type)]
        if type(value) is not kind:
            raise ModelFileError(f"its {PREFIX}{field.name} is {brief(value)}.")
        values[field.name] = value
    return VectorCard(
        name=kept.checked_name(KIND, path.stem),
        model=vector.model,
        first=min(vector.directions),
        last=max(vector.directions),
        learnt=Learnt(**values),
        is_own=path.parent != BUILT_IN,
    )
