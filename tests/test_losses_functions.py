"""Every loss against a loop in float64 over single rows. Run: pytest tests/test_losses_functions.py (20 s)."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from loss_cases import BY_NAME, CASES, LossCase, draw_columns, extras_of, least_rows, reference, relative_error
from nestvec import losses
from nestvec.errors import DimensionError, LossInputError
from nestvec.losses import engine

DIM = 12


@pytest.fixture(autouse=True, scope="module")
def small_tiles():
    """Tiles of three rows, so that every batch of these tests crosses several and ends in an incomplete one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "_TILE_SCORES", 1)
        patch.setattr(engine, "_LEAST_TILE_ROWS", 3)
        yield


every_loss = pytest.mark.parametrize("name", list(BY_NAME))


def value_and_gradients(case: LossCase, columns, labels, dims, weights, *, oracle: bool):
    """The loss, and its gradients with respect to columns and heads."""
    extras = extras_of(case, columns, dims)
    leaves = [*columns]
    for tensors in (extras.get("heads", ()), extras.get("biases", ())):
        leaves += [tensors] if isinstance(tensors, torch.Tensor) else list(tensors)
    if oracle:
        value = reference(case, columns, labels, dims, weights, **extras)
    else:
        extras.pop("full", None)
        value = case.function(columns, labels, dims=dims, weights=weights, **case.settings, **extras)
    gradients = torch.autograd.grad(value, leaves, allow_unused=True)
    return value, [torch.zeros_like(leaf) if g is None else g for leaf, g in zip(leaves, gradients, strict=True)]


def compare(case: LossCase, columns, labels, dims, weights, *, tolerance: float) -> None:
    value, gradients = value_and_gradients(case, columns, labels, dims, weights, oracle=False)
    wide = [column.detach().double().requires_grad_() for column in columns]
    expected, wanted = value_and_gradients(case, wide, labels, dims, weights, oracle=True)
    assert relative_error(value, expected) < tolerance
    assert (
        relative_error(torch.cat([g.flatten() for g in gradients]), torch.cat([g.flatten() for g in wanted]))
        < tolerance
    )


def draw_labels(case: LossCase, seed: int, batch: int):
    return case.labels(torch.Generator().manual_seed(seed + 50_000), batch)


@every_loss
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(0, 6),
    dims=st.lists(st.integers(1, DIM // 2), min_size=1, max_size=4, unique=True).map(sorted),
    falling=st.booleans(),
    data=st.data(),
)
@settings(deadline=None, max_examples=15)
def test_value_and_gradient_equal_the_loop(name, seed, rows, dims, falling, data) -> None:
    case = BY_NAME[name]
    dims = [2 * dim for dim in (dims[::-1] if falling else dims)]
    weights = data.draw(
        st.none() | st.lists(st.sampled_from([0.0, 0.3, 2.0]), min_size=len(dims), max_size=len(dims)).filter(any)
    )
    batch = least_rows(case) + rows
    columns = draw_columns(seed, case.n_columns, batch, DIM)
    compare(case, columns, draw_labels(case, seed, batch), dims, weights, tolerance=1e-10)


@every_loss
@pytest.mark.parametrize(("seed", "batch", "dims"), [(1, 24, [16, 8, 2]), (2, 40, [48, 6]), (3, 7, [64, 32, 16, 4])])
def test_float32_is_within_a_hundred_thousandth_of_float64(name: str, seed: int, batch: int, dims: list[int]) -> None:
    case = BY_NAME[name]
    columns = draw_columns(seed, case.n_columns, batch, 64, torch.float32)
    labels = draw_labels(case, seed, batch)
    if "embedding" in name:
        labels = draw_columns(seed + 9, 1, batch, 64)[0].detach()
    compare(case, columns, labels, dims, None, tolerance=1e-5)


@every_loss
@pytest.mark.parametrize("by", [1e-13, 1e-20, 1e-30])
def test_a_float32_prefix_may_be_short_within_its_vector(name: str, by: float) -> None:
    case = BY_NAME[name]
    columns, labels = draw_columns(11, case.n_columns, 6, DIM, torch.float32), draw_labels(case, 11, 6)
    with torch.no_grad():
        columns[0][0, :4] *= by
        columns[-1][1, :4] *= by
    extras = {key: value for key, value in extras_of(case, columns, [12, 4]).items() if key != "full"}
    value = case.function(columns, labels, dims=[12, 4], **case.settings, **extras)
    assert value.isfinite()
    for found in torch.autograd.grad(value, columns):
        assert not found.isnan().any()
        assert found[2:].isfinite().all()


@every_loss
def test_gradcheck(name: str) -> None:
    case = BY_NAME[name]
    batch = least_rows(case) + 3
    columns, labels = draw_columns(2, case.n_columns, batch, 6), draw_labels(case, 2, batch)
    extras = extras_of(case, columns, [6, 2])
    extras.pop("full", None)
    fixed = [column.detach().clone() for column in columns] if name == "self_distillation" else None

    def loss(*inputs):
        if fixed is not None:  # the teacher is held fixed, also while the inputs are moved
            return case.function(inputs, torch.stack(fixed, dim=1), dims=[6, 2], **case.settings, **extras)
        return case.function(inputs, labels, dims=[6, 2], **case.settings, **extras)

    assert torch.autograd.gradcheck(loss, tuple(columns))


@every_loss
def test_duplicate_rows_and_ties_agree_with_the_loop(name: str) -> None:
    case = BY_NAME[name]
    columns, labels = draw_columns(3, case.n_columns, 6, DIM), draw_labels(case, 3, 6)
    with torch.no_grad():
        for column in columns:
            column[1] = column[0]
            column[4] = column[3]
    if "batch_hard" in name:  # which of two equally far rows is hardest is open: the value is not
        expected = reference(case, columns, labels, [12, 4])
        found = case.function(columns, labels, dims=[12, 4], **case.settings)
        assert relative_error(found, expected) < 1e-10
    else:
        compare(case, columns, labels, [12, 4], None, tolerance=1e-10)


@every_loss
def test_zero_vectors_and_zero_prefixes_agree_with_the_loop(name: str) -> None:
    case = BY_NAME[name]
    columns, labels = draw_columns(4, case.n_columns, 6, DIM), draw_labels(case, 4, 6)
    with torch.no_grad():
        columns[0][0] = 0
        columns[-1][2, :4] = 0  # a zero prefix of a vector that is not zero
    if "batch_hard" in name or "online" in name:  # which of two equally far rows is hardest is open: the value is not
        expected = reference(case, columns, labels, [12, 4])
        found = case.function(columns, labels, dims=[12, 4], **case.settings)
        assert relative_error(found, expected) < 1e-10
    else:
        compare(case, columns, labels, [12, 4], None, tolerance=1e-10)


@every_loss
def test_length_does_not_count(name: str) -> None:
    case = BY_NAME[name]
    columns, labels = draw_columns(5, case.n_columns, 6, DIM), draw_labels(case, 5, 6)
    extras = extras_of(case, columns, [12, 4])
    extras.pop("full", None)
    values = [
        case.function([column * by for column in columns], labels, dims=[12, 4], **case.settings, **extras)
        for by in (1.0, 1e-25, 1e25)
    ]
    torch.testing.assert_close(values[1], values[0])
    torch.testing.assert_close(values[2], values[0])


@every_loss
@pytest.mark.parametrize("by", [1e-35, 1e-25, 1e25, 1e38])
def test_float32_vectors_may_be_as_short_or_long_as_the_type_allows(name: str, by: float) -> None:
    case = BY_NAME[name]
    columns, labels = draw_columns(5, case.n_columns, 6, DIM, torch.float32), draw_labels(case, 5, 6)
    extras = {key: value for key, value in extras_of(case, columns, [12, 4]).items() if key != "full"}
    with torch.no_grad():
        for column in columns:
            column *= by / column.abs().max()
    exact = [column.detach().double().requires_grad_() for column in columns]
    value, expected = (case.function(one, labels, dims=[12, 4], **case.settings, **extras) for one in (columns, exact))
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=1e-6, check_dtype=False)
    for found in torch.autograd.grad(value, columns):
        assert not found.isnan().any()


@every_loss
def test_a_short_prefix_sends_no_gradient_to_the_numbers_it_drops(name: str) -> None:
    case = BY_NAME[name]
    columns, labels = draw_columns(6, case.n_columns, 16, DIM), draw_labels(case, 6, 16)
    _, gradients = value_and_gradients(case, columns, labels, [4], None, oracle=False)
    for gradient in gradients[: case.n_columns]:
        assert (gradient[:, 4:] == 0).all()
    assert any((gradient[:, :4] != 0).any() for gradient in gradients[: case.n_columns])


@every_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32_also_under_autocast(name: str, dtype: torch.dtype) -> None:
    case = BY_NAME[name]
    halves = [column.detach().to(dtype).requires_grad_() for column in draw_columns(7, case.n_columns, 8, DIM)]
    wide = [half.detach().float().requires_grad_() for half in halves]
    labels, results = draw_labels(case, 7, 8), []
    for columns, enabled in ((halves, True), (wide, False)):
        extras = {key: value for key, value in extras_of(case, wide, [12, 4]).items() if key != "full"}
        with torch.autocast("cpu", dtype=dtype, enabled=enabled):
            value = case.function(columns, labels, dims=[12, 4], **case.settings, **extras)
        assert value.dtype == torch.float32
        results.append((value, torch.autograd.grad(value, columns)))
    torch.testing.assert_close(results[0][0], results[1][0])
    for found, wanted in zip(results[0][1], results[1][1], strict=True):
        torch.testing.assert_close(found, wanted.to(dtype))


@every_loss
def test_numbers_that_are_not_finite_are_refused_whichever_column_they_are_in(name: str) -> None:
    case = BY_NAME[name]
    for index in range(case.n_columns):
        columns, labels = draw_columns(8, case.n_columns, 6, DIM), draw_labels(case, 8, 6)
        with torch.no_grad():
            columns[index][2, 3] = float("nan")
        extras = {key: value for key, value in extras_of(case, columns, [12, 4]).items() if key != "full"}
        with pytest.raises(LossInputError, match="not finite"):
            case.function(columns, labels, dims=[12, 4], **case.settings, **extras)


@every_loss
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"dims": [14]}, DimensionError, "larger than the vectors|head is"),
        ({"dims": [4, 4]}, DimensionError, "twice"),
        ({"dims": [4, 2], "weights": [1.0]}, LossInputError, "1 weights for 2 dims|heads for"),
        ({"dims": [4, 2], "weights": [1.0, -1.0]}, LossInputError, "not negative"),
    ],
)
def test_wrong_dims_and_weights_are_refused(name: str, options, error, message: str) -> None:
    case = BY_NAME[name]
    columns, labels = draw_columns(9, case.n_columns, 6, DIM), draw_labels(case, 9, 6)
    extras = {key: value for key, value in extras_of(case, columns, options["dims"]).items() if key != "full"}
    with pytest.raises(error, match=message):
        case.function(columns, labels, **options, **case.settings, **extras)


@pytest.mark.parametrize("function", ["info_nce", "batch_hard_cosine", "supervised_contrastive", "self_distillation"])
def test_rows_that_choose_nothing_are_refused(function: str) -> None:
    case = BY_NAME[function]
    columns, labels = draw_columns(12, case.n_columns, 6, DIM), draw_labels(case, 12, 6)
    with pytest.raises(LossInputError, match="none of the 6 rows"):
        case.function(columns, labels, dims=[4], rows=slice(6, 9), **case.settings)


def test_every_public_function_and_module_has_a_case() -> None:
    # nested_spread_out is no loss by itself, and NestedMixture a sum of others: both have tests of their own.
    functions = {name for name in losses.__all__ if name.startswith("nested_")} - {"nested_spread_out"}
    modules = {name for name in losses.__all__ if name.startswith("Nested")} - {"NestedLoss", "NestedMixture"}
    assert {type(case.module(torch.nn.Identity(), [4, 2], **case.settings)).__name__ for case in CASES} == modules
    called = set()
    for name in functions:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(losses, name, lambda *_, name=name, **__: called.add(name))
            for case in CASES:
                columns = draw_columns(0, case.n_columns, 6, DIM)
                extras = {key: value for key, value in extras_of(case, columns, [4]).items() if key != "full"}
                case.function(columns, draw_labels(case, 0, 6), dims=[4], **case.settings, **extras)
    assert called == functions
