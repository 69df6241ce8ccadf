"""Grammars made of one by changing rules of it: other names, other right sides, more of them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from mullama_lab.engine.grammar.algebra import Rules, one_of, taken_in, uses_root
from mullama_lab.engine.grammar.gbnf.reader import is_name, read_gbnf, read_right_side
from mullama_lab.engine.grammar.nodes import Ref, renamed
from mullama_lab.engine.grammar.sources import choice_of, some_texts
from mullama_lab.engine.grammar.written import must_be_gbnf
from mullama_lab.errors import GrammarError
from mullama_lab.glyphs import brief

SHOWN_NAMES = 8


def with_names(rules: Rules, names: Mapping[str, str]) -> Rules:
    """The rules with other names for some."""
    if not isinstance(names, Mapping):
        raise TypeError(f"names={brief(names)}: it must be a dict of new names by the old ones.")
    for old, new in names.items():
        if old not in rules:
            raise GrammarError(f"there is no rule {brief(old)} to rename.")
        if new == "root":
            raise GrammarError(f"{brief(old)} cannot be named 'root': all of a text is that.")
        if not isinstance(new, str) or not is_name(new):
            raise GrammarError(f"{brief(new)} is no name for a rule: letters, digits and '-'.")
    kept = [name for name in rules if name not in names]
    if len({*kept, *names.values()}) < len(rules):
        raise GrammarError("two rules would have the same name.")
    new_rules = {"root": Ref(names["root"])} if "root" in names else {}
    return {**new_rules, **{names.get(k, k): renamed(node, names) for k, node in rules.items()}}


def with_right_side(rules: Rules, name: str, side: str | Iterable[str]) -> Rules:
    """The rules with another right side for one of them: GBNF, or some texts."""
    must_have(rules, name)
    if isinstance(side, str):
        return {**rules, name: read_right_side(side, rules)}
    return {**rules, name: choice_of(some_texts(f"the right side of {brief(name)}", side))}


def with_rule(rules: Rules, name: str, other: Rules) -> Rules:
    """The rules with another grammar for one of them."""
    must_have(rules, name)
    body = taken_in(other, changed := dict(rules), is_alone=not uses_root(other))
    changed[name] = body
    return changed


def must_have(rules: Rules, name: str) -> None:
    """Refuse to override a rule that is not there."""
    if name not in rules:
        some = ", ".join(list(rules)[:SHOWN_NAMES])
        raise GrammarError(f"there is no rule {brief(name)} to override. There are {some}.")


def with_more(rules: Rules, text: str) -> Rules:
    """The rules with those of a text in GBNF, as more alternatives where there are some."""
    more = dict(rules)
    for name, node in read_gbnf(text, known=rules).items():
        if name in rules:
            must_be_gbnf(name, rules[name])
            node = one_of(rules[name], node)
        more[name] = node
    return more


def changes(before: str, after: str) -> str:
    """The lines that change from one grammar to another; empty if none do."""
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), "before", "after", lineterm="", n=0
    )
    return "\n".join(line for line in lines if not line.startswith("@@"))
