"""Tuning: threads, batch and ubatch by measuring, and nothing called better that is chance."""

from __future__ import annotations

import re
from itertools import count

import numpy as np
import pytest

from mullama_lab.engine.decode_loop import DecodeLoop
from mullama_lab.engine.options import threads as usual_threads
from mullama_lab.errors import DecodeError, ModelLoadError
from mullama_lab.studies.bench import Tuning, TuningFailed, TuningStopped, autotune, comparison
from mullama_lab.studies.bench import tuning as study

DEFAULT = {"n_threads": usual_threads(None), "n_batch": 512, "n_ubatch": 512}
OTHER = DEFAULT["n_threads"] + 1  # a number of threads that is not the default
QUICK = {"threads": [DEFAULT["n_threads"], OTHER], "progress": False}


@pytest.fixture
def timed(monkeypatch):
    """What a decode takes is what a test says: `timed(seconds)`, of threads, batch and ubatch."""
    monkeypatch.setattr(comparison, "RESAMPLES", 2000)
    opened = []

    def fake(seconds):
        noise = np.random.default_rng(1)

        def time(loop, timed):
            opening = opened[-1]
            took = seconds(timed.n_threads, opening.n_batch, opening.n_ubatch)
            return round(1e9 * took * np.exp(0.01 * noise.standard_normal()))

        monkeypatch.setattr(DecodeLoop, "open", lambda loop, opening: opened.append(opening))
        monkeypatch.setattr(DecodeLoop, "warm_up", lambda *_: None)
        monkeypatch.setattr(DecodeLoop, "time", time)

    return fake


def two_levers(n_threads, n_batch, n_ubatch):
    return 4.0 * (0.5 if n_threads == OTHER else 1) * (0.8 if n_ubatch == 128 else 1)


def test_the_fastest_is_found_and_what_it_saves_is_said(tiny_model, timed):
    timed(two_levers)
    tuning = autotune(tiny_model, "pp512+tg8", **QUICK)
    assert tuning.best == {"n_threads": OTHER, "n_batch": 512, "n_ubatch": 128}
    assert list(tuning.steps) == ["threads", "batch", "final"] and tuning.is_complete
    said = rf"n_threads={OTHER}, n_batch=512, n_ubatch=128 saves (59|60)\.\d% of the time \(.*% to "
    said += r".*%, compared round by round\): "
    takes = r"pp512\+tg8 takes 1\.[56]\d* s, (3\.9\d|4\.?0?\d?) s with the default \(medians\)"
    assert re.fullmatch(said + takes, tuning.saving)
    assert 2.4 < tuning.difference.low < 2.5 < tuning.difference.high < 2.6
    assert str(tuning).endswith(tuning.saving) and str(tuning).count("  default\n") == 2
    table = tuning.to_pandas()
    assert table["n_ubatch"].tolist() == [512, 512, 512, 64, 128, 256, 512, 128]
    assert table["n_repeats"].eq(6).all() and table["is_best"].sum() == 2
    with tiny_model.session(n_ctx=1024, **tuning.best) as session:
        assert tuning.best.items() <= session.settings.items()


def test_a_saving_says_which_of_its_numbers_were_compared_round_by_round(tiny_model, timed):
    timed(two_levers)
    apart = autotune(tiny_model, "pp512+tg8", repeats=5, **QUICK)  # too few to be paired
    assert not apart.difference.paired and "round by round" not in apart.saving
    assert apart.difference.ratio == apart.difference.after_ts / apart.difference.before_ts
    paired = autotune(tiny_model, "pp512+tg8", **QUICK)
    rows = paired.steps["final"].rows
    before, after = (next(row.samples_ts for row in rows if row.n_threads == n)
                     for n in (DEFAULT["n_threads"], OTHER))  # fmt: skip
    by_hand = np.median(np.divide(after, before))
    assert paired.difference.ratio == by_hand != np.median(after) / np.median(before)
    assert f"saves {1 - 1 / by_hand:.1%} of the time" in paired.saving


def test_chance_is_not_called_better_than_the_default(tiny_model, timed):
    timed(lambda *_: 2.0)
    for _ in range(10):
        tuning = autotune(tiny_model, "pp512", **QUICK)
        assert tuning.best == DEFAULT
        assert tuning.saving.startswith("no setting is better than the default: n_threads=")
        assert str(tuning).count("  default, best\n") == 2


def test_what_the_last_step_does_not_confirm_is_not_better(tiny_model, timed):
    measured = count()

    def lucky(n_threads, *_):
        return 1.0 if n_threads == OTHER and next(measured) < 6 else 2.0  # in the first step

    timed(lucky)
    tuning = autotune(tiny_model, "tg8", **QUICK)
    assert list(tuning.steps) == ["threads", "final"] and tuning.fastest.n_threads == OTHER
    assert tuning.best == DEFAULT and "no setting is better" in str(tuning)


def test_what_comes_to_the_same_is_measured_once_and_nothing_where_there_is_no_choice(
    tiny_model, timed
):
    timed(two_levers)
    choices = {"batch": [64, 512, 2048], "ubatch": [64, 512, 1024, 2048]}
    tuning = autotune(tiny_model, "pp600", **{**QUICK, "threads": DEFAULT["n_threads"]}, **choices)
    cuts = tuning.to_pandas()[["n_batch", "n_ubatch"]].to_numpy().tolist()
    assert cuts == [[512, 512], [64, 64], [512, 64], [2048, 64], [2048, 512], [2048, 1024]]
    alone = autotune(tiny_model, "tg8", threads=DEFAULT["n_threads"], progress=False)
    assert alone.steps == {} and alone.best == DEFAULT and alone.to_pandas().empty
    assert "no setting is better" in str(alone)


def test_a_batch_smaller_than_each_ubatch_is_tried_as_llama_cpp_would_cut_it(tiny_model, timed):
    timed(two_levers)
    tuning = autotune(tiny_model, "pp512", threads=DEFAULT["n_threads"], batch=[128, 64],
                      ubatch=[256, 512], progress=False)  # fmt: skip
    tried = tuning.steps["batch"].to_pandas()[["n_batch", "n_ubatch"]].to_numpy().tolist()
    assert tried == [[512, 512], [128, 128], [64, 64]]


@pytest.mark.parametrize("stops", [KeyboardInterrupt(), DecodeError("llama_decode said -3.")])
def test_what_was_measured_is_kept_when_it_ends_early(tiny_model, timed, stops):
    def until(n_threads, n_batch, n_ubatch):
        if n_ubatch == 128:
            raise stops
        return two_levers(n_threads, n_batch, n_ubatch)

    timed(until)
    kind = TuningStopped if isinstance(stops, KeyboardInterrupt) else TuningFailed
    with pytest.raises(kind, match=r"sys\.last_value\.tuning") as ended:
        autotune(tiny_model, "pp512", **QUICK)
    tuning: Tuning = ended.value.tuning
    assert tuning.to_pandas()["step"].tolist() == ["threads"] * 2 + ["batch"] * 2
    assert tuning.best == DEFAULT and not tuning.is_complete
    assert not tuning.to_pandas()["is_best"].any() and "best" not in str(tuning)
    assert tuning.fastest.n_threads == OTHER  # as far as it came
    assert str(tuning).endswith("it ended early: nothing is said about the fastest")


@pytest.mark.parametrize("stops", [KeyboardInterrupt(), MemoryError()])
def test_what_was_measured_is_kept_when_it_ends_between_two_steps(
    tiny_model, timed, monkeypatch, stops
):
    def fastest(*_):
        raise stops

    timed(two_levers)
    monkeypatch.setattr(study, "_fastest", fastest)
    kind = TuningStopped if isinstance(stops, KeyboardInterrupt) else TuningFailed
    with pytest.raises(kind) as ended:
        autotune(tiny_model, "pp512", **QUICK)
    assert len(ended.value.tuning.steps["threads"]) == 2 and not ended.value.tuning.is_complete


def test_a_step_that_cannot_begin_keeps_those_before_it(tiny_model, timed, monkeypatch):
    timed(two_levers)
    opened = DecodeLoop.open

    def refuse(loop, opening):
        if opening.n_ubatch == 128:
            raise ModelLoadError("llama.cpp could not open it.")
        opened(loop, opening)

    monkeypatch.setattr(DecodeLoop, "open", refuse)
    with pytest.raises(TuningFailed, match="could not open it") as failed:
        autotune(tiny_model, "pp512", **QUICK)
    assert list(failed.value.tuning.steps) == ["threads"]
    with pytest.raises(ModelLoadError):
        autotune(tiny_model, "pp512", threads=DEFAULT["n_threads"], progress=False)


def test_it_measures_with_llama_cpp(tiny_path):
    tuning = autotune(tiny_path, "pp64+tg2 @ d8", threads=[1, 2], ubatch=[16, 32], repeats=4,
                      progress=False)  # fmt: skip
    assert tuning.test == "pp64+tg2 @ d8" and {"threads", "batch"} <= set(tuning.steps)
    assert (tuning.to_pandas()["median_ts"] > 0).all()
    assert repr(tuning).startswith("tuning of llama")


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"threads": 0}, "threads=0: it must be from 1"), ({"threads": []}, "at least one"),
     ({"repeats": 3}, "repeats=3: it must be from 4"), ({"batch": 0}, "batch=0"),
     ({"ubatch": 10**9}, "ubatch=1000000000"), ({"test": "pp"}, "a test is"),
     ({"test": "pp1 @ d16777216"}, "n_ctx=")],
)  # fmt: skip
def test_absurd_settings_are_refused(tiny_model, settings, said):
    with pytest.raises(ValueError, match=said):
        autotune(tiny_model, **{**QUICK, **settings})
