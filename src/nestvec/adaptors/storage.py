"""An adaptor as one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nestvec.adaptors.adaptor import SIDES, Adaptor, Replacement
from nestvec.adaptors.maps import HiddenLayer, Map, Towers
from nestvec.errors import AdaptorError
from nestvec.tensor_files import read_tensors, write_tensors

__all__ = ["load", "save"]

Arrays = dict[str, NDArray[np.float32]]

_FORMAT = "nestvec adaptor 1"
_RECORD = "adaptor"


def save(path: str | Path, adaptor: Adaptor) -> None:
    """Write an adaptor, atomically.

    Args:
        path: File to write, by custom `.safetensors`; an older one is replaced.
        adaptor: What to write.

    Raises:
        StorageError: The disk is full, or the folder cannot be written.
    """
    arrays = _arrays_of(adaptor.towers, "")
    for dim, replacement in adaptor.replaced.items():
        arrays.update(_arrays_of(replacement.towers, f"{dim}."))
    record = {
        "method": adaptor.method,
        "dims": list(adaptor.dims),
        "replaced": {str(dim): replacement.method for dim, replacement in adaptor.replaced.items()},
        "encoder": dict(adaptor.encoder),
        "held_out": {name: dict(scores) for name, scores in adaptor.held_out.items()},
        "settings": dict(adaptor.settings),
    }
    write_tensors(path, arrays, {"format": _FORMAT, _RECORD: json.dumps(record)})


def load(path: str | Path) -> Adaptor:
    """Read an adaptor.

    Args:
        path: A file of `save`.

    Returns:
        The adaptor.

    Raises:
        SourceNotFoundError: There is no such file.
        AdaptorError: It is damaged, of another kind, or of a newer format.
    """
    metadata, arrays = read_tensors(path, _FORMAT, "adaptors", error=AdaptorError)
    try:
        adaptor = _assemble(arrays, json.loads(metadata[_RECORD]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise AdaptorError(f"{path} lacks a part of what an adaptor needs, or has another: {error!r}.") from error
    _check(adaptor, path)
    return adaptor


def _arrays_of(towers: Towers, prefix: str) -> Arrays:
    """Arrays by name; where both sides share a map it is written once, as that of the query."""
    arrays: Arrays = {}
    for side, tower in zip(SIDES, towers, strict=True):
        if side == "document" and tower is towers.query:
            continue
        arrays[f"{prefix}{side}.weight"] = tower.weight
        if tower.bias is not None:
            arrays[f"{prefix}{side}.bias"] = tower.bias
        if tower.hidden is not None:
            arrays.update({f"{prefix}{side}.hidden.{name}": array for name, array in tower.hidden._asdict().items()})
    return arrays


def _assemble(arrays: Arrays, record: Mapping[str, Any]) -> Adaptor:
    replaced = {
        int(dim): Replacement(str(method), _towers(arrays, f"{dim}.")) for dim, method in record["replaced"].items()
    }
    return Adaptor(
        towers=_towers(arrays, ""),
        method=str(record["method"]),
        dims=tuple(int(dim) for dim in record["dims"]),
        replaced=replaced,
        encoder={str(side): str(identity) for side, identity in record["encoder"].items()},
        held_out={str(name): dict(scores) for name, scores in record["held_out"].items()},
        settings=dict(record["settings"]),
    )


def _towers(arrays: Arrays, prefix: str) -> Towers:
    query = _map(arrays, f"{prefix}query.")
    shared = f"{prefix}document.weight" not in arrays
    return Towers(query, query if shared else _map(arrays, f"{prefix}document."))


def _map(arrays: Arrays, prefix: str) -> Map:
    weight, hidden = arrays[f"{prefix}weight"], None
    if weight.ndim != 2:
        raise ValueError(f"{prefix}weight is {list(weight.shape)}, no matrix")
    if f"{prefix}hidden.weight" in arrays:
        hidden = HiddenLayer(*(arrays[f"{prefix}hidden.{name}"] for name in HiddenLayer._fields))
    return Map(weight, arrays.get(f"{prefix}bias"), hidden)


def _check(adaptor: Adaptor, path: str | Path) -> None:
    """Refuse arrays that do not fit together, sooner than a transform would."""
    by_dim = {adaptor.full_dim: [adaptor.towers]}
    for dim, replacement in adaptor.replaced.items():
        by_dim.setdefault(dim, []).append(replacement.towers)
    for dim, tower in ((dim, tower) for dim, pairs in by_dim.items() for pair in pairs for tower in pair):
        shapes: list[tuple[NDArray[np.float32], tuple[int, ...]]] = [(tower.weight, (adaptor.input_dim, dim))]
        if tower.bias is not None:
            shapes.append((tower.bias, (dim,)))
        if tower.hidden is not None:
            width = tower.hidden.weight.shape[-1]
            wanted = ((adaptor.input_dim, width), (width,), (width, dim))
            shapes.extend(zip(tower.hidden, wanted, strict=True))
        for array, shape in shapes:
            if array.shape != shape or array.dtype != np.float32 or not np.isfinite(array).all():
                raise AdaptorError(
                    f"{path} is damaged: it has an array {list(array.shape)} of {array.dtype} where finite float32 "
                    f"{list(shape)} belongs. Fit the adaptor again."
                )
