"""From the name of a model to what encodes: a folder, hub id or packaged base, perhaps with an adaptor behind it."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from nestvec.adaptors import AdaptedEncoder, load
from nestvec.encoders import (
    CachedEncoder,
    DotProductEncoder,
    Encoder,
    SentenceTransformerEncoder,
    comparison_of_base,
    load_base,
)
from nestvec.errors import NestvecWarning
from nestvec.progress import Progress, silent

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["ADAPTOR_SUFFIX", "load_encoder", "make_encoder", "make_unit_encoder", "split_adaptor"]

ADAPTOR_SUFFIX = ".safetensors"
"""What the name of an adaptor's file ends with, in a source that is an adaptor behind a model: `FILE=MODEL`."""


def split_adaptor(source: str) -> tuple[str | None, str]:
    """The file of an adaptor and the model it stands behind; None and the source where it names no adaptor."""
    file, separator, behind = source.partition("=")
    return (file, behind) if separator and file.endswith(ADAPTOR_SUFFIX) else (None, source)


def make_encoder(source: str, model: SentenceTransformer, *, batch_size: int = 64) -> Encoder:
    """Return what encodes with a loaded model, in the way it compares: by dot product, or else by cosine.

    Args:
        source: Where it was loaded from.
        model: The model.
        batch_size: Texts in one forward pass.

    Returns:
        The encoder.
    """
    if comparison_of_base(source) != "dot":
        return make_unit_encoder(source, model, batch_size=batch_size)
    encoder = SentenceTransformerEncoder(model, batch_size=batch_size)
    by_length = DotProductEncoder(encoder)
    warnings.warn(
        f"{source} compares by dot product. Its full vectors have {by_length.full_dim} dimensions here, of which the "
        "last stands for the length: they are ordered as by dot product. Truncated sizes are compared by cosine.",
        NestvecWarning,
        stacklevel=2,
    )
    return by_length


def make_unit_encoder(source: str, model: SentenceTransformer, *, batch_size: int = 64) -> SentenceTransformerEncoder:
    """Return what encodes to unit vectors, whose comparison is by cosine; where the model's own is another, say so.

    Args:
        source: Where it was loaded from.
        model: The model.
        batch_size: Texts in one forward pass.

    Returns:
        The encoder.
    """
    comparison = comparison_of_base(source)
    if comparison != "cosine":
        what = "dot product" if comparison == "dot" else f"{comparison} distance"
        message = f"{source} compares by {what}. Here its vectors are compared by cosine."
        warnings.warn(message, NestvecWarning, stacklevel=2)
    return SentenceTransformerEncoder(model, batch_size=batch_size)


def load_encoder(
    source: str,
    *,
    cache: bool = True,
    batch_size: int = 64,
    force: bool = False,
    trust_remote_code: bool = False,
    progress: Progress = silent,
) -> Encoder:
    """Load what encodes texts.

    Args:
        source: A model folder, a hub id, `minilm` or `static`; with the file of an adaptor and `=` before it, that
            behind the model.
        cache: Keep vectors on disk, and take from there what is known.
        batch_size: Texts in one forward pass.
        force: Accept an adaptor that was fitted on another encoder.
        trust_remote_code: Run code that comes with the model, where it needs some.
        progress: How to report progress.

    Returns:
        The encoder.

    Raises:
        MissingExtraError: sentence-transformers, or the package that holds a base, is not installed.
        SourceNotFoundError: There is no such model or adaptor.
        ModelError: It is no model.
        AdaptorError: It is no adaptor, or was fitted on another encoder.
    """
    adaptor_file, behind = split_adaptor(source)
    with progress(f"loading {behind}", None):
        model = load_base(behind, trust_remote_code=trust_remote_code)
    make = make_encoder if adaptor_file is None else make_unit_encoder  # adaptors map vectors of unit length
    encoder: Encoder = make(behind, model, batch_size=batch_size)
    if cache:
        encoder = CachedEncoder(encoder, about=behind)
    return encoder if adaptor_file is None else AdaptedEncoder(encoder, load(adaptor_file), force=force)
