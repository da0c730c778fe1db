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

__all__ = ["FaissScan", "Hits", "faiss_threads"]

Float32s = NDArray[np.float32]

_BITS_OF_A_CODEBOOK = 4


class Hits(NamedTuple):
    """The best documents of every query, best first."""

    indices: NDArray[np.int64]
    """Row of each document, -1 where there are fewer, [n_queries, k]."""
    scores: Float32s
    """Dot product of the query with what is stored, [n_queries, k]."""


class FaissScan:
    """A scan over the codes of all documents and, on request, a second stage that reranks its shortlist.

    The first stage holds codes of the first numbers of every document, the second one codes of all. A query is compared
    as it is with what the codes stand for (asymmetric scoring), by dot product: documents have unit length before they
    are encoded, so that this is the cosine up to what quantization does to lengths. binary is scanned as product
    quantization whose codebooks are the 16 patterns of four bits, which faiss keeps in registers.
    """

    def __init__(self, documents: Float32s, dim: int, precision: str, *, rerank_precision: str | None = None) -> None:
        """Store documents.

        Args:
            documents: Unit vectors, [n_documents, full_dim], float32; quantizers are fitted on them.
            dim: Numbers that the first stage looks at.
            precision: How it stores them.
            rerank_precision: How the second stage stores the full vectors; None for a scan alone.

        Raises:
            MissingExtraError: faiss is not installed.
            DimensionError: `dim` is outside the documents.
            PrecisionError: A precision is not known.
            VectorError: The documents are no finite vectors, or all are zero.
        """
        self._faiss = require("faiss", extra="index")
        self.full_dim = documents.shape[1]
        self.dim = dim
        self._first = self._store(truncate(documents, dim), precision)
        self._second = None if rerank_precision is None else self._store(documents, rerank_precision)
        self._both = None
        if self._second is not None:
            cut = self._faiss.RemapDimensionsTransform(self.full_dim, self._first.d, False)
            kept = [*range(dim), *[-1] * (self._first.d - dim)]
            self._faiss.copy_array_to_vector(np.array(kept, np.int32), cut.map)
            self._cut_first = self._faiss.IndexPreTransform(cut, self._first)
            self._both = self._faiss.IndexRefine(self._cut_first, self._second)

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
        parameters = self._faiss.IndexRefineSearchParameters(k_factor=shortlist / k)
        scores, indices = self._both.search(queries, k, params=parameters)
        return Hits(indices, scores)

    def _store(self, vectors: Float32s, precision: str) -> Any:
        """Return the faiss index that holds the codes of vectors."""
        faiss = self._faiss
        quantizer = fit_quantizer(vectors, precision)
        dim = vectors.shape[1]
        if isinstance(quantizer, BinaryQuantizer):
            return self._store_binary(quantizer, vectors)
        product = faiss.METRIC_INNER_PRODUCT
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

    def _store_binary(self, quantizer: BinaryQuantizer, vectors: Float32s) -> Any:
        faiss = self._faiss
        dim = vectors.shape[1]
        n_codebooks = -(-dim // _BITS_OF_A_CODEBOOK)
        padded = n_codebooks * _BITS_OF_A_CODEBOOK
        below, above = (np.pad(side, (0, padded - dim)) for side in (quantizer.below, quantizer.above))
        patterns = (np.arange(16)[:, None] >> np.arange(_BITS_OF_A_CODEBOOK)) & 1  # [16, 4]
        codebooks = np.where(patterns, above.reshape(-1, 1, 4), below.reshape(-1, 1, 4))  # [n_codebooks, 16, 4]
        index = faiss.IndexPQFastScan(padded, n_codebooks, _BITS_OF_A_CODEBOOK, faiss.METRIC_INNER_PRODUCT)
        faiss.copy_array_to_vector(codebooks.astype(np.float32).ravel(), index.pq.centroids)
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
