"""Vectors to fewer bytes."""

from nestvec.quantization.precisions import BITS_PER_NUMBER, bytes_per_vector

__all__ = ["BITS_PER_NUMBER", "bytes_per_vector"]
