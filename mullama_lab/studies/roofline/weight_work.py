"""What the tensors of a model cost: bytes to read for a token, operations for a prompt."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from mullama_lab.engine.gguf.check import parts
from mullama_lab.engine.gguf.file import TensorInfo, read_header
from mullama_lab.engine.model import Model

N_BATCH = 2048  # llama-bench's
_PERIODS = {"gemma2": 2, "gemma3": 6, "gpt-oss": 2}  # llama.cpp's, where the file says nothing
_LOOKED_UP = ("token_embd", "per_layer_token_embd", "position_embd", "token_types")  # by the row


@dataclass(frozen=True)
class Work:
    """What a model's tensors cost.

    Attributes:
        bytes_read: of weights, for one token.
        products: weights that each token of a prompt is multiplied by.
        output: of the matrix that makes logits, which the last token of a batch alone needs.
        n_attention: layers with attention.
        window: tokens that attention with a sliding window sees; 0 where the file has none.
        n_windowed: how many of the layers with attention have it; None where that is not known.
    """

    bytes_read: int
    products: int
    output: int
    n_attention: int
    window: int = 0
    n_windowed: int | None = 0


def work_of(model: Model) -> Work:
    """What the tensors of a model's files cost."""
    tensors = [tensor for path in parts(model.path) for tensor in read_header(path).tensors]
    stems = {tensor.name.removesuffix(".weight") for tensor in tensors}
    is_tied = "output" not in stems
    used = _used_experts(model)
    n_bytes = products = output = 0
    for tensor in tensors:
        stem, n_numbers = tensor.name.removesuffix(".weight"), prod(tensor.shape)
        makes_logits = stem == "output" or (is_tied and stem == "token_embd")
        if stem in _LOOKED_UP and not makes_logits:
            continue
        part = used if "_exps" in stem else 1.0
        n_bytes += round(part * _size_bytes(tensor))
        if makes_logits:
            output += n_numbers
        elif len(tensor.shape) > 1:
            products += round(part * n_numbers)
    layers = [
        int(stem.split(".")[1])
        for stem in stems
        if re.fullmatch(r"blk\.\d+\.attn_(q|qkv|q_b)", stem)
    ]
    window = model.metadata.get(f"{model.architecture}.attention.sliding_window")
    window = max(0, window) if isinstance(window, int) else 0
    n_windowed = _n_windowed(model, layers) if window else 0
    return Work(n_bytes, products, output, len(layers), window, n_windowed)


def prompt_operations(model: Model, work: Work, n_prompt: int, depth: int) -> float:
    """Floating-point operations of a prompt behind some tokens, in batches of 2048."""
    head = model.metadata.get(f"{model.architecture}.attention.key_length")
    width = model.n_head * head if isinstance(head, int) else model.n_embd
    n_windowed = work.n_windowed or 0
    pairs = (work.n_attention - n_windowed) * _pairs(n_prompt, depth, n_prompt + depth)
    pairs += n_windowed * _pairs(n_prompt, depth, work.window)
    n_outputs = -(-n_prompt // N_BATCH)
    return 2.0 * work.products * n_prompt + 2.0 * work.output * n_outputs + 4.0 * width * pairs


def _pairs(n_prompt: int, depth: int, window: int) -> int:
    """How many tokens those of a prompt see together, each itself too and a window at most.

    >>> _pairs(4, 10, 100), _pairs(4, 10, 12), _pairs(4, 10, 5)
    (50, 47, 20)
    """
    n_growing = max(0, min(n_prompt, window - depth))  # that see everything before them
    growing = n_growing * depth + n_growing * (n_growing + 1) // 2
    return growing + (n_prompt - n_growing) * window


def _n_windowed(model: Model, layers: Sequence[int]) -> int | None:
    """How many of some layers have a sliding window; None where the file does not tell.

    Source: llama.cpp `llama_hparams::set_swa_pattern`: the last of so many layers has none.
    """
    key = f"{model.architecture}.attention.sliding_window_pattern"
    pattern = model.metadata.get(key, _PERIODS.get(model.architecture))
    if isinstance(pattern, int):
        return sum(pattern == 0 or layer % pattern < pattern - 1 for layer in layers)
    if isinstance(pattern, Sequence) and not isinstance(pattern, str):
        return sum(bool(pattern[layer]) for layer in layers if layer < len(pattern))
    return None


def _used_experts(model: Model) -> float:
    used, count = (
        model.metadata.get(f"{model.architecture}.expert_{name}")
        for name in ("used_count", "count")
    )
    return used / count if isinstance(used, int) and isinstance(count, int) and count else 1.0


def _size_bytes(tensor: TensorInfo) -> int:
    per_block, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(tensor.kind)]
    return prod(tensor.shape) // per_block * block_bytes
