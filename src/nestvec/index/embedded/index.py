"""The index: documents and their vectors in a folder, searched in two stages."""

from __future__ import annotations

import shutil
import threading
import weakref
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nestvec.errors import DataError, IndexBusyError
from nestvec.files import atomic_folder, remove_leftovers
from nestvec.index.embedded.buildable import check_buildable, check_free
from nestvec.index.embedded.building import fill
from nestvec.index.embedded.changing import Change, changing, compact_segments, delete_documents, put_documents
from nestvec.index.embedded.codec import settings_of
from nestvec.index.embedded.documents import as_batches, check_documents, check_ids, check_queries, unit_vectors
from nestvec.index.embedded.manifest import Manifest
from nestvec.index.embedded.reader import IndexReader
from nestvec.index.embedded.segments import SEGMENTS
from nestvec.index.embedded.tuning_target import TuningTarget, said_of
from nestvec.index.protocol import Batch, QueryEncoder
from nestvec.index.settings import CodeSettings, SearchSettings
from nestvec.index.tuning import Tuned
from nestvec.plan import Plan
from nestvec.progress import Progress, silent

__all__ = ["Index"]

Float32s = NDArray[np.float32]


class Index(IndexReader):
    """Documents and their vectors in a folder.

    One object serves any number of threads, and any number of processes may read the folder, while one thread of one
    process changes it; readers see a change once it is committed.
    """

    def __init__(self, path: str | Path, *, encoder: QueryEncoder | None = None) -> None:
        """Open an index; see `build` for making one, and `open`.

        Args:
            path: Its folder.
            encoder: What encodes queries that are texts; None takes vectors alone.

        Raises:
            SearchIndexError: There is none, it is damaged, or of another format.
        """
        self._changing = threading.Lock()
        self._remove: weakref.finalize[..., Index] | None = None
        super().__init__(path, encoder=encoder)

    @staticmethod
    def open(path: str | Path, *, encoder: QueryEncoder | None = None) -> Index:
        """Open an index.

        Args:
            path: Its folder.
            encoder: What encodes queries that are texts, such as `nestvec.jobs.index.encoder_of(index)`; None takes
                vectors alone.

        Returns:
            The index.

        Raises:
            SearchIndexError: There is none, it is damaged, or of another format.
        """
        return Index(path, encoder=encoder)

    @staticmethod
    def build(
        path: str | Path,
        *,
        vectors: NDArray[Any] | Iterable[Batch],
        ids: Sequence[str] | None = None,
        texts: Sequence[str | None] | None = None,
        metadata: Sequence[Mapping[str, Any] | None] | None = None,
        plan: Plan | None = None,
        model: Mapping[str, str] | None = None,
        codes: CodeSettings | None = None,
        precision: str | None = None,
        recall: float | None = 0.99,
        queries: Float32s | None = None,
        learn_from: NDArray[Any] | None = None,
        overwrite: bool = False,
        seed: int = 0,
        progress: Progress = silent,
    ) -> Index:
        """Make an index.

        Args:
            path: Folder to make; whole, or not at all.
            vectors: [n, full_dim], floating point, a memory map as well; or batches, which come with their own ids,
                texts and metadata. Need not be of unit length: documents are compared by cosine.
            ids: [n]; None numbers the documents from 0.
            texts: [n], for search by words and to be shown; None keeps none.
            metadata: [n], JSON objects to filter by; None keeps none.
            plan: What to store and how to search, from `nestvec plan`; None stores what suits most vectors.
            model: The encoder of the vectors: its `name`, and its identity as `query` and as `document`, for whoever
                encodes queries; None leaves it open.
            codes: The first stage, in place of the plan's or the default.
            precision: Of the second stage, in place of the plan's or float16.
            recall: Share of the exact best 10 that a search is to find: the shortlist is made as long as that needs,
                and up to 200,000 documents codes are made longer where that is faster. A plan has its own, of what its
                search finds. None tunes nothing.
            queries: Vectors of queries to measure that on, [n, full_dim]; None uses documents, see `tune`.
            learn_from: Vectors that ranges and codebooks are learned from, [n, full_dim], such as those of training
                rows; None learns them from the documents. Compacting keeps what was learned, unless it cuts dimensions.
            overwrite: Replace an index that is there, once the new one is complete and nobody is changing the old one.
            seed: Of every draw.
            progress: How to report progress, in documents.

        Returns:
            The index, open.

        Raises:
            OutputExistsError: There is something at `path`.
            DataError: There are no documents; ids are missing, empty or repeated; lists are of different lengths, or
                given together with batches.
            VectorError: Vectors are of different widths, zero or not finite.
            DimensionError: The plan is for vectors of another width, or these have too few dimensions for its codes.
            PrecisionError: A precision is not known, or cannot be kept in IVF lists.
            SearchIndexError: `recall` is outside its range, there are too few vectors to learn codes from, or the plan
                learns them from a file and `learn_from` is not given.
            StorageError: The disk is full, or the folder cannot be written.
            MissingExtraError: faiss is not installed.
        """
        path = Path(path).absolute()
        remove_leftovers(path.resolve().parent, path.name)
        check_free(path, overwrite=overwrite)
        batches, full_dim = as_batches(vectors, ids, texts, metadata)
        learned = learn_from is not None
        check_buildable(full_dim, plan=plan, codes=codes, precision=precision, recall=recall, learned=learned)
        settings, search = settings_of(full_dim, plan, codes, precision)
        said = None if plan is None else said_of(plan, codes)
        wanted = None
        if recall is not None:
            if queries is not None:
                check_queries(queries, settings)
            wanted = TuningTarget(recall, queries) if said is None else TuningTarget.of(said, queries)
        learned_from = None
        if learn_from is not None:
            check_queries(learn_from, settings, "Vectors to learn from")
            learned_from = unit_vectors(learn_from, settings)  # bit for bit what a grid learns from
            settings = settings._replace(learned_elsewhere=True)
        with ExitStack() as held, atomic_folder(path) as folder:
            (folder / SEGMENTS).mkdir()
            manifest = Manifest.create(folder, {"model": None if model is None else dict(model)})
            try:
                fill(
                    folder,
                    manifest,
                    settings,
                    batches,
                    search=search,
                    wanted=wanted,
                    learned_from=learned_from,
                    plan=said,
                    seed=seed,
                    progress=progress,
                )
            finally:
                manifest.close()
            check_free(path, overwrite=overwrite)  # now that much time has passed
            if Manifest.is_one(path):
                held.enter_context(Manifest.replacing(path, progress))
        return Index(path)

    @classmethod
    def from_texts(
        cls,
        texts: Sequence[str],
        *,
        model: str | None = None,
        ids: Sequence[str] | None = None,
        metadata: Sequence[Mapping[str, Any] | None] | None = None,
        path: str | Path | None = None,
        plan: Plan | None = None,
        recall: float | None = 0.99,
        learn_from: NDArray[Any] | None = None,
        overwrite: bool = False,
        cache: bool = True,
        trust_remote_code: bool = False,
        seed: int = 0,
        progress: Progress = silent,
    ) -> Index:
        """Encode texts and make an index of them.

        Args:
            texts: The documents.
            model: What encodes: a model folder, a hub id, `minilm`, `static`, or ADAPTOR.safetensors=MODEL. None takes
                the plan's, and without a plan `minilm`.
            ids: [n]; None numbers the texts from 0.
            metadata: [n], JSON objects to filter by; None keeps none.
            path: Folder to make; None makes a temporary one, which goes when the index is closed or no longer used.
            plan: What to store and how to search; None stores what suits most vectors.
            recall: As `build` takes it.
            learn_from: As `build` takes it: a plan may ask for it.
            overwrite: Replace an index that is at `path`.
            cache: Keep vectors in the cache of encoded texts.
            trust_remote_code: Run code that comes with the model, where it needs some.
            seed: Of every draw.
            progress: How to report progress.

        Returns:
            The index, open, which encodes queries itself.

        Raises:
            DataError: There are no texts, or what `build` raises of ids and metadata.
            NestvecError: What loading a model and `build` raise.
        """
        from nestvec.sources import absolute_source, load_encoder

        if isinstance(texts, str):
            raise DataError(f"Texts are a list of texts, not the one text {texts!r}.")
        texts = list(texts)
        if not texts:
            raise DataError("There are no texts. Give one at least; more can be added later.")
        if wrong := [place for place, text in enumerate(texts) if not isinstance(text, str)]:
            raise DataError(f"Texts are strings, and the one at {wrong[0]} is {texts[wrong[0]]!r}.")
        ids = [str(place) for place in range(len(texts))] if ids is None else ids
        check_documents(len(texts), ids, texts, metadata)  # before the time that encoding takes
        if path is not None:
            check_free(Path(path), overwrite=overwrite)
        if model is None:
            model = "minilm" if plan is None else plan.model
        encoder = load_encoder(model, cache=cache, trust_remote_code=trust_remote_code, progress=progress)
        learned = learn_from is not None
        check_buildable(encoder.full_dim, len(texts), plan=plan, recall=recall, learned=learned)
        vectors = encoder.encode_documents(texts, progress=progress)
        with ExitStack() as failing:
            temporary = None
            if path is None:
                temporary = mkdtemp(prefix="nestvec-")
                failing.callback(shutil.rmtree, temporary, ignore_errors=True)
                path = Path(temporary) / "index"
            made = cls.build(
                path,
                vectors=vectors,
                ids=ids,
                texts=texts,
                metadata=metadata,
                plan=plan,
                model={
                    "name": absolute_source(model),
                    "query": encoder.identity("query"),
                    "document": encoder.identity("document"),
                },
                recall=recall,
                learn_from=learn_from,
                overwrite=overwrite,
                seed=seed,
                progress=progress,
            )
            failing.pop_all()
        made.encoder = encoder
        if temporary is not None:
            made._remove = weakref.finalize(made, shutil.rmtree, temporary, ignore_errors=True)
        return made

    def close(self) -> None:
        """Close the manifest, and remove the folder of an index that was made without a path."""
        super().close()
        if self._remove is not None:
            self._remove()

    def add(
        self,
        vectors: NDArray[Any],
        ids: Sequence[str],
        texts: Sequence[str | None] | None = None,
        metadata: Sequence[Mapping[str, Any] | None] | None = None,
    ) -> None:
        """Add documents whose ids are new; all of them, or none.

        Args:
            vectors: [n, full_dim], floating point.
            ids: [n].
            texts: [n]; None keeps none.
            metadata: [n], JSON objects; None keeps none.

        Raises:
            DataError: Ids are missing, empty, repeated, or in the index already, or lists are of different lengths.
            VectorError: Vectors are of another width, zero or not finite.
            IndexBusyError: Another process is changing the index.
            StorageError: The disk is full, or the folder cannot be written.
        """
        with self._changing, changing(self.path, self._current) as change:
            put_documents(change, Batch(vectors, ids, texts, metadata), replacing=False)

    def upsert(
        self,
        vectors: NDArray[Any],
        ids: Sequence[str],
        texts: Sequence[str | None] | None = None,
        metadata: Sequence[Mapping[str, Any] | None] | None = None,
    ) -> int:
        """Add documents, in place of those that have their ids; all of them, or none.

        Args:
            vectors: [n, full_dim], floating point.
            ids: [n].
            texts: [n]; None keeps none.
            metadata: [n], JSON objects; None keeps none.

        Returns:
            How many were replaced.

        Raises:
            DataError: Ids are missing, empty or repeated, or lists are of different lengths.
            VectorError: Vectors are of another width, zero or not finite.
            IndexBusyError: Another process is changing the index.
            StorageError: The disk is full, or the folder cannot be written.
        """
        with self._changing, changing(self.path, self._current) as change:
            return put_documents(change, Batch(vectors, ids, texts, metadata), replacing=True)

    def delete(self, ids: Sequence[str]) -> int:
        """Delete documents; all that there are of these, at once.

        Args:
            ids: Their ids; those that are not in the index change nothing.

        Returns:
            How many there were.

        Raises:
            IndexBusyError: Another process is changing the index.
            StorageError: The disk is full, or the folder cannot be written.
        """
        check_ids(ids)
        with self._changing, changing(self.path, self._current) as change:
            return delete_documents(change, ids)

    def compact(self, *, dim: int | None = None, progress: Progress = silent) -> None:
        """Put all segments into one, without what was deleted, and fit the codes to what there is.

        A search that was tuned is tuned again, on documents, for the recall that was asked for.

        Args:
            dim: Leading dimensions to keep from here on; None keeps all that are stored.
            progress: How to report progress, in documents.

        Raises:
            DimensionError: `dim` is outside what is stored, or too few dimensions for the second stage's precision.
            SearchIndexError: There are no documents to fit fewer dimensions to.
            IndexBusyError: Another process is changing the index, before it is compacted or before it is tuned.
            StorageError: The disk is full, or the folder cannot be written; the index is as it was, or is compacted and
                its search not tuned, see `tuned`.
        """
        with self._changing, changing(self.path, self._current) as change:
            tuned = compact_segments(change, dim, progress)
        if tuned is None:
            return
        try:
            self.tune(k=tuned["k"], dim=self.search_settings.dim, progress=progress)
        except IndexBusyError as error:
            raise IndexBusyError(
                f"{self.path} is compacted, but another process is changing it, so that its search was not tuned. "
                f"Do so: nestvec index tune {self.path}"
            ) from error

    def tune(
        self,
        *,
        recall: float | None = None,
        k: int = 10,
        queries: Float32s | None = None,
        dim: int | None = None,
        seed: int = 0,
        progress: Progress = silent,
    ) -> Tuned:
        """Find the fastest settings whose recall is high enough, and make them those of every search; see `tune`.

        Args:
            recall: Share of the exact best k to find, above 0 and below 1; its lower bound is to be as high. None keeps
                to the plan that the index was built by: its shortlist, and its recall of what that finds; without a
                plan, to the recall that it was tuned for before, or 0.99.
            k: Documents of a search.
            queries: Vectors of queries, [n, full_dim], as they will come; None uses documents.
            dim: Leading dimensions to compare; None compares all.
            seed: Of the draw of queries.
            progress: How to report progress, in trials.

        Returns:
            What was found.

        Raises:
            SearchIndexError: `recall` is outside its range, nothing is reranked, or there are too few documents or no
                queries.
            VectorError: The queries are of another width, zero, or not finite.
            DimensionError: `dim` is outside what is stored.
            IndexBusyError: Another process is changing the index.
        """
        state = self._current()
        wanted = TuningTarget.again(self._setting("plan"), self.tuned, recall, queries)
        found = wanted.tune(state, k=k, dim=dim, seed=seed, progress=progress)
        with self._changing, changing(self.path, self._current) as change:
            stale = {} if change.state.codec_name == state.codec_name else {"stale": True}  # compacted meanwhile
            _set_search(change, found.settings, {**found.measured, **stale})
        return found

    def set_search(self, settings: SearchSettings, measured: Mapping[str, Any] | None = None) -> None:
        """Make settings those of every search that is not told otherwise.

        Args:
            settings: How to search; threads are not kept.
            measured: What they were measured to do, JSON values.

        Raises:
            IndexBusyError: Another process is changing the index.
        """
        with self._changing, changing(self.path, self._current) as change:
            _set_search(change, settings, measured)


def _set_search(change: Change, settings: SearchSettings, measured: Mapping[str, Any] | None) -> None:
    change.writing.set("search", settings.kept())
    change.writing.set("tuned", None if measured is None else dict(measured))
