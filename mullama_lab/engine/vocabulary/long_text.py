"""Room for llama.cpp to take long text apart.

Before byte-pair encoding, llama.cpp splits text with regular expressions. For many vocabularies
it runs them with the C++ library's, which calls itself once for each character of a match: a
long run of letters, signs or spaces overflows an ordinary stack and ends the process. Text with
such a run is tokenized on a thread with a stack that is large enough.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import TypeVar

from mullama_lab.engine.leaving import usable_in_forks

Result = TypeVar("Result")

SHORT = 4000  # characters of one run that any stack has room for
LONGEST = 1_000_000
_STACK_PER_CHARACTER = 1024  # three times what was measured with libstdc++ on x86-64
_BASE_STACK = 16 << 20

# No expression of llama.cpp matches across the place where a word begins after a space ...
_WORD_BEGINS = re.compile(r"(?<=\s)(?=\w)")
_CROSSES_SPACES = {"exaone-moe"}  # ... but those of these pre-tokenizers

_one_at_a_time = usable_in_forks(threading.Lock())


def longest_run(text: str, pre_tokenizer: object) -> int:
    """An upper bound of how many characters one match can have."""
    if len(text) <= SHORT or pre_tokenizer in _CROSSES_SPACES:
        return len(text)
    return max(map(len, _WORD_BEGINS.split(text)))


def with_room(run: int, function: Callable[[], Result]) -> Result:
    """Call `function`, which meets a run of this many characters.

    Raises:
        ValueError: the run is longer than there can be room for.
    """
    if run <= SHORT:
        return function()
    if run > LONGEST:
        raise ValueError(
            f"the text has a run of {run} characters without a word that follows a space; "
            f"the longest that can be tokenized is {LONGEST}. Tokenize it in parts."
        )
    results: list[Result] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(function())
        except BaseException as error:
            errors.append(error)

    with _one_at_a_time:  # the size is a setting of the whole process
        before = threading.stack_size(_BASE_STACK + run * _STACK_PER_CHARACTER)
        try:
            thread = threading.Thread(target=work, name="mullama-lab-tokenizer", daemon=True)
            thread.start()
        finally:
            threading.stack_size(before)
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
