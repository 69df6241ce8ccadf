"""Python's documentation as texts to search, the same on every Python that is supported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mullama_lab.studies.standard_library import documentation

DATA = Path(__file__).parents[2] / "notebooks" / "data" / "stdlib_questions.json"


def test_a_text_is_the_name_and_what_pydoc_says():
    found = documentation(["textwrap"])
    assert found["textwrap.dedent"].startswith("textwrap.dedent: Remove any common leading")
    assert set(found) >= {"textwrap.dedent", "textwrap.fill", "textwrap.indent"}


def test_long_texts_are_cut_and_errors_and_repeats_left_out():
    found = documentation(["shutil", "os.path", "posixpath"], characters=100)
    assert all(len(text) <= 100 + len(name) + 2 for name, text in found.items())
    assert not [name for name in found if name.endswith("Error")]
    assert "posixpath.join" not in found and "os.path.join" in found


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="characters=3"):
        documentation(["textwrap"], characters=3)
    with pytest.raises(ModuleNotFoundError):
        documentation(["no_such_module"])


def test_every_question_of_the_notebook_has_its_answers_in_the_documentation():
    data = json.loads(DATA.read_text(encoding="utf-8"))
    found = documentation(data["modules"])
    assert len(data["questions"]) >= 20
    assert 200 < len(found) < 500
    for question in data["questions"]:
        missing = [name for name in question["answers"] if name not in found]
        assert question["answers"] and not missing, (question["question"], missing)
