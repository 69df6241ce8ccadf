"""The numbers of a network that llama.cpp asserts on.

A wrong number mostly means a tensor of another shape, which llama.cpp reports. The ones here
it meets with an assertion, when it loads the file, builds the network or first computes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

MOST_LAYERS = 512
MOST_EXPERTS = 1024
LARGEST_WINDOW = 1 << 24  # tokens; llama.cpp reserves memory for as many
ROPE_SCALINGS = ("none", "linear", "yarn", "longrope")

# Architectures by what their code in llama.cpp's src/models asserts.
_WITH_EXPERTS = {"bailingmoe2", "glm4moe", "grovemoe", "llada-moe", "smallthinker"}
_WITH_SECTIONS = {"paddleocr", "qwen2vl", "qwen3vl", "qwen3vlmoe", "qwen35", "qwen35moe"}
_TWICE_AS_WIDE = {"granitehybrid", "jamba"}
# With masks of both kinds and no cache; the layer of a pattern that sees everything.
_BOTH_WINDOWS = {"gemma-embedding": "last", "modern-bert": "first"}
# Layers without heads have a state or a convolution instead.
_SOME_WITHOUT_HEADS = """
    deci granitehybrid graniteswitch lfm2 lfm2moe minimax-01 nanbeige nemotron_h nemotron_h_moe
    qwen35 qwen35moe qwen3next qwen4exp
    """
_SOME_WITH_HEADS = {"jamba", "lfm2", "lfm2moe"}  # and some without: a cache of both kinds
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
    if not isinstance(architecture, str):
        return ""
    prefix = f"{architecture}."
    keys = {
        key.removeprefix(prefix): _layer_by_layer(value)
        for key, value in metadata.items()
        if key.startswith(prefix)
    }
    return (
        _layer_problem(keys)
        or _number_problem(keys)
        or _expert_problem(keys, needed=architecture in _WITH_EXPERTS)
        or _window_problem(keys, whole=_BOTH_WINDOWS.get(architecture, ""))
        or _rotation_problem(keys, sections=architecture in _WITH_SECTIONS)
        or _convolution_problem(keys)
        or _projection_problem(keys)
        or _group_problem(keys)
        or (_mixture_problem(keys) if architecture in _SOME_WITH_HEADS else "")
        or _attention_problem(keys, architecture)
        or (_state_problem(keys) if architecture in _TWICE_AS_WIDE else "")
    )


def _layer_by_layer(value: Any) -> Any:
    """An array of the file as a list, if it can be one of numbers for each layer."""
    is_array = isinstance(value, Sequence) and not isinstance(value, str)
    return list(value) if is_array and len(value) <= MOST_LAYERS else value


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


def _window_problem(keys: Mapping[str, Any], *, whole: str) -> str:
    """llama.cpp asserts that a sliding window is used by some layer, here and there not by all."""
    window = keys.get("attention.sliding_window", 0)
    pattern = keys.get("attention.sliding_window_pattern", {"": 2, "first": 3, "last": 6}[whole])
    n_layer = keys.get("block_count", 1)
    if not isinstance(window, int) or not isinstance(n_layer, int) or window <= 0:
        return ""
    if window > LARGEST_WINDOW:
        return f"it has a sliding window of {window} tokens, the most is {LARGEST_WINDOW}"
    if isinstance(pattern, list):
        used, unused = any(pattern), not all(pattern[:n_layer])
    elif isinstance(pattern, int):
        used, unused = pattern != 1, 0 < pattern <= (n_layer if whole == "last" else pattern)
    else:
        return ""
    if not used:
        return f"it has a sliding window of {window} that no layer uses"
    if whole and not unused:
        return f"all its layers have a sliding window of {window}, and one must see everything"
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
        if n_rotated == 0 and f"rope.dimension_count{kind}" in keys and n_head:
            return "it rotates 0 numbers of its heads"
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


def _mixture_problem(keys: Mapping[str, Any]) -> str:
    heads = keys.get("attention.head_count_kv", keys.get("attention.head_count", 0))
    each = heads if isinstance(heads, list) else [heads]
    if all(isinstance(number, int) for number in each) and not (0 in each and any(each)):
        return f"its layers are all of one kind (attention.head_count_kv is {heads!r:.60})"
    return ""


def _group_problem(keys: Mapping[str, Any]) -> str:
    """Each head of keys and values is one for as many heads that ask."""
    asking, asked = (
        value if isinstance(value, list) else [value] * MOST_LAYERS
        for value in (keys.get("attention.head_count"), keys.get("attention.head_count_kv"))
    )
    for n_head, n_head_kv in zip(asking, asked):
        if not isinstance(n_head, int) or not isinstance(n_head_kv, int):
            return ""
        if n_head > 0 and n_head_kv > 0 and n_head % n_head_kv:
            return f"{n_head} heads cannot share {n_head_kv} heads of keys and values"
    return ""


def _attention_problem(keys: Mapping[str, Any], architecture: str) -> str:
    if architecture not in _EQUAL_HEADS.split():
        return ""
    everywhere = architecture not in _SOME_WITHOUT_HEADS.split()
    for key in ("attention.head_count", "attention.head_count_kv"):
        heads = keys.get(key)
        if isinstance(heads, list) and 0 in heads and everywhere:
            return f"it has a layer without heads ({key} is {heads[:8]})"
    n_key, n_value = keys.get("attention.key_length"), keys.get("attention.value_length")
    if isinstance(n_key, int) and isinstance(n_value, int) and n_key != n_value:
        return f"its heads have keys of {n_key} numbers and values of {n_value}"
    return ""


def _state_problem(keys: Mapping[str, Any]) -> str:
    n_embd, n_inner = keys.get("embedding_length"), keys.get("ssm.inner_size")
    if isinstance(n_embd, int) and isinstance(n_inner, int) and n_inner != 2 * n_embd:
        return f"its states have {n_inner} numbers (ssm.inner_size), and must have {2 * n_embd}"
    return ""
