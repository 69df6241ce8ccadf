"""The table of a benchmark, as llama-bench writes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mullama_lab.glyphs import visible
from mullama_lab.studies.bench.row import BenchRow

# llama-bench's table: a column for what is not as it is by default, or differs among the rows.
_USUAL = {"n_batch": 2048, "n_ubatch": 512, "type_k": "f16", "type_v": "f16"}
_USUAL |= {"flash_attention": "auto", "load_mode": "mmap", "n_sequences": 1}
_USUAL |= {"split_mode": "layer", "main_gpu": 0}
_USUAL |= {"tensor_split": "0.00", "tensor_buft_overrides": "none"}
_HEADS = {"n_threads": "threads", "flash_attention": "fa", "load_mode": "lm"}
_HEADS |= {"n_gpu_layers": "ngl", "n_sequences": "n_seq"}
_HEADS |= {"split_mode": "sm", "main_gpu": "mg", "tensor_split": "ts"}
_HEADS |= {"tensor_buft_overrides": "ot"}
_BEFORE = ("n_threads", "n_batch", "n_ubatch", "type_k", "type_v")
_BEFORE += ("split_mode", "main_gpu", "flash_attention", "tensor_split", "tensor_buft_overrides")
_BEFORE += ("load_mode",)


def table(rows: Sequence[BenchRow], backends: str) -> list[str]:
    """Its lines in markdown, with the median and the range of the repeats as a last column."""
    columns: list[tuple[str, bool, Callable[[BenchRow], str]]] = [
        ("model", False, lambda row: visible(row.model_type)),
        ("size", True, lambda row: _size(row.model_size)),
        ("params", True, lambda row: _params(row.model_n_params)),
        ("backend", False, lambda _: backends),
    ]
    if any(row.n_gpu_layers for row in rows):
        columns.append(("ngl", True, lambda row: str(row.n_gpu_layers)))
    for name in (*_BEFORE, "n_sequences"):
        if any(getattr(row, name) != _USUAL.get(name) for row in rows):
            columns.append((_HEADS.get(name, name), True, _getter(name)))
    columns += [
        ("test", True, lambda row: row.test),
        ("t/s", True, lambda row: f"{row.avg_ts:.2f} ± {row.stddev_ts:.2f}"),
        ("median (range)", True, _range),
    ]
    cells = [[tell(row) for _, _, tell in columns] for row in rows]
    widths = [
        max(len(head), *(len(line[i]) for line in cells), 3)
        for i, (head, _, _) in enumerate(columns)
    ]
    sides = [right for _, right, _ in columns]
    rule = [("-" * (n - 1)) + (":" if right else "-") for n, right in zip(widths, sides)]
    lines = [[head for head, _, _ in columns], rule, *cells]
    return [_line(line, widths, sides) for line in lines]


def _getter(name: str) -> Callable[[BenchRow], str]:
    return lambda row: visible(str(getattr(row, name))).replace("|", "\\|")  # it ends a cell


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = [
        cell.rjust(width) if to_right else cell.ljust(width)
        for cell, width, to_right in zip(cells, widths, right)
    ]
    return f"| {' | '.join(padded)} |"


def _range(row: BenchRow) -> str:
    return f"{row.median_ts:.2f} ({min(row.samples_ts):.2f} to {max(row.samples_ts):.2f})"


def _size(n_bytes: int) -> str:
    """As llama-bench writes it.

    >>> _size(98 << 20), _size(3 << 30)
    ('98.00 MiB', '3.00 GiB')
    """
    return f"{n_bytes / 2**20:.2f} MiB" if n_bytes < 2**30 else f"{n_bytes / 2**30:.2f} GiB"


def _params(n: int) -> str:
    return f"{n / 1e6:.2f} M" if n < 1e9 else f"{n / 1e9:.2f} B"
