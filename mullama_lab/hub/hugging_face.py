"""A file on the Hugging Face Hub, through huggingface_hub and its own cache."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from mullama_lab.errors import HubError, ModelNotFound, Offline
from mullama_lab.hub.arriving import Arrived, bar_class

_SPLIT = re.compile(r"^(?P<stem>.*)-(?P<part>\d{5})-of-(?P<count>\d{5})\.gguf$")
_LONGEST = 255  # bytes of a name, in the file systems that the cache lives in


def from_hugging_face(address: str, *, progress: bool | Arrived) -> Path:
    """The local copy of "hf:owner/repo/file.gguf"; of a split file, every part is fetched."""
    match = re.fullmatch(r"hf:([^/\s]+/[^/\s]+)/(\S+)", address)
    if match is None or not all(map(_is_name, address.split("/"))):
        raise ModelNotFound(
            f"{address!r:.300} is no address on the Hugging Face Hub. "
            "Write hf:owner/repo/file.gguf."
        )
    repo, file_name = match.groups()
    with _hugging_face_errors(address):
        import huggingface_hub
        from huggingface_hub.utils import are_progress_bars_disabled

        names = [file_name]
        if split := _SPLIT.match(file_name):  # llama.cpp needs every part on disk
            stem, part, count = split["stem"], int(split["part"]), int(split["count"])
            if not 1 <= part <= count:
                raise ModelNotFound(
                    f"{address!r:.300} names part {part} of {count}. Parts are counted from 1."
                )
            names = [f"{stem}-{i:05d}-of-{count:05d}.gguf" for i in range(1, count + 1)]
        is_hidden = progress is True and are_progress_bars_disabled()
        bars = bar_class(False if is_hidden else progress)
        download = huggingface_hub.hf_hub_download
        paths = [Path(download(repo, name, tqdm_class=bars)) for name in names]
    return paths[0]


def _is_name(name: str) -> bool:
    """Whether a file or folder can have it; the hub itself refuses some of the others."""
    if name in ("", ".", "..") or "\\" in name or not name.isprintable():
        return False
    return len(name.encode("utf-8", "surrogatepass")) <= _LONGEST


@contextlib.contextmanager
def _hugging_face_errors(address: str) -> Iterator[None]:
    from huggingface_hub import errors

    try:
        yield
    except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError) as error:
        raise Offline(
            f"{address} is not cached and the Hugging Face Hub does not answer. Connect and try "
            "again, or use a catalogue name or a path."
        ) from error
    except errors.GatedRepoError as error:
        raise HubError(
            f"{address} asks you to accept its terms first. Do so on its page at "
            "huggingface.co, run `hf auth login`, and try again."
        ) from error
    except (
        errors.RepositoryNotFoundError,
        errors.EntryNotFoundError,
        ValueError,  # HFValidationError, or a name that it refuses
    ) as error:
        raise ModelNotFound(
            f"the Hugging Face Hub has no {address}. Look up the repository's files and write "
            "hf:owner/repo/file.gguf; for a private one run `hf auth login`."
        ) from error
    except OSError as error:
        raise HubError(f"{address} could not be fetched: {error}. Try again.") from error
