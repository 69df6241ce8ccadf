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
from mullama_lab.engine.stages.randomness import addressed_seed
from mullama_lab.engine.stages.setting import setting
from mullama_lab.engine.stages.stage import Loosening
from mullama_lab.engine.stages.stage_sampler import Memoryless, mask_out
from mullama_lab.studies.fate import fate, fate_in_row
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
    assert replay(trace, chain._replaced(1, kind(0)), on=session).first == 0
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


@pytest.fixture(scope="module")
def floored():
    """A kind that removes by a number, and declares which."""

    @dataclass(frozen=True, repr=False)
    class Floored(Stage):
        """Drop tokens with a logit below the floor."""

        label: ClassVar[str] = "Floored"
        loosened_by = Loosening("floor", more=False)
        floor: float = setting(0.0, -1000, 1000, "The least logit.", slider=(-5, 5))

        def sampler(self, start):
            stage = self

            class Sampler(Memoryless):
                def apply(self, candidates, step):
                    kept = np.flatnonzero(candidates.window["logit"] >= stage.floor)
                    candidates.keep(kept, is_sorted=bool(candidates.fields.sorted))

            return Sampler()

    yield Floored
    del Stage.kinds["Floored"]


def test_fate_tells_at_which_setting_it_would_have_kept_the_token(tiny_model, floored):
    row = np.linspace(-1, 1, 259, dtype=np.float32)
    told = fate_in_row(row, 100, floored(0.5) | ml.Temperature(0.9), model=tiny_model)
    assert told.removed_by.stage == floored(0.5)
    assert told.margin.value == row[100]
    assert str(told.margin).startswith("floor ≤ ")


@pytest.fixture(scope="module")
def fading():
    """A kind that learns: the more tokens were drawn, the flatter the row."""

    class Sampler:
        def __init__(self, state):
            self.n = state[0] if state else 0.0

        def apply(self, candidates, step):
            candidates.window["logit"] /= np.float32(1 + self.n)

        def accept(self, token):
            self.n += 1

        @property
        def state(self):
            return (self.n,)

    @dataclass(frozen=True, repr=False)
    class Fading(Stage):
        """Flatten the row, more with each token that is drawn."""

        label: ClassVar[str] = "Fading"
        learns = True

        def sampler(self, start):
            return Sampler(start.state)

    yield Fading
    del Stage.kinds["Fading"]


def test_what_it_learns_is_recorded_and_given_to_views_and_branches(session, fading):
    chain = ml.Mask(ban=[2]) | fading() | ml.TopK(30)
    trace = session.generate(PROMPT, chain, max_tokens=8, seed=2)
    assert [trace.state(step)[1] for step in range(8)] == [(float(n),) for n in range(8)]
    assert replay(trace, on=session).n_changed == 0
    assert fate(trace, 5, int(trace.tokens[5]), on=session).chosen
    other = fate(trace, 5, int(trace.tokens[5]), on=session, chain=fading() | ml.TopK(30))
    assert other.stages[0].after == pytest.approx(fate_after(trace, 5), abs=1e-4)
    branch = session.branch(trace, 3, 70, max_tokens=6)
    assert branch.state(5)[1] == (5.0,)


def fate_after(trace, step):
    """The log-probability of a step's token when its row was divided by 1 + step."""
    logits = trace.kept(step)[1].astype(np.float64) / (1 + step)
    return logits[trace.tokens[step]] - np.log(np.exp(logits).sum())


@pytest.fixture(scope="module")
def tossing():
    """A kind that draws for itself: now and then it takes the best token out."""

    @dataclass(frozen=True, repr=False)
    class Tossing(Stage):
        """Toss a coin, and take the best token out at heads."""

        label: ClassVar[str] = "Tossing"
        draws = True

        def sampler(self, start):
            class Sampler(Memoryless):
                def apply(self, candidates, step):
                    if addressed_seed(start.seed, start.number, step) % 2:
                        candidates.window["logit"][candidates.window["logit"].argmax()] = -np.inf
                        candidates.fields.sorted = False

            return Sampler()

    yield Tossing
    del Stage.kinds["Tossing"]


def test_what_it_draws_depends_on_seed_step_and_place_among_those_that_draw(tiny_model, tossing):
    row = np.linspace(-1, 1, 259, dtype=np.float32)
    for step in range(12):
        chain = ml.XTC(0.9, 0.008) | ml.TopK(9) | tossing()
        view = chain.preview(row, model=tiny_model, seed=6, step=step)
        heads = bool(addressed_seed(6, 1, step) % 2)
        assert view.stages[2].n_kept == view.stages[1].n_kept - heads
        alone = (ml.XTC(0, 0.1) | tossing()).preview(row, model=tiny_model, seed=6, step=step)
        assert alone.final.n_kept == 259 - addressed_seed(6, 0, step) % 2
