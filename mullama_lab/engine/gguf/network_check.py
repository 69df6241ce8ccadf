"""The numbers of a network that llama.cpp asserts on.

A wrong number mostly means a tensor of another shape, which llama.cpp reports. The ones here
it meets with an assertion, when it loads the file, builds the network or first computes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

MOST_LAYERS = 512
MOST_EXPERTS = 1024
ROPE_SCALINGS = ("none", "linear", "yarn", "longrope")

# Architectures by what their code in llama.cpp's src/models asserts.
_WITH_EXPERTS = {"bailingmoe2", "glm4moe", "grovemoe", "llada-moe", "smallthinker"}
_WITH_SECTIONS = {"paddleocr", "qwen2vl", "qwen3vl", "qwen3vlmoe", "qwen35", "qwen35moe"}
_EQUAL_HEADS = """
    afmoe apertus arcee arctic baichuan bailingmoe2 bert bitnet bloom chameleon chatglm codeshell
    cogvlm cohere2 cohere2moe command-r dbrx deci deepseek dflash dots1 dream eagle3 ernie4_5
    ernie4_5-moe eurobert exaone falcon glm4 glm4moe gpt2 gptneox granite granite_swa granitehybrid
    graniteswitch grok grovemoe hunyuan-moe hunyuan_vl hy_v3 internlm2 jais jais2 laguna lfm2
    lfm2moe llada llada-moe llama llama4 maincoder mellum minimax-01 minimax-m2 minimax-m3 mistral3
    modern-bert mpt muse-glimmer nanbeige nemotron nemotron_h nemotron_h_moe neo-bert olmo olmo2
    olmoe openelm orion paddleocr phi2 phi3 plamo pockettts qwen qwen2 qwen2moe qwen2vl qwen3 qwen35
    qwen35moe qwen3moe qwen3next qwen3vl qwen3vlmoe qwen4exp refact rnd1 seed_oss smallthinker
    smollm3 spark2_5 stablelm starcoder starcoder2 xverse
    """


def network_problem(metadata: Mapping[str, Any]) -> str:
    """What llama.cpp would not survive, in words; "" if nothing is known.

    A number of another type than it should be is left to llama.cpp, which says so.
    """
    architecture = metadata.get("general.architecture")
    prefix = f"{architecture}."
    keys = {
        key.removeprefix(prefix): value for key, value in metadata.items() if key.startswith(prefix)
    }
    return (
        _layer_problem(keys)
        or _number_problem(keys)
        or _expert_problem(keys, needed=architecture in _WITH_EXPERTS)
        or _window_problem(keys)
        or _rotation_problem(keys, sections=architecture in _WITH_SECTIONS)
        or _convolution_problem(keys)
        or _projection_problem(keys)
        or (_head_problem(keys) if architecture in _EQUAL_HEADS.split() else "")
    )


def _layer_problem(keys: Mapping[str, Any]) -> str:
    n_layer, n_more = keys.get("block_count", 1), keys.get("nextn_predict_layers", 0)
    if isinstance(n_layer, int) and not 1 <= n_layer <= MOST_LAYERS:
        return f"it claims {n_layer} layers, possible are 1 to {MOST_LAYERS}"
    if isinstance(n_layer, int) and isinstance(n_more, int) and n_more > n_layer:
        return f"{n_more} of its {n_layer} layers are to predict further tokens"
    return ""


def _number_problem(keys: Mapping[str, Any]) -> str:
    for key, value in keys.items():
        is_epsilon = key.endswith("_epsilon") and isinstance(value, float)
        if is_epsilon and not (isfinite(value) and value >= 0):
            return f"{key} is {value}, and must be a number of at least 0"
    scaling = keys.get("rope.scaling.type", "none")
    if isinstance(scaling, str) and scaling not in ROPE_SCALINGS:
        return f"rope.scaling.type is {scaling!r}, and must be one of {', '.join(ROPE_SCALINGS)}"
    return ""


def _expert_problem(keys: Mapping[str, Any], *, needed: bool) -> str:
    count, groups = keys.get("expert_count", 0), keys.get("expert_group_count", 0)
    used = keys.get("expert_used_count", 0)
    most_used = max(used, default=0) if isinstance(used, list) else used
    chosen = keys.get("expert_group_used_count", 0)
    if not all(isinstance(number, int) for number in (count, groups, most_used, chosen)):
        return ""  # llama.cpp refuses other types
    if needed and not count:
        return "it has no experts, and its architecture needs them"
    if count > MOST_EXPERTS:
        return f"it claims {count} experts, the most is {MOST_EXPERTS}"
    if most_used > count or (count and not most_used):
        return f"it uses {most_used} of {count} experts"
    if groups >= max(count, 1) and (groups or count):
        return f"it has {groups} groups of {count} experts"
    if groups > 1 and (count % groups or not 0 < chosen < groups):
        return f"it uses {chosen} of {groups} groups of {count} experts"
    return ""


def _window_problem(keys: Mapping[str, Any]) -> str:
    """llama.cpp asserts that a sliding window is used by some layer."""
    window = keys.get("attention.sliding_window", 0)
    pattern = keys.get("attention.sliding_window_pattern", 2)
    used = any(pattern) if isinstance(pattern, list) else pattern != 1
    if isinstance(window, int) and window > 0 and not used:
        return f"it has a sliding window of {window} that no layer uses"
    return ""


def _rotation_problem(keys: Mapping[str, Any], *, sections: bool) -> str:
    """Positions rotate pairs of numbers inside a head."""
    n_embd, n_head = keys.get("embedding_length", 0), keys.get("attention.head_count", 0)
    sizes = [keys.get(f"attention.key_length{kind}", 0) for kind in ("", "_swa", "_mla")]
    if isinstance(n_embd, int) and isinstance(n_head, int) and n_head:
        sizes.append(n_embd // n_head)
    largest = max((size for size in sizes if isinstance(size, int)), default=0)
    for kind in ("", "_swa"):
        n_rotated = keys.get(f"rope.dimension_count{kind}", 0)
        if isinstance(n_rotated, int) and (n_rotated % 2 or n_rotated > largest):
            return f"it rotates {n_rotated} numbers of heads that have {largest}"
    parts = keys.get("rope.dimension_sections", 0)
    if sections and not any(parts[:3] if isinstance(parts, list) else [parts]):
        return "its positions have sections (rope.dimension_sections), and all are empty"
    return ""


def _convolution_problem(keys: Mapping[str, Any]) -> str:
    n_seen, causal = keys.get("shortconv.l_cache", 3), keys.get("attention.causal", True)
    if isinstance(n_seen, int) and n_seen < 2:
        return f"its convolutions see {n_seen} tokens, the least is 2"
    if isinstance(n_seen, int) and n_seen % 2 == 0 and causal is False:
        return f"its convolutions see {n_seen} tokens, of which none is in the middle"
    return ""


def _projection_problem(keys: Mapping[str, Any]) -> str:
    n_embd = keys.get("embedding_length", 0)
    for key in ("dense_2_feat_in", "dense_3_feat_out"):
        if keys.get(key, 0) not in (0, n_embd):
            return f"{key} is {keys[key]}, and must be its embedding_length, {n_embd}"
    return ""


def _head_problem(keys: Mapping[str, Any]) -> str:
    n_key, n_value = keys.get("attention.key_length"), keys.get("attention.value_length")
    if isinstance(n_key, int) and isinstance(n_value, int) and n_key != n_value:
        return f"its heads have keys of {n_key} numbers and values of {n_value}"
    return ""
