"""From the name of a model to what encodes: a folder, hub id or packaged base, perhaps with an adaptor behind it."""

from __future__ import annotations

from nestvec.adaptors import AdaptedEncoder, load
from nestvec.encoders import CachedEncoder, Encoder, SentenceTransformerEncoder, load_base
from nestvec.progress import Progress, silent

__all__ = ["ADAPTOR_SUFFIX", "load_encoder", "split_adaptor"]

ADAPTOR_SUFFIX = ".safetensors"
"""What the name of an adaptor's file ends with, in a source that is an adaptor behind a model: `FILE=MODEL`."""


def split_adaptor(source: str) -> tuple[str | None, str]:
    """The file of an adaptor and the model it stands behind; None and the source where it names no adaptor."""
    file, separator, behind = source.partition("=")
    return (file, behind) if separator and file.endswith(ADAPTOR_SUFFIX) else (None, source)


def load_encoder(
    source: str, *, cache: bool = True, batch_size: int = 64, force: bool = False, progress: Progress = silent
) -> Encoder:
    """Load what encodes texts.

    Args:
        source: A model folder, a hub id, `minilm` or `static`; with the file of an adaptor and `=` before it, that
            behind the model.
        cache: Keep vectors on disk, and take from there what is known.
        batch_size: Texts in one forward pass.
        force: Accept an adaptor that was fitted on another encoder.
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
        encoder: Encoder = SentenceTransformerEncoder(load_base(behind), batch_size=batch_size)
    if cache:
        encoder = CachedEncoder(encoder, about=behind)
    return encoder if adaptor_file is None else AdaptedEncoder(encoder, load(adaptor_file), force=force)
