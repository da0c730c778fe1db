"""What a model folder is, read before it is loaded: what is no single text tower is refused by name."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from nestvec.errors import ModelError
from nestvec.extras import require

__all__ = ["check_kind", "compares_by_dot_product", "needs_own_code"]

_CONFIG, _MODULES, _SETTINGS, _CARD = (
    "config.json",
    "modules.json",
    "config_sentence_transformers.json",
    "README.md",
)
_TEXT_KIND = "SentenceTransformer"
_KINDS = {
    "SparseEncoder": "a sparse encoder, whose vectors have a number for every word of its vocabulary",
    "CrossEncoder": "a cross-encoder, which scores pairs of texts and gives no vectors",
    "MultiVectorEncoder": "a late interaction model, which gives a vector for every token",
    "ColBERT": "a late interaction model, which gives a vector for every token",
}
_MODULES_OF_OTHERS = {
    "CLIPModel": "an image-text model",
    "SpladePooling": _KINDS["SparseEncoder"],
    "MLMTransformer": _KINDS["SparseEncoder"],
    "SparseAutoEncoder": _KINDS["SparseEncoder"],
    "CSRSparsity": _KINDS["SparseEncoder"],
    "SparseStaticEmbedding": _KINDS["SparseEncoder"],
    "MultiVectorMask": _KINDS["MultiVectorEncoder"],
}
_HEADS = {
    "ForSequenceClassification": "a cross-encoder or classifier, whose head would be lost",
    "ForTokenClassification": "a model that labels tokens, whose head would be lost",
    "ForQuestionAnswering": "a model that marks answers in a text, whose head would be lost",
}
_OTHER_MAPPINGS = (
    "AUDIO_CLASSIFICATION",
    "IMAGE_CLASSIFICATION",
    "IMAGE_TEXT_TO_TEXT",
    "SPEECH_SEQ_2_SEQ",
    "TEXT_TO_SPECTROGRAM",
    "TEXT_TO_WAVEFORM",
    "ZERO_SHOT_IMAGE_CLASSIFICATION",
)
_TEXT_MAPPINGS = ("MASKED_LM", "TEXT_ENCODING")
_DOT_IN_CARD = re.compile(r"suitable score functions?\W[^\n]*?dot[-_ ]?(product|score)[^\n]*", re.IGNORECASE)
_DOT_IN_NAME = re.compile(r"-dot(-prod)?(-|$)")


def check_kind(name: str) -> None:
    """Refuse a model that would be loaded half, or as something else, by what its files say.

    Args:
        name: Folder or hub id.

    Raises:
        ModelError: It is no single text tower.
    """
    kind = _read(name, _SETTINGS).get("model_type", _TEXT_KIND)
    found = None if kind == _TEXT_KIND else _KINDS.get(kind, f"a {kind}")
    modules = _read(name, _MODULES)
    for module in modules if isinstance(modules, list) else ():
        type_name = str(module.get("type", "")).rpartition(".")[2]
        found = found or _MODULES_OF_OTHERS.get(type_name)
    if not modules:
        found = found or _kind_of_config(_read(name, _CONFIG))
    if found is not None:
        raise ModelError(
            f"{name} is {found}. Here a model is one tower that turns a text into one vector: give such a folder, or "
            "the base that it was made from."
        )


def _kind_of_config(config: Any) -> str | None:
    """What a bare folder of transformers is, where it is no text encoder."""
    for architecture in config.get("architectures") or ():
        for ending, what in _HEADS.items():
            if str(architecture).endswith(ending):
                return f"{what} ({architecture})"
    kind = config.get("model_type")
    names = require("transformers.models.auto.modeling_auto", extra="train")
    texts, others = (
        {key for part in parts for key in getattr(names, f"MODEL_FOR_{part}_MAPPING_NAMES", ())}
        for parts in (_TEXT_MAPPINGS, _OTHER_MAPPINGS)
    )
    if kind in others - texts or {"vision_config", "audio_config"} & set(config):
        architecture = next(iter(config.get("architectures") or ()), kind)
        return f"no text encoder, but a model of images or sounds ({architecture})"
    return None


def needs_own_code(name: str) -> bool:
    """Tell whether loading a model would run code that comes with it."""
    config, modules = _read(name, _CONFIG), _read(name, _MODULES)
    types = [str(module.get("type", "")) for module in modules] if isinstance(modules, list) else []
    foreign = any(not one.startswith("sentence_transformers.") for one in types)
    return foreign or bool(isinstance(config, dict) and config.get("auto_map"))


def compares_by_dot_product(name: str) -> bool:
    """Tell whether a model was trained for dot products of vectors that are not of unit length.

    Its similarity function says so, or where it has none its card (`Suitable score functions: dot-product`), or its
    name (`...-dot-v5`).

    Args:
        name: Folder or hub id.
    """
    modules = _read(name, _MODULES)
    if isinstance(modules, list) and any(str(module.get("type", "")).endswith(".Normalize") for module in modules):
        return False  # of unit length, so that both are the same
    stated = _read(name, _SETTINGS).get("similarity_fn_name")
    if stated:
        return bool(stated in ("dot", "dot_score"))
    found = _DOT_IN_CARD.search(_read_text(name, _CARD))
    if found is not None:
        return "cos" not in found[0].lower()
    return _DOT_IN_NAME.search(Path(name).name) is not None


def _read(name: str, file: str) -> Any:
    try:
        return json.loads(_read_text(name, file) or "{}")
    except ValueError:
        return {}  # what is damaged is said by what loads it


def _read_text(name: str, file: str) -> str:
    folder = Path(name).expanduser()
    path: Path | None = folder / file
    if not folder.is_dir():
        try:
            found = require("sentence_transformers.util", extra="train").load_file_path(name, file)
        except Exception:  # noqa: BLE001  # a hub that is out of reach is said by what loads the model
            found = None
        path = None if found is None else Path(found)
    if path is None or not path.is_file():
        return ""
    return path.read_text(encoding="utf-8", errors="replace")
