"""Product quantization as faiss scans it: all codes of a segment, or some of its IVF lists."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nestvec.extras import require
from nestvec.quantization import ProductQuantizer

__all__ = ["ProductScan", "bits_of_lists", "read_quantizer"]

Float32s = NDArray[np.float32]
Rows = NDArray[np.int64]

_FAST_BITS = 4  # of codes whose tables fit into registers
_ALIGNED = 4  # floats that faiss is fast at tables of
# Codes that are scanned together: an eighth faster than by 32 for a query alone. faiss reconstructs such codes wrongly.
_VECTORS_PER_BLOCK = 64
_ROWS_AT_A_TIME = 16_384
_LISTS_BY_HEAP, _LISTS_BY_RESERVOIR = 10, 11  # what faiss calls its scans of one list after another
_LONGEST_HEAP = 20  # from where on faiss itself changes to a reservoir


class ProductScan:
    """A faiss index of codes, seen from both sides of the projection that it begins with."""

    def __init__(self, index: Any, quantizer: ProductQuantizer) -> None:
        """Look into a faiss index; see `empty`.

        Args:
            index: The faiss index.
            quantizer: What its codes are made by.
        """
        faiss = require("faiss", extra="index")
        self._whole = index  # which owns the parts
        self._codes = faiss.downcast_index(index.index)
        self._parameters: dict[int, Any] = {}
        self.quantizer = quantizer
        self.n_codebooks = int(self._codes.pq.M)
        self._padded_dim = int(self._codes.d) // self.n_codebooks

    @staticmethod
    def empty(quantizer: ProductQuantizer, centres: Float32s | None = None) -> Any:
        """Return a faiss index without vectors, which projects them and then codes them.

        Args:
            quantizer: What makes the codes.
            centres: Of IVF lists, projected, [lists, n_codebooks x sub_dim]; None for no lists.
        """
        faiss = require("faiss", extra="index")
        metric, bits = faiss.METRIC_INNER_PRODUCT, quantizer.bits
        n_codebooks, _, sub_dim = quantizer.centroids.shape
        padded_dim = _padded(sub_dim, lists=centres is not None)
        dim = n_codebooks * padded_dim
        projection = faiss.LinearTransform(quantizer.full_dim, dim, False)
        faiss.copy_array_to_vector(_with_zeros(quantizer.components, n_codebooks, padded_dim).T.ravel(), projection.A)
        projection.is_trained = True
        if centres is not None:
            coarse = faiss.IndexFlatIP(dim)
            coarse.add(_with_zeros(centres, n_codebooks, padded_dim))
            codes = faiss.IndexIVFPQFastScan(coarse, dim, len(centres), n_codebooks, bits, metric)
            coarse.this.disown()  # the lists own it from here on
            codes.own_fields = True
            codes.by_residual = False
        elif bits == _FAST_BITS:
            codes = faiss.IndexPQFastScan(dim, n_codebooks, bits, metric, _VECTORS_PER_BLOCK)
        else:
            codes = faiss.IndexPQ(dim, n_codebooks, bits, metric)
        padding = [(0, 0), (0, 0), (0, padded_dim - sub_dim)]
        faiss.copy_array_to_vector(np.pad(quantizer.centroids, padding).ravel(), codes.pq.centroids)
        codes.is_trained = True
        both = faiss.IndexPreTransform(projection, codes)
        projection.this.disown()
        codes.this.disown()
        both.own_fields = True
        return both

    @cached_property
    def projection(self) -> Float32s:
        """Components with zeros after those of every codebook, [full_dim, n_codebooks x padded_dim]."""
        return _held_projection(self._whole)

    @cached_property
    def centres(self) -> Float32s:
        """Of the lists that codes are in, [n_codebooks x sub_dim, lists]."""
        return np.ascontiguousarray(self._without_zeros(self._codes.quantizer.reconstruct_n(0, self._codes.nlist)).T)

    @property
    def table_bytes(self) -> int:
        """Memory of what turns vectors into codes, which every file of codes holds as well."""
        centroids = self.n_codebooks * self.quantizer.centroids.shape[1] * self._padded_dim
        return int(4 * (self.projection.size + centroids + self._n_lists * self._codes.d))

    @property
    def copied_bytes(self) -> int:
        """Memory beside that: the centres of lists once more, without zeros."""
        return int(4 * self._n_lists * self.quantizer.components.shape[1])

    @property
    def _n_lists(self) -> int:
        return int(getattr(self._codes, "nlist", 0))

    def transform(self, vectors: Float32s) -> Float32s:
        """Return what of vectors, [n, full_dim], codes stand for, as faiss takes it, [n, n_codebooks x padded_dim]."""
        found: Float32s = vectors @ self.projection
        return found

    def similarities(self, transformed: Float32s) -> Float32s:
        """Return those of queries to the centres of lists, [n_queries, lists]."""
        found: Float32s = self._without_zeros(transformed) @ self.centres
        return found

    def scan(self, transformed: Float32s, k: int, lists: Rows | None = None) -> tuple[Rows, Float32s]:
        """Find the vectors whose codes are nearest.

        Args:
            transformed: Queries, [n_queries, n_codebooks x padded_dim], as `transform` returns them.
            k: Vectors to find for each.
            lists: To scan for each, [n_queries, n], -1 where there are fewer; None where there are no lists.

        Returns:
            Rows and scores, [n_queries, k], best first; row -1 where there are fewer.
        """
        pointer = require("faiss", extra="index").swig_ptr
        n_queries = len(transformed)
        rows, scores = np.empty((n_queries, k), np.int64), np.empty((n_queries, k), np.float32)
        # Without the wrappers in Python, which take as long as scanning a few thousand codes.
        if lists is None:
            self._codes.search_c(n_queries, pointer(transformed), k, pointer(scores), pointer(rows))
        else:
            # What sorts lists so that several queries share their codes only delays a single one. Another thread may
            # choose differently at the same moment, which changes how long it takes, and nothing else.
            self._codes.implem = 0 if n_queries > 1 else _LISTS_BY_HEAP if k <= _LONGEST_HEAP else _LISTS_BY_RESERVOIR
            # Codes stand for vectors as they are, not for what is left of them beside a centre.
            unused = np.zeros(lists.shape, np.float32)
            self._codes.search_preassigned_c(
                n_queries,
                pointer(transformed),
                k,
                pointer(lists),
                pointer(unused),
                pointer(scores),
                pointer(rows),
                False,
                self._probing(lists.shape[1]),
            )
        return rows, scores

    def _probing(self, width: int) -> Any:
        """How faiss is told that so many lists are chosen; made once, for that takes as long as scanning a few."""
        if width not in self._parameters:
            self._parameters[width] = require("faiss", extra="index").SearchParametersIVF(nprobe=width)
        return self._parameters[width]

    def add(self, vectors: Float32s, assigned: Rows | None = None) -> None:
        """Store vectors, in the list whose centre is nearest.

        Args:
            vectors: [n, full_dim], float32.
            assigned: Their codes, [n, n_codebooks], where they are known; None assigns them, on as many threads as
                faiss may use.
        """
        marks = self._marks
        try:
            for first in range(0, len(vectors), _ROWS_AT_A_TIME):
                part = slice(first, first + _ROWS_AT_A_TIME)
                codes = self.quantizer.assign(vectors[part]) if assigned is None else assigned[part]
                self._add(vectors[part], self.quantizer.stand_ins(codes), marks)
        finally:
            self._whole.ntotal = self._codes.ntotal

    @cached_property
    def _marks(self) -> tuple[Float32s, Any] | None:
        """What tells faiss the list of a vector: a sign for each bit of its number, and what reads it; None without.

        faiss chooses a list by what it is given, and the list of a stand-in is another one than its vector's for one in
        eight. The signs stand where all centroids have a zero, and so change no code.
        """
        faiss, lists = require("faiss", extra="index"), self._n_lists
        if not lists:
            return None
        bits = np.arange(lists)[:, None] >> np.arange(bits_of_lists(lists)) & 1  # [lists, bits]
        signs = (2 * bits - 1).astype(np.float32)
        places = self._padded_dim * np.arange(1, signs.shape[1] + 1, dtype=np.int32) - 1
        chosen = faiss.RemapDimensionsTransform(self._codes.d, len(places), faiss.swig_ptr(places))
        numbers = faiss.IndexFlatIP(len(places))
        numbers.add(signs)
        return signs, faiss.IndexPreTransform(chosen, numbers)

    def _add(self, vectors: Float32s, stand_ins: Float32s, marks: tuple[Float32s, Any] | None) -> None:
        padded = _with_zeros(stand_ins, self.n_codebooks, self._padded_dim)
        if marks is None:
            self._codes.add(padded)
            return
        signs, reader = marks
        lists = (self.quantizer.project(vectors) @ self.centres).argmax(axis=1)
        padded.reshape(len(padded), self.n_codebooks, -1)[:, : signs.shape[1], -1] = signs[lists]
        centres = self._codes.quantizer
        self._codes.quantizer = reader
        try:
            self._codes.add(padded)
        finally:
            self._codes.quantizer = centres

    def _without_zeros(self, transformed: Float32s) -> Float32s:
        """As `project` returns vectors: [n, n_codebooks x sub_dim] of [n, n_codebooks x padded_dim]."""
        sub_dim = self.quantizer.centroids.shape[2]
        if sub_dim == self._padded_dim:
            return transformed
        return transformed.reshape(len(transformed), -1, self._padded_dim)[:, :, :sub_dim].reshape(len(transformed), -1)


def bits_of_lists(lists: int) -> int:
    """Return how many codebooks it takes to number so many lists; see `ProductScan.add`."""
    return max(1, (lists - 1).bit_length())


def read_quantizer(index: Any, precision: str, sub_dim: int) -> ProductQuantizer:
    """Return what makes the codes of a faiss index that was written without it, by an earlier version.

    Args:
        index: The faiss index, a projection and codes.
        precision: Its precision.
        sub_dim: Dimensions of a sub-vector.
    """
    faiss = require("faiss", extra="index")
    pq = faiss.downcast_index(index.index).pq
    centroids = faiss.vector_to_array(pq.centroids).reshape(pq.M, 2**pq.nbits, -1)[:, :, :sub_dim]
    projection = _held_projection(index).reshape(index.d, pq.M, -1)[:, :, :sub_dim].reshape(index.d, -1)
    # Earlier codes were assigned with the mean over all centroids as their target.
    target = float(np.square(centroids).sum(axis=2).mean(axis=1).sum())
    return ProductQuantizer(
        precision,
        index.d,
        components=np.ascontiguousarray(projection),
        centroids=np.ascontiguousarray(centroids),
        target=target,
    )


def _held_projection(index: Any) -> Float32s:
    faiss = require("faiss", extra="index")
    numbers = faiss.downcast_VectorTransform(index.chain.at(0)).A
    held = faiss.rev_swig_ptr(numbers.data(), numbers.size())  # by faiss: no copy
    projection: Float32s = held.reshape(-1, index.d).T
    return projection


def _padded(sub_dim: int, *, lists: bool) -> int:
    """Floats that faiss is given for each sub-vector: at least one zero in addition where there are lists."""
    if lists:
        return _ALIGNED * (sub_dim // _ALIGNED + 1)
    return _ALIGNED if sub_dim == _ALIGNED - 1 else sub_dim


def _with_zeros(vectors: Float32s, n_codebooks: int, padded_dim: int) -> Float32s:
    """[n, n_codebooks x padded_dim] of [n, n_codebooks x sub_dim], with zeros after every sub-vector."""
    parts = vectors.reshape(len(vectors), n_codebooks, -1)
    padded = np.pad(parts, [(0, 0), (0, 0), (0, padded_dim - parts.shape[2])])
    return np.ascontiguousarray(padded.reshape(len(vectors), -1), np.float32)
