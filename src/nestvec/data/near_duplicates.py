"""Texts that say nearly the same, found by MinHash and confirmed by their shared word shingles."""

from __future__ import annotations

import re
import zlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nestvec.progress import Progress, silent

__all__ = ["first_of_near_duplicates"]

_WORDS = re.compile(r"\w+")
_BANDS, _ROWS_PER_BAND = 12, 4


def first_of_near_duplicates(
    texts: Sequence[str], *, threshold: float = 0.8, shingle_words: int = 3, progress: Progress = silent
) -> list[int]:
    """Find, for every text, the earliest text that says nearly the same.

    Two texts are near-duplicates when the Jaccard similarity of their sets of word shingles is at least
    `threshold`; case and punctuation do not count. Candidates come from 12 bands of 4 MinHash values: a pair
    at 0.8 is found with a probability of 99.8%, and every candidate is confirmed on the full sets.

    Args:
        texts: The texts, in order of precedence.
        threshold: Jaccard similarity, above 0 and up to 1.
        shingle_words: Words in a shingle; a shorter text is one shingle.
        progress: How to report progress, in texts.

    Returns:
        For text i the index of the earliest near-duplicate, or i itself. Texts to keep are those where it is i.

    Source:
        Broder 1997, "On the resemblance and containment of documents".

    Example:
        >>> first_of_near_duplicates(["Return a copy.", "return a copy", "Sort the rows."])
        [0, 0, 2]
    """
    hashing = _Hashing()
    kept_shingles: dict[int, NDArray[np.uint64]] = {}
    firsts = list(range(len(texts)))
    buckets: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    with progress("removing near-duplicates", len(texts)) as advance:
        for index, text in enumerate(texts):
            own = _shingles(text, shingle_words)
            bands = hashing.bands(own)
            for other in sorted({other for band in bands for other in buckets[band]}):
                shared = np.intersect1d(own, kept_shingles[other], assume_unique=True).size
                if shared >= threshold * (own.size + kept_shingles[other].size - shared):
                    firsts[index] = other
                    break
            else:  # only kept texts are compared with, so that a chain of small changes stays bounded
                kept_shingles[index] = own
                for band in bands:
                    buckets[band].append(index)
            advance(1)
    return firsts


def _shingles(text: str, size: int) -> NDArray[np.uint64]:
    words = _WORDS.findall(text.lower())
    starts = range(max(1, len(words) - size + 1))
    # crc32, not hash(): the same in every process, whatever PYTHONHASHSEED says.
    hashes = {zlib.crc32(" ".join(words[start : start + size]).encode()) for start in starts}
    return np.array(sorted(hashes), dtype=np.uint64)


class _Hashing:
    """One hash function a MinHash value: a multiply-add on 64 bits, of which the high half counts."""

    def __init__(self) -> None:
        generator = np.random.default_rng(0)
        shape = (_BANDS * _ROWS_PER_BAND, 1)
        self._multipliers = generator.integers(1, 2**63, size=shape, dtype=np.uint64) | np.uint64(1)
        self._offsets = generator.integers(0, 2**63, size=shape, dtype=np.uint64)

    def bands(self, shingles: NDArray[np.uint64]) -> list[tuple[int, bytes]]:
        hashed = (shingles[None, :] * self._multipliers + self._offsets) >> np.uint64(32)  # [functions, shingles]
        smallest = hashed.min(axis=1).astype(np.uint32).reshape(_BANDS, _ROWS_PER_BAND)
        return [(band, values.tobytes()) for band, values in enumerate(smallest)]
