"""Vectors that quantizers are fitted on, from a file of texts or rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nestvec.data import Benchmark, LabeledText, ScoredPair, naming_places, read_documents
from nestvec.encoders import Encoder
from nestvec.errors import DataError
from nestvec.index import rows_to_train
from nestvec.jobs.training_data import read_source
from nestvec.progress import Progress, silent
from nestvec.vectors import unit_float32

__all__ = ["encode_sample"]


def encode_sample(source: str | Path, encoder: Encoder, *, progress: Progress = silent) -> NDArray[np.float32]:
    """Encode the texts of a file as documents, each once.

    Args:
        source: Rows of queries and documents, of which the positives count; or documents, as an index takes them; of a
            BEIR folder its corpus.
        encoder: What encodes them.
        progress: How to report progress.

    Returns:
        Unit vectors of as many texts as codebooks are learned from at most, evenly spread, [n, full_dim], float32.

    Raises:
        SourceNotFoundError: There is no such file.
        DataError: It holds neither, or no text.
    """
    texts = list(dict.fromkeys(text for text in _read(Path(source), progress) if text.strip()))
    if not texts:
        raise DataError(f"{source} has no texts to fit quantizers on.")
    with naming_places(source):
        return unit_float32(
            encoder.encode_documents(texts[:: -(-len(texts) // rows_to_train(encoder.full_dim))], progress=progress)
        )


def _read(source: Path, progress: Progress) -> list[str]:
    if (source / "corpus.jsonl").exists() or (source / "corpus.jsonl.gz").exists():
        return [one.text for one in read_documents(source)]
    try:
        found = read_source(source, progress=progress)
    except DataError as rows:
        try:
            return [one.text for one in read_documents(source)]
        except DataError:
            raise rows from None
    if isinstance(found, Benchmark):
        return list(found.corpus.values())
    texts: list[str] = []
    for record in found:
        if isinstance(record, LabeledText):
            texts.append(record.text)
        elif isinstance(record, ScoredPair):
            texts += [record.text1, record.text2]
        else:
            texts.append(record.positive)
    return texts
