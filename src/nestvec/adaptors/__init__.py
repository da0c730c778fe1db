"""Frozen vectors to nested vectors: maps for models that nobody can train.

Fitting needs torch and is loaded when first used; a fitted adaptor is applied in numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from nestvec.adaptors.adaptor import SIDES, Adaptor, Replacement
from nestvec.adaptors.encoder import AdaptedEncoder
from nestvec.adaptors.held_out import is_nested
from nestvec.adaptors.maps import HiddenLayer, Map, Towers
from nestvec.adaptors.merge import dense_modules, merge
from nestvec.adaptors.pca import fit_pca
from nestvec.adaptors.rotation import fit_pair_rotation
from nestvec.adaptors.settings import METHODS, PRESETS, FitSettings, Method, Preset
from nestvec.adaptors.storage import load, save
from nestvec.adaptors.training_data import AdaptorData

if TYPE_CHECKING:
    from nestvec.adaptors.fitting import fit_adaptor

__all__ = [
    "METHODS",
    "PRESETS",
    "SIDES",
    "AdaptedEncoder",
    "Adaptor",
    "AdaptorData",
    "FitSettings",
    "HiddenLayer",
    "Map",
    "Method",
    "Preset",
    "Replacement",
    "Towers",
    "dense_modules",
    "fit_adaptor",
    "fit_pair_rotation",
    "fit_pca",
    "is_nested",
    "load",
    "merge",
    "save",
]


def __getattr__(name: str) -> Any:
    """Import what needs torch from where it lives."""
    if name != "fit_adaptor":
        raise AttributeError(f"module 'nestvec.adaptors' has no attribute {name!r}")
    return importlib.import_module("nestvec.adaptors.fitting").fit_adaptor
