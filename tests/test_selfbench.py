"""The benchmark: what it starts it ends, and what it compares takes turns."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from mullama_lab.selfbench import browser, grammars, growth, monitor
from mullama_lab.selfbench.turns import in_turns_afresh, speeds


def test_a_notebook_that_does_not_open_leaves_no_jupyterlab_behind(monkeypatch):
    at_work = []

    @contextmanager
    def jupyterlab(folder, environment):
        at_work.append(folder)
        try:
            yield "a server"
        finally:
            at_work.remove(folder)

    def open_notebook(*_, **__):
        assert len(at_work) == 1 and at_work[0].is_dir()
        raise TimeoutError("the kernel did not start")

    monkeypatch.setattr(browser, "jupyterlab", jupyterlab)
    monkeypatch.setattr(browser, "open_notebook", open_notebook)
    opening = browser._open("a browser", "a model", nagle=False)
    with pytest.raises(TimeoutError), opening:
        pass
    assert at_work == []


def test_what_is_opened_afresh_takes_turns_in_opening_and_in_running_and_is_closed():
    seen = []

    @contextmanager
    def side(name):
        seen.append(f"open {name}")
        yield lambda: seen.append(name) or name
        seen.append(f"close {name}")

    assert in_turns_afresh(4, lambda: side("a"), lambda: side("b")) == [("a", "b")] * 4
    assert [step for step in seen if "open" in step] == [
        f"open {name}" for name in ("a", "b", "b", "a", "a", "b", "b", "a")
    ]
    assert [step for step in seen if len(step) == 1] == ["a", "b", "a", "b", "b", "a", "b", "a"]
    assert seen[:6] == ["open a", "open b", "a", "b", "close b", "close a"]


def test_a_row_of_speeds_has_the_median_of_the_ratios_not_the_ratio_of_the_medians():
    row = speeds("tokens/s", [(1.0, 1.0), (2.0, 4.0), (30.0, 10.0)], 0.9)
    assert (row.ours, row.peer, row.value, row.verdict) == ("2.0", "4.0", 1.0, "met")


def test_what_a_monitor_costs_is_a_ratio_of_the_same_work(tiny_model, monkeypatch):
    monkeypatch.setattr(monitor, "PAIRS", 2)
    (row,) = monitor.rows(tiny_model)
    assert row.what.endswith("monitor at 0.5 s: tokens/s with against without")
    assert (row.target, row.at_least) == (0.99, True) and row.value > 0.1


def test_each_kind_of_grammar_is_timed_from_its_text_to_its_first_mask(tiny_model, monkeypatch):
    monkeypatch.setattr(grammars, "TRIES", 2)
    monkeypatch.setattr(grammars, "N_RULES", 20)
    first, *rows = grammars._first_mask(tiny_model)
    assert first.what.endswith("what knows its tokens, and the first mask, ms")
    kinds = [*grammars._grammars(), "20 rules"]
    assert [row.what.split(": ", 1)[1] for row in rows] == [
        f"{what} of a new grammar, {kind}, ms"
        for kind in kinds
        for what in ("reading", "the first mask")
    ]
    assert all(float(row.ours) >= 0 for row in rows)


def test_growth_is_measured_of_each_thing_at_each_length():
    points = list(growth.measured((400, 200)))
    found = {what: [one for one in points if one.what == what] for what, *_ in points}
    assert len(found) == 8
    for what, line in found.items():
        assert [one.n_tokens for one in line] == [200, 400], what
        assert all(one.seconds >= 0 and one.n_bytes > 0 for one in line), what
    for what in ("trace, each step read", "trace as JSON", "tree of branches", "index, saved"):
        shorter, longer = found[what]
        assert 1.5 < longer.n_bytes / shorter.n_bytes < 2.1, what
    assert len(list(growth.rows_of(points))) == 16


def test_what_grows_with_the_square_of_the_length_is_missed():
    lengths = (10, 20, 40)
    line = [growth.Point("a thing", n, n * n / 1e3, 1000 * n) for n in lengths]
    time, size = growth.rows_of(line)
    assert (time.value, time.verdict) == (pytest.approx(2), "MISSED")
    assert (size.value, size.ours, size.verdict) == (pytest.approx(1), "40 kB", "met")
    assert [one.what for one in (time, size)] == [
        "a thing, 40 tokens: time",
        "a thing, 40 tokens: bytes",  # of memory, or of a file
    ]


def test_growth_is_drawn_on_two_axes_with_a_line_in_proportion():
    import matplotlib.pyplot as plt

    line = [growth.Point("a thing", n, n / 1e3, n * n) for n in (10, 20, 40)]
    figure = growth.plot(line)
    for ax, values in zip(figure.axes, ([0.01, 0.02, 0.04], [100, 400, 1600]), strict=True):
        drawn, proportion = ax.lines
        assert drawn.get_ydata() == pytest.approx(values)
        assert proportion.get_ydata() == pytest.approx([values[-1] / 4, values[-1] / 2, values[-1]])
    figure.draw_without_rendering()
    for ax in figure.axes:
        assert ax.get_legend().get_window_extent().y0 >= ax.get_window_extent().y1
    assert "n^2.00" in figure.axes[1].get_legend().get_texts()[0].get_text()
    plt.close(figure)


def test_growth_is_printed_as_it_comes_and_what_ends_it_takes_nothing_back(monkeypatch, capsys):
    def measured():
        yield growth.Point("a thing", 10, 0.5, 1000)
        raise KeyboardInterrupt

    monkeypatch.setattr(growth, "measured", measured)
    with pytest.raises(KeyboardInterrupt):
        growth.main([])
    assert capsys.readouterr().out == "a thing\t10\t0.5\t1000\n"
