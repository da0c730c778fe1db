"""Vectors in files of other tools. Run: pytest tests/test_data_vector_files.py (a few seconds)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import feather, parquet

from nestvec.data import read_integers, read_vectors
from nestvec.errors import SourceNotFoundError, VectorError

VECTORS = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)


def table(kind: pa.DataType | None = None, **more: object) -> pa.Table:
    vectors = pa.array(VECTORS.tolist(), kind or pa.list_(pa.float32()))
    columns = {"id": pa.array(list("abcdefg")), "vector": vectors, "tokens": pa.array([[1, 2]] * 7)}
    return pa.table({**columns, **more})


def write_stream(path: Path) -> None:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table().schema) as writer:
        writer.write_table(table(), max_chunksize=3)


WRITERS: dict[str, Callable[[Path], object]] = {
    "v.npy": lambda path: np.save(path, VECTORS),
    "v.npz": lambda path: np.savez(path, VECTORS),
    "v.parquet": lambda path: parquet.write_table(table(), path, row_group_size=2),
    "fixed.parquet": lambda path: parquet.write_table(table(pa.list_(pa.float32(), 3)), path),
    "large.parquet": lambda path: parquet.write_table(table(pa.large_list(pa.float32())), path),
    "v.feather": lambda path: feather.write_feather(table(), path),
    "v.arrow": write_stream,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_vectors(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)
    np.testing.assert_array_equal(read_vectors(tmp_path / name), VECTORS)


def test_npy_files_stay_on_disk_and_keep_their_type(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", VECTORS.astype(np.float16))
    found = read_vectors(tmp_path / "v.npy")
    assert isinstance(found, np.memmap)
    assert found.dtype == np.float16


def test_one_of_several_is_named_after_a_colon(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", a=VECTORS, b=2 * VECTORS)
    parquet.write_table(table(other=pa.array((2 * VECTORS).tolist())), tmp_path / "v.parquet")
    np.testing.assert_array_equal(read_vectors(f"{tmp_path}/v.npz:b"), 2 * VECTORS)
    np.testing.assert_allclose(read_vectors(f"{tmp_path}/v.parquet:other"), 2 * VECTORS)
    with pytest.raises(VectorError, match=r"says not which: its arrays are a, b. Write .*v.npz:a"):
        read_vectors(tmp_path / "v.npz")
    with pytest.raises(VectorError, match="has none called 'id': its columns of vectors are vector, other"):
        read_vectors(f"{tmp_path}/v.parquet:id")


def test_files_without_vectors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError):
        read_vectors(tmp_path / "v.npy")
    (tmp_path / "v.csv").write_text("1,2")
    with pytest.raises(VectorError, match=r"Give .npy, .npz, .parquet, .arrow or .feather"):
        read_vectors(tmp_path / "v.csv")
    for name in ("v.npy", "v.npz", "v.parquet", "v.arrow"):
        (tmp_path / name).write_bytes(b"no such thing")
        with pytest.raises(VectorError, match=name):
            read_vectors(tmp_path / name)
    np.save(tmp_path / "v.npy", np.arange(4.0))
    with pytest.raises(VectorError, match=r"float64 \[4\], not floating-point vectors"):
        read_vectors(tmp_path / "v.npy")
    parquet.write_table(table().select(["id"]), tmp_path / "v.parquet")
    with pytest.raises(VectorError, match="has no columns of vectors"):
        read_vectors(tmp_path / "v.parquet")
    ragged = pa.array([[1.0, 2.0], [1.0]])
    parquet.write_table(pa.table({"vector": ragged}), tmp_path / "v.parquet")
    with pytest.raises(VectorError, match="2 different lengths"):
        read_vectors(tmp_path / "v.parquet")
    parquet.write_table(pa.table({"vector": pa.array([[1.0], None])}), tmp_path / "v.parquet")
    with pytest.raises(VectorError, match="1 of 2 rows .* have no vector"):
        read_vectors(tmp_path / "v.parquet")


def test_whole_numbers_are_read_and_nothing_else(tmp_path: Path) -> None:
    np.save(tmp_path / "p.npy", np.arange(6, dtype=np.int32).reshape(3, 2))
    assert read_integers(tmp_path / "p.npy").dtype == np.int64
    np.save(tmp_path / "p.npy", VECTORS)
    with pytest.raises(VectorError, match="not whole numbers"):
        read_integers(tmp_path / "p.npy")
