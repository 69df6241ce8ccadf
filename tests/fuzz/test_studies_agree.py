"""Whatever two views say of the same question agrees: generations, previews and the studies.

A case is a run, whose chain may change on the way, and another chain to ask about. What is asked
of rows that the trace kept must be equal to the last bit. Rows that are decoded again carry the
noise of another batch: what they decide may differ, and how often it does is printed.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import strategies as st
from page import text_of

from mullama_lab.engine import stages as s
from mullama_lab.engine import tiny
from mullama_lab.engine.grammar import Grammar
from mullama_lab.engine.model import Model
from mullama_lab.engine.stages import Chain, Stage
from mullama_lab.engine.stages.schedule import Schedule, names_of
from mullama_lab.engine.trace import Trace
from mullama_lab.errors import NoCandidates
from mullama_lab.labs import _what_if_panel
from mullama_lab.labs._desk import Desk
from mullama_lab.studies.fate import fate
from mullama_lab.studies.flips import PRECISION, flip_map
from mullama_lab.studies.replay import replay, stage_effects
from mullama_lab.widgets import ChainEditor, RunPanel, TokenStrip

N = 10  # tokens of a run
PLACES = (0, 4, N - 1)  # steps that are looked at closely


def floats(low, high):
    return st.floats(low, high, width=32)


TOKENS = st.integers(3, 258)
KEEP = st.sampled_from([0, 0, 0, 2])
GRAMMARS = [Grammar.gbnf("root ::= [ -~]*"), Grammar.regex("[a-y ]*[A-Z]?[0-9 ]*")]
STAGES = {
    s.Greedy: st.just(s.Greedy()),
    s.TopK: st.builds(s.TopK, st.integers(0, 300), min_keep=KEEP),
    s.TopP: st.builds(s.TopP, floats(0, 1), min_keep=KEEP),
    s.MinP: st.builds(s.MinP, floats(0, 1), min_keep=KEEP),
    s.Typical: st.builds(s.Typical, floats(0, 1), min_keep=KEEP),
    s.Temperature: st.builds(s.Temperature, st.just(0.0) | floats(0.125, 3)),
    s.DynamicTemperature: st.builds(
        s.DynamicTemperature, floats(0.5, 3), floats(0, 0.5), floats(0.25, 2)
    ),
    s.XTC: st.builds(s.XTC, floats(0, 1), st.just(0.0) | floats(0.001953125, 0.5)),
    s.TopNSigma: st.builds(s.TopNSigma, floats(0, 4)),
    s.Mirostat: st.builds(s.Mirostat, floats(0.5, 8), floats(0, 0.5), st.integers(2, 120)),
    s.MirostatV2: st.builds(s.MirostatV2, floats(0.5, 8), floats(0, 0.5)),
    s.AdaptiveP: st.builds(s.AdaptiveP, floats(0, 1), st.sampled_from([0.0, 0.5, 0.9])),
    s.Penalties: st.builds(
        s.Penalties,
        repeat=floats(0.5, 2),
        frequency=floats(-1, 1),
        presence=floats(-1, 1),
        last_n=st.integers(-1, 20),
    ),
    s.DRY: st.builds(
        s.DRY,
        multiplier=floats(0, 2),
        allowed_length=st.integers(0, 3),
        last_n=st.integers(-1, 20),
        breakers=st.sampled_from([(), ("a",), ("\n", ":")]),
    ),
    s.LogitBias: st.builds(s.LogitBias, st.dictionaries(TOKENS, floats(-9, 9), max_size=4)),
    s.Mask: st.builds(s.Mask, ban=st.lists(TOKENS, max_size=9)),
    s.Ban: st.builds(s.Ban, st.lists(st.sampled_from(["a", "Ab", "z", "é"]), max_size=2)),
    s.Constrain: st.builds(
        s.Constrain,
        st.sampled_from(GRAMMARS),
        stop=st.sampled_from([None, "complete", "only"]),
        after=st.sampled_from([None, "a", 68, Grammar.regex("[a-m ]")]),
    )
    | st.builds(
        s.Constrain,
        st.sampled_from([grammar for grammar in GRAMMARS if grammar.is_gbnf]),
        stop=st.sampled_from([None, "complete", "only"]),
        engine=st.just("llama.cpp"),
    ),
    s.Infill: st.just(s.Infill()),
    s.TailFree: st.builds(s.TailFree, floats(0, 1), min_keep=KEEP),
}
CHAINS = st.lists(st.one_of(list(STAGES.values())), max_size=4).map(Chain)


@dataclass(frozen=True)
class Case:
    """A run and what is asked about it."""

    chains: tuple[tuple[int, Chain], ...]
    other: Chain
    seed: int
    token: int
    turned: int  # which setting of those there are
    value: float  # on its slider, 0 to 1


def _turned_on_the_way(chain: Chain, later: list[tuple[int, Chain | Stage]]) -> list:
    """Chains by steps: another one, or the first with a stage of that kind set otherwise."""
    chains = {0: chain}
    for step, change in later:
        if isinstance(change, Chain):
            chains[step] = change
            continue
        last = chains[max(i for i in chains if i <= step)]
        same = [x for x in names_of(last) if x.kind is type(change)]
        chains[step] = same[0].put(change, last) if same else last | change
    return sorted(chains.items())


CHANGES = st.lists(
    st.tuples(st.integers(1, N - 1), CHAINS | st.one_of(list(STAGES.values()))), max_size=2
)
CASES = st.builds(
    lambda chain, later, *rest: Case(tuple(_turned_on_the_way(chain, later)), *rest),
    CHAINS,
    CHANGES,
    CHAINS,
    st.integers(0, 1000),
    TOKENS,
    st.integers(0, 99),
    st.floats(0, 1),
)


@pytest.fixture(scope="module", params=[None, 16_000], ids=["whole rows", "a part of rows"])
def session(request, tmp_path_factory):
    """A session whose traces keep all of a row, and one whose traces keep a part of it."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    with (
        Model.load(tiny.write(path, n_vocab=request.param)) as model,
        model.session(n_ctx=128, n_threads=1) as session,
    ):
        yield session


@pytest.fixture
def counts(capsys, request):
    """What was compared, by name; printed at the end."""
    found: Counter[str] = Counter()
    yield found
    with capsys.disabled():
        print(f"\n{request.node.name}: {dict(sorted(found.items()))}")


def generated(session, chain, seed):
    """A run that owes nothing to what the cache held; as far as it came."""
    session.reset()
    try:
        return session.generate("Hello", chain, max_tokens=N, seed=seed)
    except (NoCandidates, ValueError):  # Infill refuses thousands of candidates
        return session.last_trace


def asked(study, *arguments, **options):
    """What a study says; None where it may refuse: Infill, and rows of which a part was kept."""
    try:
        return study(*arguments, **options)
    except ValueError as error:
        assert "Infill" in str(error) or "on=model.session()" in str(error), error
        return None


def turnings(schedule):
    """Every setting that can be turned: (name of the stage, setting)."""
    return [(name, setting) for name in schedule.stages() for setting in name.kind.settings()]


def test_every_stage_but_custom_is_tried():
    assert set(STAGES) | {s.Custom} == set(Stage.kinds.values())


def test_views_of_one_run_agree(session, attack, parting, counts):
    model = session.model

    def attempt(case):
        if model.n_vocab > 5000:  # so flat that no chain but one that cuts is sure of its token
            case = replace(
                case,
                chains=tuple((i, s.TopK(90) | chain) for i, chain in case.chains),
                other=s.TopK(70) | case.other,
            )
        trace = generated(session, dict(case.chains), case.seed)
        if not len(trace):
            counts["runs without a token"] += 1
            return
        counts["runs"] += 1
        counts["runs whose chain changed"] += trace.schedule.changes
        as_drawn(trace, model, counts)
        at_each_step(trace, case, model, counts)
        against_another(trace, case, session, parting, counts)
        effects(trace, model, counts)
        decoded_again(trace, case, session, counts)
        for chain in (None, case.other):
            intervals(trace, chain, case, model, counts)

    attack(CASES, attempt, few=25)


def test_the_lines_of_what_if_agree(session, attack, counts, monkeypatch):
    model = session.model
    for wait in ("SOON", "REST"):
        monkeypatch.setattr(_what_if_panel, wait, 0.0)

    def attempt(case):
        chains = {i: s.TopK(90) | chain for i, chain in case.chains}
        trace = generated(session, chains, case.seed)
        if not len(trace):
            return
        # now: the last chain with one setting of each of some stages turned
        chain = trace.schedule.last
        names = names_of(chain)
        for i, name in enumerate(names[: case.turned % 3 + 1]):
            chain = _with_another_value(chain, name, case.turned + i, case.value)
        desk = Desk(RunPanel(), TokenStrip(), ChainEditor(chain))
        panel = _what_if_panel.WhatIfPanel(desk)
        view = panel.view
        try:
            panel.show_or_hide(True)
            panel.begin(session)
            panel.show(trace)
            panel.settle()
        finally:
            panel.close()
        counts["what-ifs"] += 1
        seen = asked(replay, trace, chain, on=model, allow_unknown=True)
        if seen is None:
            assert view.line.startswith("n/a: ")
            return
        differ = f"{seen.n_changed or 'none'} of {seen.n_compared} "
        assert differ in view.line or not seen.n_compared, view
        if view.bars:
            counts["what-ifs with bars"] += 1
            assert view.n_flipped() == seen.n_changed
            said = f" changes {seen.n_changed} of {seen.n_compared}"
            assert text_of(view).splitlines()[1].endswith(said)
        whole = [x.n_changed for x in stage_effects(trace, chain, on=model, allow_unknown=True)]
        assert [row[1] for row in view.effects] == whole
        view.close()

    attack(CASES, attempt, few=8)


def _with_another_value(chain, name, which, value):
    stage = chain[name.place_in(chain)]
    settings = sorted(stage.settings())
    if not settings:
        return chain
    setting = settings[which % len(settings)]
    rule = stage.settings()[setting]
    turned = rule.slider[0] + value * (rule.slider[1] - rule.slider[0])
    turned = round(turned) if rule.kind == "int" else turned
    try:
        return name.put(replace(stage, **{setting: turned}), chain)
    except ValueError:  # such as XTC, whose settings have a rule between them
        return chain


def as_drawn(trace, model, counts):
    """The chains in force choose what the trace has."""
    seen = replay(trace, on=model, allow_unknown=True)
    known = seen.known
    assert (seen.choices[known] == trace.tokens[known]).all(), seen
    counts["choices of the chain in force"] += int(known.sum())
    counts["not known from what was kept"] += int((~known).sum())


def at_each_step(trace, case, model, counts):
    """A fate and a preview say what the record says."""
    for step in {min(place, len(trace) - 1) for place in PLACES}:
        token, chain = int(trace.tokens[step]), trace.chain_at(step)
        if (found := asked(fate, trace, step, token, on=model)) is not None:
            counts["fates of what was drawn"] += 1
            assert found.choice == token and found.removed_by is None, found
            assert found.chosen and found.drawn_by[0] <= found.draw <= found.drawn_by[1]
        ids, logits = trace.kept(step)
        if len(ids) < model.n_vocab:
            continue
        counts["previews"] += 1
        view = chain.preview(
            logits, model=model, history=trace.history(step), seed=trace.seed, step=step,
            state=trace.state(step), top=1024,
        )  # fmt: skip
        assert view.choice == token
        assert tuple(stage.n_kept for stage in view.stages) == trace.n_kept_at(step)
        other = asked(fate, trace, step, case.token, on=model)
        assert tuple(x.n_left for x in other.stages) == trace.n_kept_at(step)
        assert other.choice == token
        for stage, given in zip(other.stages, view.stages, strict=True):
            assert (stage.after > -np.inf) == (case.token in given.ids), (other, given)


def against_another(trace, case, session, parting, counts):
    """A replay of another chain says where a rerun differs, and a fate under it agrees."""
    seen = asked(replay, trace, case.other, on=session.model, allow_unknown=True)
    if seen is None:
        return
    if seen.first_is_sure:
        counts["reruns"] += 1
        again = generated(session, case.other, case.seed)
        assert seen.first == parting(trace, again), (seen, again)
        if seen.first is not None and len(again) > seen.first:
            assert seen.choices[seen.first] == again.tokens[seen.first]
    step = len(trace) - 1
    found = asked(fate, trace, step, int(trace.tokens[step]), on=session.model, chain=case.other)
    if found is not None and seen.known[step]:
        counts["fates under another chain"] += 1
        assert found.choice == seen.choices[step], (found, seen)


def decoded_again(trace, case, session, counts):
    """What rows that are decoded again decide, beside those that were kept: noise is counted."""
    lost = Trace.from_dict(trace.to_dict())
    for chain in (None, case.other):
        kept = asked(replay, trace, chain, on=session.model, allow_unknown=True)
        again = asked(replay, lost, chain, on=session)
        if kept is None or again is None:
            continue
        known = kept.known & again.known
        counts["choices on rows decoded again"] += int(known.sum())
        counts["of them open for noise"] += int((~again.known).sum())
        counts["of them another one by noise"] += int(
            (known & (kept.choices != again.choices)).sum()
        )


def effects(trace, model, counts):
    """What a stage changed is what a replay without it changes."""
    found = asked(stage_effects, trace, on=model, allow_unknown=True)
    if found is None:
        return
    whole = replay(trace, on=model, allow_unknown=True)
    for name, effect in zip(trace.schedule.stages(), found, strict=True):
        without = replay(trace, trace.schedule.map(name.without), on=model, allow_unknown=True)
        counts["effects"] += 1
        if effect.why_inert:
            assert (without.choices == whole.choices).all(), (effect, without)
            continue
        known = whole.known & without.known
        changed = known & (whole.choices != without.choices)
        assert (effect.n_changed, effect.n_compared) == (int(changed.sum()), int(known.sum()))


def intervals(trace, chain, case, model, counts):
    """At the ends of an interval a replay has the token; just beyond them it has another."""
    schedule = trace.schedule if chain is None else Schedule.of(chain)
    settings = turnings(schedule)
    if not settings:
        return
    name, setting = settings[case.turned % len(settings)]
    stage = names_of(schedule.last).index(name) if name in names_of(schedule.last) else name.kind
    if stage is name.kind and name.nth:
        return
    found = asked(flip_map, trace, stage, setting, on=model, chain=chain)
    if found is None:
        return
    rule = name.kind.settings()[setting]
    low, high = found.slider
    some = {low, high, low + case.value * (high - low), found.now, *found.low, *found.high}
    learns = any(x.learns for c in schedule.values() for x in c)
    nudge = 1 if rule.kind == "int" else 1.01 * PRECISION * (rule.slider[1] - rule.slider[0])
    beyond = {*(found.low[found.flips_low] - nudge), *(found.high[found.flips_high] + nudge)}
    for value in some | (set() if learns else beyond):
        if not (np.isfinite(value) and rule.low <= value <= rule.high):
            continue
        value = round(value) if rule.kind == "int" else float(value)

        def turn(chain, value=value):
            place = name.place_in(chain)
            return chain if place is None else name.put(_set(chain[place], setting, value), chain)

        try:
            turned = schedule.map(turn)
        except ValueError:  # a temperature is 0 or at least 0.001
            continue
        seen = asked(replay, trace, turned, on=model, allow_unknown=True)
        if seen is not None:
            _inside_and_outside(found, seen, value, nudge, learns, counts)


def _set(stage, setting, value):
    return replace(stage, **{setting: value})


def _inside_and_outside(found, seen, value, nudge, learns, counts):
    sure = found.sure & seen.known
    ends = (found.low == value) | (found.high == value) | (found.was == value)
    inside = (found.low <= value) & (value <= found.high)
    counts["values at an end or in force"] += int((sure & ends).sum())
    assert not (sure & inside & ends & seen.differs).any(), (found, seen, value)
    in_force = (found.was == value) & sure
    assert (inside == ~seen.differs)[in_force].all(), (found, seen, value)
    just_out = (np.isclose(value, found.low - nudge) & found.flips_low) | (
        np.isclose(value, found.high + nudge) & found.flips_high
    )
    crossed = found.low > found.high
    if not learns:
        counts["values just beyond an end"] += int((sure & just_out).sum())
        wrong = sure & just_out & ~crossed & ~seen.differs
        counts["of them back within the nudge"] += int(wrong.sum())
    counts["values elsewhere"] += int((sure & ~ends & ~just_out).sum())
    back = sure & ~ends & ~just_out & (inside == seen.differs)
    counts["of them a choice that changed and came back"] += int(back.sum())
