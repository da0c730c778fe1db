"""From the name of a model to what encodes: a folder, hub id or packaged base, perhaps with an adaptor behind it."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from nestvec.adaptors import AdaptedEncoder, load
from nestvec.encoders import (
    DOT_PRODUCT,
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

__all__ = ["ADAPTOR_SUFFIX", "load_encoder", "make_encoder", "split_adaptor"]

ADAPTOR_SUFFIX = ".safetensors"
"""What the name of an adaptor's file ends with, in a source that is an adaptor behind a model: `FILE=MODEL`."""


def split_adaptor(source: str) -> tuple[str | None, str]:
    """The file of an adaptor and the model it stands behind; None and the source where it names no adaptor."""
    file, separator, behind = source.partition("=")
    return (file, behind) if separator and file.endswith(ADAPTOR_SUFFIX) else (None, source)


def make_encoder(
    source: str, model: SentenceTransformer, *, batch_size: int = 64, unit_length: bool = False
) -> Encoder:
    """Return what encodes with a loaded model, in the way it compares: by dot product, or else by cosine.

    Args:
        source: Where it was loaded from.
        model: The model.
        batch_size: Texts in one forward pass.
        unit_length: Compare by cosine whatever the model says, as for vectors that an adaptor maps.

    Returns:
        The encoder; where it does not compare as its model does, or not at every size, a warning says so.
    """
    encoder = SentenceTransformerEncoder(model, batch_size=batch_size)
    comparison = comparison_of_base(source)
    if comparison == DOT_PRODUCT and not unit_length:
        by_length = DotProductEncoder(encoder)
        warnings.warn(
            f"{source} compares by {comparison}. Its full vectors have {by_length.full_dim} dimensions here, of which "
            "the last stands for the length: they are ordered as by dot product. Truncated sizes are compared by "
            "cosine.",
            NestvecWarning,
            stacklevel=2,
        )
        return by_length
    if comparison != "cosine":
        message = f"{source} compares by {comparison}. Here its vectors are compared by cosine."
        warnings.warn(message, NestvecWarning, stacklevel=2)
    return encoder


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
    encoder = make_encoder(behind, model, batch_size=batch_size, unit_length=adaptor_file is not None)
    if cache:
        encoder = CachedEncoder(encoder, about=behind)
    return encoder if adaptor_file is None else AdaptedEncoder(encoder, load(adaptor_file), force=force)
