"""A trained model as a folder that sentence-transformers, and servers that know Matryoshka models, can load."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["save_model"]


def save_model(model: SentenceTransformer, folder: Path, *, dims: Sequence[int]) -> None:
    """Save a model in the sentence-transformers folder format, with its dims in `config.json`.

    `is_matryoshka` and `matryoshka_dimensions` are the keys that vLLM reads before it lets a client ask for fewer
    numbers.

    Args:
        model: The model.
        folder: An existing folder to write into; wrap it in `nestvec.files.atomic_folder`.
        dims: Sizes it was trained for.
    """
    model.save_pretrained(str(folder), create_model_card=False)
    path = folder / "config.json"
    # A static model has no config.json of its own: its modules.json alone says how to load it.
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    config["is_matryoshka"] = True
    config["matryoshka_dimensions"] = sorted(dims, reverse=True)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    for file in folder.rglob("*"):  # safetensors makes files that only their owner can read
        if file.is_file():
            file.chmod(path.stat().st_mode)
