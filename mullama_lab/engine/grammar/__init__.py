"""Grammars: what a text may be, as values; and the tokens that each allows, model by model.

A Grammar is read (`sources`) to rules of a small tree of our own (`nodes`), put together with
others (`algebra`), changed rule by rule (`inheritance`), and written again: as GBNF, which
llama.cpp reads (`written`), or for llguidance, which says at each step which tokens may come
(`matching`). The two read a text in different ways; `lexemes` sees to it that the same texts come
of it. JSON Schema, regular expressions and Lark are parts that llguidance reads by itself.
"""

from __future__ import annotations

from mullama_lab.engine.grammar.grammar import Grammar

__all__ = ["Grammar"]
__dir__ = __all__.copy  # what tab completion offers
