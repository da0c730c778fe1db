"""The fields that metadata have: paths of keys, what kinds of values are there, and how keys are written in SQLite."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias
from urllib.parse import unquote

from nestvec.errors import DataError
from nestvec.files import DEEPEST

__all__ = [
    "INNER_KEY",
    "KEY",
    "RESERVED",
    "Fields",
    "Kind",
    "Path",
    "decode_keys",
    "encode_keys",
    "find_fields",
    "is_plain",
    "json_path",
    "spell_path",
]

Path: TypeAlias = tuple[str, ...]
"""The keys that lead to a value."""


class Kind(enum.IntFlag):
    """What values a field has in any document; those in a list count as values of its field."""

    TEXT = 1
    NUMBER = 2
    TRUTH = 4
    NULL = 8
    OBJECT = 16
    OTHER = 32
    """Objects and lists inside a list, which filters do not reach."""
    ANY = 15

    def described(self) -> str:
        """Return what they are, in words."""
        names = {Kind.TEXT: "texts", Kind.NUMBER: "numbers", Kind.TRUTH: "truth values", Kind.NULL: "null"}
        return " and ".join(name for kind, name in names.items() if kind in self) or "nothing"


Fields: TypeAlias = Mapping[Path, Kind]

INNER_KEY = r"(?:[\w-]|[^\x00-\x7f\s])+"
"""A key that a filter writes as it is, behind a dot."""
KEY = rf"(?![0-9-]){INNER_KEY}"
"""The same where a field begins."""
_BARE, _INNER_BARE = re.compile(KEY), re.compile(INNER_KEY)
RESERVED = {"and", "or", "not", "in", "true", "false", "null"}
"""Words of filters that no field is called, unless between backticks."""
# Quotes, backslashes and control characters mean something in a path of SQLite, in some versions of it and not in
# others: keys with them are stored as percent codes.
_AWKWARD = re.compile(r'[%"\\\x00-\x1f\x7f]')


def find_fields(metadata: Mapping[str, Any]) -> Iterator[tuple[Path, Kind]]:
    """Yield every field of metadata with its kind, those inside others after them.

    Args:
        metadata: JSON values by key.

    Example:
        >>> [(path, kind.described()) for path, kind in find_fields({"a": {"b": [1, "x"]}})][1]
        (('a', 'b'), 'texts and numbers')
    """
    return _find(metadata, ())


def _find(metadata: Mapping[str, Any], above: Path) -> Iterator[tuple[Path, Kind]]:
    for key, value in metadata.items():
        path = (*above, key)
        if isinstance(value, Mapping):
            yield path, Kind.OBJECT
            yield from _find(value, path)
        elif isinstance(value, (list, tuple)):
            found = Kind(0)
            for item in value:
                found |= Kind.OTHER if isinstance(item, (Mapping, list, tuple)) else _kind(item)
            yield path, found
        else:
            yield path, _kind(value)


def _kind(value: object) -> Kind:
    if isinstance(value, str):
        return Kind.TEXT
    if isinstance(value, bool):
        return Kind.TRUTH
    return Kind.NULL if value is None else Kind.NUMBER


def encode_keys(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata as SQLite holds them, with keys that its paths can name.

    Args:
        metadata: JSON values by key.

    Raises:
        DataError: A key is no text, a text holds a zero character, which SQLite's JSON cuts it at, or they are nested
            too deep.
    """
    return _encode_object(metadata, 1)


def _encode_object(metadata: Mapping[str, Any], depth: int) -> dict[str, Any]:
    return {_encode_key(key): _encode_value(value, depth) for key, value in metadata.items()}


def _encode_value(value: Any, depth: int) -> Any:
    if isinstance(value, (Mapping, list, tuple)):
        if depth >= DEEPEST:
            raise DataError(f"they are nested more than {DEEPEST} deep")
        if isinstance(value, Mapping):
            return _encode_object(value, depth + 1)
        return [_encode_value(item, depth + 1) for item in value]
    if isinstance(value, str) and "\0" in value:
        raise DataError(f"a text in them holds a zero character: {value!r}. Take it out")
    return value


def _encode_key(key: object) -> str:
    if not isinstance(key, str):
        raise DataError(f"the key {key!r} is no text. Write it as {str(key)!r}")
    return _AWKWARD.sub(lambda found: f"%{ord(found[0]):02X}", key)


def is_plain(path: Path) -> bool:
    """Tell whether SQLite can name all keys of a path as they are."""
    return not any(map(_AWKWARD.search, path))


def decode_keys(value: Any) -> Any:
    """Return metadata as they were given, from what SQLite holds."""
    if isinstance(value, dict):
        return {unquote(key): decode_keys(inner) for key, inner in value.items()}
    return [decode_keys(item) for item in value] if isinstance(value, list) else value


def json_path(path: Sequence[str]) -> str:
    """Return the path of a field as SQLite writes it.

    Example:
        >>> json_path(("owner", 'v."1"'))
        '$."owner"."v.%221%22"'
    """
    return "$" + "".join(f'."{_encode_key(key)}"' for key in path)


def spell_path(path: Sequence[str]) -> str:
    """Return a path as a filter writes it, with keys between backticks where they need them.

    Example:
        >>> spell_path(("owner", "v.1"))
        'owner.`v.1`'
    """
    return ".".join(_spell_key(key, first=not place) for place, key in enumerate(path))


def _spell_key(key: str, *, first: bool) -> str:
    bare = _BARE.fullmatch(key) and key.lower() not in RESERVED if first else _INNER_BARE.fullmatch(key)
    return key if bare else "`" + key.replace("`", "``") + "`"
