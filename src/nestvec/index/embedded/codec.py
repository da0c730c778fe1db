"""What an index stores of each vector, and what turns vectors into that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nestvec.errors import DamagedIndexError, DimensionError, VectorError
from nestvec.files import sync
from nestvec.index.embedded.first_stage import FirstStage, check_codes
from nestvec.index.embedded.segments import Codec, checksum, file_problems, new_name
from nestvec.index.embedded.view import View
from nestvec.index.embedded.writing import Writing
from nestvec.index.settings import (
    DEFAULT_SHORTLIST,
    CodeSettings,
    SearchSettings,
    default_codes,
    lists_of_plan,
    longer_codes,
    read_codes,
    rows_to_train,
)
from nestvec.plan import Plan
from nestvec.quantization import check_precision, load_codes, save_codes, why_impossible

__all__ = ["IndexSettings", "load_codec", "load_settings", "remove_old_codecs", "save_codec", "settings_of"]

_CODEC_FILES = (".codec", ".first", ".second")
_ANY_NUMBER = 1 << 40
_MOST_TO_TRY = 200_000  # documents: of more, shorter codes are faster, and each try takes minutes


class IndexSettings(NamedTuple):
    """What is stored of each vector."""

    full_dim: int
    """Dimensions of the vectors that are given, as documents and as queries."""
    stored_dim: int
    """Leading dimensions that the second stage stores."""
    precision: str
    """How it stores each."""
    codes: CodeSettings | None = None
    """The first stage; None is what suits so many vectors of this size, chosen anew when they are compacted."""
    alone: bool = False
    """Whether what the first stage encodes is all that is stored."""
    learned_elsewhere: bool = False
    """Whether ranges and codebooks were learned from other vectors than documents, so that compacting keeps them."""

    @property
    def learns_from_documents(self) -> bool:
        """Whether compacting fits codes anew."""
        return not (self.alone or self.learned_elsewhere)

    def codes_for(self, count: int) -> CodeSettings:
        """Return the first stage for so many documents."""
        return default_codes(self.stored_dim, count) if self.codes is None else self.codes

    def longer_codes(self, count: int) -> list[CodeSettings]:
        """Return first stages that may be faster than the default one, where nothing says which it is to be."""
        if self.codes is not None or count > _MOST_TO_TRY:
            return []
        return longer_codes(self.stored_dim, self.codes_for(count))

    def most_to_train(self, *, open_lists: bool = False) -> int:
        """Vectors to learn from, at most, of any number of documents, also for the IVF lists that these may have."""
        codes = self.codes_for(_ANY_NUMBER)
        lists = lists_of_plan(codes, _ANY_NUMBER) if open_lists else codes.lists
        return rows_to_train(self.full_dim, lists)

    def cut(self, dim: int, count: int) -> IndexSettings:
        """Return what is stored of so many vectors that are cut to their leading dimensions."""
        codes = self.codes
        if codes is not None and codes.dim > dim:
            codes = codes._replace(dim=dim)
        if codes is not None and (why_impossible(dim, codes.precision) or codes.fewest_to_train > count):
            codes = None
        if self.alone and codes is None:
            codes = CodeSettings(dim, "int8")
        precision = codes.precision if self.alone and codes is not None else self.precision
        return self._replace(stored_dim=dim, precision=precision, codes=codes, learned_elsewhere=False)


def settings_of(
    full_dim: int, plan: Plan | None, codes: CodeSettings | None, precision: str | None
) -> tuple[IndexSettings, SearchSettings]:
    """Return what to store and how to search: of a plan, or what suits most vectors.

    Args:
        full_dim: Dimensions of the vectors.
        plan: None for no plan.
        codes: The first stage, in place of the plan's.
        precision: Of the second stage, likewise.

    Raises:
        DimensionError: The plan is for vectors of another width, or these have too few dimensions for what is stored.
        PrecisionError: A precision is not known, or cannot be kept in IVF lists.
    """
    settings, search = (
        IndexSettings(full_dim, full_dim, precision or "float16", codes),
        SearchSettings(DEFAULT_SHORTLIST),
    )
    if plan is not None:
        if plan.full_dim != full_dim:
            raise DimensionError(f"The plan is for vectors of {plan.full_dim} dimensions, and these have {full_dim}.")
        first, second = plan.first_stage, plan.second_stage
        scanned = codes or CodeSettings(first.dim, first.precision, first.lists)
        settings = settings._replace(codes=scanned)
        if second is not None:
            settings = settings._replace(precision=precision or second.precision)
            search = SearchSettings(second.shortlist, margin=second.margin)
        elif precision is None:
            # Nothing else is stored: what codes stand for is compared exactly where a scan rounds it.
            settings = IndexSettings(full_dim, scanned.dim, scanned.precision, scanned, alone=True)
        if scanned.lists is not None:
            search = replace(search, probes=first.probes)
    if settings.codes is not None:
        check_codes(settings.codes, full_dim)
    check_precision(settings.precision)
    if reason := why_impossible(settings.stored_dim, settings.precision):
        raise DimensionError(reason)
    return settings, search


def save_codec(folder: Path, codec: Codec, writing: Writing) -> None:
    """Write a codec, and say in the manifest that it is the one in use."""
    name = new_name()
    codec.first.save(folder / f"{name}.codec")
    sync(folder / f"{name}.codec")
    parts = {"first": codec.first.quantizer, **({} if codec.alone else {"second": codec.second})}
    for part, quantizer in parts.items():
        nothing = quantizer.encode(np.ones((1, quantizer.full_dim), np.float32))[:0]
        save_codes(folder / f"{name}.{part}", quantizer, nothing)
    files = {path.name: checksum(path) for path in folder.glob(f"{name}.*")}
    writing.set("codec", {"name": name, "codes": codec.first.settings, "files": files})


def remove_old_codecs(folder: Path, name: str) -> None:
    """Remove the files of codecs but the one in use."""
    for path in folder.iterdir():
        if path.suffix in _CODEC_FILES and path.stem != name:
            path.unlink(missing_ok=True)


def load_settings(view: View) -> IndexSettings:
    """Return what an index stores of each vector."""
    full_dim, stored_dim, precision, codes, *more = view.needed("settings")  # an earlier version had four
    known = None if codes is None else read_codes(codes, stored_dim)
    return IndexSettings(full_dim, stored_dim, precision, known, *more)


def load_codec(folder: Path, named: Mapping[str, Any], settings: IndexSettings) -> Codec:
    """Read a codec.

    Args:
        folder: The index.
        settings: What it stores.
        named: What `save_codec` put into the manifest.

    Returns:
        The codec.

    Raises:
        FileNotFoundError: A file is not there.
        DamagedIndexError: A file is damaged.
    """
    for file in named["files"]:
        (folder / file).stat()  # one that is not there has been replaced, or lost
    if problems := file_problems(folder, named["files"]):
        raise DamagedIndexError(f"{folder} is damaged: {problems[0]}")
    name, codes = named["name"], read_codes(named["codes"], settings.stored_dim)
    try:
        # An earlier version left the quantizer of product quantization in the codes.
        kept = f"{name}.first" in named["files"]
        quantizer = load_codes(folder / f"{name}.first").quantizer if kept else None
        first = FirstStage.load(folder / f"{name}.codec", codes, quantizer)
        second = first.quantizer if settings.alone else load_codes(folder / f"{name}.second").quantizer
    except VectorError as error:
        raise DamagedIndexError(f"{folder} is damaged: {error}") from error
    return Codec(first, second)
