"""Where a text stands in the files it was read from, for errors that are about one text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nestvec.data.problems import Problems
from nestvec.data.readers import is_saved_data_set, read_rows
from nestvec.data.records import Columns, header_and_roles
from nestvec.errors import DataError, EndpointError, ModelError, SourceNotFoundError

__all__ = ["find_text", "naming_places"]

_FILES_OF_A_BENCHMARK = ("corpus.jsonl", "corpus.jsonl.gz", "queries.jsonl", "queries.jsonl.gz")


def find_text(source: str | Path, text: str, *, header: Sequence[str] | None = None) -> str | None:
    """Find the first row that holds a text.

    Args:
        source: A file of rows, or a BEIR folder.
        text: The text, as it was encoded, without a prompt.
        header: Names of the columns of a file that has none.

    Returns:
        The file and the place in it, such as `rows.jsonl, line 12`; None where no row holds it.
    """
    source = Path(source)
    files = [source]
    if source.is_dir() and not is_saved_data_set(source):
        files = [source / name for name in _FILES_OF_A_BENCHMARK if (source / name).is_file()]
    for file in files:
        try:
            for row in read_rows(file, problems=Problems(str(file), quiet=True), header=header):
                if _holds(row.values, text):
                    return f"{file}, {row.place}"
        except (DataError, SourceNotFoundError):
            continue
    return None


def _holds(values: Any, text: str) -> bool:
    texts = [value for value in values.values() if isinstance(value, str)]
    lists = [value for value in values.values() if isinstance(value, (list, tuple))]
    texts += [item for items in lists for item in items if isinstance(item, str)]
    wanted = text.strip()
    if any(one.strip() == wanted for one in texts):
        return True
    titles = [one for one in texts if one and wanted.startswith(one)]  # a document's title goes before its text
    return any(f"{title} {one}".strip() == wanted for title in titles for one in texts)


@contextmanager
def naming_places(*sources: str | Path, columns: Columns | None = None) -> Iterator[None]:
    """Add the file and row to an error about one text of them.

    Args:
        sources: Files of rows, or BEIR folders, that the texts were read from.
        columns: Which column holds what, or the names of all columns of a file without a header.

    Raises:
        ModelError: A model gives one of the texts no direction.
        EndpointError: An endpoint gives one of the texts no direction.
    """
    header, _ = header_and_roles(columns)
    try:
        yield
    except (ModelError, EndpointError) as error:
        if error.text is None:
            raise
        places = (find_text(source, error.text, header=header) for source in sources)
        place = next((place for place in places if place is not None), None)
        if place is None:
            raise
        found = type(error)(f"{error} It stands in {place}.")
        raise found from error
