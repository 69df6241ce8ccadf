"""One test of a benchmark with one set of settings, and its speed."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from mullama_lab.engine.native.context import FLASH_ATTENTION
from mullama_lab.glyphs import brief
from mullama_lab.studies._test_names import name_of
from mullama_lab.studies.bench.machine import Machine

# What rows of older histories do not say: they have the defaults.
_NEWER = ("split_mode", "main_gpu", "tensor_split", "tensor_buft_overrides")


@dataclass(frozen=True)
class BenchRow:
    """One test with one set of settings.

    Attributes:
        model_filename, model_type, model_size, model_n_params: as llama-bench has them; the size
            is in bytes.
        n_gpu_layers, split_mode, main_gpu, load_mode: how the model was loaded.
        tensor_split: the part of each device, such as "3.00/1.00"; "0.00" leaves it to llama.cpp.
        tensor_buft_overrides: `override_tensor` of `Model.load`, such as "exps=CPU"; or "none".
        n_prompt, n_gen, n_depth: tokens of each sequence.
        n_sequences: how many are decoded together.
        n_threads, n_batch, n_ubatch, type_k, type_v, flash_attention: settings of the context.
        test_time: when it was measured first, in UTC.
        samples_ns: what each repeat took.
    """

    model_filename: str
    model_type: str
    model_size: int
    model_n_params: int
    n_gpu_layers: int
    split_mode: str = field(default="layer", kw_only=True)
    main_gpu: int = field(default=0, kw_only=True)
    tensor_split: str = field(default="0.00", kw_only=True)
    tensor_buft_overrides: str = field(default="none", kw_only=True)
    load_mode: str
    n_prompt: int
    n_gen: int
    n_depth: int
    n_sequences: int
    n_threads: int
    n_batch: int
    n_ubatch: int
    type_k: str
    type_v: str
    flash_attention: str
    test_time: str
    samples_ns: tuple[int, ...] = ()

    @property
    def test(self) -> str:
        """llama-bench's name of the test."""
        return name_of(self.n_prompt, self.n_gen, self.n_depth)

    @property
    def samples_ts(self) -> list[float]:
        """Tokens a second of each repeat, those of all sequences together."""
        n_tokens = self.n_sequences * (self.n_prompt + self.n_gen)
        return [1e9 * n_tokens / ns for ns in self.samples_ns]

    @property
    def median_ts(self) -> float:
        """Tokens a second, the median; the mean and its deviation are llama-bench's."""
        return statistics.median(self.samples_ts)

    @property
    def avg_ts(self) -> float:
        """The mean of the repeats, tokens a second."""
        return statistics.fmean(self.samples_ts)

    @property
    def stddev_ts(self) -> float:
        """Their standard deviation; 0 of one repeat, as llama-bench has it."""
        return _standard_deviation(self.samples_ts)

    @property
    def settings(self) -> dict[str, Any]:
        """What was measured, and how, by name."""
        left_out = ("test_time", "samples_ns")
        return {name: value for name, value in asdict(self).items() if name not in left_out}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> BenchRow:
        """What `asdict` gave, after JSON.

        Raises:
            ValueError: it is something else.
        """
        try:
            values = {one.name: data[one.name] for one in fields(cls) if one.name not in _NEWER}
            values |= {name: data[name] for name in _NEWER if name in data}
        except (KeyError, TypeError) as error:
            raise ValueError(f"a row has no {error}") from None
        samples = values.pop("samples_ns")
        for name, value in values.items():
            least = -1 if name == "n_gpu_layers" else 0  # -1 is all of them
            is_text = cls.__annotations__[name] == "str"
            if not (isinstance(value, str) if is_text else _is_count(value, least)):
                raise ValueError(f"a row has {name}={brief(value)}")
        if values["flash_attention"] not in FLASH_ATTENTION:
            raise ValueError(f"a row has flash_attention={brief(values['flash_attention'])}")
        if not isinstance(samples, list) or not samples:
            raise ValueError("a row has no samples")
        if not all(_is_count(ns, 1) for ns in samples):
            raise ValueError(f"a row has samples_ns={brief(samples)}")
        if values["n_prompt"] + values["n_gen"] < 1 or values["n_sequences"] < 1:
            raise ValueError("a row has no tokens")
        return cls(**values, samples_ns=tuple(samples))

    def llama_bench(self, machine: Machine) -> dict[str, Any]:
        """The row as `llama-bench -o json` writes one.

        What llama.cpp's Python binding does not report has llama-bench's default. A row of several
        sequences, which llama-bench does not measure, says so in a field of its own.
        """
        return {
            "build_commit": machine.commit,
            "build_number": 0,
            "cpu_info": machine.cpu,
            "gpu_info": machine.gpu,
            "backends": machine.backends,
            "model_filename": self.model_filename,
            "model_type": self.model_type,
            "model_size": self.model_size,
            "model_n_params": self.model_n_params,
            "n_batch": self.n_batch,
            "n_ubatch": self.n_ubatch,
            "n_threads": self.n_threads,
            "cpu_mask": "0x0",
            "cpu_strict": False,
            "poll": 50,
            "type_k": self.type_k,
            "type_v": self.type_v,
            "n_gpu_layers": self.n_gpu_layers,
            "n_cpu_moe": 0,
            "split_mode": self.split_mode,
            "main_gpu": self.main_gpu,
            "no_kv_offload": False,
            "flash_attn": FLASH_ATTENTION[self.flash_attention],
            "devices": "auto",
            "tensor_split": self.tensor_split,
            "tensor_buft_overrides": self.tensor_buft_overrides,
            "load_mode": self.load_mode,
            "embeddings": False,
            "no_op_offload": 0,
            "no_host": False,
            "fit_target": 0,
            "fit_min_ctx": 0,
            "n_prompt": self.n_prompt,
            "n_gen": self.n_gen,
            "n_depth": self.n_depth,
            **({"n_sequences": self.n_sequences} if self.n_sequences > 1 else {}),
            "test_time": self.test_time,
            "avg_ns": round(statistics.fmean(self.samples_ns)),
            "stddev_ns": round(statistics.stdev(self.samples_ns))
            if len(self.samples_ns) > 1
            else 0,
            "avg_ts": round(self.avg_ts, 6),
            "stddev_ts": round(self.stddev_ts, 6),
            "samples_ns": list(self.samples_ns),
            "samples_ts": [round(speed, 3) for speed in self.samples_ts],
        }


def varying(rows: Sequence[BenchRow]) -> set[str]:
    """The settings in which rows of one run differ."""
    return {
        name
        for name in (rows[0].settings if rows else ())
        if len({getattr(row, name) for row in rows}) > 1
    }


def _is_count(value: object, least: int) -> bool:
    return type(value) is int and least <= value < 1 << 63


def _standard_deviation(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0
