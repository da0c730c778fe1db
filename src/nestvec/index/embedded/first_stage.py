"""The first stage: short codes of all vectors, in memory, scanned by faiss for every query."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nestvec.errors import DamagedIndexError, DimensionError, PrecisionError, SearchIndexError, VectorError
from nestvec.extras import require
from nestvec.index.embedded.product_codes import (
    BITS,
    NUMBERS_PER_CODEBOOK,
    ProductCodes,
    bits_of_lists,
    train_product_codes,
)
from nestvec.quantization import (
    BinaryQuantizer,
    Quantizer,
    RotatedQuantizer,
    ScalarQuantizer,
    bytes_per_vector,
    fit_codes,
)
from nestvec.vectors import truncate

__all__ = [
    "PRODUCT",
    "CodeSettings",
    "FirstStage",
    "Scanned",
    "codebook_numbers",
    "default_codes",
]

Float32s = NDArray[np.float32]
Rows = NDArray[np.int64]

PRODUCT = "product"
"""Precision of codes with trained codebooks of four bits, one for each three numbers."""
_ROWS_TO_TRAIN = 100_000
_ROWS_PER_LIST_TO_TRAIN = 20
_SHARE = 1 / 2  # of the numbers of a vector: fewer need longer shortlists, more take longer to scan
_LONGEST_DEFAULT = 768  # of them, which get codes of 128 bytes
_SHORTEST_TO_LEARN = 24
_FEWEST_TO_LEARN = 2_000
_MOST_TO_SCAN = 800_000
_MOST_LISTS = 2**13  # by default: every query is compared with all their centres
_IDENTITY_BYTES = 8  # of a row number, which faiss keeps beside each code in lists
_TINY = 1e-30
_QUERIES_AT_A_TIME = 512  # whose similarities to all centres are in memory


class CodeSettings(NamedTuple):
    """What the first stage looks at."""

    dim: int
    """Numbers: the leading ones of a vector, or of its principal components where the precision is `product`."""
    precision: str = PRODUCT
    """`product`, or a precision of a plan."""
    lists: int | None = None
    """Lists of an inverted file, some of which are scanned for a query; None scans all codes."""

    @property
    def bytes_per_vector(self) -> int:
        """Memory for each vector."""
        if self.precision == PRODUCT:
            code_bytes = -(-(self.dim // NUMBERS_PER_CODEBOOK * BITS) // 8)
        else:
            code_bytes = bytes_per_vector(self.dim, self.precision)
        return code_bytes + (0 if self.lists is None else _IDENTITY_BYTES)

    @property
    def fewest_to_train(self) -> int:
        """Vectors to learn from, at least: as many as there are centres, and as components."""
        return max(2**BITS, self.lists or 0, self.dim) if self.precision == PRODUCT else 1

    @property
    def rows_to_train(self) -> int:
        """Vectors to learn from, at most: every list needs some."""
        return max(_ROWS_TO_TRAIN, (self.lists or 0) * _ROWS_PER_LIST_TO_TRAIN)


class Scanned(NamedTuple):
    """Rows of the first stage, best first."""

    rows: Rows
    """[n_queries, k], -1 where there are fewer."""
    scores: Float32s
    """What their codes say of the cosine, [n_queries, k]."""


def default_codes(full_dim: int, count: int) -> CodeSettings:
    """Return what suits so many vectors of a size.

    Args:
        full_dim: Numbers of a vector.
        count: Vectors.

    Returns:
        One principal component for two numbers at a sixth of a byte each, in lists beyond 800,000 vectors;
        int8 numbers where there are too few vectors, or too few numbers, to learn codebooks from.
    """
    if count < _FEWEST_TO_LEARN or full_dim < _SHORTEST_TO_LEARN:
        return CodeSettings(full_dim, "int8")
    lists = None if count <= _MOST_TO_SCAN else min(_MOST_LISTS, 2 ** round(math.log2(count) / 2 + 2))
    return CodeSettings(codebook_numbers(min(int(full_dim * _SHARE), _LONGEST_DEFAULT)), lists=lists)


def codebook_numbers(dim: int) -> int:
    """Return the most numbers, no more than `dim`, that `product` codes can stand for."""
    return dim - dim % NUMBERS_PER_CODEBOOK


class FirstStage:
    """Codes of vectors in a faiss index.

    `product` codes stand for what a vector has of its principal components, rotated at random so that every codebook
    has as much to say.
    Other precisions hold the first dimensions of a vector at unit length, rotated where a grid measures them so.
    """

    def __init__(self, index: Any, settings: CodeSettings, quantizer: Quantizer | None) -> None:
        """Wrap a trained faiss index; see `train` and `load`."""
        self._index = index
        self._product = ProductCodes(index) if quantizer is None else None
        self.settings = settings
        self.quantizer = quantizer
        """What the codes of a plan's precision are made by; None for `product`."""

    @staticmethod
    def train(sample: Float32s, settings: CodeSettings, *, seed: int = 0) -> FirstStage:
        """Learn codebooks, and lists where there are to be some.

        Args:
            sample: Unit vectors, [n, full_dim], float32, drawn from those to be stored.
            settings: What to look at.
            seed: Of every draw.

        Returns:
            A first stage without vectors.

        Raises:
            DimensionError: `dim` is outside the vectors.
            PrecisionError: The precision is not known, or cannot be kept in lists; or `dim`, for `product`, is no
                multiple of three, or too small for so many lists.
            SearchIndexError: There are too few vectors to learn from.
            MissingExtraError: faiss is not installed.
        """
        full_dim = sample.shape[1]
        if not 1 <= settings.dim <= full_dim:
            raise DimensionError(f"Cannot scan {settings.dim} numbers of vectors that have {full_dim}.")
        if settings.precision != PRODUCT:
            if settings.lists is not None:
                raise PrecisionError(f"Lists hold {PRODUCT} codes, not {settings.precision}. Leave lists out.")
            quantizer = fit_codes(sample, settings.dim, settings.precision, seed=seed)
            return FirstStage(_empty_scan(quantizer), settings, quantizer)
        return FirstStage(_train_product(sample, settings, seed), settings, None)

    @staticmethod
    def load(path: Path, settings: CodeSettings, quantizer: Quantizer | None) -> FirstStage:
        """Read what `save` wrote.

        Args:
            path: The file.
            settings: What it was trained with.
            quantizer: The one it had.

        Returns:
            The same first stage.

        Raises:
            FileNotFoundError: It is not there.
            DamagedIndexError: The file is damaged.
        """
        faiss = require("faiss", extra="index")
        try:
            index = faiss.read_index(str(path))
        except RuntimeError as error:
            path.stat()
            raise DamagedIndexError(f"{path} is damaged: faiss cannot read it.") from error
        return FirstStage(index, settings, quantizer)

    def save(self, path: Path) -> None:
        """Write the codes as a faiss index, which faiss alone can read as well."""
        require("faiss", extra="index").write_index(self._index, str(path))

    def empty(self) -> FirstStage:
        """Return a first stage without vectors and with the same codebooks."""
        faiss = require("faiss", extra="index")
        index = faiss.clone_index(self._index)
        index.reset()
        return FirstStage(index, self.settings, self.quantizer)

    def __len__(self) -> int:
        """Vectors in it."""
        return int(self._index.ntotal)

    @property
    def table_bytes(self) -> int:
        """Memory of what turns vectors into codes."""
        if self._product is not None:
            return self._product.table_bytes
        return self.quantizer.rotation.nbytes if isinstance(self.quantizer, RotatedQuantizer) else 0

    @property
    def copied_bytes(self) -> int:
        """Memory beside what `save` writes."""
        return 0 if self._product is None else self._product.copied_bytes

    def add(self, vectors: Float32s) -> None:
        """Store vectors.

        Args:
            vectors: Unit vectors, [n, full_dim], float32.
        """
        if self._product is not None:
            self._product.add(vectors)
        elif self.quantizer is not None:
            _add_to_scan(self._index, self.quantizer, self._prefixes(vectors))

    def search(
        self,
        queries: Float32s,
        k: int,
        *,
        probes: int | None = None,
        probe_ratio: float | None = None,
        share: float = 1.0,
        dim: int | None = None,
    ) -> Scanned:
        """Find the vectors whose codes are nearest.

        Args:
            queries: Unit vectors, [n_queries, full_dim], float32.
            k: Vectors to find for each.
            probes: Lists to scan, where there are lists; None scans all.
            probe_ratio: Scan only lists whose centre is at least so many times as similar to the query as the nearest
                one, at similarity s, is: s - (1 - ratio) |s| or more. A query amidst one list has few of them, one
                between many has many (SPANN, arXiv:2111.08566). None scans as many for every query.
            share: Of all vectors, those that count: as many times more lists are scanned as there are fewer.
            dim: Leading numbers of the query to use; None uses all.

        Returns:
            The best k.
        """
        k = max(1, min(k, len(self)))
        queries = _zeroed(queries, dim)
        if self._product is None:
            scores, rows = self._index.search(self._cut(queries), k)
            return Scanned(rows, scores)
        lists = self.settings.lists
        if lists is None:
            return Scanned(*self._product.scan(self._product.transform(queries), k))
        most = lists if probes is None else min(math.ceil(probes / share), lists)
        found = Scanned(np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32))
        for first in range(0, len(queries), _QUERIES_AT_A_TIME):
            some = slice(first, first + _QUERIES_AT_A_TIME)
            transformed = self._product.transform(queries[some])
            chosen = _near(self._product.similarities(transformed), most, probe_ratio, share)
            found.rows[some], found.scores[some] = self._product.scan(transformed, k, chosen)
        return found

    def probe_ratio(self, queries: Float32s, probes: int, *, dim: int | None = None) -> float:
        """Return the ratio for which so many lists are scanned for a query, on average; see `search`.

        Raises:
            SearchIndexError: There are no lists.
            VectorError: There are no queries, or fewer than one list is to be scanned.
        """
        if self._product is None or self.settings.lists is None:
            raise SearchIndexError("These codes are in no lists: all of them are scanned.")
        if not len(queries) or probes < 1:
            raise VectorError("A ratio is learned from one query at least, and one list or more for each.")
        similarities = self._product.similarities(self._product.transform(_zeroed(queries, dim)))
        nearest = similarities.max(axis=1, keepdims=True)
        # What `_near` compares, turned to the ratio that just lets a list in.
        ratios = (1 - (nearest - similarities) / np.maximum(np.abs(nearest), _TINY)).ravel()
        place = min(probes * len(queries), len(ratios)) - 1
        return float(-np.partition(-ratios, place)[place])

    def _cut(self, queries: Float32s) -> Float32s:
        cut = np.zeros((len(queries), self._index.d), np.float32)
        cut[:, : self.settings.dim] = self._prefixes(queries)
        return cut

    def _prefixes(self, vectors: Float32s) -> Float32s:
        """Prefixes as the codes take them, [n, dim]."""
        prefixes = truncate(vectors, self.settings.dim)
        return self.quantizer.rotate(prefixes) if isinstance(self.quantizer, RotatedQuantizer) else prefixes


def _zeroed(queries: Float32s, dim: int | None) -> Float32s:
    """Queries, [n_queries, full_dim], without what follows their first numbers; None keeps all."""
    if dim is None or dim >= queries.shape[1]:
        return queries
    return np.where(np.arange(queries.shape[1]) < dim, queries, np.float32(0))


def _near(similarities: Float32s, probes: int, ratio: float | None, share: float) -> Rows:
    """Lists to scan for every query, [n_queries, n], -1 where there are fewer; see `FirstStage.search`."""
    lists = similarities.shape[1]
    if ratio is None:
        counts = np.full(len(similarities), probes)
    else:
        nearest = similarities.max(axis=1, keepdims=True)
        near = similarities >= nearest - (1 - ratio) * np.abs(nearest)
        counts = near.sum(axis=1)
        if share == 1 and counts.max() <= probes:
            if len(near) == 1:
                alone: Rows = np.flatnonzero(near[0])[None]
                return alone
            chosen = np.full((len(near), int(counts.max())), -1)
            chosen[np.arange(chosen.shape[1]) < counts[:, None]] = near.nonzero()[1]
            return chosen
        counts = np.minimum(np.ceil(counts / share).astype(np.int64), probes)
    width = int(counts.max())
    first = np.argpartition(-similarities, min(width, lists - 1), axis=1)[:, :width]
    order = np.argsort(-np.take_along_axis(similarities, first, axis=1), axis=1, kind="stable")
    return np.where(np.arange(width) < counts[:, None], np.take_along_axis(first, order, axis=1), -1)


def _train_product(sample: Float32s, settings: CodeSettings, seed: int) -> Any:
    if settings.dim % NUMBERS_PER_CODEBOOK:
        raise PrecisionError(
            f"{PRODUCT} codes stand for {NUMBERS_PER_CODEBOOK} numbers each, of which {settings.dim} is no multiple. "
            f"Choose {max(NUMBERS_PER_CODEBOOK, codebook_numbers(settings.dim))}."
        )
    if len(sample) < settings.fewest_to_train:
        raise SearchIndexError(
            f"These codes are learned from {settings.fewest_to_train:,} documents at least, and there are "
            f"{len(sample):,}. Choose fewer lists or numbers, or another precision."
        )
    fewest = 0 if settings.lists is None else NUMBERS_PER_CODEBOOK * bits_of_lists(settings.lists)
    if settings.dim < fewest:
        raise PrecisionError(
            f"Codes of {settings.dim} numbers are too short for {settings.lists:,} lists. Choose {fewest} or more, or "
            "fewer lists."
        )
    return train_product_codes(sample, settings.dim, settings.lists, rows_for_lists=settings.rows_to_train, seed=seed)


def _empty_scan(quantizer: Quantizer) -> Any:
    """Return the faiss index that holds the codes of a quantizer."""
    faiss = require("faiss", extra="index")
    dim, product = quantizer.full_dim, faiss.METRIC_INNER_PRODUCT
    if isinstance(quantizer, RotatedQuantizer):
        return _empty_scan(quantizer.inner)
    if isinstance(quantizer, BinaryQuantizer):
        return _empty_binary(quantizer)
    if isinstance(quantizer, ScalarQuantizer):
        int8 = quantizer.precision == "int8"
        bits = faiss.ScalarQuantizer.QT_8bit if int8 else faiss.ScalarQuantizer.QT_4bit
        index = faiss.IndexScalarQuantizer(dim, bits, product)
        steps = 255 if int8 else 15
        # faiss decodes code c to low + (c + 1/2) / steps x range, nestvec to low + c x step
        trained = np.concatenate([quantizer.low - quantizer.step / 2, quantizer.step * steps]).astype(np.float32)
        faiss.copy_array_to_vector(trained, index.sq.trained)
        index.is_trained = True
        return index
    if quantizer.precision == "float16":
        return faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16, product)
    return faiss.IndexFlatIP(dim)


def _add_to_scan(index: Any, quantizer: Quantizer, vectors: Float32s) -> None:
    """Add vectors, [n, dim], rotated where they are to be, to what `_empty_scan` returned."""
    if isinstance(quantizer, RotatedQuantizer):
        quantizer = quantizer.inner
    if isinstance(quantizer, BinaryQuantizer):
        # The nearest pattern of what a code stands for is that code.
        decoded = quantizer.decode(quantizer.encode(vectors))
        vectors = np.pad(decoded, [(0, 0), (0, index.d - decoded.shape[1])])
    index.add(np.ascontiguousarray(vectors))


def _empty_binary(quantizer: BinaryQuantizer) -> Any:
    """Product quantization of four bits a codebook, which faiss scans fast, whose centroids are their 16 patterns."""
    faiss = require("faiss", extra="index")
    n_codebooks = -(-quantizer.full_dim // BITS)
    padded = n_codebooks * BITS
    below, above = (np.pad(side, (0, padded - quantizer.full_dim)) for side in (quantizer.below, quantizer.above))
    patterns = (np.arange(2**BITS)[:, None] >> np.arange(BITS)) & 1  # [16, 4]
    centroids = np.where(patterns, above.reshape(-1, 1, BITS), below.reshape(-1, 1, BITS))
    index = faiss.IndexPQFastScan(padded, n_codebooks, BITS, faiss.METRIC_INNER_PRODUCT)
    faiss.copy_array_to_vector(centroids.astype(np.float32).ravel(), index.pq.centroids)
    index.is_trained = True
    return index
