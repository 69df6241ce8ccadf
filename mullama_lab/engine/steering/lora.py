"""LoraAdapter: low-rank changes of a model's weights, read from a GGUF file.

llama.cpp adds `scale * alpha / rank * B A x` to what each target weight gives. It asserts on a
file with keys of another type or tensors of other dimensions, which ends the process: such files
are refused here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gguf import GGMLQuantizationType

from mullama_lab.engine.gguf.check import must_be_whole, parts
from mullama_lab.engine.gguf.file import ARRAY, FLOAT32, STRING, Header, TensorInfo, read_header
from mullama_lab.engine.gguf.fingerprint import short_fingerprint
from mullama_lab.errors import ModelFileError
from mullama_lab.glyphs import brief

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model

TYPES = {GGMLQuantizationType.F32, GGMLQuantizationType.F16, GGMLQuantizationType.BF16}
KEYS = {  # what llama.cpp reads, and asserts on where it is of another type
    "general.type": STRING,
    "general.architecture": STRING,
    "adapter.type": STRING,
    "adapter.lora.alpha": FLOAT32,
    "adapter.lora.task_name": STRING,
    "adapter.lora.prompt_prefix": STRING,
    "adapter.alora.invocation_tokens": ARRAY,
}


@dataclass(frozen=True)
class LoraAdapter:
    """A LoRA adapter: what its file says of it. Open one with `LoraAdapter.load`.

        style = ml.LoraAdapter.load("style.gguf")
        session.adapters = {style: 0.8}

    Two are equal if their files are, wherever they lie.

    Attributes:
        path: the file.
        architecture: the kind of model it was made for, such as "llama".
        rank: of its largest pair of matrices.
        alpha: llama.cpp multiplies by alpha / rank; 0 is not at all.
        targets: the weights that it changes, by their names in the model.
        n_params: how many numbers it has.
        size_bytes: of the file.
        name, task_name, prompt_prefix: as the file says; "" where it does not.
        fingerprint: names its contents.
    """

    path: Path = field(compare=False)
    architecture: str = field(compare=False)
    rank: int = field(compare=False)
    alpha: float = field(compare=False)
    targets: tuple[str, ...] = field(compare=False, repr=False)
    n_params: int = field(compare=False)
    size_bytes: int = field(compare=False)
    name: str = field(compare=False)
    task_name: str = field(compare=False)
    prompt_prefix: str = field(compare=False)
    fingerprint: str

    @classmethod
    def load(cls, path: str | Path) -> LoraAdapter:
        """Read what a GGUF file says of the adapter in it; its numbers are read when it is used.

        Raises:
            ModelFileError: it is missing, damaged, or holds no LoRA adapter; or one that acts
                from certain tokens on (aLoRA), which would act on all of a text here.
        """
        header = read_header(path)
        _check_keys(header)
        must_be_whole(header)
        pairs = _pairs(header)
        text = {key: str(header.metadata.get(key, "")) for key in KEYS}
        return cls(
            path=Path(path),
            architecture=text["general.architecture"],
            rank=max(b.shape[0] for _, b in pairs.values()),
            alpha=header.metadata.get("adapter.lora.alpha", 0.0),
            targets=tuple(pairs),
            n_params=sum(math.prod(one.shape) for pair in pairs.values() for one in pair),
            size_bytes=header.size_bytes,
            name=str(header.metadata.get("general.name") or header.path.stem),
            task_name=text["adapter.lora.task_name"],
            prompt_prefix=text["adapter.lora.prompt_prefix"],
            fingerprint=short_fingerprint(header.path),
        )

    def must_fit(self, model: Model) -> None:
        """Refuse an adapter of another model before llama.cpp sees it.

        Raises:
            ModelFileError: it was made for another architecture, changes weights that the model
                does not have, or its matrices are of another size; or the file was altered.
        """
        if self.architecture != model.architecture:
            raise _misfit(
                self.path,
                f"it is for {self.architecture}, and {model.name} is {model.architecture}",
            )
        if short_fingerprint(self.path) != self.fingerprint:
            raise ModelFileError(
                f"{self.path} was altered since it was loaded. Load it again: "
                "LoraAdapter.load(path)."
            )
        weights = {
            tensor.name: tensor
            for part in parts(model.path)
            for tensor in read_header(part).tensors
        }
        for name, (a, b) in _pairs(read_header(self.path)).items():
            if name not in weights:
                raise _misfit(self.path, f"{model.name} has no weight {name}")
            if problem := _size_problem(name, weights[name], a, b):
                raise _misfit(self.path, problem)

    def __repr__(self) -> str:
        return f"LoraAdapter.load({str(self.path)!r})"


def _check_keys(header: Header) -> None:
    """Refuse what is no LoRA adapter, or would make llama.cpp assert."""
    known: dict[str, Any] = dict(header.metadata)
    for key, kind in KEYS.items():
        if key in header.kinds and header.kinds[key] != kind:
            raise _refused(header, f"its {key} is {brief(known[key])}, of another type")
    if known.get("general.type") != "adapter" or known.get("adapter.type") != "lora":
        said = " and ".join(
            f"{key} {brief(known.get(key))}" for key in ("general.type", "adapter.type")
        )
        raise _refused(header, f"it is no LoRA adapter: it says {said}")
    if not math.isfinite(known.get("adapter.lora.alpha", 0.0)):
        raise _refused(header, "its adapter.lora.alpha is no number")
    if "adapter.alora.invocation_tokens" in known:
        raise _refused(
            header,
            "it is an aLoRA, made to act from its invocation tokens on, and would act on all of "
            "a text here",
        )


def _pairs(header: Header) -> dict[str, tuple[TensorInfo, TensorInfo]]:
    """The two matrices for each weight that it changes, by the weight's name."""
    halves: dict[str, dict[str, TensorInfo]] = {}
    for tensor in header.tensors:
        name, dot, half = tensor.name.rpartition(".")
        if not dot or half not in ("lora_a", "lora_b") or ".lora_" in name:
            raise _refused(header, f"its tensor {tensor.name} is no half of a LoRA pair")
        if tensor.kind not in TYPES:
            raise _refused(header, f"its tensor {tensor.name} is not F32, F16 or BF16")
        halves.setdefault(name, {})[half] = tensor
    if not halves:
        raise _refused(header, "it has no tensors")
    pairs = {}
    for name, both in sorted(halves.items()):
        if len(both) < 2:
            raise _refused(header, f"it has only {next(iter(both))} for {name}")
        a, b = both["lora_a"], both["lora_b"]
        if problem := _shape_problem(name, a, b):
            raise _refused(header, problem)
        pairs[name] = a, b
    return pairs


def _shape_problem(name: str, a: TensorInfo, b: TensorInfo) -> str:
    if not 2 <= len(a.shape) == len(b.shape) <= 3 or not all((*a.shape, *b.shape)):
        return f"the pair for {name} is not of two matrices"
    if a.shape[2:] != b.shape[2:]:
        return f"the pair for {name} is for {a.shape[2]} and {b.shape[2]} experts"
    inner = (a.shape[0], b.shape[0]) if _is_table(name) else (a.shape[1], b.shape[0])
    if inner[0] != inner[1]:
        return f"the pair for {name} is of ranks {inner[0]} and {inner[1]}"
    return ""


def _size_problem(name: str, weight: TensorInfo, a: TensorInfo, b: TensorInfo) -> str:
    """Why a pair does not fit the weight that it changes; "" if it does."""
    ends = (b.shape[1], a.shape[1]) if _is_table(name) else (a.shape[0], b.shape[1])
    have, want = (*ends, *a.shape[2:]), tuple(weight.shape)
    return "" if have == want else f"{name} is {_by(want)} in the model and {_by(have)} here"


def _is_table(name: str) -> bool:
    """Whether a weight is a table of rows; llama.cpp takes A and B the other way round there."""
    return name.endswith("token_embd.weight")


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _refused(header: Header, why: str) -> ModelFileError:
    return ModelFileError(f"{header.path.name} cannot be used as an adapter: {why}.")


def _misfit(path: Path, why: str) -> ModelFileError:
    return ModelFileError(
        f"{path.name} does not fit this model: {why}. Use the model that it was made for."
    )
