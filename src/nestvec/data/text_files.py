"""Text files in whatever encoding they come: the one place that turns their bytes into lines."""

from __future__ import annotations

import codecs
import gzip
import io
import re
import sys
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from nestvec.data.legacy_encodings import decodes, guess_encoding
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
_WIDE_SHARE, _WIDE_PURITY = 0.1, 0.7
_CONTROLS = bytes({*range(32)} - {*b"\t\n\r"})
_HIGH_RUN = re.compile(rb"[\x80-\xff]+")
_ESCAPED = re.compile("[\udc80-\udcff]")  # bytes that are not UTF-8, as surrogateescape decodes them
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
    yield from _read_lines(lambda: _open(path), str(path), problems, legacy)


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
        content = sys.stdin.buffer.read()
        found = _read_lines(lambda: io.BytesIO(content), problems.source, problems, True)
    else:
        problems = Problems(str(path))
        path = Path(path)
        if not path.is_file():
            kind = "is a folder" if path.is_dir() else "does not exist"
            raise SourceNotFoundError(f"{path} {kind}. Give a file with a text on each line.")
        found = read_lines(path, problems)
    lines = [line for _, line in found]
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
    wide = _wide_encoding(sample)
    if wide is not None:
        return wide, 0
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample, complete)
    except UnicodeDecodeError:
        # Where most of what is not ASCII is UTF-8, some lines are damaged; else it is something else.
        right = wrong = 0
        for run in _HIGH_RUN.findall(sample):
            if decodes(run, "utf-8"):
                right += len(run)
            else:
                wrong += len(run)
        return ("utf-8" if right >= wrong else None), 0
    return "utf-8", 0


def _read_lines(
    open_it: Callable[[], IO[bytes]], source: str, problems: Problems, legacy: bool
) -> Iterator[tuple[str, str]]:
    with _guarded(source):
        with open_it() as raw:
            sample, complete = _read_sample(raw, legacy)
        encoding, mark = sniff_encoding(sample, complete=complete)
        if encoding is None:
            encoding = "utf-8"
            if legacy:
                encoding = _guess(sample if complete else sample[: sample.rfind(b"\n") + 1], source)
                if not problems.quiet:
                    _say_guess(source, encoding)
        with open_it() as raw:
            raw.read(mark)
            errors = "surrogateescape" if encoding == "utf-8" else "strict"
            end = _line_end(sample[mark:], encoding)
            with io.TextIOWrapper(raw, encoding=encoding, errors=errors, newline=end) as lines:
                for number, line in enumerate(lines, start=1):
                    place = f"line {number}"
                    bad = None if line.isascii() or encoding != "utf-8" else _ESCAPED.search(line)
                    if bad is None:
                        yield place, line if end == "\n" else line.replace("\r", "\n")
                    else:
                        at = len(line[: bad.start()].encode("utf-8", "surrogateescape"))
                        problems.add(place, f"not UTF-8 text (byte {at + 1})")


def _read_sample(raw: IO[bytes], legacy: bool) -> tuple[bytes, bool]:
    """The first bytes, and whether these are all; where only ASCII comes first, the first that are not follow."""
    sample = raw.read(_BYTES_THAT_TELL)
    part = sample
    while legacy and sample.isascii() and len(part) == _BYTES_THAT_TELL:
        line = raw.readline()  # so that no character is cut
        part = raw.read(_BYTES_THAT_TELL)
        if not (line.isascii() and part.isascii()):
            return sample[: sample.rfind(b"\n") + 1] + line + part, len(part) < _BYTES_THAT_TELL
    return sample, len(part) < _BYTES_THAT_TELL


def _line_end(sample: bytes, encoding: str) -> str:
    """How lines end: as old Macs ended them where no other end is found."""
    text = codecs.getincrementaldecoder(encoding)("replace").decode(sample)
    return "\r" if "\r" in text[:-1] and "\n" not in text else "\n"


def _wide_encoding(sample: bytes) -> str | None:
    """UTF-16 or UTF-32 without a byte order mark, where zero and control bytes stand in its places; None otherwise."""
    even, odd = (len(part) - len(part.translate(None, _CONTROLS)) for part in (sample[::2], sample[1::2]))
    candidates = list(_WIDE[:2]) if sample.count(0) >= len(sample) / 2 else []
    for encoding, there in (("utf-16-le", odd), ("utf-16-be", even)):
        in_place = 2 * there >= _WIDE_SHARE * len(sample) and there >= _WIDE_PURITY * (even + odd)
        if there and (in_place or b"\n" in sample):
            candidates.append(encoding)
    found = max(candidates, key=lambda encoding: _plausibility(sample, encoding), default=None)
    return found if found is not None and _plausibility(sample, found) > 0 else None


def _plausibility(sample: bytes, encoding: str) -> float:
    """How much a sample looks like a text in a wide encoding, 0 to 1; 0 where it can be none."""
    width = 4 if "32" in encoding else 2
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(sample[: len(sample) // width * width])
    except UnicodeDecodeError:
        return 0.0
    likely = sum(character in "\t\n\r" or " " <= character <= "~" for character in text)
    wrong = sum(character not in "\t\n\r" and unicodedata.category(character) in _NO_TEXT for character in text)
    if not text or wrong > len(text) / 100 or text.count("\n") < sample.count(b"\n") / 2:
        return 0.0
    return (len(text) + likely) / (2 * len(text))


def _guess(sample: bytes, source: str) -> str:
    encoding = guess_encoding(sample)
    if encoding is None:
        raise DataError(
            f"{source} is no text in UTF-8, and in which encoding it is cannot be told. Convert it: "
            f"iconv -f ENCODING -t UTF-8 {source}"
        )
    return encoding


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
def _guarded(source: str) -> Iterator[None]:
    """Turn what a file raises that ends early, or is no gzip, into one of our errors."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise DataError(f"{source} is no text in {error.encoding}, as which it begins: {error.reason}.") from error
    except (gzip.BadGzipFile, EOFError, OSError) as error:
        raise DataError(
            f"{source} cannot be read to its end: {first_line(error)}. Copy or download it again."
        ) from error
