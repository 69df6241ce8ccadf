"""The files that a model's weights are in, watched as long as llama.cpp reads them.

With `mmap=True` the weights are not in memory but in the file, and come from there page by page.
A page that the file lost ends the process (SIGBUS), which Python cannot catch; one that was
written to has other weights. So the disk is asked before a decode, at most once in `INTERVAL`:
that is 2 microseconds for each file. What is cut short within that time, or in the middle of a
decode, still ends the process.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from time import perf_counter_ns

from mullama_lab.errors import ModelFileError
from mullama_lab.files.stamp import FileStamp, WatchedFile

INTERVAL = 10_000_000  # nanoseconds that an answer of the disk is taken for true


class WeightFiles:
    """The files of one model, as they were when it was loaded.

    Args:
        paths: of all its parts.
        mapped: whether llama.cpp reads them while it works.

    Raises:
        ModelFileError: one of them is gone.
    """

    def __init__(self, paths: Iterable[Path], *, mapped: bool) -> None:
        self._mapped = mapped
        self._ask_at = 0
        self._files: list[WatchedFile] = []
        try:
            self._files.extend(map(WatchedFile, paths))
        except OSError as error:
            self.close()
            raise ModelFileError(f"{error.filename} cannot be read: {error.strerror}.") from error

    @property
    def stamps(self) -> tuple[FileStamp, ...]:
        """What the disk said of each file when the model was loaded."""
        return tuple(file.stamp for file in self._files)

    @property
    def paths(self) -> tuple[Path, ...]:
        """Where they were when the model was loaded."""
        return tuple(file.path for file in self._files)

    def must_be_whole(self) -> None:
        """Refuse to decode with weights that are no longer those that were loaded.

        Raises:
            ModelFileError: a file was cut short or written to.
        """
        now = perf_counter_ns()
        if not self._mapped or now < self._ask_at:
            return
        for file in self._files:
            if change := file.change():
                raise ModelFileError(
                    f"{file.path} {change} while a model was open that reads its weights from "
                    "it. Close the model and load it again from a whole file; "
                    "Model.load(..., mmap=False) keeps the weights in memory instead."
                )
        self._ask_at = now + INTERVAL

    def must_be_on_disk(self) -> None:
        """Refuse to take what is on the disk for what was loaded.

        Raises:
            ModelFileError: a file was moved, replaced, cut short or written to.
        """
        for file in self._files:
            if change := file.change_at_path():
                raise ModelFileError(
                    f"{file.path} {change} since the model was loaded, so it cannot be told "
                    "which model this is. Put the file back, or load the model again."
                )

    def close(self) -> None:
        """Let go of the files."""
        for file in self._files:
            file.close()
        self._files = []
