"""Text files in whatever encoding they come: the one place that turns their bytes into lines."""

from __future__ import annotations

import codecs
import gzip
import io
import re
import sys
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from charset_normalizer import from_bytes

from nestvec.data.problems import Problems, first_line
from nestvec.errors import DataError, NestvecWarning, SourceNotFoundError

__all__ = ["read_line_list", "read_lines", "sniff_encoding"]

_BYTES_THAT_TELL = 1 << 18
_MARKS = (  # the longer ones first: that of UTF-32 begins as that of UTF-16 does
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_WIDE = ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be")
_MULTIBYTE = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_ESCAPED = re.compile("[\udc80-\udcff]")  # bytes that are not UTF-8, as surrogateescape decodes them
_LATIN = "cp1252"
_NO_TEXT = {"Cc", "Cn", "Co", "Cs"}
_STANDARD_INPUT = "-"


def read_lines(path: Path, problems: Problems, *, legacy: bool = True) -> Iterator[tuple[str, str]]:
    """Read the lines of a text file: UTF-8, UTF-16 or UTF-32, with or without a byte order mark, or an 8-bit encoding.

    Args:
        path: The file, gzipped if its name ends in `.gz`.
        problems: Where lines that cannot be decoded are noted.
        legacy: Whether a file that is no Unicode may be read in the encoding that it looks like, with a warning;
            otherwise its lines that are not UTF-8 are problems, as JSON demands.

    Yields:
        The place, `line N`, and the text with its line end.

    Raises:
        DataError: The file ends early, is no gzip, or no text in the encoding that it begins with.
    """
    with _guarded(path):
        with _open(path) as raw:
            sample = raw.read(_BYTES_THAT_TELL)
        encoding, mark = sniff_encoding(sample, complete=len(sample) < _BYTES_THAT_TELL)
        if encoding is None:
            encoding = "utf-8"
            if legacy:
                encoding = _guess(sample)
                _say_guess(str(path), encoding)
        with _open(path) as raw:
            raw.read(mark)
            errors = "surrogateescape" if encoding == "utf-8" else "strict"
            with io.TextIOWrapper(raw, encoding=encoding, errors=errors, newline="\n") as lines:
                for number, line in enumerate(lines, start=1):
                    place = f"line {number}"
                    bad = None if line.isascii() or encoding != "utf-8" else _ESCAPED.search(line)
                    if bad is None:
                        yield place, line
                    else:
                        at = len(line[: bad.start()].encode("utf-8", "surrogateescape"))
                        problems.add(place, f"not UTF-8 text (byte {at + 1})")


def read_line_list(path: Path | str) -> list[str]:
    """Read a list of texts, one a line, such as ids or queries; blank lines and space around each do not count.

    Args:
        path: The file in any encoding, also gzipped; `-` is standard input.

    Returns:
        The texts, in order; there may be none.

    Raises:
        SourceNotFoundError: There is no such file.
        DataError: The file is no text, or ends early.
    """
    if str(path) == _STANDARD_INPUT:
        problems = Problems("standard input")
        lines = _decode(sys.stdin.buffer.read(), problems).splitlines()
    else:
        problems = Problems(str(path))
        path = Path(path)
        if not path.is_file():
            kind = "is a folder" if path.is_dir() else "does not exist"
            raise SourceNotFoundError(f"{path} {kind}. Give a file with a text on each line.")
        lines = [line for _, line in read_lines(path, problems)]
    if any("\0" in line for line in lines):
        raise DataError(f"{problems.source} is no text: it holds zero bytes. Give a text a line.")
    problems.raise_if_any()
    return [text for text in (line.strip() for line in lines) if text]


def sniff_encoding(sample: bytes, *, complete: bool) -> tuple[str | None, int]:
    """Tell the Unicode encoding of a text from how it begins.

    Args:
        sample: Its first bytes.
        complete: Whether these are all.

    Returns:
        The encoding and the length of its byte order mark, in bytes; None where it is no Unicode encoding.

    Example:
        >>> sniff_encoding("k0".encode("utf-16-le"), complete=True)
        ('utf-16-le', 0)
        >>> sniff_encoding("Größe".encode("latin-1"), complete=True)
        (None, 0)
    """
    for mark, encoding in _MARKS:
        if sample.startswith(mark):
            return encoding, len(mark)
    if b"\0" in sample:  # no text has a zero byte, but for the wide encodings
        found = max(_WIDE, key=lambda encoding: _plausibility(sample, encoding))
        return (found if _plausibility(sample, found) > 0 else "utf-8"), 0
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample, complete)
    except UnicodeDecodeError:
        # Where most of what is not ASCII is UTF-8, some lines are damaged; else it is something else.
        whole = sum(map(len, _MULTIBYTE.findall(sample)))
        others = sum(byte >= 0x80 for byte in sample) - whole
        return ("utf-8" if whole >= others else None), 0
    return "utf-8", 0


def _plausibility(sample: bytes, encoding: str) -> float:
    """How much a sample looks like a text in a wide encoding, 0 to 1; 0 where it can be none."""
    width = 4 if "32" in encoding else 2
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(sample[: len(sample) // width * width])
    except UnicodeDecodeError:
        return 0.0
    likely = sum(character in "\t\n\r" or " " <= character <= "~" for character in text)
    wrong = sum(character not in "\t\n\r" and unicodedata.category(character) in _NO_TEXT for character in text)
    return 0.0 if not text or wrong > len(text) / 100 else (len(text) + likely) / (2 * len(text))


def _guess(sample: bytes) -> str:
    """The encoding of a text that is no Unicode: that of western Europe where its words would be words in it."""
    if _is_latin(sample):
        return _LATIN
    found = from_bytes(sample).best()
    return _LATIN if found is None else found.encoding


def _is_latin(sample: bytes) -> bool:
    """Whether a text in cp1252 is mostly ASCII letters with accented ones between them."""
    try:
        text = sample.decode(_LATIN)
    except UnicodeDecodeError:
        return False
    letters = sum(character.isalpha() for character in text)
    accented = sum(character.isalpha() and not character.isascii() for character in text)
    return accented <= letters / 3 and not any(unicodedata.category(one) in _NO_TEXT for one in text if one > "\x7f")


def _decode(content: bytes, problems: Problems) -> str:
    encoding, mark = sniff_encoding(content, complete=True)
    if encoding is None:
        encoding = _guess(content)
        _say_guess(problems.source, encoding)
    try:
        return content[mark:].decode(encoding)
    except UnicodeDecodeError as error:
        problems.add(f"byte {error.start + 1}", f"no text in {encoding}")
        return ""


def _say_guess(source: str, encoding: str) -> None:
    warnings.warn(
        f"{source} is not UTF-8; it is read as {encoding}. If characters come out wrong, convert it first: "
        f"iconv -f ENCODING -t UTF-8 {source}",
        NestvecWarning,
        stacklevel=3,
    )


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb")  # type: ignore[return-value]


@contextmanager
def _guarded(path: Path) -> Iterator[None]:
    """Turn what a file raises that ends early, or is no gzip, into one of our errors."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text in {error.encoding}, as which it begins: {error.reason}.") from error
    except (gzip.BadGzipFile, EOFError, OSError) as error:
        raise DataError(f"{path} cannot be read to its end: {first_line(error)}. Copy or download it again.") from error
