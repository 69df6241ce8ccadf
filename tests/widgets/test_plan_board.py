"""PlanBoard: settings that are turned, whom it tells, and a plan against what is free."""

from __future__ import annotations

from types import MappingProxyType

import pytest
from page import reply_to, text_of

from mullama_lab.engine.memory import Buffer
from mullama_lab.studies.planner import Plan, plan
from mullama_lab.widgets import PlanBoard

MB = 1_000_000


def planned(free, *buffers):
    return Plan(buffers, "tiny", {"n_ctx": 64}, MappingProxyType(free))


def set_by_hand(board, name, value):
    return reply_to(board, "set", {"name": name, "value": value, "seq": 1})


def test_who_wants_to_know_is_told_of_each_setting_that_is_turned():
    board, told = PlanBoard(), []
    undo = board.on_change(lambda board: told.append(board.settings))
    assert set_by_hand(board, "n_ctx", 8192) == {"seq": 1, "ok": True}
    assert set_by_hand(board, "kv_type", "q8_0") == {"seq": 1, "ok": True}
    board.n_ubatch = 1024
    assert [one["n_ctx"] for one in told] == [8192] * 3 and told[-1] == {
        "n_ctx": 8192,
        "kv_type": "q8_0",
        "n_seq_max": 8,
        "n_batch": 1024,
        "n_ubatch": 1024,
    }
    undo()
    board.n_seq_max = 2
    assert len(told) == 3


def test_a_plan_is_said_against_what_is_free():
    board = PlanBoard()
    board.show(planned({"CPU": 9 * MB}, Buffer("weights", "CPU", 6 * MB), Buffer("kv", "CPU", MB)))
    assert board.fits and board.said == "7 MB of the 9 MB that are free now: it fits"
    assert (board.whole["title"], board.whole["total"]) == ("Predicted", 7 * MB)
    assert [part["label"] for part in board.whole["parts"]] == ["weights", "KV cache"]
    two = planned(
        {"CPU": MB, "CUDA0": 2 * MB}, Buffer("kv", "CPU", MB), Buffer("weights", "CUDA0", 3 * MB)
    )
    board.show(two)
    assert not board.fits and board.said == (
        "CPU: 1 MB of the 1 MB that are free now; CUDA0: 3 MB of the 2 MB that are free now: "
        "it does not fit"
    )


def test_a_plan_of_other_settings_is_marked_and_says_no_figure(tiny_path):
    board = PlanBoard(n_ctx=512)
    found = plan(tiny_path, **board.settings)
    board.show(found)
    figure = board.whole["words"]
    assert (board.stale, board.fits) == (False, True) and figure in repr(board)
    board.n_ctx = 1024
    assert (board.stale, board.fits, board.said) == (True, None, "")
    assert figure not in repr(board) and board.whole["total"] == found.total_bytes
    for form in (text_of(board), board._repr_mimebundle_()[0]["text/html"]):
        assert "planned for other settings" in form
    board.n_ctx = 512
    assert (board.stale, board.fits) == (False, True)
    board.show(found, {**board.settings, "n_ctx": 256})
    assert board.stale and board.fits is None


def test_what_a_plan_says_of_fitting_is_what_the_board_says(tiny_path):
    board = PlanBoard()
    two = {"CPU": 9 * MB, "CUDA0": 0}
    board.show(planned(two, Buffer("kv", "CPU", MB), Buffer("kv", "CUDA0", 0)))
    assert board.fits and board.said.endswith(": it fits")
    free = MappingProxyType({"CPU": MB})
    board.show(Plan((Buffer("kv", "CPU", MB),), "tiny", {}, free, in_place=True))
    assert board.said == "1 MB of the 1 MB that are free or held by the open session: it fits"


def test_it_takes_over_what_it_has_no_lever_for(tiny_path, tiny_model):
    given = {"n_ctx": 256, "n_batch": 128, "kv_type": ("q8_0", "f16"), "flash_attention": "on"}
    with tiny_model.session(**given, reproducible=True, n_seq_max=2, n_threads=1) as session:
        board = PlanBoard()
        board.begin_with(session.settings, 512)
        assert board.kv_type == ("q8_0", "f16") and board.kv_types[-1] == ("q8_0", "f16")
        assert "kv_type=('q8_0', 'f16')" in board.to_code()
        expected = {**given, "n_ubatch": 128, "n_seq_max": 2, "kv_unified": False}
        assert board.settings == {**expected, "reproducible": True}
        code = board.to_code()
        with eval(code.removeprefix("session = "), {"model": tiny_model}) as again:
            assert {**again.settings, "n_threads": 1} == dict(session.settings)
        assert plan(tiny_path, **board.settings).kv_bytes == session.memory.kv_bytes
    assert set_by_hand(board, "kv_type", ["f16", "f16"])["ok"] and board.kv_type == "f16"
    assert set_by_hand(board, "kv_type", ["f16", "q4_0"])["ok"]
    assert board.kv_type == ("f16", "q4_0") and board.kv_types[-1] == ("f16", "q4_0")


def test_its_settings_are_those_that_a_plan_takes(tiny_path):
    board = PlanBoard(n_ctx=512, kv_type="q8_0", n_seq_max=2, n_ubatch=64)
    found = plan(tiny_path, **board.settings)
    board.show(found)
    assert board.whole["total"] == found.total_bytes and found.settings["n_ubatch"] == 64
    assert board.to_code().startswith("session = model.session(n_ctx=512, kv_type='q8_0', ")


@pytest.mark.parametrize(
    "name, value, why",
    [
        ("n_ctx", 0, "from 1 to"),
        ("n_ctx", 2**40, "from 1 to"),
        ("n_ctx", 1.5, "expected an int"),
        ("n_seq_max", 257, "from 1 to 256"),
        ("n_ubatch", True, "whole number"),
        ("kv_type", "q9", "it must be one of"),
        ("kv_type", 3, "it must be one name"),
        ("kv_type", ["f16"], "it must be one name"),
        ("kv_type", ["f16", "q9"], "it must be one of"),
        ("n_batch", 3, "no setting"),
        ("whole", {}, "no setting"),
        (None, 3, "no setting"),
    ],
)
def test_what_is_no_setting_is_refused(name, value, why):
    board = PlanBoard()
    before = board.settings
    assert why in set_by_hand(board, name, value)["error"]
    assert board.settings == before


def test_a_plan_that_failed_leaves_the_last_one_in_sight(tiny_path):
    board = PlanBoard()
    board.show(plan(tiny_path, **board.settings))
    whole = board.whole
    board.fail(ValueError("no such thing"))
    assert board.problem == "no such thing" and board.whole == whole
    assert text_of(board).splitlines()[0] == "no such thing"
    html = board._repr_mimebundle_()[0]["text/html"]
    assert "no such thing" in html and "free now" in html
    board.show(plan(tiny_path, **board.settings))
    assert board.problem == ""
    board.clear()
    assert (board.whole, board.said, board.fits) == ({}, "", None)
    for what in (3, "plan", {}):
        with pytest.raises(TypeError, match="is no Plan"):
            board.show(what)


def test_its_still_forms_say_what_is_planned(tiny_path):
    board = PlanBoard(n_ctx=512)
    assert text_of(board) == repr(board)
    board.show(plan(tiny_path, **board.settings))
    assert repr(board).startswith("PlanBoard(n_ctx=512, kv_type=f16, n_seq_max=8, n_batch=512")
    assert "KV cache  " in text_of(board)
    html = board._repr_mimebundle_()[0]["text/html"]
    assert "free now" in html and "<script" not in html
