"""Text to vectors: the encoder protocol, and the models that fulfil it. torch is imported when a model is loaded."""

from nestvec.encoders.bases import (
    PACKAGED_BASES,
    comparison_of_base,
    is_static,
    load_base,
    load_model,
    trained_dims,
)
from nestvec.encoders.cache import CachedEncoder, CacheEntry, cache_entries, cache_folder, clear_cache
from nestvec.encoders.dot_product import DotProductEncoder
from nestvec.encoders.folder_kinds import DOT_PRODUCT, SIMILARITY_NAMES
from nestvec.encoders.linear_modules import (
    fold_linear,
    has_towers,
    linear_module,
    model_of,
    refuse_truncating,
    rotated_modules,
)
from nestvec.encoders.protocol import Encoder
from nestvec.encoders.remote import RemoteEncoder
from nestvec.encoders.sentence_transformer import SentenceTransformerEncoder

__all__ = [
    "DOT_PRODUCT",
    "PACKAGED_BASES",
    "SIMILARITY_NAMES",
    "CacheEntry",
    "CachedEncoder",
    "DotProductEncoder",
    "Encoder",
    "RemoteEncoder",
    "SentenceTransformerEncoder",
    "cache_entries",
    "cache_folder",
    "clear_cache",
    "comparison_of_base",
    "fold_linear",
    "has_towers",
    "is_static",
    "linear_module",
    "load_base",
    "load_model",
    "model_of",
    "refuse_truncating",
    "rotated_modules",
    "trained_dims",
]
