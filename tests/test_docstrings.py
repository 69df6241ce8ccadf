"""Docstrings that are put together: the same under any Python, and missed by nobody who has none.

From Python 3.13 on the compiler takes the indentation out; under -OO there are no docstrings.
"""

from __future__ import annotations

import inspect
import subprocess
import sys

import mullama_lab as ml
from mullama_lab.engine.session.request import _with_arguments

METHOD = """Do it.

        Raises:
            ValueError: no.
        """
REQUEST = """What is asked.

    Args:
        text: what it is.
    """
TOGETHER = "Do it.\n\nArgs:\n    text: what it is.\n\nRaises:\n    ValueError: no."


def test_the_arguments_of_a_request_stand_before_what_is_raised():
    assert _with_arguments(METHOD, REQUEST) == TOGETHER
    assert _with_arguments(inspect.cleandoc(METHOD), inspect.cleandoc(REQUEST)) == TOGETHER
    assert _with_arguments("", "") == ""
    said = inspect.getdoc(ml.Session.generate) or ""
    assert 0 < said.index("\nArgs:\n    prompt: ") < said.index("\nRaises:\n    ContextFull: ")


def test_everything_is_there_without_docstrings(tiny_path):
    code = f"""
import mullama_lab as ml
from mullama_lab import plots, studies, widgets
trace = ml.Model.load({str(tiny_path)!r}).session().generate("a", ml.TopK(3), max_tokens=3, seed=1)
assert len(trace.to_pandas()) == 3 and ml.Session.generate.__doc__ == ""
bench = ml.Workbench(trace and ml.Model.load({str(tiny_path)!r}), panels=["samplers", "tree"])
bench.run(), bench.close()
"""
    done = subprocess.run([sys.executable, "-OO", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
