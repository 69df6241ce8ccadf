"""ControlVector: a direction for each layer, added to what the layers of a model pass on.

The files are those of llama.cpp's cvector-generator and of repeng: one F32 tensor `direction.N` a
layer, N from 1 on. llama.cpp adds it to the output of layer N (`llama_set_adapter_cvec`).
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from numbers import Real
from pathlib import Path
from typing import Any, SupportsIndex

import gguf
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mullama_lab.counted import counted
from mullama_lab.engine.gguf.check import must_be_whole
from mullama_lab.engine.gguf.file import Header, read_header
from mullama_lab.engine.options import whole
from mullama_lab.engine.steering.library import VectorLibrary, delete, library, named
from mullama_lab.errors import ModelFileError
from mullama_lab.files.replacing import replacing
from mullama_lab.glyphs import brief, one_line, visible

KIND = "controlvector"  # general.architecture of its files
MODEL_KEY = "mullama_lab.model"
LAYER_MOST = 1 << 16
MOST_NAME = 120  # characters of a name that arithmetic makes
_DIRECTION = re.compile(r"direction\.(\d{1,5})")


class ControlVector:
    """A direction for each of some layers: an immutable value that can be reckoned with.

        happy = ml.ControlVector.load("happy.gguf")
        session.control = 0.8 * (2 * happy - sad).layers(10, 20)

    Sums go layer by layer, where a layer that one of them lacks counts as zeros. Numbers are
    float32, as llama.cpp takes them. Two are equal if they act alike: the same numbers in the same
    layers, whatever they are called.

    Args:
        directions: {layer: numbers}, layers from 1 on, each of shape (n_embd,).
        architecture: the kind of model it was made for, such as "llama"; "" where nobody knows.
        name: what to call it; what arithmetic makes of it is named so too: "0.5 * happy".
        model: the fingerprint of the model it was learnt on, which alone takes it then; "" where
            nobody knows. `ControlVector(vector.directions)` is the same without it.

    Raises:
        ValueError: no layer, one below 1, layers of different width, or a number that is none.
    """

    __slots__ = ("__dict__", "_code", "_rows", "architecture", "model", "name")

    def __init__(
        self,
        directions: Mapping[int, ArrayLike],
        *,
        architecture: str = "",
        name: str = "",
        model: str = "",
    ) -> None:
        rows = {}
        for layer in sorted(directions):
            row = np.array(directions[layer], np.float32)
            row.flags.writeable = False
            rows[whole("a layer", layer, 1, LAYER_MOST)] = row
        _must_be_rows(rows)
        self._rows = rows
        self.architecture, self.name, self.model = str(architecture), str(name), str(model)
        self._code = ""

    @classmethod
    def load(cls, path: str | Path) -> ControlVector:
        """Read a GGUF file of llama.cpp's cvector-generator, of repeng, or of `save`.

        Raises:
            ModelFileError: it is missing, damaged, or holds no control vector.
        """
        header = read_header(path)
        must_be_whole(header)
        kind = header.metadata.get("general.architecture")
        if kind != KIND:
            raise ModelFileError(
                f"{header.path.name} is no control vector: its general.architecture is "
                f"{brief(kind)}, not {KIND!r}."
            )
        about = {
            "architecture": header.metadata.get(f"{KIND}.model_hint", ""),
            "name": header.metadata.get("general.name") or header.path.stem,
            "model": header.metadata.get(MODEL_KEY, ""),
        }
        try:
            vector = cls(_directions(header), **about)
        except ValueError as error:
            raise ModelFileError(f"{header.path.name} holds no control vector: {error}") from error
        vector._code = f"ControlVector.load({str(path)!r})"
        return vector

    @classmethod
    def named(cls, name: str) -> ControlVector:
        """A vector by its name: a built-in one for smollm2-135m, or one that a person kept.

            session.control = 0.8 * ml.ControlVector.named("happy")

        A weak one is opened with a warning.

        Raises:
            ValueError: there is none of that name; the message lists those there are.
            ModelFileError: its file is damaged.
        """
        return named(name, cls)

    @classmethod
    def library(cls) -> VectorLibrary:
        """Every vector that has a name: its model, its layers, how it did on held-out pairs.

        It prints as a table. `Training.keep` adds one.
        """
        return library(cls)

    @classmethod
    def delete_named(cls, name: str) -> None:
        """Forget a vector that `Training.keep` kept.

        Raises:
            ValueError: there is none of that name, or it is built in.
            PresetError: it could not be deleted.
        """
        delete(name, cls)

    def save(self, path: str | Path) -> None:
        """Write it as a GGUF file that llama.cpp and repeng read; `load` gives its equal.

        Raises:
            OSError: the disk is full, or the place cannot be written to.
        """
        self._write(path, self.name, {})

    def _write(self, path: str | Path, name: str, more: Mapping[str, str | int | float]) -> None:
        """Save it by a name, with further keys."""
        with replacing(Path(path)) as part:
            writer = gguf.GGUFWriter(part, KIND)
            if name:
                writer.add_name(name)
            writer.add_string(f"{KIND}.model_hint", self.architecture)
            writer.add_uint32(f"{KIND}.layer_count", len(self._rows))
            if self.model:
                writer.add_string(MODEL_KEY, self.model)
            for key, value in more.items():
                writer.add_key_value(key, value, gguf.GGUFValueType.get_type(value))
            for layer, row in self._rows.items():
                writer.add_tensor(f"direction.{layer}", row)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()

    # What it holds.

    @property
    def directions(self) -> dict[int, NDArray[np.float32]]:
        """{layer: numbers}; float32 of shape (n_embd,), read-only."""
        return dict(self._rows)

    @property
    def n_embd(self) -> int:
        """How many numbers each layer has."""
        return len(next(iter(self._rows.values())))

    @property
    def norms(self) -> dict[int, float]:
        """{layer: the Euclidean length of its direction}."""
        return {layer: _norm(row) for layer, row in self._rows.items()}

    @property
    def is_zero(self) -> bool:
        """Whether it changes nothing."""
        return not any(row.any() for row in self._rows.values())

    @cached_property
    def fingerprint(self) -> str:
        """Names what it does: the same for equal vectors, layers of zeros left out."""
        sum_ = hashlib.sha256(b"%d" % self.n_embd)
        for layer, row in self._rows.items():
            if row.any():
                sum_.update(b"%d:" % layer + (row + np.float32(0)).tobytes())  # no minus zero
        return sum_.hexdigest()[:32]

    # Arithmetic.

    def layers(self, first: int, last: int) -> ControlVector:
        """Those of its layers from `first` to `last`, both counted in.

        Raises:
            ValueError: it has no layer there.
        """
        first = whole("first", first, 1, LAYER_MOST)
        last = whole("last", last, 1, LAYER_MOST)
        rows = {layer: row for layer, row in self._rows.items() if first <= layer <= last}
        if not rows:
            here = f"{min(self._rows)} to {max(self._rows)}"
            raise ValueError(f"it has no layer from {first} to {last}; it has some from {here}.")
        return self._made(rows, lambda me: f"{_factor(me)}.layers({first}, {last})")

    def normalize(self) -> ControlVector:
        """The same directions, each of length 1; zeros stay zeros."""
        rows = {layer: row / (_norm(row) or 1.0) for layer, row in self._rows.items()}
        return self._made(rows, lambda me: f"{_factor(me)}.normalize()")

    def __add__(self, other: object) -> ControlVector:
        return self._with(other, 1.0, "+")

    def __sub__(self, other: object) -> ControlVector:
        return self._with(other, -1.0, "-")

    def __mul__(self, factor: object) -> ControlVector:
        if not _is_number(factor):
            return NotImplemented
        return self._scaled(_finite(factor), lambda me: f"{factor} * {_factor(me)}")

    __rmul__ = __mul__

    def __truediv__(self, divisor: object) -> ControlVector:
        if not _is_number(divisor):
            return NotImplemented
        number = _finite(divisor)
        if number == 0:
            raise ZeroDivisionError("a control vector was divided by zero.")
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            rows = {layer: row / np.float32(number) for layer, row in self._rows.items()}
        return self._made(rows, lambda me: f"{_factor(me)} / {divisor}")

    def __neg__(self) -> ControlVector:
        return self._scaled(-1.0, lambda me: f"-{_factor(me)}")

    def __pos__(self) -> ControlVector:
        return self

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ControlVector):
            return NotImplemented
        return self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        """As code, where it comes from files; else what there is to see."""
        if self._code:
            return self._code
        name = f" {one_line(visible(self.name))!r}" if self.name else ""
        of = f" of {one_line(visible(self.architecture))}" if self.architecture else ""
        n = counted(len(self._rows), "layer")
        return f"<ControlVector{name}{of}: {n} of {self.n_embd} numbers>"

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> Any:
        return _unpickled, (self._rows, self.architecture, self.name, self.model, self._code)

    # Inside.

    @property
    def _about(self) -> str:
        return f"a vector of {self.n_embd} numbers a layer for {self.architecture or 'any model'}"

    def _scaled(self, factor: float, say: Callable[[str], str]) -> ControlVector:
        with np.errstate(over="ignore", invalid="ignore"):  # what is too large is refused
            rows = {layer: row * np.float32(factor) for layer, row in self._rows.items()}
        return self._made(rows, say)

    def _with(self, other: object, sign: float, operator: str) -> ControlVector:
        if not isinstance(other, ControlVector):
            return NotImplemented
        kinds = {ggml_name(self.architecture), ggml_name(other.architecture)} - {""}
        models = {self.model, other.model} - {""}
        if other.n_embd != self.n_embd or max(len(kinds), len(models)) > 1:
            raise ValueError(
                f"{self._about} and {other._about} are of different models: they cannot be added."
            )
        zeros = np.zeros(self.n_embd, np.float32)
        rows = {}
        with np.errstate(over="ignore"):  # what is too large is refused
            for layer in {*self._rows, *other._rows}:
                theirs = np.float32(sign) * other._rows.get(layer, zeros)
                rows[layer] = self._rows.get(layer, zeros) + theirs
        if operator == "-":
            return self._made(rows, lambda me, its: f"{me} - {_term(its)}", other)
        return self._made(rows, lambda me, its: f"{me} + {its}", other)

    def _made(
        self,
        rows: Mapping[int, ArrayLike],
        say: Callable[..., str],
        other: ControlVector | None = None,
    ) -> ControlVector:
        """What arithmetic gives; numbers that float32 cannot hold are refused.

        Args:
            say: what it is called, of what its operands are called: in code, and by name.
        """
        parts = (self,) if other is None else (self, other)
        codes, names = [one._code for one in parts], [one.name for one in parts]
        name = say(*names) if all(names) else ""
        made = ControlVector(
            rows,
            architecture=next(filter(None, (one.architecture for one in parts)), ""),
            name=name if len(name) <= MOST_NAME else "",
            model=next(filter(None, (one.model for one in parts)), ""),
        )
        made._code = say(*codes) if all(codes) else ""
        return made


def ggml_name(architecture: str) -> str:
    """How llama.cpp calls an architecture; repeng's files say what transformers calls it.

    >>> ggml_name("mistral"), ggml_name("qwen2_moe"), ggml_name("gemma3_text")
    ('llama', 'qwen2moe', 'gemma3')
    """
    bare = architecture.removesuffix("_text").replace("_", "")
    return "llama" if bare in ("mistral", "mixtral") else bare


def _factor(text: str) -> str:
    """What a vector is called, as a factor."""
    return f"({text})" if re.search(r" [+*/-] |^-", text) else text


def _term(text: str) -> str:
    """What a vector is called, as what is taken away."""
    return f"({text})" if re.search(r" [+-] ", text) else text


def _unpickled(
    rows: Mapping[int, NDArray[np.float32]], architecture: str, name: str, model: str, code: str
) -> ControlVector:
    vector = ControlVector(rows, architecture=architecture, name=name, model=model)
    vector._code = code
    return vector


def _must_be_rows(rows: Mapping[int, NDArray[np.float32]]) -> None:
    if not rows:
        raise ValueError("a control vector needs at least one layer.")
    shapes = {row.shape for row in rows.values()}
    if len(shapes) > 1 or len(shape := shapes.pop()) != 1 or not shape[0]:
        raise ValueError("a control vector has as many numbers in each layer, in one dimension.")
    for layer, row in rows.items():
        if not np.isfinite(row).all():
            raise ValueError(f"layer {layer} has a number that is infinite or none.")


def _directions(header: Header) -> dict[int, NDArray[np.float32]]:
    """The tensors of a file that was seen to be whole."""
    directions = {}
    with header.path.open("rb") as file:
        for tensor in header.tensors:
            match = _DIRECTION.fullmatch(tensor.name)
            if (
                match is None
                or len(tensor.shape) != 1
                or tensor.kind != gguf.GGMLQuantizationType.F32
            ):
                raise ValueError(
                    f"{tensor.name} is no direction: those are called direction.1, direction.2, "
                    "..., have one dimension, and are stored as F32."
                )
            file.seek(header.data_start + tensor.offset)
            row = np.frombuffer(file.read(4 * tensor.shape[0]), "<f4")
            if (layer := int(match[1])) in directions:
                raise ValueError(f"layer {layer} is there twice.")
            directions[layer] = row
    return directions


def _norm(row: Iterable[float]) -> float:
    return float(np.linalg.norm(np.asarray(row, np.float64)))


def _is_number(value: object) -> bool:
    return isinstance(value, (Real, np.number)) and not isinstance(value, (bool, np.bool_))


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"a control vector times {value} is none: take a finite number.")
    return number
