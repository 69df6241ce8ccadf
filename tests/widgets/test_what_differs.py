"""What two runs were asked for that differs, in words."""

from __future__ import annotations

import pytest

from mullama_lab.engine.grammar import Grammar
from mullama_lab.engine.stages import (
    DRY,
    Ban,
    Chain,
    Constrain,
    LogitBias,
    Mask,
    MinP,
    Penalties,
    Temperature,
    TopK,
    TopP,
)
from mullama_lab.engine.stages.difference import between_chains
from mullama_lab.widgets._compare import Compared, compare
from mullama_lab.widgets._runs import Ends
from mullama_lab.widgets._what_differs import MOST, what_differs

WARM, HOT = TopK(200) | Temperature(0.8), TopK(200) | Temperature(1.2)
AB = Grammar.regex("[ab]*")
YES = Grammar.choice(["yes"])


def between(before, after):
    return between_chains(Chain.of(before), Chain.of(after), {5: b" a", 6: b"b"}.__getitem__)


@pytest.mark.parametrize(
    "before, after, said",
    [
        (WARM, WARM, []),
        (WARM, HOT, ["Temperature 0.8 → 1.2"]),
        (HOT, WARM, ["Temperature 1.2 → 0.8"]),
        (WARM, Temperature(0.8), ["without Top-k 200"]),
        (WARM, WARM | Penalties(), []),  # without effect
        (WARM, WARM | TopP(1), []),
        (TopP(1) | WARM, TopP(0.9) | WARM, ["Top-p 1 → 0.9"]),
        (Penalties(repeat=1.1), Penalties(repeat=1.3), ["Penalties repeat 1.1 → 1.3"]),
        (MinP(0.1), MinP(0.1, min_keep=3), ["Min-p min keep 0 → 3"]),
        (WARM, Constrain(AB) | WARM, ["with a grammar"]),
        (Constrain(AB) | WARM, WARM, ["without a grammar"]),
        (Constrain(AB), Constrain(Grammar.regex("a*")), ["another grammar"]),
        (Constrain(AB), Constrain(AB, stop="only"), ["other grammar stop"]),
        (Constrain(YES), Constrain(YES, engine="llama.cpp"), ["other grammar engine"]),
        (DRY(multiplier=1), DRY(multiplier=1, breakers=("x",)), ["other DRY breakers"]),
        (LogitBias({5: 1}), LogitBias({6: 1}), ["another Logit bias"]),
        (WARM, LogitBias({5: 1}) | WARM, ["with Logit bias (favours ·a (+1))"]),
        (WARM, Ban(["delve"]) | WARM, ["with Ban ['delve']"]),
        (WARM, Mask(ban=[5]) | WARM, ["with Mask (bans ·a)"]),
        (Mask(ban=[5]), Mask(ban=[6]), ["another Mask"]),
        (WARM, Temperature(0.8) | TopK(200), ["the stages in another order"]),
    ],
)  # fmt: skip
def test_two_chains_are_told_apart_by_what_has_an_effect(before, after, said):
    assert between(before, after) == said


@pytest.fixture(scope="module")
def session(tiny_model):
    with tiny_model.session(n_ctx=512, n_threads=1) as session:
        yield session


def test_runs_are_told_apart_by_chain_seed_and_prompt(session):
    one = session.generate("x", WARM, max_tokens=4, seed=3)
    other = session.generate("x", HOT, max_tokens=4, seed=4)
    assert what_differs(one, one) == []
    assert what_differs(one, other) == ["Temperature 0.8 → 1.2", "seed 3 → 4"]
    elsewhere = session.generate("y", WARM, max_tokens=4, seed=3)
    assert what_differs(one, elsewhere) == ["another prompt"]


def test_a_branch_drawn_by_another_chain_says_from_which_step_on(session):
    one = session.generate("x", WARM, max_tokens=6, seed=3)
    token = next(t for t in one.top_ids[2].tolist() if t != one.tokens[2])
    branch = session.branch(one, 2, token, HOT, max_tokens=3, seed=3)
    first = branch.n_copied
    assert what_differs(one, branch) == [f"Temperature 0.8 → 1.2 from step {first} on"]
    assert what_differs(branch, one) == [f"Temperature 1.2 → 0.8 from step {first} on"]


def test_a_model_of_another_name_is_said(session, tiny_model):
    one = session.generate("x", WARM, max_tokens=2, seed=1)
    other = session.generate("x", WARM, max_tokens=2, seed=1)
    other.model_id, other.model_name = "another", "/models/other.gguf"
    assert what_differs(one, other)[0].endswith("→ other.gguf")
    other.model_name = one.model_name
    assert what_differs(one, other) == ["another file of the model"]


def test_where_they_were_to_end_is_said_where_it_is_known_of_both(session):
    one = session.generate("x", WARM, max_tokens=2)
    short, long = Ends(2, []), Ends(8, ["END"])
    assert what_differs(one, one, (short, None)) == []
    assert what_differs(one, one, (short, long)) == ["max tokens 2 → 8", "other stop strings"]


def test_a_long_list_is_cut(session):
    chains = [Chain([MinP(p / 100)] * 20) for p in (1, 2)]
    one, other = (session.generate("x", chain, max_tokens=1, seed=1) for chain in chains)
    assert len(what_differs(one, other)) == MOST and what_differs(one, other)[-1] == "9 more"


def test_a_comparison_says_it_of_each_but_the_first(session):
    runs = [
        session.generate("x", c, max_tokens=4, seed=s) for c, s in ((WARM, 3), (HOT, 3), (WARM, 3))
    ]
    found = compare([Compared(i, f"run {i}", trace) for i, trace in enumerate(runs, 4)])
    assert [list(side["differs"]) for side in found.to_dict()["sides"]] == [
        [], ["Temperature 0.8 → 1.2"], []
    ]  # fmt: skip
    assert "  run 4 → run 5: Temperature 0.8 → 1.2" in repr(found).splitlines()
    assert "  run 4 → run 6: the same settings" in repr(found).splitlines()
