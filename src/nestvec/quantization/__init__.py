"""Vectors to fewer bytes: fit a quantizer, encode, decode, score, and keep it with its codes."""

from nestvec.quantization.binary import BinaryQuantizer, hamming
from nestvec.quantization.fitting import (
    QUANTIZERS,
    ROTATED,
    ROTATIONS,
    Rotation,
    choose_rotation,
    fit_codes,
    fit_quantizer,
)
from nestvec.quantization.floats import FloatQuantizer
from nestvec.quantization.precisions import BITS_PER_NUMBER, bytes_per_vector, check_precision
from nestvec.quantization.quantizer import Quantizer
from nestvec.quantization.rotations import RotatedQuantizer, itq_rotation, random_rotation
from nestvec.quantization.scalar import ScalarQuantizer
from nestvec.quantization.storage import StoredCodes, load_codes, save_codes

__all__ = [
    "BITS_PER_NUMBER",
    "QUANTIZERS",
    "ROTATED",
    "ROTATIONS",
    "BinaryQuantizer",
    "FloatQuantizer",
    "Quantizer",
    "RotatedQuantizer",
    "Rotation",
    "ScalarQuantizer",
    "StoredCodes",
    "bytes_per_vector",
    "check_precision",
    "choose_rotation",
    "fit_codes",
    "fit_quantizer",
    "hamming",
    "itq_rotation",
    "load_codes",
    "random_rotation",
    "save_codes",
]
