"""A context has room for as many tokens as were asked for, though llama.cpp rounds up."""

from __future__ import annotations

import json

import pytest

from mullama_lab.engine import sealed_file, tiny
from mullama_lab.engine.model import Model
from mullama_lab.engine.session import Session
from mullama_lab.engine.stages import Chain, Mask
from mullama_lab.errors import ContextFull, SessionFileError

NO_END = Chain([Mask(ban=[2])])


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "mamba"])
def test_the_limit_is_what_was_asked_for(architecture, tmp_path):
    with Model.load(tiny.write(tmp_path / "t.gguf", architecture=architecture)) as model:
        for n_ctx in (1, 2, 7, 100, 257):
            with model.session(n_ctx=n_ctx, n_threads=1) as session:
                assert session.n_ctx == session.settings["n_ctx"] == n_ctx
                trace = session.generate([5], NO_END, max_tokens=1000, seed=1)
                assert (len(trace), trace.finish_reason) == (n_ctx, "context")
                assert len(session.tokens) == n_ctx
                with pytest.raises(ContextFull, match=f"room for {n_ctx}"):
                    session.logits([5] * (n_ctx + 1))


def test_fewer_tokens_than_sequences_are_room_for_that_few(tiny_model):
    with tiny_model.session(n_ctx=3, n_seq_max=8, n_threads=1) as session:
        assert (session.n_ctx, session.n_seq_max) == (3, 8)
        traces = session.generate_many([[5]] * 8, NO_END, max_tokens=1000, seeds=range(8))
        assert [len(trace) for trace in traces] == [3] * 8
        branch = session.branch(traces[0], 0, 70, NO_END, max_tokens=1000)
        assert (len(branch), branch.finish_reason) == (3, "context")


def test_sequences_with_a_buffer_each_have_an_equal_part(tiny_model):
    with tiny_model.session(n_ctx=100, n_seq_max=3, kv_unified=False, n_threads=1) as session:
        assert session.n_ctx == 33
        traces = session.generate_many([[5], [6], [7]], NO_END, max_tokens=1000, seeds=1)
        assert [len(trace) for trace in traces] == [33] * 3
    with pytest.raises(ValueError, match=r"n_ctx=2: .* n_seq_max=3 .* would be none.*larger n_ctx"):
        tiny_model.session(n_ctx=2, n_seq_max=3, kv_unified=False)


def test_a_file_with_more_tokens_than_its_context_is_refused(tiny_model, tmp_path):
    path = tmp_path / "s"
    with tiny_model.session(n_ctx=100, n_threads=1) as session:
        session.logits([5] * 90)
        session.save(path)
    with Session.load(path, tiny_model) as session:
        assert session.n_ctx == 100
    arrays, about = sealed_file.read(path)
    about = json.loads(json.dumps(about))
    about["settings"]["n_ctx"] = 89
    sealed_file.write(path, arrays, about)
    with pytest.raises(SessionFileError, match="more tokens than fit in its n_ctx=89"):
        Session.load(path, tiny_model)
