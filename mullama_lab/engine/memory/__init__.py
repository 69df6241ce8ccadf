"""Where the memory went: the buffers of llama.cpp, the process, and the sequences of a cache."""

from __future__ import annotations

from mullama_lab.engine.memory.buffers import Buffer, Buffers
from mullama_lab.engine.memory.memory import Memory
from mullama_lab.engine.memory.process import ProcessMemory

__all__ = ["Buffer", "Buffers", "Memory", "ProcessMemory"]
__dir__ = __all__.copy  # what tab completion offers
