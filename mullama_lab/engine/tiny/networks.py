"""The networks of tiny models: sizes, keys and random weights.

Each function gives the keys of its architecture, without the prefix, and the tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Network = tuple[dict[str, Any], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Shape:
    """The sizes of a tiny model; the defaults make a file of about 160 kB."""

    n_vocab: int
    n_embd: int = 32
    n_layer: int = 2
    n_head: int = 2
    n_head_kv: int = 1
    head_size: int = 32
    n_ff: int = 48
    n_ctx_train: int = 512


def _matrix(rng: np.random.Generator, n_out: int, n_in: int, scale: float = 1.0) -> np.ndarray:
    """Random weights that keep the size of what passes through, times `scale`."""
    return (rng.standard_normal((n_out, n_in)) * (scale / np.sqrt(n_in))).astype(np.float32)


def _sizes(shape: Shape) -> dict[str, int]:
    """The keys that every network has."""
    return {
        "context_length": shape.n_ctx_train,
        "embedding_length": shape.n_embd,
        "block_count": shape.n_layer,
    }


def _ends(shape: Shape, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """What turns tokens into vectors, and vectors into logits."""
    n_embd = shape.n_embd
    return {
        "token_embd.weight": _matrix(rng, shape.n_vocab, n_embd, np.sqrt(n_embd)),
        "output_norm.weight": np.ones(n_embd, np.float32),
        # Logits with a standard deviation of 2.5: some tokens are likely, none is certain.
        "output.weight": _matrix(rng, shape.n_vocab, n_embd, 2.5),
    }


def _attention(
    shape: Shape, rng: np.random.Generator, layer: int, head: int
) -> dict[str, np.ndarray]:
    n_embd, name = shape.n_embd, f"blk.{layer}"
    return {
        f"{name}.attn_q.weight": _matrix(rng, shape.n_head * head, n_embd, 2.0),
        f"{name}.attn_k.weight": _matrix(rng, shape.n_head_kv * head, n_embd, 2.0),
        f"{name}.attn_v.weight": _matrix(rng, shape.n_head_kv * head, n_embd, 2.0),
        f"{name}.attn_output.weight": _matrix(rng, n_embd, shape.n_head * head, 2.0),
    }


def _feed_forward(shape: Shape, rng: np.random.Generator, layer: int) -> dict[str, np.ndarray]:
    n_embd, name = shape.n_embd, f"blk.{layer}"
    return {
        f"{name}.ffn_norm.weight": np.ones(n_embd, np.float32),
        f"{name}.ffn_gate.weight": _matrix(rng, shape.n_ff, n_embd),
        f"{name}.ffn_up.weight": _matrix(rng, shape.n_ff, n_embd),
        f"{name}.ffn_down.weight": _matrix(rng, n_embd, shape.n_ff),
    }


def _llama(shape: Shape, rng: np.random.Generator) -> Network:
    n_embd, head = shape.n_embd, shape.head_size
    ones = np.ones(n_embd, dtype=np.float32)
    arrays = _ends(shape, rng)
    for layer in range(shape.n_layer):
        arrays |= {
            f"blk.{layer}.attn_norm.weight": ones,
            **_attention(shape, rng, layer, head),
            **_feed_forward(shape, rng, layer),
        }
    keys = {
        **_sizes(shape),
        "feed_forward_length": shape.n_ff,
        "attention.head_count": shape.n_head,
        "attention.head_count_kv": shape.n_head_kv,
        "attention.key_length": head,
        "attention.value_length": head,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.dimension_count": head,
        "vocab_size": shape.n_vocab,
    }
    return keys, arrays


def _qwen2moe(shape: Shape, rng: np.random.Generator) -> Network:
    """A mixture of four experts, of which a router picks two for each token, and a shared one."""
    n_embd, n_expert = shape.n_embd, 4
    keys, arrays = _llama(shape, rng)
    head = n_embd // shape.n_head
    for layer in range(shape.n_layer):
        name = f"blk.{layer}"
        for part in ("gate", "up", "down"):
            size = (n_embd, shape.n_ff) if part == "down" else (shape.n_ff, n_embd)
            del arrays[f"{name}.ffn_{part}.weight"]
            experts = [_matrix(rng, *size) for _ in range(n_expert)]
            arrays[f"{name}.ffn_{part}_exps.weight"] = np.stack(experts)
            arrays[f"{name}.ffn_{part}_shexp.weight"] = _matrix(rng, *size)
        arrays |= {
            **_attention(shape, rng, layer, head),
            **{
                f"{name}.attn_{one}.bias": np.zeros(n_heads * head, np.float32)
                for one, n_heads in (("q", shape.n_head), ("k", 1), ("v", 1))
            },
            f"{name}.ffn_gate_inp.weight": _matrix(rng, n_expert, n_embd, 2.0),
            f"{name}.ffn_gate_inp_shexp.weight": _matrix(rng, 1, n_embd)[0],
        }
    return {
        **keys,
        "attention.key_length": head,
        "attention.value_length": head,
        "rope.dimension_count": head,
        "expert_count": n_expert,
        "expert_used_count": 2,
        "expert_feed_forward_length": shape.n_ff,
        "expert_shared_feed_forward_length": shape.n_ff,
    }, arrays


def _gemma3(shape: Shape, rng: np.random.Generator) -> Network:
    """llama's layers with more norms; every other layer sees only the last 16 tokens."""
    keys, arrays = _llama(shape, rng)
    ones, head_ones = np.ones(shape.n_embd, np.float32), np.ones(shape.head_size, np.float32)
    for layer in range(shape.n_layer):
        arrays |= {
            f"blk.{layer}.attn_q_norm.weight": head_ones,
            f"blk.{layer}.attn_k_norm.weight": head_ones,
            f"blk.{layer}.post_attention_norm.weight": ones,
            f"blk.{layer}.post_ffw_norm.weight": ones,
        }
    return {
        **keys,
        "attention.sliding_window": 16,
        "attention.sliding_window_pattern": 2,
    }, arrays


def _mamba(shape: Shape, rng: np.random.Generator) -> Network:
    """A state-space model: its memory is one state, and no token of it can be taken back."""
    ones = np.ones(shape.n_embd, np.float32)
    arrays = _ends(shape, rng)
    for layer in range(shape.n_layer):
        arrays |= {f"blk.{layer}.attn_norm.weight": ones, **_state_space(shape, rng, layer)}
    keys = {
        **_sizes(shape),
        "feed_forward_length": 0,
        "attention.head_count": 0,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "vocab_size": shape.n_vocab,
    }
    return keys | _state_space_keys(shape), arrays


_N_STATE, _N_RANK, _N_CONV = 8, 4, 4


def _state_space(shape: Shape, rng: np.random.Generator, layer: int) -> dict[str, np.ndarray]:
    n_embd, n_inner = shape.n_embd, 2 * shape.n_embd
    decay = -np.tile(np.arange(1, _N_STATE + 1, dtype=np.float32), (n_inner, 1))
    return {
        f"blk.{layer}.ssm_in.weight": _matrix(rng, 2 * n_inner, n_embd),
        f"blk.{layer}.ssm_conv1d.weight": _matrix(rng, n_inner, _N_CONV),
        f"blk.{layer}.ssm_conv1d.bias": np.zeros(n_inner, np.float32),
        f"blk.{layer}.ssm_x.weight": _matrix(rng, _N_RANK + 2 * _N_STATE, n_inner),
        f"blk.{layer}.ssm_dt.weight": _matrix(rng, n_inner, _N_RANK),
        f"blk.{layer}.ssm_dt.bias": np.zeros(n_inner, np.float32),
        f"blk.{layer}.ssm_a": decay,
        f"blk.{layer}.ssm_d": np.ones(n_inner, np.float32),
        f"blk.{layer}.ssm_out.weight": _matrix(rng, n_embd, n_inner),
    }


def _state_space_keys(shape: Shape) -> dict[str, Any]:
    return {
        "ssm.conv_kernel": _N_CONV,
        "ssm.inner_size": 2 * shape.n_embd,
        "ssm.state_size": _N_STATE,
        "ssm.time_step_rank": _N_RANK,
    }


def _jamba(shape: Shape, rng: np.random.Generator) -> Network:
    """A hybrid: the last layer has attention, and the others have a state each.

    Its cache has a cell for each token and a state beside them, so it can share neither in part.
    """
    n_embd, n_head = shape.n_embd, shape.n_head
    ones, last = np.ones(n_embd, np.float32), shape.n_layer - 1
    arrays = _ends(shape, rng)
    for layer in range(shape.n_layer):
        name = f"blk.{layer}"
        arrays |= {
            f"{name}.attn_norm.weight": ones,
            **_feed_forward(shape, rng, layer),
        }
        if layer == last:
            arrays |= _attention(shape, rng, layer, n_embd // n_head)
        else:
            arrays |= {
                **_state_space(shape, rng, layer),
                f"{name}.ssm_dt_norm.weight": np.ones(_N_RANK, np.float32),
                f"{name}.ssm_b_norm.weight": np.ones(_N_STATE, np.float32),
                f"{name}.ssm_c_norm.weight": np.ones(_N_STATE, np.float32),
            }
    keys = {
        **_sizes(shape),
        "feed_forward_length": shape.n_ff,
        "attention.head_count": n_head,
        "attention.head_count_kv": [*[0] * last, shape.n_head_kv],
        "attention.layer_norm_rms_epsilon": 1e-5,
        "vocab_size": shape.n_vocab,
    }
    return keys | _state_space_keys(shape), arrays


def _bert(shape: Shape, rng: np.random.Generator) -> Network:
    """An encoder: it sees the whole text at once, and has no logits."""
    n_embd = shape.n_embd
    ones, zeros = np.ones(n_embd, np.float32), np.zeros(n_embd, np.float32)
    arrays = {
        "token_embd.weight": _matrix(rng, shape.n_vocab, n_embd, np.sqrt(n_embd)),
        "token_types.weight": _matrix(rng, 2, n_embd),
        "position_embd.weight": _matrix(rng, shape.n_ctx_train, n_embd),
        "token_embd_norm.weight": ones,
        "token_embd_norm.bias": zeros,
    }
    for layer in range(shape.n_layer):
        arrays |= {
            **{
                f"blk.{layer}.attn_{name}.weight": _matrix(rng, n_embd, n_embd)
                for name in ("q", "k", "v", "output")
            },
            f"blk.{layer}.attn_output_norm.weight": ones,
            f"blk.{layer}.attn_output_norm.bias": zeros,
            f"blk.{layer}.ffn_up.weight": _matrix(rng, shape.n_ff, n_embd),
            f"blk.{layer}.ffn_down.weight": _matrix(rng, n_embd, shape.n_ff),
            f"blk.{layer}.layer_output_norm.weight": ones,
            f"blk.{layer}.layer_output_norm.bias": zeros,
        }
    keys = {
        **_sizes(shape),
        "feed_forward_length": shape.n_ff,
        "attention.head_count": shape.n_head,
        "attention.layer_norm_epsilon": 1e-12,
        "attention.causal": False,
    }
    return keys, arrays


def _lfm2(shape: Shape, rng: np.random.Generator) -> Network:
    """ColBERT's shape: a convolution, then attention, then a projection to half as many numbers.

    Its last layer has attention; the ones before see only the three tokens up to each.
    """
    n_embd, last, n_seen = shape.n_embd, shape.n_layer - 1, 3
    head = n_embd // shape.n_head
    ones = np.ones(n_embd, np.float32)
    arrays = {
        "token_embd.weight": _matrix(rng, shape.n_vocab, n_embd, np.sqrt(n_embd)),
        "token_embd_norm.weight": ones,  # llama.cpp's name for the norm behind the last layer
        "dense_2.weight": _matrix(rng, n_embd // 2, n_embd),
    }
    for layer in range(shape.n_layer):
        name = f"blk.{layer}"
        arrays |= {
            f"{name}.attn_norm.weight": ones,
            **_feed_forward(shape, rng, layer),
        }
        if layer == last:
            arrays |= {
                **_attention(shape, rng, layer, head),
                f"{name}.attn_q_norm.weight": np.ones(head, np.float32),
                f"{name}.attn_k_norm.weight": np.ones(head, np.float32),
            }
        else:
            arrays |= {
                f"{name}.shortconv.conv.weight": _matrix(rng, n_embd, n_seen),
                f"{name}.shortconv.in_proj.weight": _matrix(rng, 3 * n_embd, n_embd),
                f"{name}.shortconv.out_proj.weight": _matrix(rng, n_embd, n_embd),
            }
    keys = {
        **_sizes(shape),
        "embedding_length_out": n_embd // 2,
        "feed_forward_length": shape.n_ff,
        "attention.head_count": shape.n_head,
        "attention.head_count_kv": [*[0] * last, shape.n_head_kv],
        "attention.layer_norm_rms_epsilon": 1e-5,
        "shortconv.l_cache": n_seen,
        "vocab_size": shape.n_vocab,
    }
    return keys, arrays


def _gemma_embedding(shape: Shape, rng: np.random.Generator) -> Network:
    """gemma3's layers, read both ways, and two dense layers behind them: wider, then as before."""
    keys, arrays = _gemma3(shape, rng)
    n_embd, wide = shape.n_embd, 2 * shape.n_embd
    arrays |= {
        "dense_2.weight": _matrix(rng, wide, n_embd),
        "dense_3.weight": _matrix(rng, n_embd, wide),
    }
    return {
        **keys,
        "attention.causal": False,
        "pooling_type": 1,  # the mean
        "dense_2_feat_in": n_embd,
        "dense_2_feat_out": wide,
        "dense_3_feat_in": wide,
        "dense_3_feat_out": n_embd,
    }, arrays


ARCHITECTURES: dict[str, Callable[[Shape, np.random.Generator], Network]] = {
    "llama": _llama,
    "gemma3": _gemma3,
    "qwen2moe": _qwen2moe,
    "mamba": _mamba,
    "jamba": _jamba,
    "bert": _bert,
    "lfm2": _lfm2,
    "gemma-embedding": _gemma_embedding,
}
