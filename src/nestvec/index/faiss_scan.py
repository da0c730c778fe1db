"""Scanning codes with faiss: every precision as the faiss index that holds its codes, and a second stage behind it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nestvec.errors import VectorError
from nestvec.extras import require
from nestvec.quantization import BinaryQuantizer, ScalarQuantizer, fit_quantizer
from nestvec.vectors import truncate

__all__ = ["FaissScan", "Hits", "SecondStage", "faiss_threads"]

Float32s = NDArray[np.float32]


class Hits(NamedTuple):
    """The best documents of every query, best first."""

    indices: NDArray[np.int64]
    """Row of each document, -1 where there are fewer, [n_queries, k]."""
    scores: Float32s
    """Dot product of the query with what is stored, [n_queries, k]."""


class SecondStage:
    """Codes of full vectors, for `FaissScan` to order its shortlist anew with."""

    def __init__(self, documents: Float32s, precision: str) -> None:
        """Store documents.

        Args:
            documents: Unit vectors, [n_documents, full_dim], float32; the quantizer is fitted on them.
            precision: How to store them.

        Raises:
            MissingExtraError: faiss is not installed.
            PrecisionError: The precision is not known.
            VectorError: The documents are no finite vectors.
        """
        self.codes = _store(documents, precision, fast_scan=False)


class FaissScan:
    """A scan over the codes of all documents and, on request, a second stage that reranks its shortlist.

    The first stage holds codes of the first numbers of every document, the second one codes of all. A query is compared
    as it is with what the codes stand for (asymmetric scoring), by dot product: documents have unit length before they
    are encoded, so that this is the cosine up to what quantization does to lengths. binary is scanned as product
    quantization whose codebooks are the 16 patterns of four bits, which faiss keeps in registers.
    """

    def __init__(self, documents: Float32s, dim: int, precision: str, *, second: SecondStage | None = None) -> None:
        """Store documents.

        Args:
            documents: Unit vectors, [n_documents, full_dim], float32; the quantizer is fitted on them, cut to `dim`.
            dim: Numbers that the first stage looks at.
            precision: How it stores them.
            second: The same documents for the second stage; None for a scan alone.

        Raises:
            MissingExtraError: faiss is not installed.
            DimensionError: `dim` is outside the documents.
            PrecisionError: The precision is not known.
            VectorError: The documents are no finite vectors.
        """
        self.full_dim = documents.shape[1]
        self.dim = dim
        self._first = _store(truncate(documents, dim), precision, fast_scan=True)
        self.attach(second)

    def attach(self, second: SecondStage | None) -> None:
        """Put a second stage behind the first, in place of the one there was.

        Args:
            second: The same documents, stored whole; None for a scan alone.
        """
        self._second = second
        self._both = None
        if second is not None:
            faiss = require("faiss", extra="index")
            cut = faiss.RemapDimensionsTransform(self.full_dim, self._first.d, False)
            kept = [*range(self.dim), *[-1] * (self._first.d - self.dim)]
            faiss.copy_array_to_vector(np.array(kept, np.int32), cut.map)
            # faiss keeps pointers only: what it points to must outlive it
            self._cut_first = faiss.IndexPreTransform(cut, self._first)
            self._both = faiss.IndexRefine(self._cut_first, second.codes)

    def search(self, queries: Float32s, k: int, *, shortlist: int | None = None) -> Hits:
        """Find the nearest documents.

        Args:
            queries: Unit vectors, [n_queries, full_dim], float32.
            k: Documents to return for each.
            shortlist: Documents that the first stage hands to the second; None searches with the first stage alone.

        Returns:
            The documents.

        Raises:
            VectorError: A shortlist was asked for and there is no second stage, or it is shorter than k.
        """
        if shortlist is None:
            cut = np.zeros((len(queries), self._first.d), np.float32)
            cut[:, : self.dim] = truncate(queries, self.dim)
            scores, indices = self._first.search(cut, k)
            return Hits(indices, scores)
        if self._both is None or shortlist < k:
            raise VectorError(
                f"Cannot rerank {shortlist} documents for the best {k}: give a second stage, and k or more."
            )
        parameters = require("faiss", extra="index").IndexRefineSearchParameters(k_factor=shortlist / k)
        scores, indices = self._both.search(queries, k, params=parameters)
        return Hits(indices, scores)


def _store(vectors: Float32s, precision: str, *, fast_scan: bool) -> Any:
    """Return the faiss index that holds the codes of vectors; what is scanned fast cannot be asked for single rows."""
    faiss = require("faiss", extra="index")
    quantizer = fit_quantizer(vectors, precision)
    dim, product = vectors.shape[1], faiss.METRIC_INNER_PRODUCT
    if isinstance(quantizer, BinaryQuantizer):
        return _store_binary(quantizer, vectors, fast_scan=fast_scan)
    if isinstance(quantizer, ScalarQuantizer):
        bits = faiss.ScalarQuantizer.QT_8bit if precision == "int8" else faiss.ScalarQuantizer.QT_4bit
        index = faiss.IndexScalarQuantizer(dim, bits, product)
        steps = 255 if precision == "int8" else 15
        # faiss decodes code c to low + (c + 1/2) / steps x range, nestvec to low + c x step
        trained = np.concatenate([quantizer.low - quantizer.step / 2, quantizer.step * steps]).astype(np.float32)
        faiss.copy_array_to_vector(trained, index.sq.trained)
        index.is_trained = True
    elif precision == "float16":
        index = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16, product)
    else:
        index = faiss.IndexFlatIP(dim)
    index.add(vectors)
    return index


def _store_binary(quantizer: BinaryQuantizer, vectors: Float32s, *, fast_scan: bool) -> Any:
    """Product quantization of a few bits a codebook, whose centroids are all patterns of those bits."""
    faiss = require("faiss", extra="index")
    dim = vectors.shape[1]
    # A fast scan wants four bits, and zeros at the end do no harm there; otherwise the codebooks must fit the size.
    n_bits = 4 if fast_scan else next(bits for bits in (4, 2, 1) if dim % bits == 0)
    n_codebooks = -(-dim // n_bits)
    padded = n_codebooks * n_bits
    below, above = (np.pad(side, (0, padded - dim)) for side in (quantizer.below, quantizer.above))
    patterns = (np.arange(2**n_bits)[:, None] >> np.arange(n_bits)) & 1  # [2 ** n_bits, n_bits]
    centroids = np.where(patterns, above.reshape(-1, 1, n_bits), below.reshape(-1, 1, n_bits))
    kind = faiss.IndexPQFastScan if fast_scan else faiss.IndexPQ
    index = kind(padded, n_codebooks, n_bits, faiss.METRIC_INNER_PRODUCT)
    faiss.copy_array_to_vector(centroids.astype(np.float32).ravel(), index.pq.centroids)
    index.is_trained = True
    # The nearest pattern of what a code stands for is that code.
    index.add(np.pad(quantizer.decode(quantizer.encode(vectors)), [(0, 0), (0, padded - dim)]))
    return index


@contextmanager
def faiss_threads(count: int | None) -> Iterator[None]:
    """Let faiss use so many threads meanwhile.

    Args:
        count: Threads; None leaves them as they are.

    Raises:
        MissingExtraError: faiss is not installed.
    """
    faiss = require("faiss", extra="index")
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count or before)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
