"""The runs of a panel that have ended: numbers, and off which run a branch turned."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from page import text_of

from mullama_lab.engine import tiny
from mullama_lab.engine.model import Model
from mullama_lab.engine.session import Session
from mullama_lab.engine.stages import Temperature
from mullama_lab.glyphs import visible_piece
from mullama_lab.widgets import RunPanel
from mullama_lab.widgets._history import History
from mullama_lab.widgets._runs import BranchOf, meters

CHAIN = Temperature(1.0)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    path = tiny.write(tmp_path_factory.mktemp("model") / "tiny.gguf")
    with Model.load(path) as model, model.session(n_ctx=512) as session:
        yield session


def drawn(session: Session, seed: int = 1, n: int = 8):
    return session.generate("ab", CHAIN, max_tokens=n, seed=seed)


def branched(session: Session, parent, step: int, token: int):
    return session.start_branch(parent, step, token, CHAIN, max_tokens=6, seed=1).wait()


def other_than(*tokens: int) -> int:
    return next(token for token in range(97, 123) if token not in tokens)


def test_a_run_that_began_with_its_prompt_is_no_branch(session: Session) -> None:
    history = History()
    assert history.add(drawn(session)).branch is None
    assert history.add(drawn(session, 2)).branch is None


def test_a_branch_is_off_the_run_that_drew_the_token_it_replaces(session: Session) -> None:
    history = History()
    trunk = drawn(session)
    history.add(drawn(session, 2))
    history.add(trunk)
    late = branched(session, trunk, 5, other_than(trunk.tokens[5]))
    token = other_than(trunk.tokens[2])
    early = branched(session, late, 2, token)
    assert history.add(late).branch == BranchOf(2, 5, visible_piece(late.pieces[5]))
    # step 2 of the late one is the trunk's own
    assert history.add(early).branch == BranchOf(2, 2, visible_piece(early.pieces[2]))
    of_late = branched(session, late, 7, other_than(late.tokens[7]))
    assert history.add(of_late).branch == BranchOf(3, 7, visible_piece(of_late.pieces[7]))


def test_a_run_that_goes_on_from_the_end_of_another_says_so(session: Session) -> None:
    history = History()
    trunk = drawn(session)
    history.add(trunk)
    on = branched(session, trunk, 7, int(trunk.tokens[7]))
    assert history.add(on).branch == BranchOf(1, 8, "")


def test_a_branch_of_a_run_that_is_not_listed_names_no_number(session: Session) -> None:
    trunk = drawn(session)
    branch = History().add(branched(session, trunk, 3, other_than(trunk.tokens[3]))).branch
    assert branch is not None and (branch.number, branch.step) == (None, 3)


def test_the_forms_without_a_browser_have_a_column_of_branches_only_where_there_is_one(
    session: Session,
) -> None:
    panel = RunPanel("ab")
    trunk = drawn(session)
    panel.add(trunk)
    assert "branch of" not in panel._repr_mimebundle_()[0]["text/html"]
    panel.add(branched(session, trunk, 3, other_than(trunk.tokens[3])))
    assert "branch of" in panel._repr_mimebundle_()[0]["text/html"]
    assert "run 1 at step 3: " in text_of(panel)
    assert panel.history[1]["branch"]["number"] == 1


def test_curves_go_along_the_steps_that_a_run_drew_itself(session: Session) -> None:
    trunk = drawn(session)
    figures = meters(trunk)
    assert len(figures["logprobs"]) == 8 and len(figures["speeds"]) == 7  # the first has none
    assert figures["logprobs"] == pytest.approx(trunk.logprob.tolist(), rel=1e-3)
    assert figures["logprob"] == pytest.approx(float(trunk.logprob.mean()), rel=1e-3)
    step = sum(
        int(time[1])
        for time in (trunk.decode_ns, trunk.sample_ns, trunk.constraint_ns, trunk.capture_ns)
    )
    assert figures["speeds"][0] == pytest.approx(1e9 / step, rel=1e-3)
    branch = branched(session, trunk, 3, other_than(trunk.tokens[3]))
    assert (
        len(meters(branch)["logprobs"]) == len(branch) - 4 == len(branch) - meters(branch)["copied"]
    )
    assert len(meters(drawn(session, n=100))["logprobs"]) == 32
    assert meters(drawn(session, n=1)[:0])["logprobs"] == []
