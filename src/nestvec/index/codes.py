"""The first stage: short codes of all vectors, in memory, scanned by faiss for every query."""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nestvec.errors import DimensionError, PrecisionError, SearchIndexError, VectorError
from nestvec.extras import require
from nestvec.quantization import BinaryQuantizer, Quantizer, ScalarQuantizer, bytes_per_vector, fit_quantizer
from nestvec.vectors import truncate

__all__ = ["PRODUCT", "CodeSettings", "FirstStage", "Found", "codebook_numbers", "default_codes", "faiss_threads"]

Float32s = NDArray[np.float32]
Rows = NDArray[np.int64]

PRODUCT = "product"
"""Precision of codes with trained codebooks of four bits, one for each three numbers."""
_NUMBERS_PER_CODEBOOK = 3
_BITS = 4
_ROWS_TO_TRAIN = 100_000
_ROWS_FOR_CODEBOOKS = 65_536
_ROWS_PER_LIST_TO_TRAIN = 20
_SHARE = 5 / 8  # of the numbers of a vector: fewer need longer shortlists, more take longer to scan
_LONGEST_DEFAULT = 768  # of them, which get codes of 128 bytes
_SHORTEST_TO_LEARN = 24
_FEWEST_TO_LEARN = 2_000
_MOST_TO_SCAN = 800_000
_IDENTITY_BYTES = 8  # that faiss keeps a row in lists
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
            code_bytes = -(-(self.dim // _NUMBERS_PER_CODEBOOK * _BITS) // 8)
        else:
            code_bytes = bytes_per_vector(self.dim, self.precision)
        return code_bytes + (0 if self.lists is None else _IDENTITY_BYTES)

    @property
    def fewest_to_train(self) -> int:
        """Vectors to learn from, at least: as many as there are centres, and as components."""
        return max(2**_BITS, self.lists or 0, self.dim) if self.precision == PRODUCT else 1

    @property
    def rows_to_train(self) -> int:
        """Vectors to learn from, at most: every list needs some."""
        return max(_ROWS_TO_TRAIN, (self.lists or 0) * _ROWS_PER_LIST_TO_TRAIN)


class Found(NamedTuple):
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
        Five principal components for eight numbers at a sixth of a byte each, in lists beyond 800,000 vectors;
        int8 numbers where there are too few vectors, or too few numbers, to learn codebooks from.
    """
    if count < _FEWEST_TO_LEARN or full_dim < _SHORTEST_TO_LEARN:
        return CodeSettings(full_dim, "int8")
    lists = None if count <= _MOST_TO_SCAN else 2 ** round(math.log2(count) / 2 + 1)
    return CodeSettings(codebook_numbers(min(int(full_dim * _SHARE), _LONGEST_DEFAULT)), lists=lists)


def codebook_numbers(dim: int) -> int:
    """Return the most numbers, no more than `dim`, that `product` codes can stand for."""
    return dim - dim % _NUMBERS_PER_CODEBOOK


class _Lists(NamedTuple):
    """The inverted file of `product` codes, and what it takes to choose among its lists."""

    index: Any
    components: Float32s
    """[full_dim, dim]."""
    centres: Float32s
    """[dim, lists]."""

    def transformed(self, queries: Float32s) -> Float32s:
        """Queries as the codes stand for vectors, [n_queries, dim]."""
        found: Float32s = queries @ self.components
        return found

    def similarities(self, transformed: Float32s) -> Float32s:
        """Of queries to the centres of lists, [n_queries, lists]."""
        found: Float32s = transformed @ self.centres
        return found


class FirstStage:
    """Codes of vectors in a faiss index.

    `product` codes stand for what a vector has of its principal components, turned at random so that every codebook has
    as much to say.
    Other precisions hold the first numbers of a vector at unit length, as a grid measures them.
    """

    def __init__(self, index: Any, settings: CodeSettings, quantizer: Quantizer | None) -> None:
        """Wrap a trained faiss index; see `train` and `load`."""
        self._index = index
        self.settings = settings
        self.quantizer = quantizer
        """What the codes of a plan's precision are made by; None for `product`."""
        self._parameters: dict[int, Any] = {}

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
            PrecisionError: The precision is not known, or cannot be kept in lists, or `dim` is odd for `product`.
            SearchIndexError: There are too few vectors to learn from.
            MissingExtraError: faiss is not installed.
        """
        full_dim = sample.shape[1]
        if not 1 <= settings.dim <= full_dim:
            raise DimensionError(f"Cannot scan {settings.dim} numbers of vectors that have {full_dim}.")
        if settings.precision != PRODUCT:
            if settings.lists is not None:
                raise PrecisionError(f"Lists hold {PRODUCT} codes, not {settings.precision}. Leave lists out.")
            quantizer = fit_quantizer(truncate(sample, settings.dim), settings.precision)
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
            SearchIndexError: The file is damaged.
        """
        faiss = require("faiss", extra="index")
        try:
            index = faiss.read_index(str(path))
        except RuntimeError as error:
            path.stat()
            raise SearchIndexError(f"{path} is damaged: faiss cannot read it.") from error
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

    def add(self, vectors: Float32s) -> None:
        """Store vectors.

        Args:
            vectors: Unit vectors, [n, full_dim], float32.
        """
        if self.quantizer is None:
            self._index.add(np.ascontiguousarray(vectors))
        else:
            _add_to_scan(self._index, self.quantizer, truncate(vectors, self.settings.dim))

    def search(
        self,
        queries: Float32s,
        k: int,
        *,
        probes: int | None = None,
        probe_ratio: float | None = None,
        share: float = 1.0,
        dim: int | None = None,
    ) -> Found:
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
        queries = self._zeroed(queries, dim)
        if self.quantizer is not None:
            scores, rows = self._index.search(self._cut(queries), k)
            return Found(rows, scores)
        lists, parameters = self.settings.lists, None
        if lists is not None:
            most = lists if probes is None else min(math.ceil(probes / share), lists)
            if probe_ratio is not None:
                return self._search_near(queries, k, most, probe_ratio, share)
            parameters = self._probing(most)
        scores, rows = self._index.search(queries, k, params=parameters)
        return Found(rows, scores)

    def probe_ratio(self, queries: Float32s, probes: int, *, dim: int | None = None) -> float:
        """Return the ratio for which so many lists are scanned for a query, on average; see `search`.

        Raises:
            SearchIndexError: There are no lists.
            VectorError: There are no queries, or fewer than one list is to be scanned.
        """
        if self.settings.lists is None:
            raise SearchIndexError("These codes are in no lists: all of them are scanned.")
        if not len(queries) or probes < 1:
            raise VectorError("A ratio is learned from one query at least, and one list or more for each.")
        similarities = self._lists.similarities(self._lists.transformed(self._zeroed(queries, dim)))
        nearest = similarities.max(axis=1, keepdims=True)
        # What `_near` compares, turned to the ratio that just lets a list in.
        ratios = (1 - (nearest - similarities) / np.maximum(np.abs(nearest), _TINY)).ravel()
        place = min(probes * len(queries), len(ratios)) - 1
        return float(-np.partition(-ratios, place)[place])

    def _search_near(self, queries: Float32s, k: int, probes: int, ratio: float, share: float) -> Found:
        faiss = require("faiss", extra="index")
        found = Found(np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32))
        for first in range(0, len(queries), _QUERIES_AT_A_TIME):
            some = slice(first, first + _QUERIES_AT_A_TIME)
            transformed = self._lists.transformed(queries[some])
            chosen = _near(self._lists.similarities(transformed), probes, ratio, share)
            # Codes stand for vectors as they are, not for what is left of them beside a centre.
            unused = np.zeros(chosen.shape, np.float32)
            # The wrapper of this in Python takes no parameters. faiss scans lists that are chosen for it on one thread;
            # threads of Python's took as long for 64 queries at once.
            self._lists.index.search_preassigned_c(
                len(transformed),
                faiss.swig_ptr(transformed),
                k,
                faiss.swig_ptr(chosen),
                faiss.swig_ptr(unused),
                faiss.swig_ptr(found.scores[some]),
                faiss.swig_ptr(found.rows[some]),
                False,
                faiss.SearchParametersIVF(nprobe=chosen.shape[1]),
            )
        return found

    @cached_property
    def _lists(self) -> _Lists:
        faiss = require("faiss", extra="index")
        index = faiss.downcast_index(self._index.index)
        transform = faiss.downcast_VectorTransform(self._index.chain.at(0))
        components = faiss.vector_to_array(transform.A).reshape(self.settings.dim, self._index.d)
        centres = index.quantizer.reconstruct_n(0, index.nlist)
        return _Lists(index, np.ascontiguousarray(components.T), np.ascontiguousarray(centres.T))

    def _zeroed(self, queries: Float32s, dim: int | None) -> Float32s:
        if dim is None or dim >= queries.shape[1]:
            return queries
        return np.where(np.arange(queries.shape[1]) < dim, queries, np.float32(0))

    def _probing(self, lists: int) -> Any:
        """How faiss is told to scan so many lists; made once, for it takes as long as scanning a few."""
        if lists not in self._parameters:
            faiss = require("faiss", extra="index")
            wanted = faiss.SearchParametersIVF(nprobe=lists)
            self._parameters[lists] = faiss.SearchParametersPreTransform(index_params=wanted)
        return self._parameters[lists]

    def _cut(self, queries: Float32s) -> Float32s:
        cut = np.zeros((len(queries), self._index.d), np.float32)
        cut[:, : self.settings.dim] = truncate(queries, self.settings.dim)
        return cut


def _near(similarities: Float32s, probes: int, ratio: float, share: float) -> Rows:
    """Lists to scan for every query, [n_queries, n], -1 where there are fewer; see `FirstStage.search`."""
    nearest = similarities.max(axis=1, keepdims=True)
    near = similarities >= nearest - (1 - ratio) * np.abs(nearest)
    counts = near.sum(axis=1)
    as_many = share == 1 and counts.max() <= probes
    if not as_many:
        counts = np.minimum(np.ceil(counts / share).astype(np.int64), probes)
    width = int(counts.max())
    chosen = np.full((len(near), width), -1)
    there = np.arange(width) < counts[:, None]
    if as_many:
        chosen[there] = near.nonzero()[1]
        return chosen
    lists = similarities.shape[1]
    first = np.argpartition(-similarities, min(width, lists - 1), axis=1)[:, :width]
    order = np.argsort(-np.take_along_axis(similarities, first, axis=1), axis=1, kind="stable")
    chosen[there] = np.take_along_axis(first, order, axis=1)[there]
    return chosen


def _train_product(sample: Float32s, settings: CodeSettings, seed: int) -> Any:
    faiss = require("faiss", extra="index")
    if settings.dim % _NUMBERS_PER_CODEBOOK:
        raise PrecisionError(
            f"{PRODUCT} codes stand for {_NUMBERS_PER_CODEBOOK} numbers each, of which {settings.dim} is no multiple. "
            f"Choose {max(_NUMBERS_PER_CODEBOOK, codebook_numbers(settings.dim))}."
        )
    if len(sample) < settings.fewest_to_train:
        raise SearchIndexError(
            f"These codes are learned from {settings.fewest_to_train:,} documents at least, and there are "
            f"{len(sample):,}. Choose fewer lists or numbers, or another precision."
        )
    full_dim, product = sample.shape[1], faiss.METRIC_INNER_PRODUCT
    generator = np.random.default_rng(seed)
    rows = generator.permutation(len(sample))
    few = np.ascontiguousarray(sample[rows[:_ROWS_FOR_CODEBOOKS]])
    components = faiss.PCAMatrix(full_dim, settings.dim, 0, True)
    components.train(few)
    # Without the mean, which codebooks keep, so that a dot product stays one; and without what training leaves behind.
    transform = faiss.LinearTransform(full_dim, settings.dim, False)
    transform.A, transform.is_trained = components.A, True
    codebooks = settings.dim // _NUMBERS_PER_CODEBOOK
    if settings.lists is None:
        codes = faiss.IndexPQFastScan(settings.dim, codebooks, _BITS, product)
    else:
        coarse = faiss.IndexFlatIP(settings.dim)
        codes = faiss.IndexIVFPQFastScan(coarse, settings.dim, settings.lists, codebooks, _BITS, product)
        coarse.this.disown()  # the lists own it from here on
        codes.own_fields = True
        codes.by_residual = False
        codes.cp.seed = seed
        codes.cp.min_points_per_centroid = 1
        codes.cp.spherical = True
        few = np.ascontiguousarray(sample[rows[: settings.rows_to_train]])
    codes.pq.cp.seed = seed
    codes.pq.cp.min_points_per_centroid = 1  # no warnings: few documents have few to learn from
    codes.train(transform.apply(few))
    both = faiss.IndexPreTransform(transform, codes)
    transform.this.disown()
    codes.this.disown()
    both.own_fields = True
    return both


def _empty_scan(quantizer: Quantizer) -> Any:
    """Return the faiss index that holds the codes of a quantizer."""
    faiss = require("faiss", extra="index")
    dim, product = quantizer.full_dim, faiss.METRIC_INNER_PRODUCT
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
    """Add vectors, [n, dim], to what `_empty_scan` returned."""
    if isinstance(quantizer, BinaryQuantizer):
        # The nearest pattern of what a code stands for is that code.
        decoded = quantizer.decode(quantizer.encode(vectors))
        vectors = np.pad(decoded, [(0, 0), (0, index.d - decoded.shape[1])])
    index.add(np.ascontiguousarray(vectors))


def _empty_binary(quantizer: BinaryQuantizer) -> Any:
    """Product quantization of four bits a codebook, which faiss scans fast, whose centroids are their 16 patterns."""
    faiss = require("faiss", extra="index")
    n_codebooks = -(-quantizer.full_dim // _BITS)
    padded = n_codebooks * _BITS
    below, above = (np.pad(side, (0, padded - quantizer.full_dim)) for side in (quantizer.below, quantizer.above))
    patterns = (np.arange(2**_BITS)[:, None] >> np.arange(_BITS)) & 1  # [16, 4]
    centroids = np.where(patterns, above.reshape(-1, 1, _BITS), below.reshape(-1, 1, _BITS))
    index = faiss.IndexPQFastScan(padded, n_codebooks, _BITS, faiss.METRIC_INNER_PRODUCT)
    faiss.copy_array_to_vector(centroids.astype(np.float32).ravel(), index.pq.centroids)
    index.is_trained = True
    return index


class faiss_threads:  # noqa: N801  # used as a function is; a generator would take four times as long
    """Let faiss use so many threads meanwhile."""

    __slots__ = ("_before", "_count", "_faiss")

    def __init__(self, count: int | None) -> None:
        """Say how many.

        Args:
            count: Threads; None leaves them as they are.

        Raises:
            MissingExtraError: faiss is not installed.
        """
        self._faiss = require("faiss", extra="index")
        self._before = self._faiss.omp_get_max_threads()
        self._count = count or self._before

    def __enter__(self) -> None:
        """Set it."""
        if self._count != self._before:
            self._faiss.omp_set_num_threads(self._count)

    def __exit__(self, *_: object) -> None:
        """Set it back."""
        if self._count != self._before:
            self._faiss.omp_set_num_threads(self._before)
