"""Vectors to a scalar: pure functions on prefixes of tensors, and thin modules for the trainer."""

from nestvec.losses.info_nce import nested_info_nce
from nestvec.losses.modules import NestedInfoNCE

__all__ = ["NestedInfoNCE", "nested_info_nce"]
