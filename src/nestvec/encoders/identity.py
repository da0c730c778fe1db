"""What the vectors of a model depend on, as one digest."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["model_identity"]


def model_identity(model: SentenceTransformer, *, prompt: str, task: str) -> str:
    """Digest everything that decides which vector a text gets.

    That is the weights and their type, the modules with their settings (pooling among them), the tokenizer, the
    longest text that is read, the prompt, and which tower of a router reads it. The device does not count: it changes
    the last digits only.

    Args:
        model: The model.
        prompt: What is put before every text.
        task: `query` or `document`; it counts only where the model has a tower for each.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.blake2b(digest_size=32)
    for module in model.modules():
        settings: dict[str, Any] = getattr(module, "get_config_dict", dict)()
        config: Any = getattr(module, "config", None)
        settings = {**settings, "config": config.to_dict() if hasattr(config, "to_dict") else None}
        digest.update(f"{type(module).__module__}.{type(module).__qualname__}".encode())
        digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
    has_towers = any(type(module).__name__ == "Router" for module in model.modules())
    reading = {
        "prompt": prompt,
        "task": task if has_towers else None,
        "max_seq_length": str(model.max_seq_length),
        "truncate_dim": model.truncate_dim,
        "tokenizer": _describe_tokenizer(model.tokenizer),
    }
    digest.update(json.dumps(reading, sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        # numpy has no bfloat16; the bytes are the same
        digest.update(tensor.detach().cpu().contiguous().flatten().view(_byte_type(tensor)).numpy().data)
    return digest.hexdigest()


def _byte_type(tensor: Any) -> Any:
    return tensor.new_empty(0).byte().dtype  # torch.uint8, without importing torch


def _describe_tokenizer(tokenizer: Any) -> Any:
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if not hasattr(backend, "to_str"):
        return str(getattr(tokenizer, "get_vocab", lambda: tokenizer)())
    described = json.loads(backend.to_str())
    # Encoding leaves the padding and truncation of its last batch behind.
    return {key: value for key, value in described.items() if key not in {"padding", "truncation"}}
