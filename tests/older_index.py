"""An index as an older version wrote it, made of one of today."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from nestvec.index.fields import decode_keys, find_fields


def downgrade(folder: Path) -> None:
    """Turn the manifest of an index into one of format 2: words of the texts as they are, and names of fields."""
    connection = sqlite3.connect(folder / "manifest.sqlite", isolation_level=None)
    rows = connection.execute("SELECT number, metadata FROM documents WHERE metadata IS NOT NULL").fetchall()
    known = [(number, decode_keys(json.loads(metadata))) for number, metadata in rows]
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(
        "UPDATE documents SET metadata = ? WHERE number = ?",
        [(json.dumps(metadata, ensure_ascii=False), number) for number, metadata in known],
    )
    for statement in (
        "DROP TABLE words",
        "DROP TABLE fields",
        "CREATE TABLE fields (name TEXT PRIMARY KEY) WITHOUT ROWID",
        "CREATE VIRTUAL TABLE words USING fts5(text, content='documents', content_rowid='number')",
        "INSERT INTO words (rowid, text) SELECT number, text FROM documents WHERE text IS NOT NULL",
        "UPDATE settings SET value = '2' WHERE name = 'format'",
    ):
        connection.execute(statement)
    names = {".".join(path) for _, metadata in known for path, _ in find_fields(metadata)}
    connection.executemany("INSERT INTO fields VALUES (?)", [(name,) for name in sorted(names)])
    connection.execute("COMMIT")
    connection.close()
