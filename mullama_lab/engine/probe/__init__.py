"""Whether llama.cpp survives a model file, tried in a process of its own before it is loaded.

`gguf` refuses what is known to end llama.cpp; no list of that can be complete. So a file of an
unknown source is opened by a child process first, the one time that it is met.
"""

from __future__ import annotations

from mullama_lab.engine.probe.probe import must_survive

__all__ = ["must_survive"]
