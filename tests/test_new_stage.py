"""A new kind of stage is one class: all that stages are used for works with it unchanged."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest

import mullama_lab as ml
from mullama_lab.engine.rows.tail import Uncovered
from mullama_lab.engine.stages import Chain, Stage
from mullama_lab.engine.stages.catalogue import catalogue
from mullama_lab.engine.stages.moment import moment_of_row
from mullama_lab.engine.stages.setting import setting
from mullama_lab.engine.stages.stage_sampler import mask_out
from mullama_lab.studies.fate import fate
from mullama_lab.studies.flips import flip_map
from mullama_lab.studies.order import orders
from mullama_lab.studies.replay import replay, stage_effects
from mullama_lab.widgets import ChainEditor
from mullama_lab.widgets._picture import picture

PROMPT = "Once upon"


class ParitySampler:
    """As a grammar would be: its state is what was generated so far, not the prompt."""

    def __init__(self, parity, start):
        self.odd_ids = np.arange(start.model.n_vocab) % 2
        self.wanted = parity
        for token in start.history[len(start.history) - start.step :]:
            self.accept(token)

    @property
    def banned(self):
        return self.odd_ids != self.wanted

    def apply(self, candidates, step):
        mask_out(candidates, self.banned)

    def accept(self, token):
        self.wanted = 1 - token % 2


@pytest.fixture(scope="module")
def alternating():
    """A kind that declares the least: tokens are odd and even in turn, from `parity` on."""

    @dataclass(frozen=True, repr=False)
    class Alternating(Stage):
        """Let odd and even token ids take turns."""

        label: ClassVar[str] = "Alternating"
        parity: int = setting(0, 0, 1, "That of the first.", slider=(0, 1), step=1, kind="int")

        def sampler(self, start):
            return ParitySampler(self.parity, start)

    yield Alternating
    del Stage.kinds["Alternating"]


@pytest.fixture(scope="module")
def declaring(alternating):
    """A kind that also says what it makes of a row that was kept in part."""

    @dataclass(frozen=True, repr=False)
    class Declaring(alternating):
        """Let odd and even token ids take turns, and say so."""

        label: ClassVar[str] = "Declaring"
        moves = False
        masked_tokens = "left"

        def tail_after(self, tail, known):
            banned = known.sampler.banned.copy()
            banned[known.kept] = False
            return tail.fewer(np.count_nonzero(banned))

    yield Declaring
    del Stage.kinds["Declaring"]


@pytest.fixture(params=["alternating", "declaring"])
def kind(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def session(tiny_model):
    with tiny_model.session(n_ctx=512, n_threads=1) as session:
        yield session


@pytest.fixture
def chain(kind):
    return ml.Mask(ban=[2]) | kind(1) | ml.TopK(20) | ml.Temperature(1.5)


@pytest.fixture
def trace(session, chain):
    return session.generate(PROMPT, chain, max_tokens=16, seed=3)


def takes_turns(tokens, first):
    return np.array_equal(np.asarray(tokens) % 2, (first + np.arange(len(tokens))) % 2)


def test_it_masks_in_a_generation_by_what_was_generated(trace):
    assert len(trace) == 16
    assert takes_turns(trace.tokens, first=1)


def test_the_tokens_that_it_leaves_are_counted(trace):
    odd, even = 129, 129  # of 259 less the end-of-text token, which is even
    assert trace.n_kept[:, 1].tolist() == [odd, even] * 8
    assert (trace.n_kept[:, 2] == 20).all()


def test_a_preview_chooses_what_the_generation_chose(trace, session, chain):
    model = session.model
    for step in range(len(trace)):
        history = trace.history(step)
        view = chain.preview(
            trace.kept(step)[1], model=model, history=history, seed=trace.seed, step=step
        )
        assert view.choice == trace.tokens[step]
        assert view.stages[1].n_kept == 129
        assert len(picture(view)["columns"]) == 5


def test_it_joins_on_the_way_and_counts_what_was_generated_before(session, kind):
    run = session.start(PROMPT, ml.Mask(ban=[2]) | ml.TopK(20), max_tokens=12, seed=1)
    for step in run:
        if step.index == 4:
            run.chain = ml.Mask(ban=[2]) | kind(0)
    later = run.wait()
    first = next(i for i, chain in later.chains if i)
    assert takes_turns(later.tokens[first:], first=1 - later.tokens[first - 1] % 2)


def test_a_branch_goes_on_by_the_token_that_was_given(trace, session):
    branch = session.branch(trace, 5, 100, max_tokens=14)
    assert branch.tokens[5] == 100
    assert takes_turns(branch.tokens[6:], first=1)


def test_several_texts_are_generated_side_by_side(session, chain):
    traces = session.generate_many([PROMPT, "A", "B C"], chain, max_tokens=6, seeds=[1, 2, 3])
    assert all(takes_turns(each.tokens, first=1) for each in traces)


def test_a_replay_finds_its_tokens_and_where_it_would_have_turned_off(trace, session, chain, kind):
    assert replay(trace, on=session).n_changed == 0
    without = Chain([stage for stage in chain if type(stage) is not kind])
    assert replay(trace, without, on=session).first is not None
    assert replay(trace, chain.replaced(1, kind(0)), on=session).first == 0
    effects = stage_effects(trace, on=session)
    assert effects is not None


def test_the_fate_of_a_token_that_it_removed_names_it(trace, session, kind):
    told = fate(trace, 0, 100, on=session)  # an even token where odd ones may come
    assert told.removed_by.stage == kind(1)
    assert told.margin is None
    assert "No number of" in told.remark()
    assert fate(trace, 3, int(trace.tokens[3]), on=session).chosen


def test_its_settings_are_turned_and_its_place_is_changed(trace, session, kind):
    assert flip_map(trace, kind, "parity", on=session).slider == (0, 1)
    assert len(orders(trace, kind(1) | ml.TopK(9), on=session)) == 2


def test_it_is_a_value_that_prints_as_code_and_goes_into_a_dict(kind):
    assert repr(kind(0) | ml.TopK(5)) == f"{kind.__name__}() | TopK(5)"
    assert repr(kind(1)) == f"{kind.__name__}(parity=1)"
    chain = kind(1) | ml.TopK(5)
    assert Chain.from_dict(chain.to_dict()) == chain
    with pytest.raises(ValueError, match="parity must be from 0 to 1"):
        kind(2)


def test_a_chain_editor_offers_it_with_its_slider(kind):
    entry = next(entry for entry in catalogue() if entry["stage"] == kind.__name__)
    assert [x["name"] for x in entry["settings"]] == ["parity"]
    assert entry["summary"].startswith("Let odd and even token ids take turns")
    editor = ChainEditor(ml.TopK(5))
    editor.add(kind.__name__)
    editor.set(kind.__name__, parity=1)
    assert editor.chain == ml.TopK(5) | kind(1)


def partly(moment, n):
    """The moment of which the n likeliest candidates were kept."""
    best = np.sort(np.argsort(-moment.logits, kind="stable")[:n])
    return replace(moment, ids=moment.ids[best], logits=moment.logits[best])


def test_a_row_kept_in_part_is_enough_for_a_kind_that_says_what_it_needs(
    tiny_model, alternating, declaring
):
    sure = 0
    for seed in range(40):
        row = np.random.default_rng(seed).normal(size=259).astype(np.float32) * 3
        where = {"history": [7, 8, 9], "seed": seed, "step": 2}
        for kind in (alternating, declaring):
            chain = kind(seed % 2) | ml.TopK(10) | ml.Temperature(1.3)
            whole = moment_of_row(row, tiny_model, chain=chain, **where)
            choice = whole.choose(whole.sampler())
            assert choice % 2 == 0  # the last token, 9, was odd
            part = partly(whole, 120)
            if kind is alternating:
                with pytest.raises(Uncovered, match="reads all of the row"):
                    part.choose(part.sampler())
                continue
            assert part.choose(part.sampler()) == choice
            sure += 1
    assert sure == 40


def test_a_kind_without_a_sampler_says_what_it_lacks(tiny_model):
    @dataclass(frozen=True, repr=False)
    class Unfinished(Stage):
        """Nothing yet."""

        label: ClassVar[str] = "Unfinished"

    try:
        with pytest.raises(TypeError, match=r"Unfinished has no method `sampler\(start\)`"):
            Chain([Unfinished()]).preview(np.zeros(259, np.float32), model=tiny_model)
    finally:
        del Stage.kinds["Unfinished"]
