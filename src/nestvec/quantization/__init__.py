"""Vectors to fewer bytes: fit a quantizer, encode, decode, score, and keep it with its codes."""

from nestvec.quantization.binary import BinaryQuantizer, hamming
from nestvec.quantization.fitting import (
    ROTATED,
    ROTATIONS,
    Rotation,
    choose_rotation,
    fit_codes,
    fit_quantizer,
    in_fixed_order,
    is_fitted_by_size,
    quantizer_class,
)
from nestvec.quantization.floats import FloatQuantizer
from nestvec.quantization.precisions import (
    BITS_PER_DIMENSION,
    PRECISIONS,
    ProductCode,
    bytes_per_vector,
    check_precision,
    check_trainable,
    product_code,
    why_impossible,
)
from nestvec.quantization.product import ProductQuantizer
from nestvec.quantization.quantizer import Codes, Quantizer
from nestvec.quantization.rotations import RotatedQuantizer, itq_rotation, random_rotation
from nestvec.quantization.scalar import ScalarQuantizer
from nestvec.quantization.storage import StoredCodes, load_codes, save_codes

__all__ = [
    "BITS_PER_DIMENSION",
    "PRECISIONS",
    "ROTATED",
    "ROTATIONS",
    "BinaryQuantizer",
    "Codes",
    "FloatQuantizer",
    "ProductCode",
    "ProductQuantizer",
    "Quantizer",
    "RotatedQuantizer",
    "Rotation",
    "ScalarQuantizer",
    "StoredCodes",
    "bytes_per_vector",
    "check_precision",
    "check_trainable",
    "choose_rotation",
    "fit_codes",
    "fit_quantizer",
    "hamming",
    "in_fixed_order",
    "is_fitted_by_size",
    "itq_rotation",
    "load_codes",
    "product_code",
    "quantizer_class",
    "random_rotation",
    "save_codes",
    "why_impossible",
]
