"""pq: product quantization, so many bytes a vector whatever its dimensions."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nestvec.errors import DimensionError, PrecisionError, VectorError
from nestvec.extras import require
from nestvec.quantization.precisions import ProductCode, product_code, why_impossible
from nestvec.quantization.quantizer import Codes, Float32s, Quantizer, check_vectors
from nestvec.quantization.rotations import random_rotation
from nestvec.quantization.score_aware import choose_codes, nearest_codes
from nestvec.threads import one_thread_for_products

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ProductQuantizer"]

Rows = NDArray[np.int64]

_OF_SHORT_CODES, _OF_LONG_CODES = 4, 3  # dimensions of a sub-vector, at 4 bits
_SHORT = 16  # bytes
_ROWS_TO_FIT = 65_536
_ROWS_FOR_OPQ = 16_384
_OPQ_ITERATIONS = 10
_WIDEST_OPQ = 1_024  # dimensions: the time grows with the third power of more
_ROWS_PER_DIMENSION = 2  # for OPQ: of fewer than there are dimensions faiss crashes
_MOST_FOR_EIGEN = 1_536  # dimensions: their covariance takes seconds to diagonalise
_ROWS_FOR_ITERATION = 16_384
_OVERSAMPLED, _POWER_ITERATIONS = 32, 3
_SINGULAR, _EXACT = 1e-14, 1e-8  # of the largest eigenvalue
_ROWS_AT_A_TIME = 1024  # whose distances to all centroids stay in the cache


@dataclass(frozen=True)
class ProductQuantizer(Quantizer):
    """Cuts rotated vectors into sub-vectors and keeps of each which of 16 or 256 centroids stands for it.

    Its codes say nothing of a prefix by themselves: they cannot be cut, but what they stand for can, see `decode`.

    Attributes:
        components: Orthonormal columns that vectors are projected on, [full_dim, n_codebooks x sub_dim].
        centroids: Of each codebook, [n_codebooks, 16 or 256, sub_dim].
        target: What the dot product of every vector with what stands for it is to be near, see `choose_codes`; None
            assigns the nearest centroids.
    """

    components: Float32s
    centroids: Float32s
    target: float | None = None

    @classmethod
    def fit(
        cls,
        vectors: NDArray[np.floating[Any]],
        precision: str,
        *,
        opq: bool | None = None,
        components: int | None = None,
        score_aware: bool = True,
        seed: int = 0,
    ) -> Self:
        """Learn a rotation and codebooks.

        Args:
            vectors: A sample, [n, full_dim], of unit length; at most 65,536 rows, evenly spread, are looked
                at.
            precision: `pq` and a number of bytes.
            opq: Learn the projection that leaves the least error, from two vectors for each dimension at least; of more
                than 1,024 dimensions within as many principal components. Otherwise the leading principal components
                are rotated at random, so that every codebook has as much to say. None learns it of codes up to 16
                bytes, where it finds more.
            components: Dimensions to keep of the projection, a multiple of the codebooks; None keeps 4 for each
                codebook up to 16 bytes and 3 beyond (twice as many of 8-bit codes), or as many as there are.
            score_aware: Assign codes with a score-aware loss, see `choose_codes`.
            seed: Of every draw.

        Returns:
            The quantizer.

        Raises:
            PrecisionError: The precision is no product quantization.
            DimensionError: The vectors have too few dimensions for so many codebooks, or `components` does not fit.
            VectorError: The vectors are no finite vectors, or fewer than a codebook has centroids.
            MissingExtraError: faiss is not installed.

        Source:
            Jegou, Douze and Schmid 2011, "Product quantization for nearest neighbor search"; OPQ is Ge et al. 2013,
            "Optimized product quantization"; k-means and OPQ are those of faiss.
        """
        sample = check_vectors(vectors)
        code = _code_of(precision)
        if reason := why_impossible(sample.shape[1], precision):
            raise DimensionError(reason)
        kept = _kept_components(sample.shape[1], code, components)
        if len(sample) < 2**code.bits:
            raise VectorError(
                f"A codebook of {precision} has {2**code.bits} centroids, and there are {len(sample)} vectors to learn "
                "them from. Give more, or choose another precision."
            )
        sample = np.ascontiguousarray(sample[:: -(-len(sample) // _ROWS_TO_FIT)])
        wanted = code.n_bytes <= _SHORT if opq is None else opq
        learned = wanted and len(sample) >= _ROWS_PER_DIMENSION * min(sample.shape[1], max(_WIDEST_OPQ, kept))
        matrix = (_opq if learned else _components)(sample, kept, code, seed)
        projected = sample @ matrix
        centroids = _centroids(projected, code, seed)
        found = cls(precision, sample.shape[1], components=matrix, centroids=centroids)
        if not score_aware:
            return found
        along = np.einsum("ij,ij->i", projected, found.stand_ins(found.assign(sample)))
        return replace(found, target=float(along.mean()))

    def __post_init__(self) -> None:
        """Check what was learned.

        Raises:
            DimensionError: Components and centroids do not fit each other, or the precision.
        """
        code = _code_of(self.precision)
        n_codebooks, n_centroids, sub_dim = self.centroids.shape
        if (
            self.components.shape != (self.full_dim, n_codebooks * sub_dim)
            or n_centroids != 2**code.bits
            or not 1 <= n_codebooks <= code.n_codebooks
        ):
            raise DimensionError(
                f"{self.precision} of {self.full_dim} dimensions does not go with components "
                f"{list(self.components.shape)} and centroids {list(self.centroids.shape)}."
            )

    @property
    def code_type(self) -> np.dtype[Any]:
        """uint8, with two 4-bit codes a byte, the first in the lower half as faiss has it, or one of 8 bits."""
        return np.dtype(np.uint8)

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return _code_of(self.precision).bits

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """Return what was fitted, by name."""
        target = [] if self.target is None else [self.target]
        return {"components": self.components, "centroids": self.centroids, "target": np.array(target, np.float32)}

    @classmethod
    def from_arrays(cls, precision: str, full_dim: int, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Return the quantizer that arrays were taken from, as `Quantizer.from_arrays` says.

        Raises:
            DimensionError: They do not fit each other, or the precision.
            KeyError: One is missing.
        """
        components, centroids, target = (arrays[name] for name in ("components", "centroids", "target"))
        wanted = float(target[0]) if len(target) else None
        return cls(precision, full_dim, components=components, centroids=centroids, target=wanted)

    def nearest(self) -> Self:
        """Return the same codebooks, of which every sub-vector is assigned the nearest centroid.

        Where codes are all that is stored they are ranked by cosine, and nearest centroids are ranked better. Where a
        scan chooses by dot product what longer vectors rescore, codes with a score-aware loss find more.
        """
        return replace(self, target=None)

    def project(self, vectors: Float32s) -> Float32s:
        """Return what codes stand for of vectors.

        Args:
            vectors: [n, full_dim], float32.

        Returns:
            [n, n_codebooks x sub_dim], float32: their dot products are those of vectors, as far as they are kept.
        """
        found: Float32s = vectors @ self.components
        return found

    def assign(self, vectors: Float32s) -> Rows:
        """Return the centroid of every sub-vector, on as many threads as faiss may use.

        Args:
            vectors: [n, full_dim], float32.

        Returns:
            [n, n_codebooks], from 0 to 15 or 255.
        """
        threads = require("faiss", extra="index").omp_get_max_threads()
        parts = [vectors[first : first + _ROWS_AT_A_TIME] for first in range(0, len(vectors), _ROWS_AT_A_TIME)]
        found = np.empty((len(vectors), len(self.centroids)), np.int64)
        if threads == 1 or len(parts) == 1:
            for place, part in enumerate(parts):
                found[place * _ROWS_AT_A_TIME :][: len(part)] = self._assign(part)
            return found
        with one_thread_for_products(), ThreadPoolExecutor(threads) as pool:
            for place, some in enumerate(pool.map(self._assign, parts)):
                found[place * _ROWS_AT_A_TIME :][: len(some)] = some
        return found

    def stand_ins(self, assigned: Rows) -> Float32s:
        """Return the centroids of assigned codes, side by side.

        Args:
            assigned: [n, n_codebooks].

        Returns:
            [n, n_codebooks x sub_dim]: what `project` of a vector became.
        """
        return self.centroids[np.arange(len(self.centroids)), assigned].reshape(len(assigned), -1)

    def unpack(self, codes: Codes) -> Rows:
        """Return the centroid of every sub-vector, [n, n_codebooks], of codes [n, width]."""
        self.check_codes(codes)
        if self.bits == 8:
            return codes[:, : len(self.centroids)].astype(np.int64)
        assigned = np.empty((len(codes), 2 * codes.shape[1]), np.int64)
        assigned[:, 0::2], assigned[:, 1::2] = codes & 15, codes >> 4
        return assigned[:, : len(self.centroids)]

    def products(self, queries: Float32s, codes: Codes) -> Float32s:
        """Return dot products of queries with what codes stand for, by a table of every query with all centroids.

        Args:
            queries: [n_queries, full_dim], float32.
            codes: Those to compare with each of them, [n_queries, n, width].

        Returns:
            [n_queries, n], float32.
        """
        n_queries, n, width = codes.shape
        n_codebooks, n_centroids, sub_dim = self.centroids.shape
        parts = self.project(queries).reshape(n_queries, n_codebooks, sub_dim)
        tables = np.einsum("qcd,cjd->qcj", parts, self.centroids).reshape(n_queries, -1)
        places = self.unpack(codes.reshape(-1, width)) + n_centroids * np.arange(n_codebooks)
        found = np.take_along_axis(tables, places.reshape(n_queries, -1), axis=1)
        products: Float32s = found.reshape(n_queries, n, n_codebooks).sum(axis=2)
        return products

    def decode(self, codes: Codes, dim: int | None = None) -> Float32s:
        """Turn codes into the vectors they stand for.

        Args:
            codes: [n, width], from `encode`.
            dim: Leading dimensions to return; None returns all.

        Returns:
            [n, dim], float32; near the vectors that were encoded, not of unit length.

        Raises:
            DimensionError: `dim` is outside 1..full_dim, or the codes are of another width.
            VectorError: The codes are not of this quantizer's type.
        """
        kept = self.full_dim if dim is None else dim
        self._check_dim(kept)
        return self._decode(codes, kept)

    def cut(self, codes: Codes, dim: int | None = None) -> Codes:
        """Return the codes of whole vectors, which are the only ones there are.

        Raises:
            DimensionError: Fewer dimensions are to be kept, or the codes are of another width.
            VectorError: The codes are not of this quantizer's type.
        """
        self.check_codes(codes)
        if dim is not None and dim != self.full_dim:
            raise DimensionError(
                f"Codes of {self.precision} stand for all {self.full_dim} dimensions together and cannot be cut to "
                f"{dim}. Decode them: decode(codes, {dim})."
            )
        return codes

    def check_codes(self, codes: Codes) -> None:
        """Check the type of codes.

        Args:
            codes: [n, width].

        Raises:
            VectorError: They are not of this quantizer's type.
            DimensionError: They are of another width.
        """
        super().check_codes(codes)
        if codes.shape[1] != self.width(self.full_dim):
            raise DimensionError(
                f"Codes of {self.precision} have {self.width(self.full_dim)} columns, not {codes.shape[1]}."
            )

    def width(self, dim: int) -> int:
        """Return how many columns codes have."""
        return _code_of(self.precision).n_bytes

    def _encode(self, vectors: Float32s) -> Codes:
        if vectors.shape[1] != self.full_dim:
            raise DimensionError(
                f"{self.precision} was fitted on vectors of {self.full_dim} dimensions and stores whole ones, not "
                f"{vectors.shape[1]}."
            )
        assigned = self.assign(vectors).astype(np.uint8)
        codes = np.zeros((len(vectors), self.width(self.full_dim)), np.uint8)
        if self.bits == 8:
            codes[:, : assigned.shape[1]] = assigned
            return codes
        codes[:, : -(-assigned.shape[1] // 2)] = assigned[:, 0::2]
        codes[:, : assigned.shape[1] // 2] |= assigned[:, 1::2] << 4
        return codes

    def _decode(self, codes: Codes, dim: int) -> Float32s:
        restored: Float32s = self.stand_ins(self.unpack(codes)) @ self.components[:dim].T
        return restored

    def _assign(self, vectors: Float32s) -> Rows:
        projected = self.project(vectors)
        if self.target is not None:
            return choose_codes(projected, self.centroids, self.target)
        return nearest_codes(projected, self.centroids)


def _code_of(precision: str) -> ProductCode:
    code = product_code(precision)
    if code is None:
        raise PrecisionError(f"Product quantization is pq and a number of bytes, such as pq16, not {precision}.")
    return code


def _kept_components(full_dim: int, code: ProductCode, components: int | None) -> int:
    """Principal components to keep: as many for every codebook."""
    if components is None:
        most = _OF_SHORT_CODES if code.n_bytes <= _SHORT else _OF_LONG_CODES
        return code.n_codebooks * min(full_dim // code.n_codebooks, most * code.bits // 4)
    if components % code.n_codebooks or not code.n_codebooks <= components <= full_dim:
        raise DimensionError(
            f"Cannot keep {components} components of {full_dim} dimensions in {code.n_codebooks} codebooks. Choose a "
            f"multiple of {code.n_codebooks} up to {full_dim}."
        )
    return components


def _components(sample: Float32s, kept: int, _: ProductCode, seed: int) -> Float32s:
    """Leading principal components, rotated at random, as many for every codebook, [full_dim, kept].

    The mean is not taken away from what they are multiplied with, so that a dot product stays one: codebooks keep it.
    """
    found: Float32s = (_principal(sample, kept, seed) @ random_rotation(kept, seed=seed)).astype(np.float32)
    return found


def _principal(sample: Float32s, kept: int, seed: int) -> NDArray[np.float64]:
    """Directions of most variance, [full_dim, kept], orthonormal."""
    centered = sample - sample.mean(axis=0)
    full_dim = sample.shape[1]
    if full_dim <= _MOST_FOR_EIGEN:
        covariance = np.asarray(centered.T @ centered, np.float64)
        return np.asarray(np.linalg.eigh(covariance)[1][:, ::-1][:, :kept])
    # Randomised subspace iteration (Halko, Martinsson and Tropp 2011): all directions of so many take minutes.
    centered = centered[:_ROWS_FOR_ITERATION]
    wide = min(full_dim, kept + _OVERSAMPLED)
    basis = np.random.default_rng(seed).normal(size=(full_dim, wide)).astype(np.float32)
    for _ in range(_POWER_ITERATIONS):
        basis = _orthonormal(centered.T @ (centered @ basis))
    projected = centered @ basis
    turned = np.linalg.eigh(np.asarray(projected.T @ projected, np.float64))[1][:, ::-1]
    return np.asarray(basis @ turned[:, :kept], np.float64)


def _orthonormal(columns: Float32s) -> Float32s:
    """An orthonormal basis of columns, [n, m], by their products, several times as fast as by reflections."""
    found = np.asarray(columns, np.float64)
    for _ in range(2):
        values, turned = np.linalg.eigh(found.T @ found)
        if values[0] <= _SINGULAR * values[-1]:  # fewer directions than columns: any others will do
            found = np.linalg.qr(columns)[0]
            break
        found = found @ (turned / np.sqrt(values))
        if values[0] > _EXACT * values[-1]:  # else rounding leaves what a second time takes away
            break
    return found.astype(np.float32)


def _opq(sample: Float32s, kept: int, code: ProductCode, seed: int) -> Float32s:
    """The rotation that leaves the least error, [full_dim, kept]; of many dimensions within principal components."""
    faiss = require("faiss", extra="index")
    if sample.shape[1] > max(_WIDEST_OPQ, kept):
        components = _principal(sample, max(_WIDEST_OPQ, kept), seed).astype(np.float32)
        return components @ _opq(sample @ components, kept, code, seed)
    learned = faiss.OPQMatrix(sample.shape[1], code.n_codebooks, kept)
    learned.niter, learned.max_train_points, learned.verbose = _OPQ_ITERATIONS, _ROWS_FOR_OPQ, False
    codebooks = faiss.ProductQuantizer(kept, code.n_codebooks, code.bits)
    codebooks.cp.seed = seed
    codebooks.cp.min_points_per_centroid = 1
    learned.pq = codebooks
    learned.train(sample)
    rotation: Float32s = faiss.vector_to_array(learned.A).reshape(kept, sample.shape[1])
    return np.ascontiguousarray(rotation.T)


def _centroids(projected: Float32s, code: ProductCode, seed: int) -> Float32s:
    """Centroids of every codebook, by k-means, [n_codebooks, 16 or 256, sub_dim]."""
    faiss = require("faiss", extra="index")
    codebooks = faiss.ProductQuantizer(projected.shape[1], code.n_codebooks, code.bits)
    codebooks.cp.seed = seed
    codebooks.cp.min_points_per_centroid = 1  # no warnings: few documents have few to learn from
    codebooks.train(np.ascontiguousarray(projected))
    found: Float32s = faiss.vector_to_array(codebooks.centroids)
    return found.reshape(code.n_codebooks, 2**code.bits, -1)
