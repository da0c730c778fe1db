"""What the vectors of a model depend on, as one digest."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["model_identity"]

# Where a model was loaded from, and what wrote it, are no part of what it computes.
_NO_PART_OF_A_MODEL = {"_name_or_path", "transformers_version", "torch_dtype", "dtype"}


def model_identity(model: SentenceTransformer, *, prompt: str, task: str) -> str:
    """Digest everything that decides which vector a text gets.

    That is the weights and their type, the modules with their settings (pooling among them), the tokenizer and the
    longest text of each tower, the prompt, and which tower of a router reads it. The folder of the model does not
    count, nor the device, which changes the last digits only.

    Args:
        model: The model.
        prompt: What is put before every text.
        task: `query` or `document`; it counts only where the model has a tower for each.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.blake2b(digest_size=32)
    modules = list(model.modules())[1:]  # the first is the model itself, which speaks for one of its towers only
    for module in modules:
        settings: dict[str, Any] = getattr(module, "get_config_dict", dict)()
        config: Any = getattr(module, "config", None)
        described = {
            "type": f"{type(module).__module__}.{type(module).__qualname__}",
            "settings": settings,
            "config": config.to_dict() if hasattr(config, "to_dict") else None,
            "max_seq_length": getattr(module, "max_seq_length", None),
            "do_lower_case": getattr(module, "do_lower_case", None),
            "tokenizer": _describe_tokenizer(getattr(module, "tokenizer", None)),
        }
        digest.update(json.dumps(_plain(described), sort_keys=True).encode())
    has_towers = any(type(module).__name__ == "Router" for module in modules)
    reading = {"prompt": prompt, "task": task if has_towers else None, "truncate_dim": model.truncate_dim}
    digest.update(json.dumps(reading, sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        # numpy has no bfloat16; the bytes are the same
        digest.update(tensor.detach().cpu().contiguous().flatten().view(_byte_type(tensor)).numpy().data)
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    """The same with every key a text, and everything that JSON does not know as text."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items() if key not in _NO_PART_OF_A_MODEL}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def _byte_type(tensor: Any) -> Any:
    return tensor.new_empty(0).byte().dtype  # torch.uint8, without importing torch


def _describe_tokenizer(tokenizer: Any) -> Any:
    if tokenizer is None:
        return None
    sides = [getattr(tokenizer, name, None) for name in ("truncation_side", "padding_side", "model_max_length")]
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if not hasattr(backend, "to_str"):
        return [sides, getattr(tokenizer, "get_vocab", lambda: repr(type(tokenizer)))()]
    described = json.loads(backend.to_str())
    # Encoding leaves the padding and truncation of its last batch behind.
    return [sides, {key: value for key, value in described.items() if key not in {"padding", "truncation"}}]
