"""What a Memory is made of, as parts of three wholes: plain values that a page can draw."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mullama_lab.counted import counted, size_in_words
from mullama_lab.engine.memory import Buffers, Memory, ProcessMemory
from mullama_lab.engine.memory.buffers import KINDS

MOST = 6  # sequences with a part of their own; the others are one part
HUES = 8  # as many as shared/hues.css has
KIND_HUES = dict(zip(KINDS, range(len(KINDS)), strict=True))


def wholes_of(memory: Memory) -> list[dict[str, Any]]:
    """The buffers, the cache and the process.

    Each has `title`, `total` (bytes; None where the system does not tell), `words` of that, a
    `note` and `parts`: `label`, `bytes`, `words`, and what it looks like: the number of a hue,
    "shared", "others" or "free".
    """
    return [buffers_of(memory), _cache(memory), _process(memory.process)]


def buffers_of(memory: Buffers) -> dict[str, Any]:
    """What llama.cpp allocated, by kind, and by device where there are several."""
    sums: dict[tuple[str, str], int] = {}
    for buffer in memory.buffers:
        key = buffer.kind, buffer.device
        sums[key] = sums.get(key, 0) + buffer.size_bytes
    devices = memory.by_device
    where = len(devices) > 1
    parts = [
        _part(f"{KINDS[kind]} on {device}" if where else KINDS[kind], size, KIND_HUES[kind])
        for (kind, device), size in sums.items()
    ]
    note = "" if where else f"all on {next(iter(devices), 'no device')}"
    return _whole("Buffers", memory.total_bytes, parts, note)


def _cache(memory: Memory) -> dict[str, Any]:
    """Who holds which part of the cache; what several sequences hold is one part."""
    total = memory.kv_bytes + memory.state_bytes
    sequences = sorted(memory.sequences.items(), key=lambda one: (-one[1], one[0]))
    own = dict(sorted(sequences[:MOST]))
    hues = _hues(own)
    parts = [_part(f"sequence {number}", size, hues[number]) for number, size in own.items()]
    if others := sequences[MOST:]:
        size = sum(size for _, size in others)
        parts.append(_part(counted(len(others), "more sequence"), size, "others"))
    if memory.shared_bytes:
        parts.insert(0, _part("shared", memory.shared_bytes, "shared"))
    parts.append(_part("free", max(0, total - memory.used_bytes), "free"))
    note = "what several sequences share is counted once" if memory.shared_bytes else ""
    return _whole("Cache" if memory.state_bytes else "KV cache", total, parts, note)


def _hues(numbers: Iterable[int]) -> dict[int, int]:
    """A hue for each of at most `HUES` sequences: that of its number, or the next that is free."""
    taken: dict[int, int] = {}
    for number in numbers:
        hues = ((number + k) % HUES for k in range(HUES))
        taken[number] = next(hue for hue in hues if hue not in taken.values())
    return taken


def _process(process: ProcessMemory) -> dict[str, Any]:
    """What is in memory now of the most there was, and how much of that is the model's file."""
    title, resident, mapped = "Process", process.resident_bytes, process.mapped_resident_bytes
    if resident is None:
        return _whole(title, None, [], "the system does not tell")
    in_file = min(mapped or 0, resident)
    parts = [_part("model file", in_file, 0)] if in_file else []
    parts.append(_part("all else", resident - in_file, 6))
    peak = process.peak_bytes
    if peak is None:
        return _whole(title, resident, parts, "how much it was at most is not known")
    parts.append(_part("more at peak", max(0, peak - resident), "free"))
    note = (
        f"{size_in_words(resident)} in memory now, of {size_in_words(max(peak, resident))} at most"
    )
    unread = (process.mapped_bytes or 0) - (mapped or 0)
    if unread > 0:
        note += f"; {size_in_words(unread)} of the file is read when it is used"
    return _whole(title, max(peak, resident), parts, note)


def _part(label: str, size: int, look: int | str) -> dict[str, Any]:
    return {"label": label, "bytes": size, "words": size_in_words(size), "look": look}


def _whole(
    title: str, total: int | None, parts: Iterable[dict[str, Any]], note: str
) -> dict[str, Any]:
    words = "n/a" if total is None else size_in_words(total)
    return {"title": title, "total": total, "words": words, "parts": list(parts), "note": note}
