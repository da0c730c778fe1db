"""The first stage: short codes of all vectors, in memory, scanned by faiss for every query."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nestvec.errors import DamagedIndexError, DimensionError, PrecisionError, SearchIndexError, VectorError
from nestvec.extras import require
from nestvec.index.embedded.product_scan import ProductScan, bits_of_lists, read_quantizer
from nestvec.index.settings import CodeSettings
from nestvec.quantization import (
    BinaryQuantizer,
    Codes,
    ProductQuantizer,
    Quantizer,
    RotatedQuantizer,
    ScalarQuantizer,
    check_precision,
    fit_codes,
    product_code,
    why_impossible,
)
from nestvec.vectors import normalize, truncate

__all__ = ["FirstStage", "Scanned", "check_codes", "check_enough"]

Float32s = NDArray[np.float32]
Rows = NDArray[np.int64]

_BITS = 4  # of a pattern of binary codes, which faiss scans as a codebook
_TINY = 1e-30
_QUERIES_AT_A_TIME = 512  # whose similarities to all centres are in memory
_CODES_AT_A_TIME = 16_384  # whose vectors are in memory
_ITERATIONS = 25  # of k-means over lists
_EARLIER_SUB_DIM = 3  # dimensions of a sub-vector of indexes whose codes were called product


class Scanned(NamedTuple):
    """Rows of the first stage, best first."""

    rows: Rows
    """[n_queries, k], -1 where there are fewer."""
    scores: Float32s
    """What their codes say of the cosine, [n_queries, k]."""


class FirstStage:
    """Codes of the leading dimensions of vectors, at unit length, in a faiss index."""

    def __init__(self, index: Any, settings: CodeSettings, quantizer: Quantizer) -> None:
        """Wrap a faiss index that has what it needs; see `train` and `load`."""
        self._index = index
        self._product = ProductScan(index, quantizer) if isinstance(quantizer, ProductQuantizer) else None
        self.settings = settings
        self.quantizer = quantizer
        """What the codes are made by, of vectors that are cut to `settings.dim` and of unit length."""

    @staticmethod
    def train(
        sample: Float32s,
        settings: CodeSettings,
        *,
        documents: Float32s | None = None,
        score_aware: bool = True,
        seed: int = 0,
    ) -> FirstStage:
        """Fit a quantizer, and IVF lists where there are to be some.

        Args:
            sample: Unit vectors that codes are learned from, [n, full_dim], float32.
            settings: What to encode.
            documents: Unit vectors to learn IVF lists from, [n, full_dim], float32; None learns them from the sample.
            score_aware: Whether longer vectors will rescore what is found, see `fit_codes`.
            seed: Of every draw.

        Returns:
            A first stage without vectors.

        Raises:
            DimensionError: `dim` is outside the vectors, or has too few dimensions for the precision.
            PrecisionError: The precision is not known, or cannot be kept in lists; or has too few codebooks for so
                many.
            SearchIndexError: There are too few vectors to learn from.
            MissingExtraError: faiss is not installed.
        """
        check_codes(settings, sample.shape[1])
        documents = sample if documents is None else documents
        check_enough(settings._replace(lists=None), len(sample))
        if settings.lists is not None:
            check_enough(settings, len(documents))
        quantizer = fit_codes(sample, settings.dim, settings.precision, score_aware=score_aware, seed=seed)
        return FirstStage.of(quantizer, settings, documents, seed=seed)

    @staticmethod
    def of(
        quantizer: Quantizer, settings: CodeSettings, sample: Float32s | None = None, *, seed: int = 0
    ) -> FirstStage:
        """Return a first stage without vectors, of a quantizer that is fitted.

        Args:
            quantizer: Of vectors of `settings.dim` dimensions, as `fit_codes` returns it.
            settings: What to encode.
            sample: Unit vectors to learn IVF lists from, [n, full_dim], float32; None where there are none.
            seed: Of every draw.
        """
        if not isinstance(quantizer, ProductQuantizer):
            return FirstStage(_empty_scan(quantizer), settings, quantizer)
        centres = None
        if settings.lists is not None and sample is not None:
            projected = quantizer.project(truncate(sample, settings.dim))
            centres = _learn_lists(projected, settings.lists, seed)
        return FirstStage(ProductScan.empty(quantizer, centres), settings, quantizer)

    @staticmethod
    def load(path: Path, settings: CodeSettings, quantizer: Quantizer | None) -> FirstStage:
        """Read what `save` wrote.

        Args:
            path: The file.
            settings: What it was trained with.
            quantizer: The one it had; None where an earlier version left it in the file.

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
        if quantizer is None:
            quantizer = read_quantizer(index, settings.precision, _EARLIER_SUB_DIM)
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
        """Memory of what turns vectors into codes: what the quantizer was fitted to, and what faiss makes of it."""
        fitted = sum(array.nbytes for array in self.quantizer.arrays().values())
        return fitted + (0 if self._product is None else self._product.table_bytes)

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
            self._product.add(truncate(vectors, self.settings.dim))
        else:
            self._add_to_scan(self.quantizer.encode(truncate(vectors, self.settings.dim)))

    def add_codes(self, codes: Codes) -> None:
        """Store vectors that are encoded already.

        Args:
            codes: Of this quantizer, [n, width].
        """
        if self._product is not None:
            quantizer = self._product.quantizer
            for start in range(0, len(codes), _CODES_AT_A_TIME):
                assigned = quantizer.unpack(codes[start : start + _CODES_AT_A_TIME])
                self._product.add(quantizer.stand_ins(assigned) @ quantizer.components.T, assigned)
        else:
            self._add_to_scan(codes)

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
            probes: IVF lists to scan, where there are lists; None scans all.
            probe_ratio: Scan only lists whose centre is at least so many times as similar to the query as the nearest
                one, at similarity s, is: s - (1 - ratio) |s| or more. A query amidst one list has few of them, one
                between many has many (SPANN, arXiv:2111.08566). None scans as many for every query.
            share: Of all vectors, those that count: as many times more lists are scanned as there are fewer.
            dim: Leading dimensions of the query to use; None uses all.

        Returns:
            The best k.
        """
        k = max(1, min(k, len(self)))
        prefixes = self._prefixes(_zeroed(queries, dim))
        if self._product is None:
            if isinstance(self.quantizer, RotatedQuantizer):
                prefixes = self.quantizer.rotate(prefixes)
            missing = self._index.d - prefixes.shape[1]
            scores, rows = self._index.search(np.pad(prefixes, [(0, 0), (0, missing)]) if missing else prefixes, k)
            return Scanned(rows, scores)
        lists = self.settings.lists
        if lists is None:
            return Scanned(*self._product.scan(self._product.transform(prefixes), k))
        most = lists if probes is None else min(math.ceil(probes / share), lists)
        found = Scanned(np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32))
        for first in range(0, len(queries), _QUERIES_AT_A_TIME):
            some = slice(first, first + _QUERIES_AT_A_TIME)
            transformed = self._product.transform(prefixes[some])
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
        similarities = self._product.similarities(self._product.transform(self._prefixes(_zeroed(queries, dim))))
        nearest = similarities.max(axis=1, keepdims=True)
        # What `_near` compares, turned to the ratio that just lets a list in.
        ratios = (1 - (nearest - similarities) / np.maximum(np.abs(nearest), _TINY)).ravel()
        place = min(probes * len(queries), len(ratios)) - 1
        return float(-np.partition(-ratios, place)[place])

    def _prefixes(self, queries: Float32s) -> Float32s:
        # Queries of whole vectors are of unit length already, and single ones are most of what is asked.
        return queries if queries.shape[1] == self.settings.dim else truncate(queries, self.settings.dim)

    def _add_to_scan(self, codes: Codes) -> None:
        """Add codes to what `_empty_scan` returned."""
        quantizer = self.quantizer.inner if isinstance(self.quantizer, RotatedQuantizer) else self.quantizer
        # The nearest code of what a code stands for is that code.
        decoded = quantizer.decode(codes)
        self._index.add(np.pad(decoded, [(0, 0), (0, self._index.d - decoded.shape[1])]))


def _zeroed(queries: Float32s, dim: int | None) -> Float32s:
    """Queries, [n_queries, full_dim], without what follows their first dimensions; None keeps all."""
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


def check_codes(settings: CodeSettings, full_dim: int) -> None:
    """Check what is to be encoded, before there are vectors.

    Args:
        settings: The first stage.
        full_dim: Dimensions of the vectors.

    Raises:
        DimensionError: `dim` is outside the vectors, or has too few dimensions for the precision.
        PrecisionError: The precision is not known, or cannot be kept in lists; or has too few codebooks for so many.
    """
    check_precision(settings.precision)
    if not 1 <= settings.dim <= full_dim:
        raise DimensionError(f"Cannot encode {settings.dim} dimensions of vectors that have {full_dim}.")
    if reason := why_impossible(settings.dim, settings.precision):
        raise DimensionError(reason)
    if settings.lists is None:
        return
    code = product_code(settings.precision)
    if code is None or code.bits != _BITS:
        raise PrecisionError(
            f"IVF lists hold product quantization of 4-bit codes, such as pq32, not {settings.precision}. Leave lists "
            "out."
        )
    fewest = -(-bits_of_lists(settings.lists) * code.bits // 8)
    if code.n_bytes < fewest:
        raise PrecisionError(
            f"{settings.precision} is too short for {settings.lists:,} lists. Choose pq{fewest} or longer, or fewer "
            "lists."
        )


def check_enough(settings: CodeSettings, count: int) -> None:
    """Raise SearchIndexError where there are too few vectors to learn a first stage from."""
    if reason := settings.why_too_few(count):
        raise SearchIndexError(f"{reason} Choose another precision{' or fewer lists' if settings.lists else ''}.")


def _learn_lists(projected: Float32s, lists: int, seed: int) -> Float32s:
    """Centres of IVF lists by spherical k-means, [lists, n_codebooks x sub_dim]."""
    faiss = require("faiss", extra="index")
    clustering = faiss.Kmeans(
        projected.shape[1],
        lists,
        niter=_ITERATIONS,
        seed=seed,
        spherical=True,
        min_points_per_centroid=1,
        max_points_per_centroid=len(projected),
    )
    clustering.train(np.ascontiguousarray(projected))
    centres: Float32s = clustering.centroids.reshape(lists, -1)
    return normalize(centres)


def _empty_scan(quantizer: Quantizer) -> Any:
    """Return the faiss index that holds the codes of a quantizer that stores every dimension by itself."""
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
