"""The second stage: full vectors as codes in a memory-mapped file, a few of which are compared with a query."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nestvec.errors import DamagedIndexError
from nestvec.extras import require
from nestvec.files import append
from nestvec.quantization import ProductQuantizer, Quantizer, ScalarQuantizer
from nestvec.vectors import truncate

__all__ = ["ROWS_AT_A_TIME", "Stored", "StoredVectors", "encode"]

Float32s = NDArray[np.float32]
Rows = NDArray[np.int64]

ROWS_AT_A_TIME = 8192
"""Vectors that are decoded, scored or copied at once: what memory a build or a scan needs beside its codes."""
_CANDIDATES_AT_A_TIME = 2048  # compared with queries: more take twice as long each, for they leave the cache


class Stored(NamedTuple):
    """Vectors as a file holds them."""

    codes: NDArray[Any]
    """[n, width]."""
    lengths: Float32s
    """Of what each code stands for, [n]."""


def encode(quantizer: Quantizer, vectors: Float32s) -> Stored:
    """Return vectors, [n, full_dim], as a file holds them, of which some at a time are in memory as floats."""
    parts = []
    for first in range(0, max(1, len(vectors)), ROWS_AT_A_TIME):
        codes = quantizer.encode(vectors[first : first + ROWS_AT_A_TIME])
        parts.append(Stored(codes, _lengths(quantizer.decode(codes))))
    return parts[0] if len(parts) == 1 else Stored(*map(np.concatenate, zip(*parts, strict=True)))


class StoredVectors:
    """Codes of full vectors, and the length of what each stands for, in memory or mapped from a file.

    A file holds the codes of all rows, then the lengths as float32.
    """

    def __init__(self, quantizer: Quantizer, stored: Stored) -> None:
        """Wrap codes; see `open` for those of a file.

        Args:
            quantizer: What made them.
            stored: Codes and lengths, of `encode` or `take`.

        Raises:
            MissingExtraError: NumKong is not installed, which reads float16.
        """
        self.quantizer = quantizer
        self.full_dim = quantizer.full_dim
        self.codes, self._lengths = stored
        self._scalar: tuple[Float32s, Float32s] | None = None
        if isinstance(quantizer, ScalarQuantizer) and quantizer.precision == "int8":
            self._scalar = (quantizer.step, quantizer.low + 128 * quantizer.step)
        self._numkong = require("numkong", extra="index") if quantizer.precision == "float16" else None

    @staticmethod
    def open(path: Path, quantizer: Quantizer, count: int) -> StoredVectors:
        """Map a file.

        Args:
            path: A file that `write` wrote.
            quantizer: What made the codes.
            count: Vectors in it.

        Returns:
            The vectors; nothing of them is read before it is asked for.

        Raises:
            FileNotFoundError: It is not there.
            DamagedIndexError: It is of another length than that of so many vectors.
        """
        width = quantizer.width(quantizer.full_dim)
        code_bytes = count * width * quantizer.code_type.itemsize
        expected = code_bytes + 4 * count
        if path.stat().st_size != expected:
            raise DamagedIndexError(
                f"{path} has {path.stat().st_size:,} bytes in place of {expected:,}: it is damaged."
            )
        mapped = np.memmap(path, np.uint8, mode="r") if count else np.empty(0, np.uint8)
        whole = np.frombuffer(mapped, np.uint8)  # indexing a memmap costs more than an array
        codes = whole[:code_bytes].view(quantizer.code_type).reshape(count, width)
        return StoredVectors(quantizer, Stored(codes, whole[code_bytes:].view(np.float32)))

    @staticmethod
    def write(path: Path, blocks: Iterable[Stored]) -> int:
        """Write a file.

        Args:
            path: Where; nothing must be there.
            blocks: Codes and lengths, of `encode` or `take`.

        Returns:
            Vectors written.
        """
        count = 0
        with path.open("xb") as file, TemporaryFile(dir=path.parent) as lengths:
            for block in blocks:
                file.write(np.ascontiguousarray(block.codes).data)
                lengths.write(block.lengths.astype(np.float32).data)
                count += len(block.lengths)
            append(file, lengths)
        return count

    def __len__(self) -> int:
        """Vectors in the file."""
        return len(self.codes)

    def take(self, rows: Rows) -> Stored:
        """Return rows as they are stored."""
        return Stored(self.codes.take(rows, axis=0), self._lengths.take(rows))

    def decode(self, rows: Rows | slice) -> Float32s:
        """Return what the codes of rows stand for, at unit length, [n, full_dim]."""
        vectors: Float32s = self.quantizer.decode(self.codes[rows]) / self._lengths[rows][:, None]
        return vectors

    def blocks(self) -> Iterator[Float32s]:
        """Yield all that is stored, block by block, as `decode` returns it."""
        for first in _starts(len(self)):
            yield self.decode(slice(first, first + ROWS_AT_A_TIME))

    def score(self, queries: Float32s, rows: Rows, dim: int | None = None) -> Float32s:
        """Compare every query with some of the vectors.

        Args:
            queries: Unit vectors, [n_queries, full_dim], float32.
            rows: Which vectors, for each query, [n_queries, n].
            dim: Leading dimensions of both to look at; None looks at all.

        Returns:
            Cosine similarity, [n_queries, n], float32.
        """
        prefixes = queries if dim is None else truncate(queries, dim)
        if rows.size <= _CANDIDATES_AT_A_TIME:
            return self._score(prefixes, rows)
        scores = np.empty(rows.shape, np.float32)
        queries_at_a_time = max(1, _CANDIDATES_AT_A_TIME // rows.shape[1])
        for first in range(0, len(rows), queries_at_a_time):
            some = slice(first, first + queries_at_a_time)
            for left in range(0, rows.shape[1], _CANDIDATES_AT_A_TIME):
                columns = slice(left, left + _CANDIDATES_AT_A_TIME)
                scores[some, columns] = self._score(prefixes[some], rows[some, columns])
        return scores

    def score_some(self, queries: Float32s, rows: Rows, counts: Rows, dim: int | None = None) -> Float32s:
        """Compare every query with the first of its vectors, of which each has so many.

        Args:
            queries: Unit vectors, [n_queries, full_dim], float32.
            rows: Which vectors, for each query, [n_queries, n].
            counts: How many of them, [n_queries].
            dim: Leading dimensions of both to look at; None looks at all.

        Returns:
            Cosine similarity, -inf beyond those, [n_queries, n], float32.
        """
        if len(queries) == 1:
            return self.score(queries, rows[:, : counts[0]], dim)
        scores = np.full(rows.shape, -np.inf, np.float32)
        order = np.argsort(-counts)
        first = 0
        while first < len(order):
            # Queries that have about as many, so that few are compared in vain.
            width = counts[order[first]]
            some = order[first : first + max(1, _CANDIDATES_AT_A_TIME // width)]
            part = self.score(queries[some], rows[some, :width], dim)
            scores[some, :width] = np.where(np.arange(width) < counts[some, None], part, -np.inf)
            first += len(some)
        return scores

    def _score(self, prefixes: Float32s, rows: Rows) -> Float32s:
        flat, dim = rows.ravel(), prefixes.shape[1]
        codes = self.codes.take(flat, axis=0)
        if dim == self.full_dim and isinstance(self.quantizer, ProductQuantizer):
            products = self.quantizer.products(prefixes, codes.reshape(*rows.shape, -1))
            products /= self._lengths.take(flat).reshape(rows.shape)
            return products
        lengths = None
        if dim < self.full_dim:
            vectors = self.quantizer.decode(codes, dim)
            lengths = _lengths(vectors)
        elif self._numkong is not None:
            # numpy converts half precision one number at a time
            vectors = np.asarray(self._numkong.astype(codes, "float32"), np.float32)
        elif self._scalar is not None:
            vectors = codes.astype(np.float32)
        else:
            vectors = self.quantizer.decode(codes)
        offsets: Float32s | None = None
        if lengths is None:
            lengths = self._lengths.take(flat)
            if self._scalar is not None:
                step, offset = self._scalar
                offsets, prefixes = prefixes @ offset, prefixes * step
        scores: Float32s = np.matmul(vectors.reshape(*rows.shape, dim), prefixes[:, :, None])[:, :, 0]
        if offsets is not None:
            scores += offsets[:, None]
        scores /= lengths.reshape(rows.shape)
        return scores


def _starts(count: int) -> range:
    return range(0, count, ROWS_AT_A_TIME)


def _lengths(vectors: Float32s) -> Float32s:
    """Lengths, 1 in place of 0: what is divided by them stays zero, [n]."""
    lengths: Float32s = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    lengths[lengths == 0] = 1
    return lengths
