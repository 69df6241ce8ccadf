"""The table of steps: one line declares a column, one value fills it, whole steps come out."""

from __future__ import annotations

import ast
import dataclasses
import json
import pickle
import threading
from pathlib import Path

import numpy as np
import pytest

import mullama_lab
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.trace.columns import COLUMNS, NARROW, WIDE
from mullama_lab.engine.trace.record import StepRecord
from mullama_lab.engine.trace.step_table import ROOM, StepTable

ENGINE = Path(mullama_lab.__file__).parent / "engine"
MODULES = [path for folder in ("trace", "tree") for path in (ENGINE / folder).glob("*.py")]


def record(token: int, top: int = 2, **changes) -> StepRecord:
    ids, logprobs = np.arange(top, dtype=np.int32), np.linspace(-1, -2, top, dtype=np.float32)
    row = np.arange(3, dtype=np.int32), np.ones(3, np.float32)
    given = StepRecord(
        token, b"x", b"x", -1.0, -0.5, 1, 2.0, 3.0, ids, logprobs, ids, logprobs, row
    )
    return dataclasses.replace(given, **changes)


def table(n: int, top: int = 2) -> StepTable:
    steps = StepTable(top)
    for token in range(n):
        steps.append(record(token, top))
    return steps


def test_every_column_is_a_documented_property_and_a_field_of_the_record():
    fields = {field.name for field in dataclasses.fields(StepRecord)}
    assert {*NARROW, *WIDE} == set(COLUMNS) <= fields
    assert len({column.__doc__ for column in COLUMNS.values()}) == len(COLUMNS)
    for name, column in COLUMNS.items():
        assert getattr(Trace, name) is column and name in dir(Trace)
        shape = "(n, top)" if name in WIDE else "(n,)"
        assert column.__doc__.endswith(f". {np.dtype(column.kind)}, shape {shape}.")


def test_a_step_holds_what_its_record_says():
    steps = StepTable(2)
    said = {
        name: True if COLUMNS[name].kind is np.bool_ else 7 + i for i, name in enumerate(NARROW)
    }
    steps.append(record(**said, state=((1.5,),), n_kept=(9, 4)))
    assert steps.values(0, NARROW) == said
    assert steps.state(0) == ((1.5,),) and steps.n_kept_at(0) == (9, 4)
    assert steps.column("after_ids").tolist() == [[0, 1]]


def test_it_grows_by_doubling_and_keeps_what_it_has():
    n = 4 * ROOM + 1
    steps = table(n)
    assert len(steps) == n and steps.column("token").tolist() == list(range(n))
    assert steps.column("top_ids").shape == (n, 2)
    assert not steps.column("token").flags.writeable


def test_a_part_can_grow_and_leaves_the_whole_as_it_was():
    steps = table(5)
    for part in (steps.sliced(1, 4), steps.sliced(2, 2), steps.begun(3, top=2)):
        n = len(part)
        part.append(record(99))
        assert part.column("token").tolist()[n:] == [99] and len(part) == n + 1
    assert steps.column("token").tolist() == [0, 1, 2, 3, 4] and len(steps.pieces) == 5


def test_a_list_of_candidates_that_is_too_long_or_too_short_fits():
    steps = StepTable(3)
    steps.append(record(0, top=5))
    steps.append(record(1, top=1))
    assert steps.column("top_ids").tolist() == [[0, 1, 2], [0, -1, -1]]
    assert steps.column("after_logprobs")[1].tolist() == [-1.0, -np.inf, -np.inf]


def test_who_reads_while_it_grows_sees_whole_steps_only():
    steps, wrong = StepTable(2), []

    def read():
        n = 0
        while n < 3000:
            n = len(steps)
            part = steps.sliced(0, n)
            tokens = part.column("token").tolist()
            alike = [part.column(name).tolist() for name in ("rank", "decode_ns")]
            if not (len(part.pieces) == n and tokens == list(range(n)) == alike[0] == alike[1]):
                wrong.append(n)
            if n and part.piece(n - 1) != b"%d" % (n - 1):
                wrong.append(n)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for i in range(3000):
        steps.append(record(i, rank=i, decode_ns=i, piece=b"%d" % i))
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_pickle_made_while_a_step_is_written_holds_the_steps_before_it():
    steps, pickles, given = table(3), [], record(3)

    class Halfway:
        def __getattr__(self, name):
            if name == "n_kept":  # read after the arrays and the pieces were written
                pickles.append(pickle.dumps(steps))
            return getattr(given, name)

    steps.append(Halfway())
    copy = pickle.loads(pickles[0])
    copy.append(record(9, piece=b"next"))
    assert copy.column("token").tolist() == [0, 1, 2, 9]
    assert copy.pieces == [b"x", b"x", b"x", b"next"] and copy.texts.joined(4) == b"xxxx"


def test_what_is_kept_cannot_be_written_to_after_a_pickle_either():
    steps = pickle.loads(pickle.dumps(table(3)))
    again = pickle.loads(pickle.dumps(Trace(prompt_tokens=[1, 2])))
    for array in (*steps.row(2), steps.column("token"), again.prompt_tokens):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 5
    steps.append(record(7))
    assert len(steps) == 4 and again == Trace(prompt_tokens=[1, 2])


@pytest.mark.parametrize("name", [name for name, c in COLUMNS.items() if c.absent is not None])
def test_a_column_is_filled_in_where_a_file_is_older_than_it(name):
    plain = json.loads(json.dumps(table(3).packed()))
    del plain["columns"][name]
    read = StepTable.unpacked(plain, 2)
    assert read.column(name).tolist() == [COLUMNS[name].absent] * 3
    assert read.column("token").tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "path", [*(ENGINE / "trace").glob("*.py"), *(ENGINE / "tree").glob("*.py")]
)
def test_no_module_of_traces_and_trees_uses_the_insides_of_another(path):
    """What a private attribute is called is written in the module that uses it."""
    tree = ast.parse(path.read_text())
    own = {
        node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))
    }
    used = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            if isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
                own.add(node.attr)
            used[node.attr] = ast.unparse(node)
    assert not [shown for name, shown in used.items() if name not in own and name[1] != "_"]
