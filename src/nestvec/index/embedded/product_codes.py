"""Codes of trained codebooks: what a vector has of its principal components, four bits for each three numbers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nestvec.extras import require
from nestvec.threads import one_thread_for_products

__all__ = ["BITS", "NUMBERS_PER_CODEBOOK", "ProductCodes", "bits_of_lists", "choose_codes", "train_product_codes"]

Float32s = NDArray[np.float32]
Rows = NDArray[np.int64]

NUMBERS_PER_CODEBOOK = 3
BITS = 4
"""Of a code in each codebook."""
# Numbers that faiss is given in place of three, the last of them 0: it is fast at tables of four, and not of three.
_PADDED = 4
_ROWS_FOR_CODEBOOKS = 65_536
# Codes that are scanned together: an eighth faster than by 32 for a query alone. faiss reconstructs such codes wrongly.
_VECTORS_PER_BLOCK = 64
_ROWS_AT_A_TIME = 1024  # whose distances to all centroids stay in the cache
_PARTS_AT_A_TIME = 16  # of so many rows each, whose codes wait to be stored at most
_PARALLEL_WEIGHT = 8.0
_LISTS_BY_HEAP, _LISTS_BY_RESERVOIR = 10, 11  # what faiss calls its scans of one list after another
_LONGEST_HEAP = 20  # from where on faiss itself changes to a reservoir


class ProductCodes:
    """A faiss index of `product` codes, seen from both sides of the transform that it begins with."""

    def __init__(self, index: Any) -> None:
        """Look into a trained faiss index; see `train_product_codes`."""
        faiss = require("faiss", extra="index")
        self._whole = index  # which owns the parts
        self._codes = faiss.downcast_index(index.index)
        self._parameters: dict[int, Any] = {}
        self.n_codebooks: int = self._codes.M

    @cached_property
    def components(self) -> Float32s:
        """Principal components, rotated at random, with a zero after every three, [full_dim, 4 x n_codebooks]."""
        faiss = require("faiss", extra="index")
        numbers = faiss.downcast_VectorTransform(self._whole.chain.at(0)).A
        held = faiss.rev_swig_ptr(numbers.data(), numbers.size())  # by faiss: no copy
        rotation: Float32s = held.reshape(-1, self._whole.d).T
        return rotation

    @cached_property
    def centres(self) -> Float32s:
        """Of the lists that codes are in, [3 x n_codebooks, lists]."""
        return np.ascontiguousarray(_without_zeros(self._codes.quantizer.reconstruct_n(0, self._codes.nlist)).T)

    @cached_property
    def centroids(self) -> Float32s:
        """What codes stand for, [n_codebooks, 16, 4]."""
        faiss = require("faiss", extra="index")
        found: Float32s = faiss.vector_to_array(self._codes.pq.centroids)
        return found.reshape(self.n_codebooks, 2**BITS, _PADDED)

    @property
    def table_bytes(self) -> int:
        """Memory of what turns vectors into codes, which every file of codes holds as well."""
        numbers = self.components.size + self.n_codebooks * 2**BITS * _PADDED + self._n_lists * self._codes.d
        return 4 * int(numbers)

    @property
    def copied_bytes(self) -> int:
        """Memory beside that: the centres of lists once more, without zeros."""
        return 4 * self._n_lists * self.n_codebooks * NUMBERS_PER_CODEBOOK

    @property
    def _n_lists(self) -> int:
        return getattr(self._codes, "nlist", 0)

    def transform(self, vectors: Float32s) -> Float32s:
        """Return what of vectors, [n, full_dim], codes stand for, as faiss takes it, [n, 4 x n_codebooks]."""
        found: Float32s = vectors @ self.components
        return found

    def similarities(self, transformed: Float32s) -> Float32s:
        """Return those of queries to the centres of lists, [n_queries, lists]."""
        return _similarities(transformed, self.centres)

    def scan(self, transformed: Float32s, k: int, lists: Rows | None = None) -> tuple[Rows, Float32s]:
        """Find the vectors whose codes are nearest.

        Args:
            transformed: Queries, [n_queries, 4 x n_codebooks], as `transform` returns them.
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
            # What sorts lists so that several queries share their codes only delays a single one.
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

    def add(self, vectors: Float32s) -> None:
        """Store vectors, [n, full_dim], float32: the codes of `choose_codes`, in the list whose centre is nearest.

        Codes are chosen on as many threads as faiss may use.
        """
        threads = require("faiss", extra="index").omp_get_max_threads()
        # Made here: while documents go into lists the centres are not to be seen, and workers would make each twice.
        marks, centres = self._marks, self.centres if self._n_lists else None
        choose = partial(_stand_ins, components=self.components, centroids=self.centroids, centres=centres)
        parts = [vectors[first : first + _ROWS_AT_A_TIME] for first in range(0, len(vectors), _ROWS_AT_A_TIME)]
        try:
            with one_thread_for_products(), ThreadPoolExecutor(threads) as pool:
                for first in range(0, len(parts), _PARTS_AT_A_TIME):
                    some = parts[first : first + _PARTS_AT_A_TIME]
                    for stand_ins, lists in map(choose, some) if threads == 1 else pool.map(choose, some):
                        self._add(stand_ins, lists, marks)
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
        places = _PADDED * np.arange(signs.shape[1], dtype=np.int32) + NUMBERS_PER_CODEBOOK
        chosen = faiss.RemapDimensionsTransform(self._codes.d, len(places), faiss.swig_ptr(places))
        numbers = faiss.IndexFlatIP(len(places))
        numbers.add(signs)
        return signs, faiss.IndexPreTransform(chosen, numbers)

    def _add(self, stand_ins: Float32s, lists: Rows, marks: tuple[Float32s, Any] | None) -> None:
        if marks is None:
            self._codes.add(stand_ins.reshape(len(stand_ins), -1))
            return
        signs, reader = marks
        centres = self._codes.quantizer
        self._codes.quantizer = reader
        try:
            stand_ins[:, : signs.shape[1], NUMBERS_PER_CODEBOOK] = signs[lists]
            self._codes.add(stand_ins.reshape(len(stand_ins), -1))
        finally:
            self._codes.quantizer = centres


def bits_of_lists(lists: int) -> int:
    """Return how many codebooks it takes to number so many lists; see `ProductCodes.add`."""
    return max(1, (lists - 1).bit_length())


def _stand_ins(
    vectors: Float32s, *, components: Float32s, centroids: Float32s, centres: Float32s | None
) -> tuple[Float32s, Rows]:
    """What is stored for vectors, [n, n_codebooks, 4], and in which list, [n]; 0 without lists."""
    transformed = vectors @ components
    chosen = choose_codes(transformed, centroids)
    lists = np.zeros(len(vectors), np.int64)
    if centres is not None:
        lists = _similarities(transformed, centres).argmax(axis=1)
    return centroids[np.arange(len(centroids)), chosen], lists


def _similarities(transformed: Float32s, centres: Float32s) -> Float32s:
    found: Float32s = _without_zeros(transformed) @ centres
    return found


def _without_zeros(transformed: Float32s) -> Float32s:
    """Three numbers for each codebook in place of the four that faiss takes, [n, 3 x n_codebooks]."""
    return transformed.reshape(len(transformed), -1, _PADDED)[:, :, :NUMBERS_PER_CODEBOOK].reshape(len(transformed), -1)


def choose_codes(transformed: Float32s, centroids: Float32s) -> Rows:
    """Choose what stands for vectors, so that none looks nearer to its queries than it is beside others.

    Let y stand for x. The nearest centroids leave more of some vectors out than of others, and x y, the share of x
    that is left, differs among them. Documents are looked for by queries that lie near them, so that this changes their
    order, more than other errors of the same size. Here |x - y|^2 + 8 (t - x y)^2 is made small, where t is the same
    for all: the mean squared length of a codebook's centroids, summed over the codebooks. Codes start from the nearest
    centroids and are chosen anew, one codebook after another, once: a second round, or a weight of 4 or 16, finds as
    much.

    Args:
        transformed: Vectors, [n, n_codebooks x numbers], float32.
        centroids: Of the codebooks, [n_codebooks, 16, numbers].

    Returns:
        A code for each codebook, [n, n_codebooks].

    Source:
        The weight of errors along a vector is that of Guo et al. 2020, anisotropic vector quantization,
        arXiv:1908.10396; there t is that of each vector itself, and centroids are learned with the same weight.
    """
    n_codebooks, _, numbers = centroids.shape
    blocks = transformed.reshape(-1, n_codebooks, numbers).transpose(1, 2, 0)
    products = np.matmul(centroids, blocks)  # [n_codebooks, 16, n]
    lengths = np.einsum("cjn,cjn->cj", centroids, centroids)
    distances = lengths[:, :, None] - 2 * products
    distances += 1 + np.einsum("cjn,cjn->cn", blocks, blocks)[:, None]  # above 0 by 1: see `_least`
    chosen = _least(distances.copy())
    along = np.take_along_axis(products, chosen[:, None], axis=1)[:, 0]  # [n_codebooks, n]
    missing = lengths.mean(axis=1).sum() - along.sum(axis=0)  # t - x y
    rows = np.arange(len(transformed))
    for place in range(n_codebooks):
        missing += along[place]
        losses = missing - products[place]
        losses *= losses
        losses *= _PARALLEL_WEIGHT
        losses += distances[place]
        chosen[place] = _least(losses)
        missing -= products[place][chosen[place], rows]
    return np.ascontiguousarray(chosen.T)


def _least(losses: Float32s) -> Rows:
    """Places of the least of 16, [..., n] of [..., 16, n] above 0, which are overwritten.

    The last four bits of each make way for its place, and whole numbers of the same bits are compared, which have the
    same order: twice as fast as `argmin`.
    """
    bits = losses.view(np.int32)
    bits &= -(2**BITS)
    bits |= np.arange(2**BITS, dtype=np.int32)[:, None]
    places: Rows = (np.minimum.reduce(bits, axis=-2) & (2**BITS - 1)).astype(np.int64)
    return places


def train_product_codes(sample: Float32s, dim: int, lists: int | None, *, rows_for_lists: int, seed: int) -> Any:
    """Learn components and codebooks, and lists where there are to be some.

    Args:
        sample: Unit vectors, [n, full_dim], float32.
        dim: Components to look at, a multiple of three.
        lists: Lists of an inverted file; None for none.
        rows_for_lists: Vectors to learn lists from, at most.
        seed: Of every draw.

    Returns:
        A faiss index without vectors, which turns them and then codes them.
    """
    faiss = require("faiss", extra="index")
    full_dim, metric = sample.shape[1], faiss.METRIC_INNER_PRODUCT
    n_codebooks = dim // NUMBERS_PER_CODEBOOK
    padded_dim = n_codebooks * _PADDED
    rows = np.random.default_rng(seed).permutation(len(sample))
    few = np.ascontiguousarray(sample[rows[:_ROWS_FOR_CODEBOOKS]])
    components = faiss.PCAMatrix(full_dim, dim, 0, True)
    components.train(few)
    # Without the mean, which codebooks keep, so that a dot product stays one; and without what training leaves behind.
    transform = faiss.LinearTransform(full_dim, padded_dim, False)
    learned = faiss.vector_to_array(components.A).reshape(n_codebooks, NUMBERS_PER_CODEBOOK, full_dim)
    padded = np.pad(learned, [(0, 0), (0, _PADDED - NUMBERS_PER_CODEBOOK), (0, 0)])
    faiss.copy_array_to_vector(padded.ravel(), transform.A)
    transform.is_trained = True
    if lists is None:
        codes = faiss.IndexPQFastScan(padded_dim, n_codebooks, BITS, metric, _VECTORS_PER_BLOCK)
    else:
        coarse = faiss.IndexFlatIP(padded_dim)
        codes = faiss.IndexIVFPQFastScan(coarse, padded_dim, lists, n_codebooks, BITS, metric)
        coarse.this.disown()  # the lists own it from here on
        codes.own_fields = True
        codes.by_residual = False
        codes.cp.seed = seed
        codes.cp.min_points_per_centroid = 1
        codes.cp.spherical = True
        few = np.ascontiguousarray(sample[rows[:rows_for_lists]])
    codes.pq.cp.seed = seed
    codes.pq.cp.min_points_per_centroid = 1  # no warnings: few documents have few to learn from
    codes.train(transform.apply(few))
    both = faiss.IndexPreTransform(transform, codes)
    transform.this.disown()
    codes.this.disown()
    both.own_fields = True
    return both
