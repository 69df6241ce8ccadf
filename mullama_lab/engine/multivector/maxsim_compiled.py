"""MaxSim in one pass over the documents, compiled by numba on first use.

A matrix product would write every similarity to memory for another pass to read. Here a tile of
document tokens meets 16 query tokens in registers, and only the best of each query token leaves
them. A dot product is added up in the order of the dimensions whatever stands beside it, so that
a score does not depend on which documents are scored with it.

Needs numba; `maxsim` falls back on numpy without.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

LANES = 16  # query tokens that meet a document token at once
# Document tokens of a tile: what the registers hold beside two or one of query and document.
ROWS = 8 if binding.get_host_cpu_features().get("avx512f") else 4
LINE = 16  # float32 numbers of a cache line

FLOAT, INT32, INT64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
VECTOR = ir.VectorType(FLOAT, LANES)
BYTES = ir.IntType(8).as_pointer()


def queries(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Query vectors as the tiles read them: (groups, dim, LANES), zeros where a group is short.

    It starts at a cache line, so that no load crosses one.
    """
    n_tokens, dim = vectors.shape
    groups = -(-n_tokens // LANES)
    memory = np.zeros(groups * dim * LANES + LINE, np.float32)
    start = -memory.ctypes.data % 64 // 4
    laid = memory[start : start + groups * dim * LANES].reshape(groups, dim, LANES)
    for group in range(groups):
        part = vectors[group * LANES : (group + 1) * LANES]
        laid[group, :, : len(part)] = part.T
    return laid


def _tile(best_only: bool) -> Any:
    """An intrinsic: rows `first` to `first` + ROWS of a document against one group of the query.

    All but the rows are addresses of float32. `into` gets the best of each query token and what
    it held, or the similarities as (ROWS, LANES). Rows past `last` repeat that.
    """

    def typed(typingctx, document, first, last, dim, group, into):
        def code(context, builder, signature, arguments):
            products = _products(builder, *arguments[:5])
            target = builder.inttoptr(arguments[5], VECTOR.as_pointer())
            if best_only:
                held = builder.load(target, align=4)
                builder.store(_largest(builder, [*products, held]), target, align=4)
            else:
                for row, product in enumerate(products):
                    place = builder.gep(target, [ir.Constant(INT64, row)])
                    builder.store(product, place, align=4)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 6), code

    return intrinsic(typed)


def _products(
    builder: ir.IRBuilder, document: Any, first: Any, last: Any, dim: Any, group: Any
) -> list[Any]:
    """The loop over dimensions, one accumulator of LANES numbers a row."""
    multiply_add = _function(builder, "llvm.fmuladd", VECTOR, 3)
    base = builder.inttoptr(document, FLOAT.as_pointer())
    query = builder.inttoptr(group, VECTOR.as_pointer())
    rows = []
    for i in range(ROWS):
        row = builder.add(first, ir.Constant(INT64, i))
        row = builder.select(builder.icmp_signed("<", row, last), row, last)
        rows.append(builder.gep(base, [builder.mul(row, dim)]))
    before, loop, after = builder.block, *map(builder.append_basic_block, ("add", "added"))
    builder.branch(loop)
    builder.position_at_end(loop)
    k = builder.phi(INT64)
    k.add_incoming(ir.Constant(INT64, 0), before)
    sums = [builder.phi(VECTOR) for _ in rows]
    column = builder.load(builder.gep(query, [k]), align=64)
    products = []
    for row, total in zip(rows, sums):
        number = _everywhere(builder, builder.load(builder.gep(row, [k])))
        products.append(builder.call(multiply_add, [number, column, total]))
    for total, product in zip(sums, products):
        total.add_incoming(ir.Constant(VECTOR, [0.0] * LANES), before)
        total.add_incoming(product, loop)
    following = builder.add(k, ir.Constant(INT64, 1))
    k.add_incoming(following, loop)
    builder.cbranch(builder.icmp_signed("<", following, dim), loop, after)
    builder.position_at_end(after)
    return products


def _largest(builder: ir.IRBuilder, values: list[Any]) -> Any:
    larger = _function(builder, "llvm.maxnum", VECTOR, 2)
    while len(values) > 1:
        pairs = zip(values[::2], values[1::2])
        odd = values[len(values) // 2 * 2 :]
        values = [builder.call(larger, pair, fastmath=("nnan",)) for pair in pairs] + odd
    return values[0]


def _everywhere(builder: ir.IRBuilder, number: Any) -> Any:
    """A number in each lane."""
    nothing = ir.Constant(VECTOR, ir.Undefined)
    first = builder.insert_element(nothing, number, ir.Constant(INT32, 0))
    zeros = ir.Constant(ir.VectorType(INT32, LANES), [0] * LANES)
    return builder.shuffle_vector(first, nothing, zeros)


def _function(builder: ir.IRBuilder, name: str, kind: Any, n_arguments: int) -> Any:
    signature = ir.FunctionType(kind, [kind] * n_arguments)
    return cgutils.get_or_insert_function(builder.module, signature, f"{name}.v{LANES}f32")


def _prefetch_typed(typingctx, address):
    """Ask for the cache line at an address, which need not exist."""

    def code(context, builder, signature, arguments):
        kind = ir.FunctionType(ir.VoidType(), [BYTES, INT32, INT32, INT32])
        fetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        how = [ir.Constant(INT32, value) for value in (0, 3, 1)]  # to read, to keep, data
        builder.call(fetch, [builder.inttoptr(arguments[0], BYTES), *how])
        return context.get_dummy_value()

    return types.void(types.int64), code


_prefetch: Any = intrinsic(_prefetch_typed)
_best_of_tile = _tile(best_only=True)
_all_of_tile = _tile(best_only=False)


@njit(nogil=True, cache=True, error_model="numpy")
def best(query, addresses, counts, start, end, out):
    """The best similarity of each query token in documents `start` to `end`.

    Args:
        query: what `queries` gave.
        addresses: where each document's float32 rows begin, int64.
        counts: how many rows each has, int64.
        out: float32 (documents, groups * LANES), written.
    """
    groups, dim, _ = query.shape
    for document in range(start, end):
        address, n = addresses[document], counts[document]
        out[document] = -np.inf if n else 0.0
        for row in range(0, n, ROWS):
            ahead = address + (row + ROWS) * dim * 4
            for line in range(ahead, ahead + ROWS * dim * 4, LINE * 4):
                _prefetch(line)
            for group in range(groups):
                place = out.ctypes.data + (document * groups + group) * LANES * 4
                asked = query.ctypes.data + group * dim * LANES * 4
                _best_of_tile(address, row, n - 1, dim, asked, place)


@njit(nogil=True, cache=True, error_model="numpy")
def best_of_coded(query, codes, scales, firsts, counts, start, end, out):
    """The same for rows that are not float32: int8 with scales, or the bits of float16 as uint16.

    A tile's rows are turned into float32 first: exactly the numbers that `Ragged.rows` gives.
    """
    groups, dim, _ = query.shape
    rows = np.empty((ROWS, dim), np.float32)
    bits = rows.view(np.int32)
    for document in range(start, end):
        n = counts[document]
        out[document] = -np.inf if n else 0.0
        for row in range(0, n, ROWS):
            many = min(ROWS, n - row)
            for i in range(many):
                at = firsts[document] + row + i
                if scales.size:
                    for k in range(dim):
                        rows[i, k] = np.float32(codes[at, k]) * scales[at]
                else:
                    # Exponent and fraction move to their places; the product mends the bias.
                    for k in range(dim):
                        half = np.int32(codes[at, k])
                        bits[i, k] = (half & 0x7FFF) << 13 | (half & 0x8000) << 16
                    for k in range(dim):
                        rows[i, k] *= np.float32(2.0**112)
            for group in range(groups):
                place = out.ctypes.data + (document * groups + group) * LANES * 4
                asked = query.ctypes.data + group * dim * LANES * 4
                _best_of_tile(rows.ctypes.data, 0, many - 1, dim, asked, place)


@njit(nogil=True, cache=True, error_model="numpy")
def similarities(query, address, n, out):
    """Every similarity of one document, float32 (n, groups * LANES), from the same tiles."""
    groups, dim, _ = query.shape
    tile = np.empty((ROWS, LANES), np.float32)
    for row in range(0, n, ROWS):
        for group in range(groups):
            asked = query.ctypes.data + group * dim * LANES * 4
            _all_of_tile(address, row, n - 1, dim, asked, tile.ctypes.data)
            for i in range(min(ROWS, n - row)):
                out[row + i, group * LANES : (group + 1) * LANES] = tile[i]
