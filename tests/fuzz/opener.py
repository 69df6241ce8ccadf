"""Opens altered saves, one a line of JSON on the standard input; says what came of each.

A case is {"kind": "session", "edits": [[what, where, how], ...]}: whole numbers, taken modulo what
there is. A save with edits of its content gets a right checksum again.
What opens is put to use. The answer is one line: "fine", "refused", or "wrong" and a traceback.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import sys
import traceback
from pathlib import Path
from types import SimpleNamespace

import numpy as np

import mullama_lab as ml
from mullama_lab.engine import sealed_file, tiny
from mullama_lab.engine.index import MultiVectorIndex
from mullama_lab.engine.multivector import MultiVector
from mullama_lab.errors import IndexFileError, MullamaError, RetrievalError, SessionFileError

NASTY = [
    *(None, True, -1, 0, 1, 7, 2**31 - 1, 2**31, 2**63 - 1, -(2**63), 2**64, 10**30, 1e308, -0.5),
    *(float("nan"), float("inf"), "", "x", "7", "\0", "\ud800", "ff", "zz", "a" * 5000, [], {}),
    *([[]], [None], [-1], [2**63], {"0": 1}, [[1, 2], [3]], [0.5] * 9, {"stage": "TopK", "k": -1}),
]
FOLDER = Path(sys.argv[1])
os.fsync = lambda handle: None  # the disk is not what is tested


def places(value, path=()):
    """Every place in a JSON value."""
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*path, key))
    elif isinstance(value, list):
        for i in range(min(len(value), 4)):
            yield from places(value[i], (*path, i))


def altered(value, where, how):
    """A JSON value with one place of it replaced by something nasty, taken out, or doubled."""
    value = copy.deepcopy(value)
    every = list(places(value))[1:] or [()]
    *inner, last = every[where % len(every)] or (None,)
    owner = value
    for key in inner:
        owner = owner[key]
    if last is None:
        return NASTY[how % len(NASTY)]
    choice = how % (len(NASTY) + 3)
    if choice < len(NASTY):
        owner[last] = NASTY[choice]
    elif choice == len(NASTY):
        del owner[last]
    elif isinstance(owner[last], list):
        owner[last] = owner[last] * 2 if choice > len(NASTY) + 1 else owner[last][:-1]
    elif isinstance(owner[last], (int, float)):
        owner[last] += 1 if choice > len(NASTY) + 1 else -1
    return value


def altered_bytes(data, where, how):
    """Bytes with a few of them altered, cut off, added or moved."""
    data = bytearray(data)
    at, what, value = where % (len(data) + 1), how % 6, how // 6
    if what == 0:
        del data[at:]
    elif what == 1:
        data[at:at] = bytes([value % 256]) * (value % 9)
    elif what == 2 and data:
        data[at % len(data)] ^= 1 + value % 255
    elif what == 3:
        data[at : at + 4] = (value % 2**32).to_bytes(4, "little")
    elif what == 4:
        data[at : at + 8] = ((value * 2**31) % 2**64).to_bytes(8, "little")
    else:
        data[at : at + 8] = (2**63 - 1 - value % 3).to_bytes(8, "little")
    return bytes(data)


def altered_array(array, where, how):
    """An array with other bytes, another type or another shape."""
    if how % 4:
        data = altered_bytes(array.tobytes(), where, how // 4)
        size = array.dtype.itemsize
        return np.frombuffer(data[: len(data) // size * size], array.dtype)
    kinds = ("<i8", "<f4", "<i4", "<f2", "i1", "u1", "<f8", "?")
    if where % 2:
        return array.astype(kinds[how // 4 % len(kinds)])
    return array.reshape(-1)[None] if how // 4 % 2 else array.reshape(-1)[:0]


class Sessions:
    """A saved session with a trace and a tree, of the same model each time."""

    def __init__(self, architecture):
        path = tiny.write(FOLDER / f"{architecture}.gguf", architecture=architecture)
        self.model = ml.Model.load(path)
        self.path = FOLDER / f"session of {architecture}"
        with self.model.session(n_ctx=96, n_threads=1, n_seq_max=3) as session:
            chain = ml.TopK(9) | ml.Temperature(1.5)
            traces = [session.generate("abc", chain, max_tokens=5, seed=s, top=4) for s in (1, 2)]
            session.fork(n_tokens=4)
            self.tree, self.trace = ml.Tree(traces), traces[0]
            session.save(self.path, self.tree)
        self.whole = self.path.read_bytes()
        self.arrays, self.about = sealed_file.read(self.path)
        self.plain = {n: json.loads(self.arrays[n].tobytes()) for n in ("trace", "tree")}

    def raw(self, edits):
        data = self.whole
        for _, where, how in edits:
            data = altered_bytes(data, where, how)
        self.path.write_bytes(data)
        try:
            self.use()
        except SessionFileError:
            return "refused"
        assert data == self.whole, "other bytes were taken for what was saved"
        return "fine"

    def contents(self, edits):
        arrays, about, plain = dict(self.arrays), self.about, dict(self.plain)
        for what, where, how in edits:
            names = sorted(arrays)
            name = names[what // 3 % len(names)]
            if what % 3 == 0:
                about = altered(about, where, how)
            elif name in plain and what % 3 == 1:
                plain[name] = altered(plain[name], where, how)
                text = json.dumps(plain[name]).encode("utf-8", "surrogatepass")
                arrays[name] = np.frombuffer(text, np.uint8)
            else:
                arrays[name] = altered_array(arrays[name], where, how)
        sealed_file.write(self.path, arrays, about)
        try:
            return self.use()
        except SessionFileError:
            return "refused"

    def use(self):
        with ml.Session.load(self.path, self.model, n_threads=1) as session:
            trace, tree = session.last_trace, session.tree
            for attempt in (
                lambda: session.logits("abcd"),
                lambda: session.rewind(2),
                lambda: session.generate("ab", max_tokens=3, seed=1),
                lambda: [used_trace(t) for t in (trace,) if t is not None],
                lambda: used_tree(tree) if tree is not None else None,
                lambda: session.save(FOLDER / "again"),
            ):
                try:
                    attempt()
                except MullamaError as error:
                    assert not isinstance(error, SessionFileError)
        return "fine"


def used_trace(trace):
    repr(trace), str(trace.text), list(trace), trace.to_dict(), trace.chains, trace.pieces
    len(trace) and (trace.to_pandas(), trace[len(trace) - 1], trace.chain_at(0))


def used_tree(tree):
    repr(tree), tree.to_dict(), [repr(x) for x in (*tree.branches, *tree.nodes)]
    [used_trace(branch.trace) for branch in tree.branches]


class Indexes:
    """A saved index, opened by an encoder that is none: nothing is encoded."""

    def __init__(self):
        self.encoder = SimpleNamespace(dim=8, fingerprint="by hand", name="by hand")
        self.path = FOLDER / "index"
        self.query = self.vectors(3, "query", 5)
        self.wholes = []
        for storage in ("float32", "int8"):
            index = MultiVectorIndex(self.encoder, storage=storage)
            index.add([self.vectors(i) for i in (3, 0, 4)], ["a", 5, "é"], progress=False)
            index.save(self.path, progress=False)
            self.wholes.append(self.path.read_bytes())

    def vectors(self, n, kind="document", seed=1):
        numbers = np.random.default_rng(seed).standard_normal((n, 8)).astype(np.float32)
        pieces = tuple(b"%d" % i for i in range(n))
        return MultiVector(numbers, np.arange(n), pieces, np.array([(-1, -1)] * n), "text", kind)

    def raw(self, edits):
        data = whole = self.wholes[len(edits) % 2]
        for _, where, how in edits:
            data = altered_bytes(data, where, how)
        self.path.write_bytes(data)
        try:
            self.use(verify=True)
        except RetrievalError:
            return "refused"
        assert data == whole, "other bytes were taken for what was saved"
        return "fine"

    def contents(self, edits):
        data = self.wholes[len(edits) % 2]
        length = int.from_bytes(data[:8], "little")
        entries, rest = json.loads(data[8 : 8 + length]), data[8 + length :]
        for what, where, how in edits:
            if what % 2:
                entries = altered(entries, where, how)
            else:
                rest = altered_bytes(rest, where, how)
        if isinstance(entries, dict) and isinstance(entries.get("__metadata__"), dict):
            entries["__metadata__"]["digest"] = "0" * 64
        text = json.dumps(entries, separators=(",", ":")).encode("utf-8", "surrogatepass")
        text += b" " * (-len(text) % 8)
        blank = len(text).to_bytes(8, "little") + text + rest
        digest = hashlib.sha256(blank).hexdigest().encode()
        blank = blank.replace(b'"digest":"' + b"0" * 64, b'"digest":"' + digest, 1)
        self.path.write_bytes(blank)
        try:
            return self.use(verify=True)
        except RetrievalError:
            return "refused"

    def search(self, index):
        try:
            assert len(index.search(self.query, 9)) == min(9, len(index))
        except ValueError as error:  # of numbers that are numbers
            assert "float32 can hold" in str(error), error

    def use(self, verify):
        index = MultiVectorIndex.open(self.path, self.encoder, verify=verify)
        attempts = [
            lambda: (repr(index), len(index), index.ids, index.n_tokens, index.size_bytes),
            lambda: self.search(index),
            *(lambda name=name: index.get(name) for name in index.ids),
            *(lambda name=name: index.vectors(name) for name in index.ids),
            lambda: index.add([self.vectors(2)], progress=False),
            lambda: index.save(FOLDER / "again", progress=False),
            lambda: index.remove(index.ids[:1]),
        ]
        for attempt in attempts:
            try:
                attempt()
            except RetrievalError as error:
                assert isinstance(error, IndexFileError), error
        return "fine"


def plain(thing, kind, use):
    """What the dict of a trace or a tree comes to when it is altered."""

    def run(edits):
        data = thing.to_dict()
        for _, where, how in edits:
            data = altered(data, where, how)
        data = json.loads(json.dumps(data))
        try:
            made = kind.from_dict(data)
        except ValueError:
            return "refused"
        use(made)
        return "fine"

    return run


def main():
    sessions, gemma3, jamba = map(Sessions, ("llama", "gemma3", "jamba"))
    indexes = Indexes()
    ways = {
        "session bytes": sessions.raw,
        "session": sessions.contents,
        "session of gemma3": gemma3.contents,
        "session of jamba": jamba.contents,
        "index bytes": indexes.raw,
        "index": indexes.contents,
        "trace": plain(sessions.trace, ml.Trace, used_trace),
        "tree": plain(sessions.tree, ml.Tree, used_tree),
    }
    print("ready", flush=True)
    for line in sys.stdin:
        case = json.loads(line)
        try:
            said = ways[case["kind"]](case["edits"])
        except Exception:
            said = f"wrong {traceback.format_exc()}".replace("\n", "\\n")
        print(said, flush=True)


main()
