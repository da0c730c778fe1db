"""An encoder that remembers on disk: no text is encoded twice, by any run of any process."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from nestvec.encoders.protocol import Encoder, Float32Vectors
from nestvec.encoders.vector_store import VectorStore, text_key
from nestvec.errors import EndpointError, ModelError
from nestvec.progress import Progress, silent

__all__ = ["CacheEntry", "CachedEncoder", "cache_entries", "cache_folder", "clear_cache"]

_LOG = logging.getLogger(__name__)
_TEXTS_AT_A_TIME = 256  # what a kill loses at most, where the encoder's batches are no larger


class CacheEntry(NamedTuple):
    """The vectors of one encoder in the cache."""

    identity: str
    """Digest of the encoder, the name of the folder."""
    about: str
    """Name of the model, as it was given."""
    dim: int
    vectors: int
    size_bytes: int
    last_used: float
    """Seconds since 1970."""


def cache_folder() -> Path:
    """Return where vectors are kept: NESTVEC_CACHE, or nestvec in the user's cache folder."""
    chosen = os.environ.get("NESTVEC_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "nestvec"


class CachedEncoder:
    """Encodes what is not in the cache yet, and keeps it there as it goes.

    Vectors are kept by the identity of the encoder (its weights, pooling, prompts, longest text) and the text, so that
    a model that is trained further, or given another prompt, starts anew. A run that is killed loses the texts it was
    encoding, no more. Vectors that fail their checksum are encoded again.
    """

    def __init__(self, encoder: Encoder, *, folder: str | Path | None = None, about: str = "") -> None:
        """Put a cache before an encoder.

        Args:
            encoder: What encodes.
            folder: Where vectors are kept; by default where `cache_folder` says.
            about: Name of the model, for `cache_entries`.
        """
        self.encoder = encoder
        self.folder = (cache_folder() if folder is None else Path(folder)).absolute()
        self.about = about

    @property
    def full_dim(self) -> int:
        """Numbers in a vector as the encoder gives it; from the cache, if it knows, so that no endpoint is asked."""
        return self._dim(self.identity("document"))

    def identity(self, side: str) -> str:
        """Return the identity of the encoder itself."""
        return self.encoder.identity(side)

    def encode_queries(self, texts: Sequence[str], *, progress: Progress = silent) -> Float32Vectors:
        """Encode queries, or take them from the cache.

        Args:
            texts: The queries.
            progress: How to report progress, in texts.

        Returns:
            Unit vectors, [n_texts, full_dim], float32, in the order of `texts`.

        Raises:
            ModelError: The model gave a vector that is zero, not finite, or of another size than those in the cache.
            StorageError: The disk is full, or the cache cannot be written.
        """
        return self._encode(texts, "query", self.encoder.encode_queries, progress)

    def encode_documents(self, texts: Sequence[str], *, progress: Progress = silent) -> Float32Vectors:
        """Encode documents, or take them from the cache.

        Args:
            texts: The documents.
            progress: How to report progress, in texts.

        Returns:
            Unit vectors, [n_texts, full_dim], float32, in the order of `texts`.

        Raises:
            ModelError: The model gave a vector that is zero, not finite, or of another size than those in the cache.
            StorageError: The disk is full, or the cache cannot be written.
        """
        return self._encode(texts, "document", self.encoder.encode_documents, progress)

    def _dim(self, identity: str) -> int:
        known = VectorStore.read_description(self.folder / identity)
        return self.encoder.full_dim if known is None else int(known["dim"])

    def _encode(
        self, texts: Sequence[str], side: str, encode: Callable[..., Float32Vectors], progress: Progress
    ) -> Float32Vectors:
        identity = self.identity(side)
        store = VectorStore(self.folder / identity, self._dim(identity), self.about)
        keys = [text_key(text) for text in texts]
        found = store.find(keys)
        if found.damaged:
            _LOG.warning("%d vectors in %s are damaged and are encoded again.", found.damaged, store.folder)
        store.mark_used()
        places: dict[bytes, list[int]] = {}
        for place, key in enumerate(keys):
            if not found.there[place]:
                places.setdefault(key, []).append(place)
        # Longest first, so that texts that share a batch need little padding.
        missing = sorted(places, key=lambda key: -len(texts[places[key][0]]))
        if not missing:
            return found.vectors
        done = 0
        with progress(f"encoding {side} texts", len(missing)) as advance:
            while done < len(missing):
                part = missing[done : done + self._texts_at_a_time]
                failure = None
                try:
                    vectors = encode([texts[places[key][0]] for key in part])
                except EndpointError as error:
                    if error.vectors is None:
                        raise _with_progress(error, done, len(missing)) from error
                    failure, vectors = error, error.vectors
                if vectors.shape[1] != store.dim:  # an endpoint whose model was replaced under its name
                    raise ModelError(
                        f"{store.folder} holds vectors of {store.dim} dimensions, and the encoder now gives "
                        f"{vectors.shape[1]}. Clear it: nestvec cache clear"
                    )
                part = part[: len(vectors)]
                store.append(part, vectors)
                for key, vector in zip(part, vectors, strict=True):
                    found.vectors[places[key]] = vector
                done += len(part)
                advance(len(part))
                if failure is not None:
                    raise _with_progress(failure, done, len(missing)) from failure
        return found.vectors

    @property
    def _texts_at_a_time(self) -> int:
        own: int | None = getattr(self.encoder, "texts_at_a_time", None)
        return max(_TEXTS_AT_A_TIME, getattr(self.encoder, "batch_size", 0)) if own is None else own


def _with_progress(error: EndpointError, done: int, count: int) -> EndpointError:
    """Say what was kept before an endpoint gave up."""
    kept = f" {done:,} of {count:,} texts are encoded and kept; a second run goes on from there." if done else ""
    found = EndpointError(f"{error}{kept}")
    found.text = error.text
    return found


def cache_entries(folder: str | Path | None = None) -> list[CacheEntry]:
    """List what the cache holds.

    Args:
        folder: The cache; by default where `cache_folder` says.

    Returns:
        One entry an encoder, the one used last first.
    """
    entries = []
    root = cache_folder() if folder is None else Path(folder)
    for folder_of_one in root.iterdir() if root.is_dir() else ():
        if VectorStore.is_store(folder_of_one) and not folder_of_one.name.startswith("."):
            description = VectorStore.read_description(folder_of_one) or {"about": "(damaged)", "dim": 0}
            size = sum(file.stat().st_size for file in folder_of_one.iterdir())
            count = VectorStore.count_vectors(folder_of_one)
            used = folder_of_one.stat().st_mtime
            entries.append(CacheEntry(folder_of_one.name, description["about"], description["dim"], count, size, used))
    return sorted(entries, key=lambda entry: -entry.last_used)


def clear_cache(entries: Sequence[CacheEntry], folder: str | Path | None = None) -> None:
    """Remove vectors from the cache.

    Args:
        entries: What to remove, from `cache_entries`.
        folder: The cache; by default where `cache_folder` says.

    Raises:
        StorageError: The folder cannot be written.
    """
    root = cache_folder() if folder is None else Path(folder)
    for entry in entries:
        VectorStore.remove(root / entry.identity)
