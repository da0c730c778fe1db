"""What a model folder is, read before it is loaded: what is no single text tower is refused by name."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from nestvec.errors import ModelError
from nestvec.extras import require

__all__ = ["DOT_PRODUCT", "SIMILARITY_NAMES", "check_kind", "comparison_of", "needs_own_code"]

DOT_PRODUCT = "dot product"
"""How the vectors of some models are compared."""

_CONFIG, _MODULES, _SETTINGS, _CARD, _COLBERT = _FILES = (
    "config.json",
    "modules.json",
    "config_sentence_transformers.json",
    "README.md",
    "artifact.metadata",  # of ColBERT's own training
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
    "ColBERT": "a late interaction model, whose projection would be lost",
    "WithProjection": "one tower of an image-text model, whose projection would be lost",
    "ForMultipleChoice": "a model that chooses among answers, whose head would be lost",
    "DPRReader": "a model that marks answers in a text, whose head would be lost",
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
_COMPARISONS = {
    "cos_sim": "cosine",
    "dot": DOT_PRODUCT,
    "dot_score": DOT_PRODUCT,
    "euclidean": "Euclidean distance",
    "manhattan": "Manhattan distance",
}
SIMILARITY_NAMES = {"cosine": "cosine"} | {said: name for name, said in _COMPARISONS.items() if "_" not in name}
"""What sentence-transformers calls each comparison."""
_DOT_IN_CARD = re.compile(
    r"(suitable score|similarity) functions?\W[^\n]*?dot[-_ ]?(product|score)[^\n]*", re.IGNORECASE
)
_DOT_IN_NAME = re.compile(r"[-_]dot([-_]?prod(uct)?)?([-_]|$)", re.IGNORECASE)


def check_kind(name: str) -> None:
    """Refuse a model that would be loaded half, or as something else, by what its files say.

    Args:
        name: Folder or hub id.

    Raises:
        ModelError: It is no single text tower.
    """
    settings = _read_object(name, _SETTINGS)
    kind = str(settings.get("model_type", _TEXT_KIND))
    found = None if kind == _TEXT_KIND else _KINDS.get(kind, f"a {kind}")
    if str(settings.get("similarity_fn_name")).lower() == "maxsim" or _COLBERT in _files(name):
        found = found or _KINDS["MultiVectorEncoder"]
    types = _module_types(name)
    for type_name in types:
        package, _, last = type_name.rpartition(".")
        found = found or (_KINDS["ColBERT"] if package.startswith("pylate.") else _MODULES_OF_OTHERS.get(last))
    if not types:
        found = found or _kind_of_config(_read_object(name, _CONFIG)) or _kind_of_weights(name)
    if found is not None:
        raise ModelError(
            f"{name} is {found}. Here a model is one tower that turns a text into one vector: give such a folder, or "
            "the base that it was made from."
        )


def _kind_of_config(config: Mapping[str, Any]) -> str | None:
    """What a bare folder of transformers is, where it is no text encoder."""
    for architecture in config.get("architectures") or ():
        for ending, what in _HEADS.items():
            if ending in str(architecture):
                return f"{what} ({architecture})"
    kind = str(config.get("model_type"))
    names = require("transformers.models.auto.modeling_auto", extra="train")
    texts, others = (
        {key for part in parts for key in getattr(names, f"MODEL_FOR_{part}_MAPPING_NAMES", ())}
        for parts in (_TEXT_MAPPINGS, _OTHER_MAPPINGS)
    )
    if kind in others - texts or {"vision_config", "audio_config"} & set(config):
        architecture = next(iter(config.get("architectures") or ()), kind)
        return f"no text encoder, but a model of images or sounds ({architecture})"
    return None


def _kind_of_weights(name: str) -> str | None:
    """What a bare folder is by its weights, whatever its configuration says."""
    path = Path(name).expanduser() / "model.safetensors"
    if not path.is_file():
        return None
    safetensors = require("safetensors", extra="train")
    try:
        with safetensors.safe_open(path, "pt") as weights:
            names = set(weights.keys())
    except safetensors.SafetensorError:
        return None  # what is damaged is said by what loads it
    return _HEADS["ColBERT"] if "linear.weight" in names else None


def needs_own_code(name: str) -> bool:
    """Tell whether loading a model would run code that comes with it."""
    foreign = any(not type_name.startswith("sentence_transformers.") for type_name in _module_types(name))
    return foreign or bool(_read_object(name, _CONFIG).get("auto_map"))


def comparison_of(name: str) -> str:
    """Tell how the vectors of a model are meant to be compared.

    Its similarity function says so, or where it has none its card (`Suitable score functions: dot-product`), or its
    name (`...-dot-v5`).

    Args:
        name: Folder or hub id.

    Returns:
        `cosine`, `dot product`, `Euclidean distance` or `Manhattan distance`; `cosine` where the model gives unit
        vectors. `SIMILARITY_NAMES` says what sentence-transformers calls each.
    """
    if any(type_name.endswith(".Normalize") for type_name in _module_types(name)):
        return "cosine"  # of unit length, so that they all order alike
    stated = _read_object(name, _SETTINGS).get("similarity_fn_name")
    if stated:
        return _COMPARISONS.get(stated, str(stated))
    found = _DOT_IN_CARD.search(_files(name).get(_CARD, ""))
    if found is not None:
        return "cosine" if "cos" in found[0].lower() else DOT_PRODUCT
    return DOT_PRODUCT if _DOT_IN_NAME.search(Path(name).name) else "cosine"


def _module_types(name: str) -> list[str]:
    found = _read(name, _MODULES)
    modules = found if isinstance(found, list) else []
    return [str(module.get("type", "")) for module in modules if isinstance(module, dict)]


def _read_object(name: str, file: str) -> dict[str, Any]:
    found = _read(name, file)
    return found if isinstance(found, dict) else {}


def _read(name: str, file: str) -> Any:
    try:
        return json.loads(_files(name).get(file, "{}"))
    except ValueError:
        return {}  # what is damaged is said by what loads it


def _files(name: str) -> Mapping[str, str]:
    """What those files hold that there are, by name."""
    folder = Path(name).expanduser()
    if not folder.is_dir():
        return _files_of_hub(name) if "/" in name else {}
    paths = [folder / file for file in _FILES]
    return {path.name: path.read_text(encoding="utf-8", errors="replace") for path in paths if path.is_file()}


@cache
def _files_of_hub(name: str) -> Mapping[str, str]:
    """The same of a model of the hub; of none where it is out of reach, which is said by what loads the model."""
    hub, errors = require("huggingface_hub", extra="train"), require("huggingface_hub.errors", extra="train")
    found: dict[str, str] = {}
    is_in_reach = True
    for file in _FILES:
        try:
            path = hub.try_to_load_from_cache(name, file)
            if path is None and is_in_reach:
                path = hub.hf_hub_download(name, file)
        except errors.LocalEntryNotFoundError:
            path, is_in_reach = None, False  # each further request would be tried as long
        except Exception:  # noqa: BLE001  # there is no such file, or no such model
            path = None
        if isinstance(path, str):
            found[file] = Path(path).read_text(encoding="utf-8", errors="replace")
    return found
