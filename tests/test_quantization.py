"""Codes of every precision against slow loops, themselves and sentence-transformers. Run: pytest tests/test_quantization.py (seconds)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nestvec.errors import DimensionError, PrecisionError, SourceNotFoundError, StorageError, VectorError
from nestvec.quantization import (
    BITS_PER_DIMENSION,
    PRECISIONS,
    BinaryQuantizer,
    RotatedQuantizer,
    ScalarQuantizer,
    bytes_per_vector,
    choose_rotation,
    fit_codes,
    fit_quantizer,
    hamming,
    itq_rotation,
    load_codes,
    random_rotation,
    save_codes,
)
from nestvec.vectors import normalize


def unit_vectors(n: int = 200, dim: int = 24, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    spread = generator.uniform(0.2, 2.0, size=dim)  # dimensions differ in size and in centre
    return normalize((generator.normal(size=(n, dim)) * spread + 0.3 * spread).astype(np.float32))


@pytest.mark.parametrize(
    ("precision", "expected"), [("float32", 400), ("float16", 200), ("int8", 100), ("int4", 50), ("binary", 13)]
)
def test_bytes_are_bits_rounded_up(precision: str, expected: int) -> None:
    assert bytes_per_vector(100, precision) == expected


def test_every_precision_has_a_cost_and_a_quantizer() -> None:
    assert [bytes_per_vector(8, precision) for precision in BITS_PER_DIMENSION] == [32, 16, 8, 4, 1]
    for precision in PRECISIONS:
        assert fit_quantizer(unit_vectors(dim=128), precision).precision == precision


def test_what_has_no_cost_is_refused() -> None:
    with pytest.raises(DimensionError, match="0 dimensions cannot be stored"):
        bytes_per_vector(0)
    with pytest.raises(PrecisionError, match="float32, float16, int8, int4, binary"):
        bytes_per_vector(8, "int3")


@pytest.mark.parametrize("precision", BITS_PER_DIMENSION)
@pytest.mark.parametrize("dim", [24, 23, 8, 5, 1])
class TestEveryPrecision:
    def test_codes_take_the_bytes_they_are_said_to(self, precision: str, dim: int) -> None:
        vectors = unit_vectors(dim=24)
        codes = fit_quantizer(vectors, precision).encode(vectors[:, :dim])
        assert codes.nbytes == len(vectors) * bytes_per_vector(dim, precision)

    def test_cutting_codes_is_encoding_the_cut_vectors(self, precision: str, dim: int) -> None:
        vectors = unit_vectors(dim=24)
        quantizer = fit_quantizer(vectors, precision)
        cut = quantizer.cut(quantizer.encode(vectors), dim)
        np.testing.assert_array_equal(cut, quantizer.encode(vectors[:, :dim]))
        np.testing.assert_array_equal(quantizer.decode(cut, dim), quantizer.decode(quantizer.encode(vectors))[:, :dim])

    def test_the_score_is_the_cosine_of_what_the_codes_stand_for(self, precision: str, dim: int) -> None:
        vectors, queries = unit_vectors(dim=24), unit_vectors(7, 24, seed=1)
        quantizer = fit_quantizer(vectors, precision)
        codes = quantizer.encode(vectors)
        scores = quantizer.score(queries[:, :dim], codes)
        decoded = quantizer.decode(codes).astype(np.float64)
        for q, query in enumerate(queries.astype(np.float64)[:, :dim]):
            for d, document in enumerate(decoded[:, :dim]):
                cosine = query @ document / np.sqrt(query @ query) / np.sqrt(document @ document)
                assert scores[q, d] == pytest.approx(cosine, abs=2e-6)

    def test_codes_come_back_from_disk_as_they_were(self, precision: str, dim: int, tmp_path: Path) -> None:
        vectors = unit_vectors(dim=24)
        quantizer = fit_quantizer(vectors, precision)
        codes = quantizer.cut(quantizer.encode(vectors), dim)
        save_codes(tmp_path / "codes.safetensors", quantizer, codes)
        stored = load_codes(tmp_path / "codes.safetensors")
        assert stored.codes.dtype == codes.dtype
        np.testing.assert_array_equal(stored.codes, codes)
        np.testing.assert_array_equal(stored.quantizer.decode(stored.codes, dim), quantizer.decode(codes, dim))

    def test_more_bits_mean_less_error(self, precision: str, dim: int) -> None:
        vectors = unit_vectors(dim=24)[:, :dim]
        order = list(BITS_PER_DIMENSION)
        errors = [np.square(_there_and_back(vectors, name) - vectors).sum() for name in order]
        place = order.index(precision)
        assert place == 0 or errors[place - 1] < errors[place]


def _there_and_back(vectors: np.ndarray, precision: str) -> np.ndarray:
    quantizer = fit_quantizer(vectors, precision)
    return quantizer.decode(quantizer.encode(vectors))


@pytest.mark.parametrize(("precision", "steps"), [("int8", 255), ("int4", 15)])
def test_scalar_codes_equal_a_slow_loop(precision: str, steps: int) -> None:
    vectors = unit_vectors(50, 7)
    quantizer = ScalarQuantizer.fit(vectors, precision, clipped_percent=0)
    decoded = quantizer.decode(quantizer.encode(vectors))
    for column in range(7):
        values = vectors[:, column].astype(np.float64)
        low, high = values.min(), values.max()
        for row, value in enumerate(values):
            levels = [low + (high - low) * level / steps for level in range(steps + 1)]
            nearest = min(levels, key=lambda level: abs(level - value))
            assert abs(decoded[row, column] - value) == pytest.approx(abs(nearest - value), abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 30), st.integers(0, 2**32 - 1), st.sampled_from(["int8", "int4"]))
def test_no_number_inside_its_range_is_off_by_more_than_half_a_step(
    dim: int, n: int, seed: int, precision: str
) -> None:
    vectors = unit_vectors(n, dim, seed)
    quantizer = ScalarQuantizer.fit(vectors, precision, clipped_percent=0)
    error = np.abs(quantizer.decode(quantizer.encode(vectors)) - vectors)
    assert (error <= quantizer.step / 2 + 1e-6).all()


def test_clipping_is_chosen_where_it_lowers_the_error_and_only_there() -> None:
    generator = np.random.default_rng(0)
    even = generator.uniform(-1, 1, size=4000)
    heavy = generator.standard_t(3, size=4000)
    vectors = np.stack([even, heavy], axis=1).astype(np.float32)
    chosen, plain = fit_quantizer(vectors, "int4"), fit_quantizer(vectors, "int4", clipped_percent=0)
    error = [np.square(q.decode(q.encode(vectors)) - vectors).mean(axis=0) for q in (chosen, plain)]
    assert error[0][1] < 0.5 * error[1][1]
    assert error[0][0] <= error[1][0]
    assert chosen.step[1] < 0.8 * plain.step[1]


def test_a_dimension_that_never_varies_is_kept_exactly() -> None:
    vectors = unit_vectors(20, 3)
    vectors[:, 1] = 0.25
    for precision in BITS_PER_DIMENSION:
        np.testing.assert_allclose(_there_and_back(vectors, precision)[:, 1], 0.25)


def test_a_range_too_small_for_float32_is_kept_without_a_warning() -> None:
    vectors = np.array([[0.0, 1.0], [1e-40, -1.0]], np.float32)
    for precision in BITS_PER_DIMENSION:
        assert np.isfinite(_there_and_back(vectors, precision)).all()


def test_scores_do_not_depend_on_how_many_fit_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = unit_vectors(50, 24)
    quantizer = fit_quantizer(vectors, "binary")
    codes = quantizer.encode(vectors)
    whole, bits = quantizer.score(vectors[:4], codes), hamming(codes[:4], codes)
    monkeypatch.setattr("nestvec.quantization.quantizer._ROWS_AT_A_TIME", 7)
    monkeypatch.setattr("nestvec.quantization.binary._ROWS_AT_A_TIME", 7)
    np.testing.assert_allclose(quantizer.score(vectors[:4], codes), whole, atol=1e-6)
    np.testing.assert_array_equal(hamming(codes[:4], codes), bits)


def test_values_beyond_the_sample_are_clipped_not_wrapped() -> None:
    quantizer = fit_quantizer(np.array([[-1.0], [1.0]], np.float32), "int8", clipped_percent=0)
    np.testing.assert_allclose(quantizer.decode(quantizer.encode(np.array([[-9.0], [9.0]], np.float32))), [[-1], [1]])


def test_binary_keeps_the_side_of_the_centre_and_decodes_to_the_mean_of_that_side() -> None:
    vectors = unit_vectors(60, 11)
    quantizer = BinaryQuantizer.fit(vectors)
    decoded = quantizer.decode(quantizer.encode(vectors))
    for column in range(11):
        values = vectors[:, column].astype(np.float64)
        above = values > values.mean()
        np.testing.assert_allclose(decoded[above, column], values[above].mean(), rtol=1e-5)
        np.testing.assert_allclose(decoded[~above, column], values[~above].mean(), rtol=1e-5)


def test_a_rotation_keeps_lengths_and_the_sizes_it_was_made_for() -> None:
    vectors = unit_vectors(500, 24)
    quantizer = fit_quantizer(vectors, "binary", rotation="random", rotated_dims=[8, 16], seed=3)
    assert isinstance(quantizer, RotatedQuantizer)
    np.testing.assert_allclose(quantizer.rotation @ quantizer.rotation.T, np.eye(24), atol=1e-5)
    assert not quantizer.rotation[:8, 8:].any()
    assert not quantizer.rotation[8:16, 16:].any()
    codes = quantizer.encode(vectors)
    np.testing.assert_array_equal(quantizer.cut(codes, 16), quantizer.encode(vectors[:, :16]))
    rotated, decoded = vectors @ quantizer.rotation, quantizer.decode(codes) @ quantizer.rotation
    for column in range(24):
        above = rotated[:, column] > rotated[:, column].mean()
        np.testing.assert_allclose(decoded[above, column], rotated[above, column].mean(), atol=1e-5)
        np.testing.assert_allclose(decoded[~above, column], rotated[~above, column].mean(), atol=1e-5)
    np.testing.assert_allclose(quantizer.decode(codes, 16), quantizer.decode(codes)[:, :16], atol=1e-6)
    with pytest.raises(DimensionError, match='Fit with rotation="random" and 12 among rotated_dims'):
        quantizer.decode(codes, 12)
    with pytest.raises(DimensionError, match="mixes the first 12 dimensions"):
        quantizer.cut(codes, 12)
    with pytest.raises(DimensionError, match="24 dimensions and got 30"):
        quantizer.rotate(unit_vectors(5, 30))
    with pytest.raises(DimensionError, match="mixes the first 12 dimensions"):
        quantizer.encode(vectors[:, :12])


@pytest.mark.parametrize("precision", ["binary", "int4"])
@pytest.mark.parametrize("rotation", ["random", "itq"])
def test_rotated_codes_stand_for_what_the_rotated_vectors_store(precision: str, rotation: Any, tmp_path: Path) -> None:
    vectors = unit_vectors(400, 16)
    quantizer = fit_quantizer(vectors, precision, rotation=rotation, seed=5)
    assert isinstance(quantizer, RotatedQuantizer)
    rotated = quantizer.rotate(vectors)
    np.testing.assert_allclose(rotated @ rotated.T, vectors @ vectors.T, atol=1e-5)
    plain = fit_quantizer(rotated, precision)
    codes = quantizer.encode(vectors)
    np.testing.assert_array_equal(codes, plain.encode(rotated))
    np.testing.assert_allclose(quantizer.decode(codes) @ quantizer.rotation, plain.decode(codes), atol=1e-5)
    queries = unit_vectors(20, 16, seed=1)
    cosines = normalize(queries) @ normalize(quantizer.decode(codes)).T
    np.testing.assert_allclose(quantizer.score(3 * queries, codes), cosines, atol=1e-5)
    with pytest.raises(DimensionError, match="16 dimensions and got 17"):
        quantizer.score(unit_vectors(20, 17), codes)
    save_codes(tmp_path / "codes.safetensors", quantizer, codes)
    loaded = load_codes(tmp_path / "codes.safetensors")
    assert isinstance(loaded.quantizer, RotatedQuantizer)
    np.testing.assert_array_equal(loaded.quantizer.decode(loaded.codes), quantizer.decode(codes))


def test_itq_brings_vectors_nearer_to_the_corners_than_a_random_rotation() -> None:
    generator = np.random.default_rng(0)
    corners = generator.choice([-1.0, 1.0], size=(2000, 12)) + 0.3 * generator.normal(size=(2000, 12))
    vectors = (corners @ np.linalg.qr(generator.normal(size=(12, 12)))[0]).astype(np.float32)

    def distance(rotation: np.ndarray) -> float:
        np.testing.assert_allclose(rotation.T @ rotation, np.eye(12), atol=1e-5)
        rotated = (vectors - vectors.mean(axis=0)) @ rotation
        return float(np.square(rotated - np.sign(rotated)).sum(axis=1).mean())

    assert distance(itq_rotation(vectors)) < 0.6 * distance(random_rotation(12))


def test_the_best_rotation_is_the_one_that_ranks_neighbours_best_and_none_where_none_does() -> None:
    generator = np.random.default_rng(1)
    sorted_by_variance = (generator.normal(size=(3000, 32)) * np.linspace(2, 0.05, 32) ** 2).astype(np.float32)
    assert choose_rotation(normalize(sorted_by_variance), "binary") != "none"  # most bits say nothing as they are
    assert isinstance(fit_quantizer(normalize(sorted_by_variance), "binary", rotation="best"), RotatedQuantizer)
    corners = generator.choice([-1.0, 1.0], size=(3000, 32)).astype(np.float32)
    assert choose_rotation(normalize(corners), "binary") == "none"  # nothing is lost by their signs
    assert choose_rotation(unit_vectors(100, 8), "binary") == "none"  # too few to tell
    assert isinstance(fit_quantizer(unit_vectors(100, 8), "binary", rotation="best"), BinaryQuantizer)


def test_hamming_counts_bits() -> None:
    generator = np.random.default_rng(0)
    queries, documents = (generator.integers(0, 256, size=(n, 5), dtype=np.uint8) for n in (3, 8))
    distances = hamming(queries, documents)
    for q, query in enumerate(queries):
        for d, document in enumerate(documents):
            assert distances[q, d] == sum(bin(int(a) ^ int(b)).count("1") for a, b in zip(query, document, strict=True))
    with pytest.raises(VectorError, match="uint8"):
        hamming(queries, documents[:, :4])


def test_binary_codes_are_those_of_sentence_transformers() -> None:
    from sentence_transformers.util.quantization import quantize_embeddings

    vectors = unit_vectors(64, 40)
    ours = fit_quantizer(vectors, "binary", centered=False).encode(vectors)
    np.testing.assert_array_equal(ours, quantize_embeddings(vectors, "ubinary"))


def test_int8_codes_are_those_of_sentence_transformers_rounded_to_the_nearest() -> None:
    """Both spread the range of a calibration sample over 256 codes; sentence-transformers cuts digits off."""
    from sentence_transformers.util.quantization import quantize_embeddings

    sample, vectors = np.split(unit_vectors(540, 16), [500])
    quantizer = fit_quantizer(sample, "int8", clipped_percent=0)
    inside = ((vectors >= sample.min(axis=0)) & (vectors <= sample.max(axis=0))).all(axis=1)
    theirs = quantize_embeddings(vectors[inside], "int8", ranges=np.vstack([sample.min(axis=0), sample.max(axis=0)]))
    ours = quantizer.encode(vectors[inside])
    assert inside.sum() > 10
    assert np.abs(ours.astype(int) - theirs).max() <= 1
    error = np.abs(quantizer.decode(ours) - vectors[inside]).mean()
    assert error < np.abs(quantizer.decode(theirs) - vectors[inside]).mean()


def test_a_damaged_or_foreign_file_of_codes_is_refused(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    vectors = unit_vectors()
    path = tmp_path / "codes.safetensors"
    quantizer = fit_quantizer(vectors, "int8")
    codes = quantizer.encode(vectors)
    save_codes(path, quantizer, codes)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(VectorError, match="damaged"):
        load_codes(path)
    save_file({"codes": vectors}, path)
    with pytest.raises(VectorError, match="holds no codes"):
        load_codes(path)
    good = {"format": "nestvec codes 1", "precision": "int8", "full_dim": "24"}
    for arrays, metadata in (
        ({"codes": codes}, good),
        ({"codes": codes, "low": quantizer.low}, good),
        ({"codes": codes, "low": quantizer.low, "step": quantizer.step}, {**good, "full_dim": "23"}),
        ({"codes": codes, "low": quantizer.low, "step": quantizer.step}, {**good, "full_dim": "many"}),
        ({"codes": vectors, "low": quantizer.low, "step": quantizer.step}, good),
    ):
        save_file(arrays, path, metadata=metadata)
        with pytest.raises(VectorError, match="that this version reads"):
            load_codes(path)
    with pytest.raises(VectorError, match="Codes of int8"):
        save_codes(path, quantizer, vectors)
    with pytest.raises(StorageError):
        save_codes(path / "below-a-file", quantizer, codes)
    with pytest.raises(SourceNotFoundError, match="no file of codes"):
        load_codes(tmp_path / "missing")


def test_what_cannot_be_coded_is_refused() -> None:
    vectors = unit_vectors()
    quantizer = fit_quantizer(vectors, "int8")
    with pytest.raises(PrecisionError, match="Unknown precision"):
        fit_quantizer(vectors, "int2")
    with pytest.raises(PrecisionError, match="does not take the options centered"):
        fit_quantizer(vectors, "int8", centered=True)
    with pytest.raises(PrecisionError, match="int8 or int4, not binary"):
        ScalarQuantizer.fit(vectors, "binary")
    with pytest.raises(PrecisionError, match="binary, not int8"):
        BinaryQuantizer.fit(vectors, "int8")
    with pytest.raises(DimensionError, match="larger than the vectors"):
        fit_quantizer(vectors, "binary", rotation="random", rotated_dims=[99])
    with pytest.raises(PrecisionError, match="There is no rotation 'opq'. Rotations are none, random, itq, best."):
        fit_quantizer(vectors, "binary", rotation="opq")  # type: ignore[arg-type]
    with pytest.raises(PrecisionError, match="rotated_dims are for a random rotation, not for itq"):
        fit_quantizer(vectors, "binary", rotation="itq", rotated_dims=[8])
    with pytest.raises(DimensionError, match=r"take a rotation of 24 by 24, not \[3, 3\]"):
        RotatedQuantizer("int8", 24, quantizer, np.eye(3, dtype=np.float32))
    broken = np.where(np.arange(200)[:, None] == 3, np.nan, vectors)
    with pytest.raises(VectorError, match="not finite"):
        itq_rotation(broken)
    with pytest.raises(VectorError, match="not finite"):
        choose_rotation(broken, "binary")
    with pytest.raises(VectorError, match="not finite"):
        fit_codes(broken, 8, "binary")
    with pytest.raises(PrecisionError, match="Unknown precision"):
        choose_rotation(vectors, "int2")
    with pytest.raises(PrecisionError, match="does not take the options clipped_percent"):
        choose_rotation(vectors, "binary", clipped_percent=1.0)
    with pytest.raises(PrecisionError, match="Unknown precision"):
        fit_codes(vectors, 8, "int2")
    with pytest.raises(DimensionError, match="Choose a dim from 1 to 24"):
        fit_codes(vectors, 25, "binary")
    for dims in ([25], [8, 8], [16, 8, 12]):
        with pytest.raises(DimensionError):
            random_rotation(24, dims=dims)
    with pytest.raises(PrecisionError, match="Cannot clip 100"):
        fit_quantizer(vectors, "int8", clipped_percent=100)
    with pytest.raises(DimensionError, match="24 dimensions and got 25"):
        quantizer.encode(unit_vectors(dim=25))
    with pytest.raises(DimensionError, match="do not hold 24"):
        quantizer.decode(quantizer.encode(vectors[:, :8]))
    with pytest.raises(DimensionError):
        quantizer.cut(quantizer.encode(vectors), 0)
    with pytest.raises(DimensionError, match="without a column"):
        quantizer.check_codes(quantizer.encode(vectors)[:, :0])
    with pytest.raises(VectorError, match="Codes of int8 are int8"):
        quantizer.decode(vectors)
    with pytest.raises(VectorError, match="the first in row 3"):
        quantizer.encode(np.where(np.arange(200)[:, None] == 3, np.nan, vectors))
    with pytest.raises(VectorError, match="floating-point array"):
        quantizer.encode(vectors.astype(np.int32))
    with pytest.raises(VectorError, match="no vectors"):
        quantizer.encode(vectors[:0])
    with pytest.raises(VectorError, match="too large for float16"):
        fit_quantizer(vectors, "float16").encode(vectors * 1e6)


def test_a_file_of_codes_is_for_all_who_may_read_its_folder(tmp_path: Path) -> None:
    quantizer = fit_quantizer(np.eye(4, dtype=np.float32), "int8")
    save_codes(tmp_path / "codes", quantizer, quantizer.encode(np.eye(4, dtype=np.float32)))
    (tmp_path / "other").touch()
    assert (tmp_path / "codes").stat().st_mode == (tmp_path / "other").stat().st_mode
