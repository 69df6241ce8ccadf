"""Text becomes tokens: what llama.cpp does, and what is mended or refused before it.

Functions of a `Model`, which has methods for what people need of them.
"""

from __future__ import annotations
