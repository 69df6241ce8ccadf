"""How the attacks of this folder are run: many cases from one seed, the failing one made small.

A plain run tries a few cases, always the same. By hand it can be many, and then new ones:
`pytest tests/fuzz --cases 10000` prints its seed, and `--hypothesis-seed` repeats it. A case that
fails is shrunk by Hypothesis and written to `test-results/fuzz/`, under the name of its test.
"""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import seed as seeded

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "test-results" / "fuzz"
# Programs that the tests run in processes of their own; doctest would import them.
collect_ignore = [
    path.name for path in Path(__file__).parent.glob("*.py") if not path.name.startswith("test_")
]


@pytest.fixture(scope="session")
def fuzz_seed(pytestconfig) -> int:
    """The seed of all cases: 0 in a plain run, else what was asked for, or a new one."""
    asked = pytestconfig.getoption("hypothesis_seed")
    if asked is not None:
        return int(asked)
    return secrets.randbelow(1 << 31) if pytestconfig.getoption("cases") else 0


@pytest.fixture
def n_cases(pytestconfig):
    """A function: how many cases to try, if a plain run tries so few."""
    return lambda few: pytestconfig.getoption("cases") or few


@pytest.fixture
def attack(request, fuzz_seed, n_cases, capsys):
    """A function that tries cases of a Hypothesis strategy: `attack(strategy, attempt, few=50)`.

    `attempt(case)` raises where something is wrong; `written(case)` gives the bytes of a failing
    case, which is its repr otherwise.
    """

    def run(strategy, attempt, *, few, written=lambda case: repr(case).encode()):
        n = n_cases(few)
        with capsys.disabled():
            print(f"\n{request.node.name}: {n} cases, --hypothesis-seed={fuzz_seed}")

        @settings(
            max_examples=n,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @seeded(fuzz_seed)
        @given(strategy)
        def each(case):
            try:
                attempt(case)
            except BaseException:  # the last to fail is the smallest
                RESULTS.mkdir(parents=True, exist_ok=True)
                (RESULTS / request.node.name.replace("/", "_")).write_bytes(written(case))
                raise

        each()

    return run
