"""Seeds: where runs of one prompt part, and what they have in common."""

from __future__ import annotations

import os
import signal
import threading
import time
from functools import partial

import numpy as np
import pytest

from mullama_lab.bars import TextBar
from mullama_lab.engine import stages as s
from mullama_lab.engine import tiny
from mullama_lab.engine.stages import Chain
from mullama_lab.engine.trace import Trace
from mullama_lab.errors import ClosedError, ContextFull, StageFailed
from mullama_lab.studies import seeds as study
from mullama_lab.studies._together import wait_for
from mullama_lab.studies.seeds import SeedFan, seed_fan

NO_END = Chain([s.Mask(ban=[tiny.EOS])])
FEW = NO_END | s.TopK(2)


@pytest.fixture(scope="module")
def session(tiny_model):
    with tiny_model.session(n_ctx=1024, n_threads=1, n_seq_max=4) as session:
        yield session


def runs(session, *texts):
    """Traces of given texts: what follows "x" is forced, byte by byte; a "$" is the end."""
    traces = []
    for text in texts:
        trace = session.score([1, ord("x") + 3, *_tokens(text)])[1:]
        trace.finish_reason = "eog" if text.endswith("$") else "length"
        traces.append(trace)
    return traces


def _tokens(text):
    return [tiny.EOS if b == ord("$") else b + 3 for b in text.encode()]


def test_runs_are_those_that_each_seed_gives_alone(session):
    fan = seed_fan("Hello", FEW, on=session, seeds=range(6), max_tokens=7)
    alone = [session.generate("Hello", FEW, max_tokens=7, seed=seed) for seed in range(6)]
    assert [t.tokens.tolist() for t in fan.traces] == [t.tokens.tolist() for t in alone]
    assert fan.to_pandas()["seed"].tolist() == list(range(6))
    means = [t.logprob.mean() for t in alone]
    np.testing.assert_allclose(fan.to_pandas()["logprob"], means, atol=0.01)
    assert fan.mean_logprob == pytest.approx(np.mean(means), abs=0.01)


def test_the_prompt_is_decoded_once_for_all_seeds(session):
    session.reset()
    before = session.ledger
    seed_fan([1, *range(10, 50)], NO_END, on=session, seeds=range(4), max_tokens=3)
    assert (session.ledger - before).decoded == 41 + 4 * 2


def test_survival_counts_the_runs_with_the_most_common_prefix(session):
    fan = SeedFan(runs(session, "aaab", "aaac", "aabb", "bbbb"))
    table = fan.survival
    assert table["together"].tolist() == [3, 3, 2, 1]
    assert table["share"].tolist() == [0.75, 0.75, 0.5, 0.25]
    assert table["distinct"].tolist() == [2, 2, 3, 4]
    assert (fan.n_together, fan.n_shared_by(0.75), fan.n_shared_by(0.5)) == (0, 2, 3)
    assert fan.to_pandas()["shared"].tolist() == [3, 3, 2, 0]


def test_survival_equals_the_plain_way_on_random_runs(session):
    fan = seed_fan("ab", FEW, on=session, seeds=range(20), max_tokens=9)
    for step, row in fan.survival.iterrows():
        prefixes = [tuple(t.tokens[: step + 1].tolist()) for t in fan.traces]
        assert row["together"] == max(map(prefixes.count, prefixes))
        assert row["distinct"] == len(set(prefixes))
    assert fan.survival["share"].is_monotonic_decreasing


def test_a_run_that_ended_by_itself_stays_what_it_is_and_one_that_was_cut_is_unknown(session):
    traces = runs(session, "ab$", "ab$", "abcd", "ab")
    traces[3].finish_reason = "stopped"
    table = SeedFan(traces).survival
    assert table["runs"].tolist() == [4, 4, 3, 3]
    assert table["together"].tolist() == [4, 4, 2, 2]
    assert table["distinct"].tolist() == [1, 1, 2, 2]


def test_outcomes_are_runs_with_the_same_tokens(session):
    fan = SeedFan(runs(session, "abcd", "abce", "abcd", "zzzz"))
    assert fan.outcomes()["runs"].tolist() == [2, 1, 1]
    assert fan.outcomes()["text"].tolist() == ["abcd", "abce", "zzzz"]
    first = fan.outcomes(3)
    assert first["text"].tolist() == ["abc", "zzz"]
    assert first["share"].tolist() == [0.75, 0.25]
    assert fan.outcomes(1)["logprob"][1] == pytest.approx(fan.traces[3].logprob.mean())


def test_distance_is_the_share_of_ngrams_that_only_one_of_two_has(session):
    fan = SeedFan(runs(session, "abc", "abd", "xyz", "abc"))
    two = fan.distances(2)
    assert two[0, 1] == pytest.approx(1 - 1 / 3)  # ab of ab, bc, bd
    assert (two[0, 2], two[0, 3]) == (1, 0)
    np.testing.assert_array_equal(two, two.T)
    assert fan.distances(1)[0, 1] == pytest.approx(1 - 2 / 4)
    assert fan.distances(9)[0].tolist() == [0, 1, 1, 0]  # shorter than nine: one gram


def test_distances_do_not_depend_on_how_many_ngrams_are_counted_at_once(session, monkeypatch):
    fan = seed_fan("ab", NO_END, on=session, seeds=range(9), max_tokens=12)
    grams = [{tuple(t.tokens[i : i + 2].tolist()) for i in range(11)} for t in fan.traces]
    plain = [[1 - len(a & b) / len(a | b) for b in grams] for a in grams]
    np.testing.assert_allclose(fan.distances(), plain)
    monkeypatch.setattr(study, "GRAMS_AT_ONCE", 7)
    np.testing.assert_allclose(fan.distances(), plain)


def test_clusters_join_what_is_near_and_what_is_near_to_that(session):
    fan = SeedFan(runs(session, "abcdef", "xyzxyz", "cdefgh", "bcdefg", "abcdef"))
    near = fan.distances()
    assert near[0, 2] > 0.5 >= near[0, 3] and near[3, 2] <= 0.5
    found = fan.clusters(0.5)
    assert found["runs"].tolist() == [4, 1]
    assert found["text"].tolist() == ["abcdef", "xyzxyz"]
    assert fan.clusters(0)["runs"].tolist() == [2, 1, 1, 1]
    assert fan.clusters(1)["runs"].tolist() == [5]


def test_clusters_are_the_connected_parts_whatever_the_order(session):
    fan = seed_fan("ab", FEW | s.Temperature(2), on=session, seeds=range(24), max_tokens=9)
    linked = fan.distances() <= 0.4
    reached = np.linalg.matrix_power(linked.astype(float), len(fan)) > 0
    parts = {tuple(np.flatnonzero(row).tolist()) for row in reached}
    assert sorted(map(len, parts)) == sorted(fan.clusters(0.4)["runs"])
    assert {tuple(found) for found in fan.clusters(0.4)["seeds"]} == parts
    assert len(parts) > 1


def test_distinct_n_counts_different_ngrams_by_all(session):
    fan = SeedFan(runs(session, "aaa", "aab"))
    assert fan.distinct(1) == 2 / 6
    assert fan.distinct(2) == 2 / 4
    assert np.isnan(fan.distinct(4))


def test_a_fan_is_a_tree_in_which_the_shared_part_is_there_once(session):
    fan = SeedFan(runs(session, "abc", "abd", "abc"))
    tree = fan.tree()
    assert len(tree) == 2
    assert tree.nodes[1].text == "ab"


def test_seeds_may_be_given_and_the_text_form_is_the_same_each_time(session):
    fan = seed_fan("Hi", s.Greedy(), on=session, seeds=[5, 9], max_tokens=4)
    assert [t.seed for t in fan.traces] == [5, 9]
    again = seed_fan("Hi", s.Greedy(), on=session, seeds=[5, 9], max_tokens=4)
    assert repr(fan) == repr(again)
    assert repr(fan).startswith("<SeedFan of 2 runs: all together for 4 tokens, half of them for 4")


def test_a_display_is_markup_in_which_a_text_is_text(session):
    html = SeedFan(runs(session, "<b>\u202e\n&", "<b>ab"))._repr_html_()
    assert "&lt;b&gt;" in html and "<b>" not in html
    assert "\\u202e" in html and "\u202e" not in html
    assert html.startswith("<p>2 runs: all together for 3 tokens, ")


# Stopped, and refused.


def test_ctrl_c_keeps_what_there_is_and_the_session_works(tiny_model):
    at_work = threading.Event()

    def slow(logits, history):
        if len(history) > 6:
            at_work.set()
        return logits

    def interrupt():
        assert at_work.wait(20)
        os.kill(os.getpid(), signal.SIGINT)

    with tiny_model.session(n_ctx=16384, n_threads=1, n_seq_max=2) as session:
        threading.Thread(target=interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            chain = NO_END | s.Custom(slow)
            seed_fan("x", chain, on=session, seeds=range(5), max_tokens=8000)
        fan = SeedFan(session.last_traces)
        assert 1 <= len(fan) <= 2
        assert {t.finish_reason for t in fan.traces} == {"stopped"}
        assert f"{len(fan)} not at their end" in repr(fan)
        assert len(seed_fan("x", NO_END, on=session, seeds=range(3), max_tokens=3)) == 3


def test_runs_are_looked_at_only_when_they_bring_something(session):
    opened, at_work, looks = threading.Event(), threading.Event(), []

    class Shown:
        show = looks.append

    def gate(logits, history):
        at_work.set()
        assert opened.wait(20)
        return logits

    runs = session.start_many("x", NO_END | s.Custom(gate), max_tokens=5, seeds=range(3))
    assert at_work.wait(20)
    waiting = threading.Thread(target=wait_for, args=[runs, 5, Shown])
    waiting.start()
    time.sleep(0.7)
    assert looks == []
    opened.set()
    waiting.join(20)
    assert looks == sorted(looks) and looks[-1] == 15
    assert all(run._news._listeners == () for run in runs)


def test_a_bar_is_shown_after_a_while_unless_it_is_not_wanted(session, monkeypatch, capsys):
    monkeypatch.setattr("mullama_lab.engine.bar.SHOWN_AFTER", 1e-9)
    monkeypatch.setattr("mullama_lab.bars.TextBar", partial(TextBar, mininterval=0))
    monkeypatch.setattr("mullama_lab.studies._together.SHOW_PERIOD", 0.001)
    seed_fan("x", NO_END, on=session, seeds=range(2), max_tokens=200)
    assert "/400" in capsys.readouterr().err
    seed_fan("x", NO_END, on=session, seeds=range(2), max_tokens=200, progress=False)
    assert capsys.readouterr().err == ""


def test_a_chain_that_fails_is_an_error_that_leaves_the_traces(session):
    def boom(logits, history):
        if len(history) > 4:
            raise RuntimeError("boom")
        return logits

    with pytest.raises(StageFailed, match="boom"):
        seed_fan("x", NO_END | s.Custom(boom), on=session, seeds=range(2), max_tokens=9)
    assert len(SeedFan(session.last_traces)) == 2


@pytest.mark.parametrize(
    ("prompt", "options", "error", "said"),
    [
        ("x", {"seeds": 24}, ValueError, "seeds=24: a fan has several. Give them, such as range"),
        ("x", {"seeds": []}, ValueError, "0 seeds are given: give from 1 to 4096"),
        ("x", {"seeds": [-1]}, ValueError, "seed=-1"),
        ("x", {"seeds": "12"}, TypeError, "seeds='12': give a whole number, or a list"),
        ("x", {"seeds": 2.5}, TypeError, "seeds=2.5: it must be a whole number"),
        ("x", {"max_tokens": 0}, ValueError, "max_tokens=0: it must be from 1"),
        (["a", "b"], {}, TypeError, "a token id must be a whole number, not 'a'"),
        (None, {}, TypeError, "a prompt is a text or a list of token ids, not NoneType"),
        ([1] * 2000, {}, ContextFull, "2000 tokens"),
    ],
)
def test_what_cannot_be_tried_is_refused(session, prompt, options, error, said):
    with pytest.raises(error, match=said):
        seed_fan(prompt, NO_END, on=session, **options)


def test_other_input_is_refused(session, tiny_model):
    with pytest.raises(TypeError, match=r"on=model\.session\(\)"):
        seed_fan("x", on=tiny_model)
    with pytest.raises(TypeError, match="a Chain holds stages"):
        seed_fan("x", [NO_END, NO_END], on=session)
    with pytest.raises(ValueError, match="none of 2 runs has a token"):
        SeedFan([Trace(), Trace()])
    with pytest.raises(ValueError, match="different prompts"):
        SeedFan([session.generate(p, NO_END, max_tokens=1) for p in ("a", "b")])
    fan = SeedFan(runs(session, "ab"))
    with pytest.raises(ValueError, match=r"within=1\.5: a distance is from 0 to 1"):
        fan.clusters(1.5)
    with pytest.raises(ValueError, match="n=0"):
        fan.distances(0)
    with pytest.raises(ValueError, match="n=0"):
        fan.distinct(0)
    with pytest.raises(ValueError, match="n_tokens=0"):
        fan.outcomes(0)
    closed = tiny_model.session(n_ctx=64)
    closed.close()
    with pytest.raises(ClosedError):
        seed_fan("x", on=closed)


def test_many_seeds_are_counted_quickly(session):
    (one,) = runs(session, "ab" * 60)
    fan = SeedFan([one] * 1000)
    assert fan.clusters()["runs"].tolist() == [1000]
    assert fan.survival["share"].eq(1).all()
    assert fan.outcomes()["runs"].tolist() == [1000]
