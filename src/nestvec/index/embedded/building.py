"""From batches of documents to the folder of an index, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nestvec.errors import DataError
from nestvec.index.embedded.codec import IndexSettings, save_codec
from nestvec.index.embedded.documents import check_batch, unit_vectors
from nestvec.index.embedded.first_stage import FirstStage
from nestvec.index.embedded.manifest import Manifest
from nestvec.index.embedded.segments import (
    SEGMENTS,
    Codec,
    Identities,
    Segment,
    encode_stored,
    finish_segment,
    new_name,
)
from nestvec.index.embedded.state import State
from nestvec.index.embedded.stored import Stored, StoredVectors, encode
from nestvec.index.embedded.tuning_target import TuningTarget
from nestvec.index.embedded.view import SegmentRecord
from nestvec.index.embedded.writing import Writing
from nestvec.index.protocol import Batch
from nestvec.index.settings import SearchSettings, lists_of_plan, rows_to_train
from nestvec.index.tuning import FEWEST_TO_TUNE, Tuned
from nestvec.progress import Progress, silent
from nestvec.quantization import Quantizer, fit_quantizer, in_fixed_order

__all__ = ["Sample", "fill"]

Float32s = NDArray[np.float32]

_CLEARLY = 0.9  # of the time of shorter codes, which take less memory
_SLACK = 1.5  # of vectors to learn from, until those that are too many are left out


class Sample:
    """Vectors to learn from, drawn from all that come: the same ones in the same order, whatever order they come in."""

    def __init__(self, most: int, seed: int) -> None:
        """Begin without any.

        Args:
            most: Vectors to keep.
            seed: Of the draw.
        """
        self._most, self._seed = most, seed
        self._parts: list[Float32s] = []
        self._count = 0

    def offer(self, vectors: Float32s) -> None:
        """Look at vectors, [n, dim], float32."""
        self._parts.append(vectors)
        self._count += len(vectors)
        if self._count > _SLACK * self._most:
            self._parts = [self.vectors()]
            self._count = self._most

    def vectors(self) -> Float32s:
        """Return what is kept, [n, dim]."""
        return in_fixed_order(np.concatenate(self._parts), self._seed, self._most)


def fill(
    folder: Path,
    manifest: Manifest,
    settings: IndexSettings,
    batches: Iterable[Batch],
    *,
    search: SearchSettings,
    wanted: TuningTarget | None = None,
    learned_from: Float32s | None = None,
    plan: Mapping[str, Any] | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> None:
    """Put documents into an index that has none; memory holds the codes, what they are learned from, and a batch.

    Args:
        folder: The index.
        manifest: Its manifest.
        settings: What to store.
        batches: The documents.
        search: How to search.
        wanted: What to tune the search for; None leaves it as it is.
        learned_from: Unit vectors that ranges and codebooks are learned from, [n, stored_dim]; None draws them from the
            documents.
        plan: What is kept of a plan, as `said_of` returns it: IVF lists that it leaves open follow from how many
            documents there are, also where these are too few for those that it says. None for no plan.
        seed: Of every draw.
        progress: How to report progress, in documents.

    Raises:
        DataError: There are no documents, or an id is missing or repeated.
        VectorError: Vectors cannot be stored.
    """
    segments, name = folder / SEGMENTS, new_name()
    # What needs no fitting is stored as it comes; else as float16 first, until a sample of all can be drawn.
    fitted = settings.precision not in ("float32", "float16")
    draft = folder / "draft" if fitted else segments / f"{name}.vectors"
    as_it_comes = fit_quantizer(
        np.eye(1, settings.stored_dim, dtype=np.float32), "float16" if fitted else settings.precision
    )
    open_lists = plan is not None and plan["lists_open"]
    sample = Sample(settings.most_to_train(open_lists=open_lists), seed)
    with manifest.writing() as writing:
        count = StoredVectors.write(draft, _receive(writing, settings, batches, as_it_comes, sample, progress))
        if not count:
            raise DataError("There are no documents. An index needs one at least; more can be added later.")
        drawn = sample.vectors()
        vectors = drawn[: rows_to_train(settings.full_dim)] if learned_from is None else learned_from
        codes = settings.codes_for(count)
        if open_lists:
            codes = codes._replace(lists=lists_of_plan(codes, count))
            settings = settings._replace(codes=codes)
        if codes.lists is None:
            search = replace(search, probes=None)
        first = FirstStage.train(vectors, codes, documents=drawn, score_aware=not settings.alone, seed=seed)
        second: Quantizer = as_it_comes
        if settings.alone:
            second = first.quantizer
        elif fitted:
            second = fit_quantizer(vectors, settings.precision, seed=seed)
        drafted = StoredVectors.open(draft, as_it_comes, count)
        if fitted:
            StoredVectors.write(segments / f"{name}.vectors", (encode(second, block) for block in drafted.blocks()))
        Identities.write(segments / f"{name}.ids", writing.numbers_and_ids())
        identities = Identities(segments / f"{name}.ids", count)
        stored = StoredVectors.open(segments / f"{name}.vectors", second, count)
        codec = Codec(first, second)
        # Codes of the vectors as they came, and not of what the second stage makes of them, as a grid has them.
        filled = encode_stored(codec, stored if settings.alone else drafted)
        tuned: Tuned | None = None
        if wanted is not None and count > FEWEST_TO_TUNE:  # fewer are all rescored anyway

            def tune_with(codec: Codec, filled: FirstStage) -> Tuned:
                segment = Segment(SegmentRecord(name, count, {}), filled, stored, identities)
                state = State((), manifest, [segment], [None], settings, codec, name, search)
                return wanted.tune(state, seed=seed, progress=progress)

            tuned = tune_with(codec, filled)
            for longer in settings.longer_codes(count):
                other = Codec(FirstStage.train(vectors, longer, documents=drawn, seed=seed), second)
                others = encode_stored(other, drafted)
                found = tune_with(other, others)
                if not _is_better(found, tuned):
                    break
                codec, filled, tuned = other, others, found
        if fitted:
            draft.unlink()
        save_codec(folder, codec, writing)
        writing.set("settings", settings)
        writing.set("plan", plan)
        writing.set("search", (search if tuned is None else tuned.settings).kept())
        writing.set("tuned", None if tuned is None else tuned.measured)
        writing.put_segment(finish_segment(segments, name, codec, count, filled))


def _is_better(one: Tuned, other: Tuned) -> bool:
    """Whether a first stage finds enough in clearly less time, or enough where another does not."""
    if one.reached != other.reached:
        return one.reached
    return one.best.mean_ms < _CLEARLY * other.best.mean_ms if one.reached else one.best.low > other.best.low


def _receive(
    writing: Writing,
    settings: IndexSettings,
    batches: Iterable[Batch],
    quantizer: Quantizer,
    sample: Sample,
    progress: Progress,
) -> Iterator[Stored]:
    with progress("storing", None) as advance:
        for batch in batches:
            writing.add(check_batch(batch, settings.full_dim))
            vectors = unit_vectors(batch.vectors, settings)
            sample.offer(vectors)
            yield encode(quantizer, vectors)
            advance(len(batch.ids))
