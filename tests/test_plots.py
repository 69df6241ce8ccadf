"""Pictures for papers, checked by what matplotlib was told to draw."""

from __future__ import annotations

import inspect
import subprocess
import sys
import warnings

import matplotlib
import numpy as np
import pytest

import mullama_lab as ml
from mullama_lab import plots
from mullama_lab.engine import tiny
from mullama_lab.engine.multivector import MultiVector
from mullama_lab.plots.axes import short_name, token_label
from mullama_lab.studies.seeds import SeedFan

matplotlib.use("agg")

SIMILAR = [[0.9, 0.1, 0.0], [0.0, 0.8, -0.2], [0.3, 0.7, 0.0]]


def hand(pieces, vectors, kind="document"):
    """Tokens that stand one after the other, with vectors one can check."""
    ends = np.cumsum([len(piece) for piece in pieces], dtype=int)
    return MultiVector(
        vectors=np.asarray(vectors, np.float32),
        ids=np.arange(len(pieces)),
        pieces=tuple(piece.encode("utf-8", "replace") for piece in pieces),
        spans=np.stack([ends - [len(piece) for piece in pieces], ends], axis=1),
        text="".join(pieces),
        kind=kind,
    )


@pytest.fixture(autouse=True)
def _no_figure_stays():
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


@pytest.fixture
def query():
    return hand(["re", "move", " it"], np.eye(3), "query")


@pytest.fixture
def document():
    return hand(["Strip", " the", "\n"], np.array(SIMILAR).T)


def names(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def drawn(ax):
    """Draw everything, so that a text that matplotlib cannot set raises here."""
    ax.figure.canvas.draw()
    return ax


def test_the_grid_draws_the_similarities_and_frames_the_best_of_each_row(query, document):
    ax = drawn(plots.similarity_grid(query, document))
    np.testing.assert_allclose(ax.images[0].get_array(), SIMILAR, rtol=1e-6)
    assert [frame.get_xy() for frame in ax.patches] == [(-0.5, -0.5), (0.5, 0.5), (0.5, 1.5)]
    assert ax.get_title() == "MaxSim 2.400"
    assert names(ax.yaxis) == ["re", "move", "it"]
    assert names(ax.xaxis) == ["Strip", "the", "\\n"]


def test_the_scale_is_from_0_to_1_for_unit_vectors_and_else_what_there_is(query, document):
    unit = hand(["a", "b"], [[1, 0, 0], [-0.6, 0.8, 0]])
    assert plots.similarity_grid(query, unit).images[0].get_clim() == (0, 1)
    low, high = plots.similarity_grid(query, document).images[0].get_clim()
    assert (low, high) == pytest.approx((-0.2, 0.9))


def test_a_stretched_row_goes_from_0_to_1_and_the_bar_says_so(query, document):
    ax = drawn(plots.similarity_grid(query, document, scale="by query"))
    shown = np.asarray(ax.images[0].get_array())
    assert shown.min(axis=1).tolist() == [0, 0, 0] and shown.max(axis=1).tolist() == [1, 1, 1]
    assert "each row on its own scale" in ax.images[0].colorbar.ax.get_ylabel()
    level = plots.similarity_grid(query, hand(["a", "b"], np.full((2, 3), 0.5)), scale="by query")
    assert not np.asarray(level.images[0].get_array()).any()


def test_a_wrong_scale_is_refused(query, document):
    with pytest.raises(ValueError, match="scale='rows': it must be one of 'raw', 'by query'"):
        plots.similarity_grid(query, document, scale="rows")


def test_the_parts_of_a_bar_add_up_to_the_score_and_the_best_is_at_the_top(query, document):
    worse = hand(["x"], [[0.5, 0.25, -0.5]])
    ax = drawn(plots.rank_board(query, {"worse": worse, "better": document}))
    assert names(ax.yaxis) == ["better", "worse"]
    widths = np.array([[bar.get_width() for bar in part] for part in ax.containers])
    np.testing.assert_allclose(widths, [[0.9, 0.5], [0.8, 0.25], [0.7, -0.5]], rtol=1e-6)
    lefts = np.array([[bar.get_x() for bar in part] for part in ax.containers])
    np.testing.assert_allclose(lefts, [[0, 0], [0.9, 0.5], [1.7, -0.5 + 0.5]], atol=1e-6)
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == ["1 re", "2 move", "3 it"]


def test_what_all_documents_have_can_be_left_out(query, document):
    other = hand(["x"], [[0.5, 0.25, 0.75]])
    ax = drawn(plots.rank_board(query, {"a": document, "b": other}, bars="difference"))
    widths = np.array([[bar.get_width() for bar in part] for part in ax.containers])
    np.testing.assert_allclose(widths, [[0.4, 0], [0.55, 0], [0, 0.05]], atol=1e-6)
    assert min(bar.get_x() for bar in ax.containers[0]) == pytest.approx(0.5 + 0.25 + 0.7)
    assert "above the 1.450 that every document has" in ax.get_xlabel()
    with pytest.raises(ValueError, match="bars='half': it must be one of 'whole', 'difference'"):
        plots.rank_board(query, [document], bars="half")


def test_documents_of_a_list_are_numbered_or_named(query, document):
    other = hand(["x"], [[0, 0, 0.1]])
    assert names(plots.rank_board(query, [other, document]).yaxis) == ["2", "1"]
    named = plots.rank_board(query, [other, document], names=["other", "this"])
    assert names(named.yaxis) == ["this", "other"]
    with pytest.raises(ValueError, match="1 names for 2 documents; give one each"):
        plots.rank_board(query, [other, document], names=["one"])


def test_what_speaks_for_a_and_for_b_adds_up_to_the_difference(query, document):
    other = hand(["x"], [[1, 0.5, 0.5]])
    ax = drawn(plots.versus(query, document, other, names=("dedent", "strip")))
    widths = [bar.get_width() for bar in ax.containers[0]]
    np.testing.assert_allclose(widths, [0.3, 0.2, -0.1], atol=1e-6)
    assert names(ax.yaxis) == ["2 move", "3 it", "1 re"]
    assert ax.get_title() == "dedent is 0.400 ahead of strip"


def test_a_preview_has_a_bar_before_and_one_after_the_chain(tiny_model):
    with tiny_model.session() as session:
        row = session.logits("Hello")
    view = (ml.TopK(3) | ml.Temperature(0.5)).preview(row, model=tiny_model, seed=1)
    ax = drawn(plots.next_token(view, top=5))
    before, after = ([bar.get_width() for bar in bars] for bars in ax.containers)
    np.testing.assert_allclose(before, view.before.probs[:5])
    np.testing.assert_allclose(after, [*view.final.probs, 0, 0])
    starred = [name.startswith("★") for name in names(ax.yaxis)]
    assert starred == [token == view.choice for token in view.before.ids[:5]]


def test_the_drawn_token_is_there_and_marked_where_it_is_not_among_the_likeliest(tiny_model):
    with tiny_model.session() as session:
        row = session.logits("Hello")
    view = ml.Chain([ml.Temperature(2.0)]).preview(row, model=tiny_model, seed=4, top=259)
    place = view.before.ids.tolist().index(view.choice)
    assert place > 2, "another seed draws one that is less likely"
    ax = drawn(plots.next_token(view, top=2))
    assert [name[0] == "★" for name in names(ax.yaxis)] == [False, False, True]
    before, after = ([bar.get_width() for bar in bars] for bars in ax.containers)
    np.testing.assert_allclose(before, view.before.probs[[0, 1, place]])
    assert after[2] == pytest.approx(view.final.probs[view.final.ids.tolist().index(view.choice)])
    short = ml.Chain([ml.Temperature(2.0)]).preview(row, model=tiny_model, seed=4, top=2)
    ax = drawn(plots.next_token(short))
    assert [text.get_text().strip() for text in ax.texts] == ["n/a", "n/a"]


def half_stale(session):
    """Six tokens, the last three of them over what other weights had left in the cache."""
    plain = ml.Setting(ml.Mask(ban=[tiny.EOS]) | ml.Temperature(0.5))
    vector = ml.ControlVector({1: np.ones(32)})
    return session.generate(
        "Hello", {0: plain, 3: ml.Setting(plain.chain, control=vector)}, max_tokens=6, seed=2
    )


@pytest.mark.parametrize("picture", ["next_token", "token_strip", "seed_fan"])
def test_a_legend_covers_nothing_of_its_picture(tiny_model, picture):
    with tiny_model.session() as session:
        trace = half_stale(session)
        view = ml.Chain([ml.Temperature(0.5)]).preview(
            session.logits("Hello"), model=tiny_model, seed=1
        )
        fan = SeedFan([session.score(text) for text in ("aab", "aac")])
    shown = {"next_token": view, "token_strip": trace, "seed_fan": fan}[picture]
    ax = drawn(getattr(plots, picture)(shown))
    legend = ax.get_legend().get_window_extent()
    assert not legend.overlaps(ax.get_window_extent())
    assert ax.figure.bbox.contains(*legend.min) and ax.figure.bbox.contains(*legend.max)
    if ax.get_title():
        assert not legend.overlaps(ax.title.get_window_extent())


def test_a_trace_is_drawn_token_by_token(tiny_model):
    with tiny_model.session() as session:
        trace = session.generate("Hello", ml.Temperature(0.5), max_tokens=6, seed=2)
    ax = drawn(plots.token_strip(trace))
    np.testing.assert_allclose(
        [bar.get_height() for bar in ax.containers[0]], np.exp(trace.logprob)
    )
    np.testing.assert_allclose(ax.lines[0].get_ydata(), np.exp(trace.logprob_after))
    assert len(names(ax.xaxis)) == len(trace)
    assert ax.get_title() == "" and not trace.stale.any()


def test_a_trace_over_what_other_weights_computed_says_so_in_its_picture(tiny_model):
    with tiny_model.session() as session:
        trace = half_stale(session)
    assert drawn(plots.token_strip(trace)).get_title() == "stale from step 3 on"
    assert drawn(plots.token_strip(trace[:3])).get_title() == ""


def test_a_seed_fan_is_drawn_as_its_survival_curve(tiny_model):
    with tiny_model.session() as session:
        fan = SeedFan([session.score(text) for text in ("aab", "aac")])
    ax = drawn(plots.seed_fan(fan))
    share, distinct = (line.get_ydata().tolist() for line in ax.get_lines())
    assert share == [1, 1, 1, 0.5]
    assert distinct == [0.5, 0.5, 0.5, 1]
    assert plots.seed_fan(fan, ax) is ax


def test_training_is_drawn_layer_by_layer(tiny_model):
    pairs = [(f"yes {word} good", f"no {word} good") for word in ("one", "two", "three", "four")]
    trained = ml.studies.control_vectors.train(pairs, on=tiny_model)
    ax = drawn(plots.training(trained))
    heights = [bar.get_height() for bar in ax.containers[0]]
    np.testing.assert_allclose(heights, trained.separation)
    (right,) = (other for other in ax.figure.axes if other is not ax)
    np.testing.assert_allclose(right.lines[0].get_ydata(), trained.accuracy)
    assert ax.get_title() == "2 held-out pairs"
    assert [text.get_text() for text in ax.get_legend().texts] == ["separation", "accuracy"]
    alone = ml.studies.control_vectors.train(pairs[:2], on=tiny_model)
    assert [bar.get_height() for bar in drawn(plots.training(alone)).containers[0]] == [0]
    with pytest.raises(TypeError, match="must be what train"):
        plots.training(alone.vector)


def test_tab_completion_offers_the_pictures_alone():
    pictures = {
        name
        for name, thing in vars(plots).items()
        if inspect.isfunction(thing)
        and thing.__module__.startswith(plots.__name__)
        and not name.startswith("_")
    }
    assert dir(plots) == plots.__all__ == sorted(pictures)


def test_they_draw_on_the_axes_that_are_given(query, document):
    import matplotlib.pyplot as plt

    axes = plt.subplots(1, 3)[1]
    assert plots.similarity_grid(query, document, axes[0]) is axes[0]
    assert plots.rank_board(query, [document], axes[1]) is axes[1]
    assert plots.versus(query, document, document, axes[2]) is axes[2]


def test_nothing_and_very_much_can_be_drawn(query):
    nothing = hand([], np.zeros((0, 3)))
    assert drawn(plots.similarity_grid(query, nothing)).get_title() == "MaxSim 0.000"
    drawn(plots.rank_board(query, [nothing, nothing]))
    drawn(plots.rank_board(query, []))
    drawn(plots.versus(query, nothing, nothing))
    rng = np.random.default_rng(0)
    many = hand(["q"] * 200, rng.normal(size=(200, 3)))
    ax = drawn(plots.similarity_grid(many, hand(["d"] * 900, rng.normal(size=(900, 3)))))
    assert names(ax.xaxis) != ["d"] * 900  # numbers: 900 names cannot be read
    assert max(ax.figure.get_size_inches()) <= 14


def test_hostile_tokens_are_drawn_as_text(document):
    hostile = ["$x_1$", "\u202eevil", "\x00", "a\nb", "   "]
    tokens = hand(hostile, np.eye(5, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ax = drawn(plots.similarity_grid(tokens, document))
        drawn(plots.rank_board(tokens, {"$\\frac{": document}))
        drawn(plots.versus(tokens, document, document, names=("$a", "$\\b$")))
    assert names(ax.yaxis) == ["$x_1$", "\\u202eevil", "\\x00", "a\\nb", "␣"]


def test_vectors_of_two_sizes_are_refused(query):
    with pytest.raises(ValueError, match="vectors of 2 numbers, the query of 3"):
        plots.similarity_grid(query, hand(["a"], [[1, 0]]))


def test_a_query_without_tokens_is_refused(document):
    with pytest.raises(ValueError, match="the query has no tokens"):
        plots.rank_board(hand([], np.zeros((0, 3)), "query"), [document])


def test_matplotlib_is_loaded_by_the_first_picture_only():
    program = "import sys; from mullama_lab import plots; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_no_label_of_a_plot_has_a_hidden_character():
    hostile = "\x1b[31m\u202e\u200b\n"
    assert token_label(hostile) == repr(hostile)[1:-1]
    assert short_name(hostile) == "[ESC][31m[RLO][ZWSP]↵"


def test_strengths_are_drawn_by_token(tiny_model):
    from mullama_lab.studies.effect import strengths

    vector = ml.ControlVector({1: np.random.default_rng(0).normal(size=32)})
    with tiny_model.session(n_ctx=64, n_threads=1) as session:
        found = strengths(session, [5, 6, 7, 8], vector, [-1, 0, 2])
    ax = drawn(plots.strengths(found))
    assert np.array_equal(ax.images[0].get_array(), found.kl)
    assert names(ax.yaxis) == ["-1", "0", "2"] and len(names(ax.xaxis)) == 3
    flips = {tuple(place) for place in ax.lines[0].get_xydata().astype(int).tolist()}
    assert flips == {(c, r) for r, one in enumerate(found.effects) for c in one.flips.nonzero()[0]}
    with pytest.raises(TypeError, match="strengths"):
        plots.strengths(vector)


def test_memory_is_drawn_by_kind_with_what_is_in_use(tiny_model):
    with tiny_model.session(n_ctx=1024) as session:
        ax = drawn(plots.memory(session.memory))
        assert names(ax.yaxis) == ["weights", "KV cache", "compute", "output"]
        assert ax.get_legend() is None
        session.generate("a" * 500, max_tokens=0)
        memory = session.memory
    ax = drawn(plots.memory(memory))
    widths = [bar.get_width() * 1e6 for bar in ax.patches]
    sizes = [memory.weights_bytes, memory.kv_bytes, memory.compute_bytes, memory.output_bytes]
    assert widths == pytest.approx([*sizes, memory.used_bytes])
    assert ax.get_xlabel() == "MB, 2.01 MB in all"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["in use"]
    drawn(plots.memory(ml.studies.planner.plan(tiny_model.path)))
    with pytest.raises(TypeError, match=r"found=3: it must be session\.memory"):
        plots.memory(3)


def test_a_blend_is_drawn_over_both_strengths(tiny_model):
    from mullama_lab.studies.blend import blend

    rng = np.random.default_rng(0)
    one, other = (ml.ControlVector({1: rng.normal(size=32)}, name=name) for name in ("a$b$", "c"))
    grid = {one: [1, -1, 0], other: [0, 2]}
    with tiny_model.session(n_ctx=64, n_threads=1) as session:
        found = blend(session, "abc", grid)
        aimed = blend(session, "abc", grid, target="d")
        thin = blend(session, "abc", {one: [1], other: [0, 2]})
    ax = drawn(plots.blend(found))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("a$b$", "c") and not ax.lines
    assert ax.get_xlim() == (-1, 1) and ax.figure.axes[1].get_ylabel() == "KL (nats)"
    (star,) = drawn(plots.blend(aimed)).lines
    assert tuple(star.get_xydata()[0]) == aimed.likeliest
    with pytest.raises(ValueError, match="at least two strengths"):
        plots.blend(thin)
    with pytest.raises(TypeError, match="blend"):
        plots.blend(one)


def test_throughput_and_latency_leave_the_first_token_out(tiny_model):
    from mullama_lab.studies.timing import timing

    with tiny_model.session(n_ctx=256, n_threads=1) as session:
        trace = session.generate("abc", max_tokens=90, seed=1)
        nothing = timing(session.generate("abc", max_tokens=0))
    found = timing(trace)
    ax = drawn(plots.throughput(found))
    each, middle = ax.lines
    assert each.get_xdata().tolist() == list(range(1, len(trace)))
    np.testing.assert_allclose(each.get_ydata(), 1e9 / trace.wall_ns[1:])
    assert len(middle.get_ydata()) == len(trace) - 1 and ax.get_title() == found.tokens.test
    ax = drawn(plots.latency(found))
    steps, median, most = ax.lines
    assert (np.diff(steps.get_xdata()) >= 0).all() and steps.get_ydata()[-1] == 1
    assert median.get_xdata()[0] == np.quantile(trace.wall_ns[1:] / 1e6, 0.5)
    assert median.get_xdata()[0] <= most.get_xdata()[0]
    for plot in (plots.throughput, plots.latency):
        drawn(plot(nothing))
        with pytest.raises(TypeError, match="timing"):
            plot(trace)


def test_a_depth_curve_has_its_line_where_there_is_one(tiny_model):
    from mullama_lab.studies.timing import depth

    with tiny_model.session(n_ctx=256, n_threads=1) as session:
        curve = depth(session, [0, 50, 100, 150], repeats=3)
        short = depth(session, [0, 50], repeats=3)
    ax = drawn(plots.depth_curve(curve))
    points, line = ax.lines[0], ax.lines[-1]
    assert points.get_xdata().tolist() == [2, 52, 102, 152]
    assert line.get_ydata()[0] == curve.line.intercept and len(ax.collections) == 2
    assert len(drawn(plots.depth_curve(short)).lines) == 1
    with pytest.raises(TypeError, match="depth"):
        plots.depth_curve([1, 2])


def test_throughput_and_memory_are_drawn_over_the_seconds_of_a_monitor(tiny_model):
    from mullama_lab.studies.monitor import Monitor

    with tiny_model.session(n_ctx=64, n_threads=1) as session:
        with Monitor(session, interval=3600) as monitor:
            session.generate([1, 5], ml.Mask(ban=[2]), max_tokens=4, seed=1)
        columns = monitor.columns()
        ax = drawn(plots.throughput_over_time(monitor))
        by_label = {line.get_label(): line for line in ax.lines}
        for label, name in (
            ("generated", "tokens_per_second"),
            ("decoded, prompts too", "decoded_per_second"),
        ):
            np.testing.assert_array_equal(by_label[label].get_ydata(), columns[name])
            np.testing.assert_array_equal(by_label[label].get_xdata(), columns["seconds"])
        assert ax.get_title() == f"{monitor.average:.3g} tokens/s on average"
        resident, free = drawn(plots.memory_over_time(monitor)).lines
        np.testing.assert_allclose(resident.get_ydata(), columns["resident_bytes"] / 1e9)
        np.testing.assert_allclose(free.get_ydata(), columns["free_bytes"] / 1e9)
    for draw in (plots.throughput_over_time, plots.memory_over_time):
        drawn(draw(Monitor(tiny_model)))  # not started
        with pytest.raises(TypeError, match="monitor=3: it must be a Monitor"):
            draw(3)


def test_memory_that_is_not_available_is_said_and_gpus_have_lines(tiny_model, monkeypatch):
    from mullama_lab.studies.monitor import Monitor

    monitor = Monitor(tiny_model)
    seconds = np.arange(3.0)
    monkeypatch.setattr(monitor, "columns", lambda: {"seconds": seconds})
    ax = drawn(plots.memory_over_time(monitor))
    assert ax.get_title() == "memory: not available" and not ax.lines
    gpu = {"gpu_1_bytes": seconds * 1e9, "gpu_1_total_bytes": seconds}
    monkeypatch.setattr(monitor, "columns", lambda: {"seconds": seconds, **gpu})
    (line,) = drawn(plots.memory_over_time(monitor)).lines
    assert line.get_label() == "GPU 1" and line.get_ydata().tolist() == [0, 1, 2]


def bench_rows(*settings):
    """Rows of a tiny model's benchmark, with these settings and speeds of three repeats."""
    from mullama_lab.studies.bench import BenchResult, BenchRow

    usual = {"model_filename": "a.gguf", "model_type": "llama 1B", "model_size": 1,
             "model_n_params": 1, "n_gpu_layers": 0, "load_mode": "mmap", "n_prompt": 0,
             "n_gen": 100, "n_depth": 0, "n_sequences": 1, "n_batch": 512, "n_ubatch": 512,
             "type_k": "f16", "type_v": "f16", "flash_attention": "auto",
             "test_time": ""}  # fmt: skip
    return BenchResult(
        tuple(
            BenchRow(**{**usual, **one}, samples_ns=tuple(round(1e11 / x) for x in speeds))
            for one, speeds in settings
        )
    )


def test_scaling_is_drawn_beside_what_would_be_in_proportion():
    found = bench_rows(
        *[
            ({"n_threads": n, "n_gen": g}, [20 * n, 18 * n, 25 * n])
            for g in (5, 100)
            for n in (2, 4)
        ]
    )
    ax = drawn(plots.scaling(found.scaling()))
    assert ax.get_xlabel() == "threads" and len(ax.lines) == 4
    for median, ideal in (ax.lines[:2], ax.lines[2:]):
        assert median.get_xdata().tolist() == ideal.get_xdata().tolist() == [2, 4]
        np.testing.assert_allclose(median.get_ydata(), ideal.get_ydata())
    assert [one.get_text() for one in ax.get_legend().get_texts()] == ["tg5", "tg100"]
    with pytest.raises(TypeError, match=r"what result\.scaling\(\) gives"):
        plots.scaling(found)


def test_tuning_is_drawn_step_by_step_and_says_what_it_saves():
    from mullama_lab.studies.bench.tuning import Choice, Tuning

    default, fastest = Choice(1, 512, 512), Choice(2, 512, 512)
    steps = {
        step: bench_rows(
            *[
                ({"n_threads": n}, [speed + k / 10 for k in range(6)])
                for n, speed in ((1, 50), (2, 80))
            ]
        )
        for step in ("threads", "final")
    }
    found = Tuning("tg100", default, fastest, steps)
    ax = drawn(plots.tuning(found))
    assert names(ax.yaxis) == [
        f"{step} {n} / 512 / 512" for step in ("threads", "final") for n in (1, 2)
    ]
    points = [line for line in ax.lines if line.get_marker() in "os"]
    assert [line.get_marker() for line in points] == ["s", "o", "s", "o"]
    assert [line.get_xdata()[0] for line in points] == pytest.approx([50.25, 80.25] * 2)
    assert ax.get_title().replace("\n", " ") == found.saving and "saves 3" in found.saving
    blue = points[1].get_color()
    assert [line.get_color() == blue for line in points] == [False, True] * 2
    ended = drawn(plots.tuning(Tuning("tg100", default, fastest, steps, is_complete=False)))
    assert blue not in [line.get_color() for line in ended.lines]
    drawn(plots.tuning(Tuning("tg100", default, default, {})))
    with pytest.raises(TypeError, match=r"what autotune\(\) gives"):
        plots.tuning(steps)
