"""Filters on metadata, such as `lang = "de" and year >= 2020`: read once, run by SQLite."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple, NoReturn, TypeAlias

from nestvec.errors import FilterError

__all__ = ["Condition", "Value", "parse_filter"]

Value: TypeAlias = str | int | float | bool | None

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.]))
      | (?P<name>[^\W\d][\w-]*(?:\.[\w-]+)*|`[^`"]+`)
      | (?P<sign><=|>=|!=|<>|==|=|<|>|\(|\)|,)
    )""",
    re.VERBOSE,
)
_COMPARISONS = {"=": "=", "==": "=", "!=": "!=", "<>": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_WORDS = {"and", "or", "not", "in", "true", "false", "null"}
_CONSTANTS: dict[str, Value] = {"true": True, "false": False, "null": None}
_DEEPEST = 25
_MOST_COMPARISONS = 500  # SQLite's limit of an expression's depth is 1,000
_MOST_VALUES = 10_000  # of its parameters, 32,766


class Condition(NamedTuple):
    """A filter as SQLite runs it, on a table with a column `metadata` of JSON."""

    sql: str
    parameters: tuple[str | int | float, ...]


class _Token(NamedTuple):
    kind: str
    """text, number, name, word, sign or end."""
    text: str
    position: int


def parse_filter(text: str, fields: Collection[str]) -> Condition:
    """Read a filter.

    A comparison is `field = value`, with one of = != < <= > >=, or `field in (value, value)`, or `not in`; `and`,
    `or`, `not` and parentheses put them together. A value is a "text" or 'text', a number, true, false or null. A
    field inside another one is written `author.name`, and one with spaces between backticks. Where metadata holds a
    list, a comparison is true if it is for any of its elements; `!=` and `not in` are true exactly where `=` and `in`
    are not, so also for documents without the field; `= null` finds these.

    Args:
        text: The filter.
        fields: Fields that there are.

    Returns:
        What SQLite runs.

    Raises:
        FilterError: It cannot be read, with the place marked, or names a field that no document has.

    Example:
        >>> parse_filter("year >= 2020", {"year"}).parameters
        ('$."year"', 2020)
    """
    return _Parser(text, fields).parse()


@dataclass
class _Parser:
    text: str
    fields: Collection[str]

    def __post_init__(self) -> None:
        self._tokens = self._split()
        self._place = 0
        self._depth = 0
        self._comparisons = 0
        self._count_of_values = 0

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
            if kind == "name" and found.lower() in _WORDS:
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
        return _join(parts, "OR")

    def _both(self) -> Condition:
        parts = [self._one()]
        while self._take("word", "and"):
            parts.append(self._one())
        return _join(parts, "AND")

    def _one(self) -> Condition:
        self._depth += 1
        if self._depth > _DEEPEST:
            self._fail(f"it is nested deeper than {_DEEPEST}")
        try:
            if self._take("word", "not"):
                return _negate(self._one())
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
        path = self._field()
        negated = bool(self._take("word", "not"))
        if self._take("word", "in"):
            found = _any_of(path, self._values())
            return _negate(found) if negated else found
        sign = self._take("sign", *_COMPARISONS)
        if sign is None or negated:
            self._fail(f'expected = != < <= > >= or "in", found {self._next.text}')
        operator, value_token = _COMPARISONS[sign.text], self._next
        value = self._value()
        if operator in ("=", "!="):
            found = _any_of(path, [value])
            return found if operator == "=" else _negate(found)
        if value is None or isinstance(value, bool):
            self._fail(f"{value_token.text} is neither less nor more than anything", value_token.position)
        kinds = "'text'" if isinstance(value, str) else "'integer', 'real'"
        return _exists(f"type IN ({kinds}) AND value {operator} ?", path, value)

    def _field(self) -> str:
        token = self._take("name")
        if token is None:
            self._fail(f"expected a field, found {self._next.text}")
        name = token.text.strip("`")
        if name not in self.fields:
            near = difflib.get_close_matches(name, self.fields, n=1)
            known = f"did you mean {near[0]}?" if near else f"fields are: {', '.join(sorted(self.fields)) or 'none'}"
            self._fail(f"no document has the field {name}; {known}", token.position)
        parts = [name] if token.text.startswith("`") else name.split(".")
        return "$" + "".join(f'."{part}"' for part in parts)

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
            return re.sub(r"\\(.)", r"\1", token.text[1:-1], flags=re.DOTALL)
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


def _any_of(path: str, values: list[Value]) -> Condition:
    """True where the field, or an element of its list, is one of the values."""
    ways: list[Condition] = []
    if None in values:
        ways.append(Condition("coalesce(json_type(metadata, ?), 'null') = 'null'", (path,)))
    constants = [f"'{str(value).lower()}'" for value in values if isinstance(value, bool)]
    if constants:
        ways.append(_exists(f"type IN ({', '.join(constants)})", path))
    texts = [value for value in values if isinstance(value, str)]
    if texts:
        ways.append(_exists(f"type = 'text' AND value IN ({_marks(texts)})", path, *texts))
    numbers = [value for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]
    if numbers:
        ways.append(_exists(f"type IN ('integer', 'real') AND value IN ({_marks(numbers)})", path, *numbers))
    return _join(ways, "OR")


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def _exists(condition: str, path: str, *values: str | int | float) -> Condition:
    sql = f"EXISTS (SELECT 1 FROM json_each(metadata, ?) WHERE {condition})"  # noqa: S608  # values are parameters
    return Condition(sql, (path, *values))


def _join(parts: Sequence[Condition], word: str) -> Condition:
    if len(parts) == 1:
        return parts[0]
    # Side by side: SQLite's parser has no room for a hundred parentheses within each other.
    return Condition(
        f"({f' {word} '.join(part.sql for part in parts)})",
        tuple(itertools.chain(*(part.parameters for part in parts))),
    )


def _negate(condition: Condition) -> Condition:
    return Condition(f"NOT {condition.sql}", condition.parameters)
