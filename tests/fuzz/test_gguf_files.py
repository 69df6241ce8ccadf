"""No model file, however damaged or made to harm, ends the process that loads it.

Each case is opened by a process without the probe first, which is quick. Where that ends or does
not come back, another opens the same file as a kernel does, with the probe: that one must live and
refuse it. Some of the others go there too, to see that the probe refuses no file that works.
"""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest
from file_opener import Opener
from gguf_mutations import cases, mutated, parsed, write

PROBED = 50  # one of so many survivors is opened with the probe too


@pytest.fixture
def openers():
    """A process that opens files without the probe, and one with it."""
    worker = "gguf_worker.py"
    both = Opener(worker, probe=False), Opener(worker, patience=3, probe=True)
    yield both
    for opener in both:
        opener.close()


def kind_of(said: str) -> str:
    """A word or two for an answer."""
    if said.startswith("refused"):
        return (
            "the probe refused" if "ended on this file" in said else "a rule or llama.cpp refused"
        )
    return "loaded and worked" if said.startswith("loaded") else said.split()[0]


def test_no_mutated_model_file_ends_the_process_that_loads_it(
    attack, openers, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("MULLAMA_LAB_CACHE", str(tmp_path / "cache"))
    bare, kernel = openers
    counts: Counter[str] = Counter()

    @cache
    def source(architecture, vocabulary, sizes):
        path = tmp_path / "source.gguf"
        return parsed(write(path, architecture, vocabulary, dict(sizes)))

    def content(case):
        names, sizes, edits = case
        return mutated(source(*names, tuple(sizes.items())), edits)

    def attempt(case):
        path = tmp_path / "case.gguf"
        path.write_bytes(content(case))
        said = bare.open(path)
        counts["cases"] += 1
        counts[f"without the probe: {kind_of(said)}"] += 1
        assert not said.startswith("raw"), said
        survived = not said.startswith(("ended", "hung"))
        if survived and counts["cases"] % PROBED:
            return
        tried = kernel.open(path)
        counts[f"with it: {kind_of(tried)}"] += 1
        assert not tried.startswith(("ended", "hung", "raw")), tried
        if survived:
            assert "ended on this file" not in tried, f"the probe refused what works: {tried}"

    try:
        attack(cases, attempt, few=100, written=content)
    finally:
        with capsys.disabled():
            print("".join(f"\n  {n} {what}" for what, n in sorted(counts.items())))
