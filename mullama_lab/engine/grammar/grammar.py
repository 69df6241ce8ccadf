"""Grammar: what a text may be, an immutable value that prints as code."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import islice
from typing import Any, NoReturn, TypeAlias

from mullama_lab.engine.grammar import algebra, inheritance, written
from mullama_lab.engine.grammar.classes import name_of, value_of
from mullama_lab.engine.grammar.coverage import Coverage, coverage
from mullama_lab.engine.grammar.examples import drawn
from mullama_lab.engine.grammar.gbnf.lint import GrammarWarning, warnings_of
from mullama_lab.engine.grammar.gbnf.reader import (
    MOST_COPIES,
    MOST_RULES,
)
from mullama_lab.engine.grammar.gbnf.writer import write_gbnf
from mullama_lab.engine.grammar.json_text import read_json
from mullama_lab.engine.grammar.matching.parts import part_of
from mullama_lab.engine.grammar.nodes import (
    Choice,
    Node,
    Part,
    Sequence,
    walk,
)
from mullama_lab.engine.grammar.sources import (
    choice_of,
    class_part,
    gbnf_rules,
    must_not_loop,
    schema_part,
    some_texts,
    text_node,
    text_of_file,
)
from mullama_lab.engine.grammar.stored import Stored, picklable
from mullama_lab.engine.options import MAX_SEED, whole
from mullama_lab.errors import GrammarError
from mullama_lab.glyphs import brief

MOST_EXAMPLES = 100_000
MOST_NODES = 1_000_000
MOST_ADDED = 10  # nodes of a new root, beside those of the old ones
Side: TypeAlias = "str | Grammar | Iterable[str]"  # of a rule: GBNF, a grammar, or some texts


class Grammar:
    """What a text may be: rules, of which one named root says what all of it is.

    Give one to `session.generate(prompt, grammar=...)`, or to `Constrain` in a chain.

    >>> name = Grammar.gbnf("root ::= [A-Z] [a-z]+")
    >>> greeting = Grammar.choice(["Hello", "Good day"]) + ", " + name
    >>> print(greeting.to_gbnf(), end="")
    root ::= part ", " [A-Z] [a-z]+
    part ::= "Hello" | "Good day"

    `a + b` is a, then b; `a | b` one of them; `a.optional()` and `a.many()` repeat. A text among
    them stands for itself. Rules of the same name in a and b are kept apart: those of b get
    another one. Two grammars are equal if their rules are, name by name, and both are `of` a class
    or neither is.

    A part in JSON Schema, a regular expression or Lark is read by llguidance, which reads each as
    far as it goes before what follows begins: after `Grammar.regex("[a-z]*")` no letter follows.
    """

    __slots__ = ("_code", "_n_nodes", "_rules", "_text", "_uses_root", "reads")
    __array_ufunc__ = None  # or numpy would go through what it is added to
    _rules: dict[str, Node]  # never changed
    _code: str | None
    _text: str | None  # that it was read from, for the places in it
    reads: Callable[[str], Any] | None  # what its texts mean, where that is more than JSON
    _n_nodes: int  # or fewer
    _uses_root: bool

    def __init__(self) -> None:
        raise TypeError(
            "a Grammar is made by Grammar.gbnf(text), .file(path), .json_schema(dict), "
            ".of(class), .regex(text), .choice(texts) or .lark(text)."
        )

    @classmethod
    def _of(
        cls,
        rules: Mapping[str, Node],
        code: str | None = None,
        *,
        text: str | None = None,
        read: Callable[[str], Any] | None = None,
        at_most: int | None = None,
    ) -> Grammar:
        """A grammar of rules that are defined; `GrammarError` if llama.cpp could not read them.

        Args:
            at_most: how many nodes there are, or more, of rules without left recursion and with a
                root that none of them refers to: of a grammar that is made of others.
        """
        if len(rules) > MOST_RULES:
            raise GrammarError(
                f"a grammar has at most {MOST_RULES} rules, and this would have more."
            )
        n_nodes = MOST_NODES + 1 if at_most is None else at_most
        if n_nodes > MOST_NODES:
            n_nodes = sum(1 for node in rules.values() for _ in walk(node))
        if n_nodes > MOST_NODES:
            raise GrammarError(
                f"a grammar has at most {MOST_NODES} texts, classes and groups, and this would "
                "have more. Where something comes many times, write a.many(n, n)."
            )
        if at_most is None:
            must_not_loop(rules)
        uses_root = at_most is None and algebra.uses_root(dict(rules))
        made = object.__new__(cls)
        object.__setattr__(made, "_rules", dict(rules))
        object.__setattr__(made, "_code", code)
        object.__setattr__(made, "_text", text)
        object.__setattr__(made, "reads", read)
        object.__setattr__(made, "_n_nodes", n_nodes)
        object.__setattr__(made, "_uses_root", uses_root)
        return made

    # Where grammars come from.

    @classmethod
    def gbnf(cls, text: str) -> Grammar:
        """A grammar in GBNF, as llama.cpp reads it.

        >>> Grammar.gbnf('root ::= "yes" | "no"')
        Grammar.gbnf('root ::= "yes" | "no"\\n')

        A name is letters, digits and `-`; a rule ends with its line, but within parentheses and
        after `|`; `[^...]` and `.` take newlines too; `\\xHH`, `\\uHHHH` and `\\UHHHHHHHH` are
        characters by their numbers; `<name>` and `<[7]>` are one token of the model, `!<name>` any
        other one.

        Raises:
            GrammarError: it cannot be read; with line, column and a caret. So can what llama.cpp
                reads as something nobody means: a second rule of one name, `[]`, `[z-a]`, NUL,
                half of a character, `{3,2}`, and more than 2000 repetitions.
        """
        return cls._of(gbnf_rules(text), text=text)

    @classmethod
    def file(cls, path: str | os.PathLike[str]) -> Grammar:
        """The grammar of a file in GBNF, which is UTF-8.

        Raises:
            GrammarError: as of `gbnf`; or it is no UTF-8, or too long.
            OSError: there is no such file, or it cannot be read.
        """
        return cls.gbnf(text_of_file(path))

    @classmethod
    def json_schema(cls, schema: Mapping[str, Any]) -> Grammar:
        """JSON texts that a JSON Schema allows, in draft 2020-12 or as its `$schema` says.

        >>> Grammar.json_schema({"type": "integer", "minimum": 0})
        Grammar.json_schema({'type': 'integer', 'minimum': 0})

        Properties come in the order of the schema. Between two parts are at most one end of a
        line and 40 blanks, and none before and after the text. Strings have no `\\uXXXX`.

        Raises:
            GrammarError: a keyword that is not carried out, named with its path; a `$ref` to
                another document, which is never fetched; a schema within it that nothing meets,
                or that no text which ends does.
            TypeError: no dict, or one that holds what JSON has not.
        """
        part = schema_part(schema)
        return cls._of({"root": part}, f"Grammar.json_schema({json.loads(part.text)!r})")

    @classmethod
    def of(cls, kind: Any) -> Grammar:
        """The JSON texts of the values of a class, or of another type: needs pydantic.

            @dataclass
            class Person:
                name: str
                age: int

            trace = session.generate("Invent a person.", grammar=Grammar.of(Person))
            trace.parsed  # a Person

        An object has the properties of its class, in their order, and no other; those with a
        default may be left out. A part of another grammar, it is JSON Schema.

        Args:
            kind: a BaseModel of pydantic, a dataclass, a TypedDict, an Enum, or what typing makes
                of them and of Python's own types: `list[Person]`, `Literal["a", "b"]`,
                `dict[str, int] | None`.

        Raises:
            TypeError: it has no JSON Schema; or an Enum in it has a value that is not read back
                from JSON, as a tuple.
            GrammarError: its JSON Schema is not carried out, with the keyword and its path.
            ModuleNotFoundError: pydantic is not installed, or what it needs for a field, as
                email-validator for EmailStr; it names both.
        """
        rules, read = {"root": class_part(kind)}, partial(value_of, kind)
        return cls._of(rules, f"Grammar.of({name_of(kind)})", read=read)

    @classmethod
    def regex(cls, expression: str) -> Grammar:
        """The texts that a regular expression matches from end to end.

        In the syntax of Rust's `regex`, without look-around and back references; `.` is any
        character but a newline.

        It is read at once, and followed while a text is written. Parts in a row that may each be
        empty, as in "(a|b*)" * 16_000, would take time and memory by the square of their number:
        it may have 5000 of these, more of simpler ones, and fewer of `[^x]?` and `\\w?`.
        `(a|b*){16000}` counts as one and is quick. So it is in JSON Schema and Lark.

        Raises:
            GrammarError: it cannot be read, with line, column and a caret where llguidance tells;
                or it has too many such parts.
        """
        return cls._of({"root": part_of("regex", expression)}, f"Grammar.regex({expression!r})")

    @classmethod
    def lark(cls, text: str) -> Grammar:
        """A grammar in llguidance's kind of Lark, whose first rule is `start`.

        Raises:
            GrammarError: it cannot be read; with line, column and a caret where llguidance tells.
        """
        return cls._of({"root": part_of("lark", text)}, f"Grammar.lark({text!r})")

    @classmethod
    def choice(cls, texts: Iterable[str]) -> Grammar:
        """One of some texts, to the letter.

            Grammar.choice(table["city"])  # what the column of a pandas table has now

        Args:
            texts: any that can be gone through: a list, a Series or Index of pandas, an array.
                What comes twice counts once. A grammar is a value: it has the texts of this
                moment. A run is given those of a later one by `run.grammar = ...`.

        Raises:
            ValueError: there is none, or one cannot be written.
            TypeError: one is no text, but a number or a missing value.
        """
        found = some_texts("choice", texts)
        return cls._of({"root": choice_of(found)}, f"Grammar.choice({found!r})")

    # Made of others.

    def __add__(self, other: Grammar | str) -> Grammar:
        return _in_a_row(self, other)

    def __radd__(self, other: str) -> Grammar:
        return _in_a_row(other, self)

    def __or__(self, other: Grammar | str) -> Grammar:
        return _one_of(self, other)

    def __ror__(self, other: str) -> Grammar:
        return _one_of(other, self)

    def optional(self) -> Grammar:
        """This, or nothing."""
        return _built([self], lambda item: algebra.repeat(item, 0, 1))

    def many(self, min: int = 0, max: int | None = None, separator: Grammar | str = "") -> Grammar:
        """This many times, with something between each two.

        >>> print(Grammar.choice(["a", "b"]).many(1, separator=", ").to_gbnf(), end="")
        root ::= part (", " part)*
        part ::= "a" | "b"

        Args:
            min, max: how many times, at most 2000; None is any number of times.
        """
        low = whole("min", min, 0, MOST_COPIES)
        high = None if max is None else whole("max", max, low, MOST_COPIES)
        parts = [self, _grammar(separator)]
        return _built(
            parts,
            lambda item, between: algebra.repeated(item, between, low, high),
            may_loop=high is None,
        )

    def rename(self, names: Mapping[str, str]) -> Grammar:
        """The same with other names for rules.

        A name for root gives a rule of that name, and a root that is it: so it is called where it
        becomes a part of another grammar.

        >>> print((Grammar.choice(["a", "b"]).rename({"root": "letter"}) + "!").to_gbnf(), end="")
        root ::= letter "!"
        letter ::= "a" | "b"

        Raises:
            GrammarError: there is no such rule, the name is taken, or it is none.
        """
        return Grammar._of(inheritance.with_names(self._rules, names))

    def override(self, rules: Mapping[str, Side] = {}, **more: Side) -> Grammar:
        """The same with other right sides for some of its rules: in GBNF, grammars, or texts.

            json.override(string='"\\\\"" [a-z]* "\\\\""')
            order.override(product=table["product"], size=["small", "large"])

        Several texts are a choice of them, as in `choice`; one text is GBNF. Where they change
        while a run writes: `run.grammar = order.override(product=table["product"])`.

        Args:
            rules: the right side for a rule by name, for names with a `-`; it may name all rules.

        Raises:
            GrammarError: there is no such rule, or a right side cannot be read.
            ValueError, TypeError: as of `choice`.
        """
        changed = self._rules
        for name, side in {**rules, **more}.items():
            if isinstance(side, Grammar):
                changed = inheritance.with_rule(changed, name, side._rules)
            else:
                changed = inheritance.with_right_side(changed, name, side)
        return Grammar._of(changed)

    def extend(self, text: str) -> Grammar:
        """The same with more rules, in GBNF, and more alternatives for those it has.

            json.extend('value ::= date\\ndate ::= "\\\\"" [0-9]{4} "\\\\""')

        Raises:
            GrammarError: the text cannot be read, or gives more of a part that is no GBNF.
        """
        return Grammar._of(inheritance.with_more(self._rules, text))

    def diff(self, other: Grammar) -> str:
        """What changes from this grammar to another one, rule by rule; empty if nothing does."""
        return inheritance.changes(str(self), str(_grammar(other)))

    # What it does.

    @property
    def warnings(self) -> list[GrammarWarning]:
        """What may be wrong with it, with line and column of the rule in the text it was read from.

        Rules that no text can meet, rules without a text that ends, and rules in which a text can
        be read in two ways. Those are looked for in some short texts, where there are no parts:
        what is not found may be there. A grammar that was put together has the lines of its `str`.

        >>> for warning in Grammar.gbnf('root ::= "a"* "a"?\\nx ::= "b"').warnings:
        ...     print(f"{warning.line}:{warning.column} {warning.message}")
        1:1 rule 'root' can read 'a' in two ways.
        2:1 no text can meet rule 'x': root does not lead to it.
        """
        return warnings_of(self._rules, str(self) if self._text is None else self._text)

    def examples(self, n: int = 5, *, seed: int = 0) -> list[str]:
        """Different texts of the grammar, drawn by chance, short ones rather than long ones.

        Where a part is in it they are found byte by byte, as llguidance allows. There may be fewer
        than n, if it has few.

        Raises:
            GrammarError: no text of it ends, or none that is short enough; it names a token by its
                id, or any other one; or no text of its parts was found.
        """
        n = whole("n", n, 0, MOST_EXAMPLES)
        found: dict[str, None] = {}
        for text in islice(drawn(self._rules, whole("seed", seed, 0, MAX_SEED)), 20 * n):
            found[text] = None
            if len(found) == n:
                break
        return list(found)

    def coverage(self, texts: Iterable[str]) -> Coverage:
        """Which of its rules and alternatives some texts use, and which texts are none of it.

            grammar.coverage(grammar.examples(20)).unused

        Raises:
            GrammarError: it names a token by its id, or any other one, which no text tells; or a
                text takes too much to be read.
            TypeError: one is no text.
        """
        return coverage(self._rules, texts)

    # What it is.

    @property
    def rules(self) -> dict[str, str]:
        """The right side of each rule, by name: GBNF, or the code of a part."""
        return {name: written.shown(node) for name, node in self._rules.items()}

    @property
    def is_gbnf(self) -> bool:
        """Whether all of it can be written as GBNF."""
        return not any(isinstance(node, Part) for node in self._rules.values())

    def to_gbnf(self) -> str:
        """The text in GBNF, a rule a line, which llama.cpp reads too.

        Raises:
            GrammarError: a part is JSON Schema, a regular expression or Lark; or llama.cpp would
                not read it, as where repetitions of repetitions are more than 2000.
        """
        return written.gbnf_of(self._rules)

    @property
    def has_values(self) -> bool:
        """Whether its texts mean something that `parse` gives: those of JSON Schema or a class."""
        return self.is_json or self.reads is not None

    @property
    def is_json(self) -> bool:
        """Whether its texts are JSON of a schema, as also a class has one."""
        root = self._rules["root"]
        return isinstance(root, Part) and root.kind == "json_schema"

    def read_by(self, read: Callable[[str], Any]) -> Grammar:
        """The same, whose texts mean what a function makes of them; ValueError where nothing."""
        return Grammar._of(self._rules, self._code, text=self._text, read=read)

    def parse(self, text: str) -> Any:
        """The value of a text: one of the class that the grammar is `of`, or else plain JSON.

        >>> Grammar.json_schema({"type": "array"}).parse("[1, 2]")
        [1, 2]

        A value of a class is checked by pydantic, which may ask for more than a grammar can.
        Plain JSON is not compared with its schema: a run under the grammar has met that.

        Raises:
            ValueError: the text is no JSON, or not to its end; or it is no value of the class.
            TypeError: the grammar is no JSON Schema and no class; or it was read from a file,
                which has no classes.
        """
        if not isinstance(text, str):
            raise TypeError(f"{brief(text)} is no text; `trace.text` of a run is one.")
        if not self.has_values:
            raise TypeError(
                f"{brief(self)} is no JSON Schema and no class, so its texts have no value but "
                "themselves."
            )
        return read_json(text) if self.reads is None else self.reads(text)

    def to_dict(self) -> dict[str, Any]:
        """A dict of plain values that `Grammar.from_dict` reads back."""
        read = {} if self.reads is None else {"reads": Stored.of(self.reads).to_dict()}
        return {**written.dict_of_rules(self._rules), **read}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Grammar:
        """The grammar a dict describes; GrammarError, ValueError or TypeError if it is none.

        That of a class has its rules, but not the class: `parse` raises TypeError, and says so.
        """
        rules = written.rules_of_dict(data)
        return cls._of(rules, read=Stored.from_dict(data["reads"]) if "reads" in data else None)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Grammar):
            return NotImplemented
        return self._rules == other._rules and (self.reads is None) == (other.reads is None)

    def __hash__(self) -> int:
        return hash((len(self._rules), self._rules["root"]))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a Grammar is a value: make another one instead of setting {name!r}")

    def __copy__(self) -> Grammar:
        return self

    def __deepcopy__(self, memo: object) -> Grammar:
        return self

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return _unpickled, (self._rules, self._code, self._text, picklable(self.reads))

    def __str__(self) -> str:
        return "".join(f"{name} ::= {side}\n" for name, side in self.rules.items())

    def __repr__(self) -> str:
        if self._code is not None:
            return self._code
        if self.is_gbnf:
            return f"Grammar.gbnf({write_gbnf(self._rules)!r})"
        return f"Grammar.from_dict({self.to_dict()!r})"


def _unpickled(
    rules: dict[str, Node],
    code: str | None,
    text: str | None,
    read: Callable[[str], Any] | None,
) -> Grammar:
    return Grammar._of(rules, code, text=text, read=read)


def _grammar(value: object) -> Grammar:
    """A grammar, or the one of a text that stands for itself."""
    if isinstance(value, Grammar):
        return value
    if isinstance(value, str):
        return Grammar._of({"root": text_node(value)})
    raise TypeError(f"{brief(value)} is no Grammar, and no text that stands for itself.")


def _in_a_row(a: Grammar | str, b: Grammar | str) -> Grammar:
    if not _are_grammars(a, b):
        return NotImplemented

    return _built([_grammar(a), _grammar(b)], algebra.in_a_row, Sequence)


def _one_of(a: Grammar | str, b: Grammar | str) -> Grammar:
    if not _are_grammars(a, b):
        return NotImplemented

    return _built([_grammar(a), _grammar(b)], algebra.one_of, Choice)


def _are_grammars(*values: object) -> bool:
    return all(isinstance(value, (Grammar, str)) for value in values)


def _built(
    parts: list[Grammar],
    build: Callable[..., Node],
    opened: type[Node] | tuple[()] = (),
    *,
    may_loop: bool = False,
) -> Grammar:
    """A grammar whose root is made of those of others; `may_loop` if it repeats without end."""
    recursive = [place for place, part in enumerate(parts) if part._uses_root]
    made = algebra.built([p._rules for p in parts], build, opened, recursive=recursive)
    n_nodes = sum(part._n_nodes for part in parts) + MOST_ADDED
    return Grammar._of(made, at_most=None if may_loop else n_nodes)
