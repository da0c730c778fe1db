"""Filters on metadata, such as `lang = "de" and year >= 2020`: from text to a syntax tree that engines compile."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, NoReturn, TypeAlias

from nestvec.errors import FilterError
from nestvec.index.fields import INNER_KEY, KEY, RESERVED, Fields, Kind, Path, spell_path

__all__ = ["And", "AnyOf", "Condition", "Not", "Or", "Ordered", "Value", "parse_filter"]

Value: TypeAlias = str | int | float | bool | None


class AnyOf(NamedTuple):
    """True where a field, or an element of its list, is one of some values.

    null is also true where the field is missing. Values of different kinds are never equal: 1 is neither true nor "1".
    """

    path: Path
    kinds: Kind
    """What values the field has in any document; an engine may leave out what cannot be."""
    values: tuple[Value, ...]


class Ordered(NamedTuple):
    """True where a field, or an element of its list, is of the value's kind and less or more than it."""

    path: Path
    kinds: Kind
    operator: Literal["<", "<=", ">", ">="]
    value: str | int | float


class Not(NamedTuple):
    """True where its part is not, so also for documents without the field."""

    part: Condition


class And(NamedTuple):
    """True where all of its parts are; there are two at least."""

    parts: tuple[Condition, ...]


class Or(NamedTuple):
    """True where any of its parts is; there are two at least."""

    parts: tuple[Condition, ...]


Condition: TypeAlias = AnyOf | Ordered | Not | And | Or
"""A filter as a syntax tree, its members never nested deeper than 25."""

_QUOTED_KEY = r"`(?:[^`]|``)*`"
_KEYS = re.compile(rf"{_QUOTED_KEY}|{INNER_KEY}")
_TOKEN = re.compile(
    rf"""\s*(?:
        (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<number>[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?(?![\w.]))
      | (?P<name>(?:{KEY}|{_QUOTED_KEY})(?:\.(?:{INNER_KEY}|{_QUOTED_KEY}))*)
      | (?P<sign><=|>=|!=|<>|==|=|<|>|\(|\)|,)
    )""",
    re.VERBOSE,
)
_COMPARISONS = {"=": "=", "==": "=", "!=": "!=", "<>": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_CONSTANTS: dict[str, Value] = {"true": True, "false": False, "null": None}
_DEEPEST = 25
_MOST_COMPARISONS = 500  # SQLite's limit of an expression's depth is 1,000
_MOST_VALUES = 10_000  # SQLite's limit of parameters is 32,766
_MOST_LISTED = 20


class _Token(NamedTuple):
    kind: str
    """text, number, name, word, sign or end."""
    text: str
    position: int


def parse_filter(text: str, fields: Fields | Collection[str]) -> Condition:
    """Read a filter.

    A comparison is `field = value`, with one of = != < <= > >=, or `field in (value, value)`, or `not in`; `and`,
    `or`, `not` and parentheses put them together. A value is a "text" or 'text', a number, true, false or null; in a
    text a backslash stands before a quote or a backslash, and everywhere else for itself. A field inside another one is
    written `author.name`; a key with dots, spaces or quotes in it stands between backticks, of which one in it is
    doubled. Where metadata holds a list, a comparison is true if it is for any of its elements; `!=` and `not in` are
    true exactly where `=` and `in` are not, so also for documents without the field; `= null` finds these.

    What could never be true is refused: a field that no document has, a number compared with a field of texts, an
    object compared as a whole.

    Args:
        text: The filter.
        fields: Fields that there are, by their paths, with the kinds of their values; or their names alone.

    Returns:
        The syntax tree.

    Raises:
        FilterError: It cannot be read, with the place marked; it names a field that no document has, or that could be
            two; or it compares a field with what it never holds.

    Example:
        >>> parse_filter("year >= 2020", {"year"}).operator
        '>='
    """
    known = fields if isinstance(fields, Mapping) else {_path_of(name): Kind.ANY for name in fields}
    return _Parser(text, known).parse()


def _path_of(name: str) -> Path:
    """The path of a field that is given by its name: keys with dots between, where they are such keys."""
    return tuple(name.split(".")) if re.fullmatch(rf"{KEY}(\.{INNER_KEY})*", name) else (name,)


class _Field(NamedTuple):
    """A field that a filter names."""

    path: Path
    kinds: Kind
    position: int


@dataclass
class _Parser:
    text: str
    fields: Fields

    def __post_init__(self) -> None:
        self._tokens = self._split()
        self._place = 0
        self._depth = 0
        self._comparisons = 0
        self._count_of_values = 0
        self._by_name: defaultdict[str, list[Path]] = defaultdict(list)
        for path in self.fields:
            self._by_name[_normal(".".join(path))].append(path)

    def parse(self) -> Condition:
        if self._next.kind == "end":
            self._fail("there is nothing in it")
        found = self._either()
        if self._next.kind != "end":
            self._fail(f'expected "and", "or" or the end, found {self._next.text}')
        return found

    def _split(self) -> list[_Token]:
        tokens, place = [], 0
        while place < len(self.text.rstrip()):
            match = _TOKEN.match(self.text, place)
            if match is None:
                start = place + len(self.text[place:]) - len(self.text[place:].lstrip())
                self._fail(f"cannot make sense of {self.text[start]!r}", start)
            kind = match.lastgroup or ""
            found = match[kind]
            if kind == "name" and found.lower() in RESERVED:
                kind, found = "word", found.lower()
            tokens.append(_Token(kind, found, match.start(match.lastgroup or 0)))
            place = match.end()
        return [*tokens, _Token("end", "the end", len(self.text))]

    @property
    def _next(self) -> _Token:
        return self._tokens[self._place]

    def _take(self, kind: str, *texts: str) -> _Token | None:
        token = self._next
        if token.kind != kind or (texts and token.text not in texts):
            return None
        self._place += 1
        return token

    def _either(self) -> Condition:
        parts = [self._both()]
        while self._take("word", "or"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _both(self) -> Condition:
        parts = [self._one()]
        while self._take("word", "and"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _one(self) -> Condition:
        self._depth += 1
        if self._depth > _DEEPEST:
            self._fail(f"it is nested deeper than {_DEEPEST}")
        try:
            if self._take("word", "not"):
                return Not(self._one())
            if self._take("sign", "("):
                found = self._either()
                if not self._take("sign", ")"):
                    self._fail(f'expected ")", found {self._next.text}')
                return found
            return self._comparison()
        finally:
            self._depth -= 1

    def _comparison(self) -> Condition:
        self._comparisons += 1
        if self._comparisons > _MOST_COMPARISONS:
            self._fail(f"it has more than {_MOST_COMPARISONS} comparisons; put values into one with in (...)")
        field = self._field()
        negated = bool(self._take("word", "not"))
        if self._take("word", "in"):
            found = self._any_of(field, self._values())
            return Not(found) if negated else found
        sign = self._take("sign", *_COMPARISONS)
        if sign is None or negated:
            self._fail(f'expected = != < <= > >= or "in", found {self._next.text}')
        operator, value_token = _COMPARISONS[sign.text], self._next
        value = self._value()
        if operator in ("=", "!="):
            found = self._any_of(field, [value])
            return found if operator == "=" else Not(found)
        if value is None or isinstance(value, bool):
            self._fail(f"{value_token.text} is neither less nor more than anything", value_token.position)
        self._check_kinds(field, [value])
        return Ordered(field.path, field.kinds, operator, value)  # type: ignore[arg-type]  # = and != are done with

    def _field(self) -> _Field:
        token = self._take("name")
        if token is None:
            self._fail(f"expected a field, found {self._next.text}")
        keys = _KEYS.findall(token.text)
        path = tuple(key[1:-1].replace("``", "`") if key.startswith("`") else key for key in keys)
        candidates = [path] if path in self.fields else []
        if not any(key.startswith("`") for key in keys):  # dots may be between keys, or in one
            candidates = self._by_name[_normal(token.text)]
        if not candidates:
            near = difflib.get_close_matches(".".join(path), map(".".join, self.fields), n=1)
            known = sorted(map(spell_path, self.fields))
            more = ", ..." if len(known) > _MOST_LISTED else ""
            hint = (
                f"did you mean {' or '.join(map(spell_path, self._by_name[_normal(near[0])]))}?"
                if near
                else f"fields are: {', '.join(known[:_MOST_LISTED]) or 'none'}{more}"
            )
            self._fail(f"no document has the field {token.text}; {hint}", token.position)
        if len(candidates) > 1:
            self._fail(f"{token.text} could be two fields; write {_spelled_apart(candidates)}", token.position)
        return _Field(candidates[0], self.fields[candidates[0]], token.position)

    def _check_kinds(self, field: _Field, values: Sequence[Value]) -> None:
        """Refuse a comparison that cannot be true in any document."""
        wanted = [_kind_of(value) for value in values]
        if any(kind in field.kinds or kind is Kind.NULL for kind in wanted):
            return
        name = spell_path(field.path)
        if not field.kinds & Kind.ANY:
            inner = [path for path in self.fields if path[:-1] == field.path]
            hint = f"compare a field inside it: {', '.join(map(spell_path, inner[:_MOST_LISTED]))}"
            if not inner:
                hint = "filters do not reach into it"
            what = "an object" if Kind.OBJECT in field.kinds else "a list of objects or lists, or empty"
            self._fail(f"{name} is {what}; {hint}", field.position)
        spelled = {Kind.TEXT: 'a "text"', Kind.NUMBER: "a number without quotes", Kind.TRUTH: "true or false"}
        ways = " or ".join(text for kind, text in spelled.items() if kind in field.kinds) or "null"
        self._fail(
            f"{name} holds {field.kinds.described()}, and never {wanted[0].described()}; compare it with {ways}",
            field.position,
        )

    def _any_of(self, field: _Field, values: list[Value]) -> Condition:
        self._check_kinds(field, values)
        return AnyOf(field.path, field.kinds, tuple(values))

    def _values(self) -> list[Value]:
        if not self._take("sign", "("):
            self._fail(f'expected "(" and values, found {self._next.text}')
        values = [self._value()]
        while self._take("sign", ","):
            values.append(self._value())
        if not self._take("sign", ")"):
            self._fail(f'expected "," or ")", found {self._next.text}')
        return values

    def _value(self) -> Value:
        token = self._next
        self._count_of_values += 1
        if self._count_of_values > _MOST_VALUES:
            self._fail(f"it has more than {_MOST_VALUES:,} values")
        if self._take("text"):
            return re.sub(r"""\\(["'\\])""", r"\1", token.text[1:-1])
        if self._take("number"):
            return _number(token.text)
        if self._take("word", *_CONSTANTS):
            return _CONSTANTS[token.text]
        hint = " (put texts between quotes)" if token.kind == "name" else ""
        return self._fail(f"expected a value, found {token.text}{hint}")

    def _fail(self, what: str, position: int | None = None) -> NoReturn:
        place = self._next.position if position is None else position
        line = self.text.replace("\n", " ").replace("\t", " ")
        raise FilterError(f"Cannot use the filter, at character {place + 1}: {what}.\n  {line}\n  {' ' * place}^")


def _number(text: str) -> int | float:
    if re.fullmatch(r"[-+]?\d+", text) and abs(int(text)) < 2**63:
        return int(text)
    return float(text)


def _kind_of(value: Value) -> Kind:
    if value is None:
        return Kind.NULL
    if isinstance(value, bool):
        return Kind.TRUTH
    return Kind.TEXT if isinstance(value, str) else Kind.NUMBER


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _spelled_apart(paths: Sequence[Path]) -> str:
    """Spellings of paths that look alike between dots: all keys of each between backticks."""
    return " or ".join(".".join("`" + key.replace("`", "``") + "`" for key in path) for path in sorted(paths))
