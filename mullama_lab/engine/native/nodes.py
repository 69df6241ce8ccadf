"""The time of each node of llama.cpp's graph, one by one.

A node is timed from llama.cpp's question about it to its showing it: its computation, the start of
the threads for it, and their wait for each other. llama.cpp computes nodes together where nobody
asks, so what is measured here is a slower decode than one that is left alone.
"""

from __future__ import annotations

from time import perf_counter_ns
from typing import NamedTuple

from mullama_lab.engine.native.tensors import TensorCallback, operation_name, tensor_name


class Node(NamedTuple):
    """One node: the tensor's name, as "ffn_out-3", ggml's operation, as "MUL_MAT", nanoseconds."""

    name: str
    operation: str
    nanoseconds: int


class NodeTimes:
    """Times the nodes of what a context computes, while `on`.

    Attributes:
        callback: what the context is opened with.
        nodes: those that were timed, in the order they were computed.
    """

    def __init__(self) -> None:
        self.on = False
        self.nodes: list[Node] = []
        self.callback = TensorCallback(self._look)
        self._asked = 0

    def _look(self, tensor: int, ask: bool) -> bool:
        if not self.on:
            return not ask
        if ask:
            self._asked = perf_counter_ns()
            return True
        took = perf_counter_ns() - self._asked
        name, operation = tensor_name(tensor), operation_name(tensor)
        self.nodes.append(Node(name.decode(), operation.decode(), took))
        return True
