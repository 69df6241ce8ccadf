"""The names of arguments, as a notebook completes them."""

from __future__ import annotations

import inspect

import pytest

from mullama_lab.engine.model import Model
from mullama_lab.engine.session import Session

NAMES = "prompt chain grammar max_tokens seed stop top sequence"
OPENING = "n_ctx n_batch n_ubatch n_threads n_seq_max flash_attention kv_type kv_unified"


@pytest.mark.parametrize(
    ("method", "names"),
    [
        (Session.generate, NAMES),
        (Session.start, NAMES),
        (Session.stream, NAMES),
        (Model.session, f"{OPENING} reproducible"),
    ],
)
def test_arguments_have_their_names(method, names):
    assert list(inspect.signature(method).parameters) == ["self", *names.split()]
