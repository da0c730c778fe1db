"""A fitted adaptor: maps for both sides, and what is known about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nestvec.adaptors.maps import Map, Towers
from nestvec.errors import AdaptorError, DimensionError

__all__ = ["SIDES", "Adaptor", "Replacement"]

SIDES = ("query", "document")


@dataclass(frozen=True)
class Replacement:
    """Another map that was better at one size than the trained one.

    Attributes:
        method: What it is: `raw` or `pca`.
        towers: Its maps.
    """

    method: str
    towers: Towers


@dataclass(frozen=True, eq=False)
class Adaptor:
    """Turns frozen vectors into nested ones that can be cut to any size.

    Attributes:
        towers: The maps that give the nested vectors.
        method: How they were fitted.
        dims: Sizes that they were fitted for, largest first.
        replaced: Sizes at which another map was better on held-out data, and that map.
        encoder: Identity of the encoder whose vectors it takes, by side; empty where it is not known.
        held_out: Scores on data that were kept from training: `{"raw": {"384": .71, ...}, ...}` by map and size.
        settings: How it was fitted, for the record.
    """

    towers: Towers
    method: str
    dims: tuple[int, ...]
    replaced: Mapping[int, Replacement] = field(default_factory=dict)
    encoder: Mapping[str, str] = field(default_factory=dict)
    held_out: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def input_dim(self) -> int:
        """Numbers in the vectors that it takes."""
        return self.towers.query.input_dim

    @property
    def full_dim(self) -> int:
        """Numbers in the vectors that it gives."""
        return self.towers.query.full_dim

    @property
    def shared(self) -> bool:
        """Whether queries and documents go through one map."""
        return self.towers.query is self.towers.document

    def check_dim(self, dim: int | None) -> int:
        """Check a size to map vectors to.

        Args:
            dim: The size; None is the full one.

        Returns:
            The size.

        Raises:
            DimensionError: It is outside the vectors that this gives.
        """
        if dim is not None and not 1 <= dim <= self.full_dim:
            raise DimensionError(f"Cannot give {dim} dimensions. Choose a dim from 1 to {self.full_dim}.")
        return self.full_dim if dim is None else dim

    def transform(
        self, vectors: NDArray[np.floating[Any]], side: str = "document", dim: int | None = None
    ) -> NDArray[np.float32]:
        """Map vectors of one side.

        Args:
            vectors: [n, input_dim], floating point, whole as the encoder gave them; may be a memory-mapped file.
            side: `query` or `document`.
            dim: Size to return. None returns the nested vectors at their full size, to be cut to any; a size returns
                what is best at that size, which for those in `replaced` is no prefix of the nested vectors.

        Returns:
            Unit vectors, [n, dim], float32.

        Raises:
            AdaptorError: The side is not known.
            DimensionError: The vectors have another size than those it was fitted on, or `dim` is outside its own.
            VectorError: Vectors are zero or not finite; the first such rows are named.
        """
        return self._tower(side, dim).transform(vectors, dim)

    def transform_into(
        self, mapped: NDArray[np.float32], vectors: NDArray[np.floating[Any]], side: str = "document"
    ) -> None:
        """Map vectors of one side into an array that is there, such as a memory-mapped file of any length.

        Args:
            mapped: [n, dim], float32; receives what `transform(vectors, side, dim)` gives.
            vectors: [n, input_dim], floating point.
            side: `query` or `document`.

        Raises:
            AdaptorError: The side is not known.
            DimensionError: The vectors have another size than those it was fitted on, or `mapped` has one outside.
            VectorError: Vectors are zero or not finite; the first such rows are named.
        """
        dim = mapped.shape[1]
        self._tower(side, None if dim == self.full_dim else dim).transform_into(mapped, vectors)

    def _tower(self, side: str, dim: int | None) -> Map:
        if side not in SIDES:
            raise AdaptorError(f"There is no side {side!r}. Sides are query and document.")
        if dim is not None:
            self.check_dim(dim)
        replacement = None if dim is None else self.replaced.get(dim)
        towers = self.towers if replacement is None else replacement.towers
        tower: Map = getattr(towers, side)
        return tower

    def check_encoder(self, identities: Mapping[str, str], *, force: bool = False) -> None:
        """Refuse vectors of another encoder than the one it was fitted on.

        Args:
            identities: Identity of the encoder by side, as `Encoder.identity` gives it.
            force: Accept them all the same.

        Raises:
            AdaptorError: It is known to be fitted on another encoder.
        """
        wrong = [side for side, known in self.encoder.items() if identities.get(side, known) != known]
        if wrong and not force:
            raise AdaptorError(
                f"This adaptor was fitted on {' and '.join(wrong)} vectors of another encoder, or of this one with "
                "other weights, prompts or text length. Fit it anew; force it only if you know that the two agree."
            )
