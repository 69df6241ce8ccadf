"""Stages and chains as values: their rules, their code, their dicts."""

from __future__ import annotations

import copy
import json
import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mullama_lab as ml
from mullama_lab.engine import stages
from mullama_lab.engine.stages import (
    DRY,
    XTC,
    AdaptiveP,
    Chain,
    Custom,
    DynamicTemperature,
    Greedy,
    Infill,
    LogitBias,
    Mask,
    MinP,
    Mirostat,
    MirostatV2,
    Penalties,
    Stage,
    TailFree,
    Temperature,
    TopK,
    TopNSigma,
    TopP,
    Typical,
)
from mullama_lab.engine.stages.catalogue import catalogue

NAN, INF = math.nan, math.inf
NAMES = {kind.__name__: kind for kind in (Chain, *stages.STAGES)}
NUMERIC = [
    (kind, name, rule)
    for kind in Stage.kinds.values()
    if kind in NAMES.values()
    for name, rule in kind.settings().items()
]
IDS = [f"{kind.__name__}.{name}" for kind, name, _ in NUMERIC]


def numbers_of(rule):
    """Values that a rule allows, but for temperatures too small to divide by."""
    if rule.kind == "int":
        return st.integers(int(rule.low), int(rule.high))
    return st.floats(rule.low, rule.high).filter(lambda x: x == 0 or abs(x) >= 1e-3)


def built(kind):
    settings = {name: numbers_of(rule) for name, rule in kind.settings().items()}
    return st.builds(kind, **settings)


TOKENS = st.integers(0, 258)
BIASES = st.floats(-1e6, 1e6) | st.just(-INF)
BREAKERS = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
STAGES = st.one_of(
    *[built(kind) for kind in {kind for kind, _, _ in NUMERIC}],
    st.just(Greedy()),
    st.just(Infill()),
    st.builds(LogitBias, st.dictionaries(TOKENS, BIASES, max_size=4)),
    st.builds(Mask, allow=st.none() | st.lists(TOKENS, min_size=1), ban=st.lists(TOKENS)),
    st.builds(DRY, breakers=BREAKERS.map(lambda xs: [x for x in xs if len(x.encode()) <= 40])),
)
CHAINS = st.lists(STAGES, max_size=5).map(Chain)


# What a setting may be.


@pytest.mark.parametrize(("kind", "name", "rule"), NUMERIC, ids=IDS)
@pytest.mark.parametrize("value", [NAN, INF, -INF, 10**400, -(10**400)])
def test_no_setting_takes_a_number_that_is_none_or_endless(kind, name, rule, value):
    error = TypeError if rule.kind == "int" and isinstance(value, float) else ValueError
    with pytest.raises(error, match=rf"{kind.__name__}\({name}=.*{name} must be "):
        kind(**{name: value})


@pytest.mark.parametrize(("kind", "name", "rule"), NUMERIC, ids=IDS)
def test_a_value_out_of_range_is_refused_with_value_rule_and_way_out(kind, name, rule):
    above, below = rule.high + 1, rule.low - 1
    for value in (above, below):
        with pytest.raises(ValueError) as caught:
            kind(**{name: value})
        assert str(caught.value).startswith(f"{kind.__name__}({name}={value!r})")
        assert "must be from" in str(caught.value)
        assert rule.help in str(caught.value)


@pytest.mark.parametrize(("kind", "name", "rule"), NUMERIC, ids=IDS)
@pytest.mark.parametrize("value", [True, False, "1", None, [1], 1j, np.bool_(True), np.ones(1)])
def test_a_setting_is_a_number_and_nothing_else(kind, name, rule, value):
    with pytest.raises(TypeError, match=f"{name} must be a"):
        kind(**{name: value})


@pytest.mark.parametrize(("kind", "name", "rule"), NUMERIC, ids=IDS)
def test_both_ends_of_a_range_are_allowed_and_kept_as_python_numbers(kind, name, rule):
    for value in (rule.low, rule.high):
        kept = getattr(kind(**{name: np.float64(value) if rule.kind == "float" else value}), name)
        assert kept == value
        assert type(kept) is (int if rule.kind == "int" else float)


def test_numpy_scalars_and_fractions_are_numbers():
    assert TopK(np.int64(40)) == TopK(40)
    assert Temperature(np.float32(0.5)) == Temperature(Fraction(1, 2)) == Temperature(0.5)
    assert repr(TopK(np.uint8(7))) == "TopK(7)"
    assert Mask(ban=np.array([3, 1, 3])) == Mask(ban=[1, 3])
    assert LogitBias({np.int32(4): np.float32(-2)}) == LogitBias({4: -2.0})


def test_a_whole_number_setting_takes_no_fraction():
    with pytest.raises(TypeError, match="k must be a whole number"):
        TopK(40.0)


@pytest.mark.parametrize("kind", [Temperature, DynamicTemperature])
def test_a_temperature_too_small_to_divide_by_is_refused_and_zero_is_not(kind):
    with pytest.raises(ValueError, match=r"at least 0[.]001"):
        kind(1e-4)
    assert kind(0).t == 0
    assert kind(-0.0) == kind(0)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: LogitBias({-1: 1.0}), ValueError, "token id -1 must be from 0"),
        (lambda: LogitBias({2**31: 1.0}), ValueError, "token id 2147483648"),
        (lambda: LogitBias({1.5: 1.0}), TypeError, "1.5 is not a token id"),
        (lambda: LogitBias({True: 1.0}), TypeError, "True is not a token id"),
        (lambda: LogitBias({"a": 1.0}), TypeError, r"'a' is not a token id. `model.tokenize"),
        (lambda: LogitBias({5: NAN}), ValueError, "bias of token 5 is nan"),
        (lambda: LogitBias({5: INF}), ValueError, "bias of token 5 is inf"),
        (lambda: LogitBias({5: 10**400}), ValueError, "from -1e6 to 1e6"),
        (lambda: LogitBias({5: "much"}), TypeError, "must be a number, not 'much'"),
        (lambda: LogitBias(7), TypeError, "LogitBias takes {token: bias}, not 7"),
        (lambda: LogitBias("abc"), TypeError, "LogitBias takes {token: bias}"),
        (lambda: Mask(allow=[]), ValueError, "would remove every token"),
        (lambda: Chain([TopK(5)] * 1001), ValueError, "at most 1000 stages, not 1001"),
        (lambda: Mask(ban=5), TypeError, r"Mask.ban=.*a list of token ids"),
        (lambda: Mask(ban="abc"), TypeError, r"Mask.ban=.*a list of token ids"),
        (lambda: Mask(ban=[-1]), ValueError, "Mask: token id -1"),
        (lambda: Mask(allow=[None]), TypeError, "None is not a token id"),
        (lambda: DRY(breakers="\n"), TypeError, "DRY.breakers=.*a list of texts"),
        (lambda: DRY(breakers=[""]), ValueError, "1 to 40 bytes"),
        (lambda: DRY(breakers=["a\0b"]), ValueError, "without NUL"),
        (lambda: DRY(breakers=["\ud800"]), ValueError, "UTF-8"),
        (lambda: DRY(breakers=["x" * 41]), ValueError, "1 to 40 bytes"),
        (lambda: DRY(breakers=["é" * 21]), ValueError, "1 to 40 bytes"),
        (lambda: DRY(breakers=["x"] * 65), ValueError, "at most 64 breakers, not 65"),
        (lambda: DRY(breakers=[b"x"]), TypeError, "is not a string"),
        (lambda: Custom(5), TypeError, r"Custom takes a function \(logits, history\)"),
        (lambda: Chain([40]), TypeError, "a Chain holds stages such as TopK.40., not 40"),
        (lambda: Chain.of(TopK), TypeError, "a chain is stages such as"),
        (lambda: Chain.of(5), TypeError, "a chain is stages such as"),
        (lambda: Chain.of("TopK(40)"), TypeError, "a Chain holds stages"),
    ],
)
def test_what_is_no_stage_says_so(make, error, message):
    with pytest.raises(error, match=message):
        make()


# Values: printing, comparing, joining.


@given(chain=CHAINS)
def test_the_repr_of_a_chain_is_code_that_makes_it(chain):
    assert eval(repr(chain), dict(NAMES)) == chain


@given(stage=STAGES)
def test_the_repr_of_a_stage_is_code_that_makes_it(stage):
    assert eval(repr(stage), dict(NAMES)) == stage


@given(one=CHAINS, other=CHAINS)
def test_chains_are_equal_and_hash_alike_exactly_when_they_print_alike(one, other):
    assert (one == other) is (repr(one) == repr(other))
    again = Chain(list(one))
    assert one == again
    assert hash(one) == hash(again)


@given(chain=CHAINS)
def test_a_chain_goes_to_a_dict_through_json_and_back(chain):
    data = json.loads(json.dumps(chain.to_dict()))
    assert Chain.from_dict(data) == chain
    assert Chain.from_dict(chain.to_dict()) == chain


@given(chain=CHAINS)
def test_a_chain_can_be_pickled_and_copied(chain):
    assert pickle.loads(pickle.dumps(chain)) == chain
    assert copy.deepcopy(chain) == chain


def test_code_says_leading_settings_by_place_and_only_what_is_not_the_default():
    assert repr(TopK()) == "TopK(40)"
    assert repr(TopK(5, min_keep=2)) == "TopK(5, min_keep=2)"
    assert repr(Penalties()) == "Penalties()"
    assert repr(Penalties(presence=1.5)) == "Penalties(presence=1.5)"
    assert repr(LogitBias({7: -INF, 3: 1})) == "LogitBias({3: 1.0, 7: float('-inf')})"
    assert repr(Chain([TopK(3)])) == "Chain([TopK(3)])"
    assert repr(Chain()) == "Chain([])"
    assert repr(TopK(40) | MinP(0.05)) == "TopK(40) | MinP(0.05)"


def test_a_bar_joins_stages_and_chains_in_order():
    chain = TopK(40) | MinP(0.05) | Temperature(0.8)
    assert chain.stages == (TopK(40), MinP(0.05), Temperature(0.8))
    assert TopK(40) | (MinP(0.05) | Temperature(0.8)) == chain
    assert (TopK(40) | MinP(0.05)) | Chain([Temperature(0.8)]) == chain
    assert Chain([TopK(40), MinP(0.05), Temperature(0.8)]) == chain
    assert chain | Chain() == Chain() | chain == chain
    with pytest.raises(TypeError, match="'Chain' and 'int'"):
        chain | 5
    with pytest.raises(TypeError, match="'TopK' and 'type'|'Chain' and 'type'"):
        TopK(40) | Temperature


def test_a_chain_is_a_sequence_that_does_not_change():
    chain = TopK(40) | MinP(0.05) | Temperature(0.8)
    assert len(chain) == 3
    assert chain[1] == MinP(0.05)
    assert chain[-1] == Temperature(0.8)
    assert chain[1:] == MinP(0.05) | Temperature(0.8)
    assert MinP(0.05) in chain
    assert chain.index(MinP(0.05)) == 1
    with pytest.raises(AttributeError, match="a Chain is a value"):
        chain.stages = ()
    with pytest.raises(AttributeError, match="cannot assign to field 'k'"):
        chain[0].k = 5


def test_stages_of_different_kinds_differ_even_with_the_same_numbers():
    assert TopP(0.5) != MinP(0.5)
    assert Mirostat(5, 0.1) != MirostatV2(5, 0.1)
    assert len({TopP(0.5), MinP(0.5), TopP(0.5)}) == 2


def test_none_means_the_default_chain_which_is_llama_cpps():
    # common/common.h of llama.cpp: the order of `samplers`, and each value.
    assert (
        Chain.of(None)
        == Chain.default()
        == Chain(
            [
                Penalties(repeat=1.0, frequency=0.0, presence=0.0, last_n=64),
                DRY(multiplier=0.0, base=1.75, allowed_length=2, breakers=["\n", ":", '"', "*"]),
                TopNSigma(0),
                TopK(40),
                Typical(1.0),
                TopP(0.95),
                MinP(0.05),
                XTC(0.0, 0.1),
                Temperature(0.8),
            ]
        )
    )


# Dicts from elsewhere.


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"stages": [{"stage": "TopQ"}]},
            "unknown stage 'TopQ'; known are AdaptiveP, Ban, Con",
        ),
        ({"stages": [{"stage": "TopK", "q": 1}]}, "TopK has no setting 'q'; it has k, min_keep"),
        ({"stages": [{"stage": "TopK", "q": 1, 7: 1}]}, "TopK has no setting 7; it has k, min"),
        ({"stages": [{"stage": "TopK", "k": -1}]}, "k must be from 0 to 2147483647"),
        ({"stages": [{"stage": "TopK", "k": "3"}]}, "k must be a whole number"),
        ({"stages": [{"stage": 5}]}, "a stage is a dict with a 'stage' name"),
        ({"stages": [{}]}, "a stage is a dict with a 'stage' name"),
        ({"stages": ["TopK"]}, "a stage is a dict with a 'stage' name"),
        ({"stages": [{"stage": "Custom", "function": "abs"}]}, "pass the function in Python"),
        ({"stages": [{"stage": "Stage"}]}, "unknown stage 'Stage'"),
        ({"stages": "TopK"}, "a chain is a dict with a list of 'stages'"),
        ({}, "a chain is a dict with a list of 'stages'"),
        ([], "a chain is a dict with a list of 'stages'"),
        (None, "a chain is a dict with a list of 'stages'"),
    ],
)
def test_a_dict_that_is_no_chain_says_what_is_wrong(data, message):
    error = TypeError if "whole number" in message else ValueError
    with pytest.raises(error, match=message):
        Chain.from_dict(data)


def test_a_python_function_cannot_go_into_a_dict():
    with pytest.raises(ValueError, match="a Python function is code, not a value"):
        (TopK(3) | Custom(abs)).to_dict()


def test_missing_settings_of_a_dict_take_their_defaults():
    assert Stage.from_dict({"stage": "TopK"}) == TopK(40)


# Inert.

ROW = np.array([2.0, 1.0, 0.5, 0.5, -1.0, -3.0], np.float32)
CHANGING = [
    TopK(5), TopP(0.9), MinP(0.3), Typical(0.9), Temperature(0), Temperature(1.1), Greedy(),
    DynamicTemperature(1, 0.5), DynamicTemperature(0.9, 0), XTC(1, 0.1), TopNSigma(1.0),
    Mirostat(1.0, 0.1), MirostatV2(1.0, 0.1), Penalties(repeat=1.5), Penalties(frequency=-1),
    Penalties(presence=1, last_n=-1), DRY(multiplier=1, last_n=-1), AdaptiveP(0.3),
    DRY(multiplier=1, last_n=8), LogitBias({2: 1.0}), TailFree(0.3), Mask(ban=[2]), Mask(allow=[2]),
    Custom(lambda logits, history: logits * 2),
]  # fmt: skip
IDLE = [
    TopK(0), TopK(0, min_keep=3), TopP(1), MinP(0), Typical(1), Temperature(1), TailFree(1),
    DynamicTemperature(1, 0), XTC(0, 0.1), XTC(1, 0.51), TopNSigma(0), Penalties(),
    Penalties(repeat=2, last_n=0), DRY(), DRY(multiplier=1, last_n=0), DRY(multiplier=1, base=0.9),
    DRY(multiplier=1, last_n=2, allowed_length=2), AdaptiveP(-0.1), LogitBias(), LogitBias({3: 0}),
    Mask(),
]  # fmt: skip


def changes(stage, model):
    row = np.full(model.n_vocab, -INF, np.float32)
    row[: len(ROW)] = ROW
    history = [2, 3, 2, 3, 2, 3]  # a phrase to repeat
    after = Chain([stage]).preview(row, model=model, history=history, top=6).final
    weights = np.exp(ROW - ROW.max())
    order = np.argsort(-ROW, kind="stable")
    expected = (weights / weights.sum())[order]
    if len(after.probs) != len(expected):
        return True
    by_id = dict(zip(after.ids.tolist(), after.probs.tolist()))
    return not np.allclose([by_id.get(int(i), 0) for i in order], expected, atol=1e-6)


@pytest.mark.parametrize("stage", CHANGING, ids=repr)
def test_a_stage_that_changes_something_is_not_called_inert(stage, tiny_model):
    assert changes(stage, tiny_model)
    assert stage.why_inert() == ""


@pytest.mark.parametrize("stage", IDLE, ids=repr)
def test_a_stage_that_changes_nothing_says_why(stage, tiny_model):
    assert not changes(stage, tiny_model)
    assert len(stage.why_inert()) > 5


def test_every_stage_of_the_catalogue_is_described_and_can_be_made_from_its_defaults():
    offered = {entry["stage"]: entry for entry in catalogue()}
    ours = {name for name, kind in Stage.kinds.items() if kind in NAMES.values()}
    assert set(offered) == ours - {"Custom"}
    for name, entry in offered.items():
        made = Stage.from_dict(
            {"stage": name} | {s["name"]: s["default"] for s in entry["settings"]}
        )
        assert repr(made).startswith(name)
        assert entry["summary"].endswith(".")
        assert entry["source"]
        for setting in entry["settings"]:
            low, high = setting["slider"]
            assert setting["low"] <= low < high <= setting["high"], (name, setting)
            assert setting["low"] <= setting["default"] <= setting["high"]


def test_the_docstring_of_a_stage_has_its_settings_and_its_source():
    for entry in catalogue():
        lines = (Stage.kinds[entry["stage"]].__doc__ or "").split("\n")
        assert lines[-1] == f"Source: {entry['source']}"
        for setting in entry["settings"]:
            assert f"    {setting['name']}: {setting['help']}" in lines


def test_every_stage_has_a_public_name_and_a_place_in_the_menu():
    assert {kind.__name__ for kind in stages.STAGES} <= set(ml.__all__)
    ours = {k for k in Stage.kinds.values() if k.__module__.startswith("mullama_lab.")}
    assert ours == set(stages.STAGES)
