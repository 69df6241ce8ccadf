"""What the tensors of a model cost: bytes to read for a token, operations for a prompt."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from mullama_lab.engine.gguf.check import parts
from mullama_lab.engine.gguf.file import TensorInfo, read_header
from mullama_lab.engine.model import Model

N_BATCH = 2048  # llama-bench's
_LOOKED_UP = ("token_embd", "per_layer_token_embd", "position_embd", "token_types")  # by the row


@dataclass(frozen=True)
class Work:
    """What a model's tensors cost.

    Attributes:
        bytes_read: of weights, for one token.
        products: weights that a prompt's token is multiplied with.
        output: of the matrix that makes logits, which the last token of a batch alone needs.
        n_attention: layers with attention.
    """

    bytes_read: int
    products: int
    output: int
    n_attention: int


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
    n_attention = sum(stem.endswith((".attn_q", ".attn_qkv", ".attn_q_b")) for stem in stems)
    return Work(n_bytes, products, output, n_attention)


def prompt_operations(model: Model, work: Work, n_prompt: int, depth: int) -> float:
    """Floating-point operations of a prompt behind some tokens, in batches of 2048."""
    head = model.metadata.get(f"{model.architecture}.attention.key_length")
    width = model.n_head * head if isinstance(head, int) else model.n_embd
    pairs = n_prompt * depth + n_prompt * (n_prompt + 1) / 2
    n_outputs = -(-n_prompt // N_BATCH)
    return (
        2.0 * work.products * n_prompt
        + 2.0 * work.output * n_outputs
        + 4.0 * work.n_attention * width * pairs
    )


def _used_experts(model: Model) -> float:
    used, count = (
        model.metadata.get(f"{model.architecture}.expert_{name}")
        for name in ("used_count", "count")
    )
    return used / count if isinstance(used, int) and isinstance(count, int) and count else 1.0


def _size_bytes(tensor: TensorInfo) -> int:
    per_block, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(tensor.kind)]
    return prod(tensor.shape) // per_block * block_bytes
