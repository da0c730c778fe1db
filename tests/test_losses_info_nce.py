"""Nested InfoNCE against a loop in float64 that truncates every prefix. Run: pytest tests/test_losses_info_nce.py."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nestvec.errors import DimensionError, LossInputError
from nestvec.losses import NestedInfoNCE, nested_info_nce


def reference(queries, documents, *, dims, weights=None, temperature=0.05, symmetric=False) -> torch.Tensor:
    """One query, one dim, one document at a time."""
    batch = len(queries)
    total = queries.new_zeros(())
    for dim, weight in zip(dims, weights or [1.0] * len(dims), strict=True):
        cut = [[unit(v[:dim]) for v in vectors] for vectors in (queries, documents)]
        for i in range(batch):
            scores = torch.stack([cut[0][i] @ d / temperature for d in cut[1]])
            value = torch.logsumexp(scores, 0) - scores[i]
            if symmetric:
                back = torch.stack([q @ cut[1][i] / temperature for q in cut[0]])
                value = (value + torch.logsumexp(back, 0) - back[i]) / 2
            total = total + weight * value / batch
    return total


def unit(vector: torch.Tensor) -> torch.Tensor:
    length = vector.norm()
    return vector * 0.0 if length == 0 else vector / length


def draw(seed: int, batch: int, negatives: int, dim: int, dtype=torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((batch, dim), (batch * (1 + negatives), dim))
    queries, documents = (torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes)
    return queries.requires_grad_(), documents.requires_grad_()


@given(
    seed=st.integers(0, 10_000),
    batch=st.integers(1, 6),
    negatives=st.integers(0, 3),
    dims=st.lists(st.integers(1, 10), min_size=1, max_size=5, unique=True).map(sorted),
    temperature=st.sampled_from([0.02, 0.05, 1.0]),
    symmetric=st.booleans(),
    falling=st.booleans(),
    data=st.data(),
)
@settings(deadline=None, max_examples=60)
def test_value_and_gradient_equal_the_loop(seed, batch, negatives, dims, temperature, symmetric, falling, data) -> None:
    if falling:
        dims = dims[::-1]
    weights = data.draw(
        st.none() | st.lists(st.sampled_from([0.0, 0.3, 2.0]), min_size=len(dims), max_size=len(dims)).filter(any)
    )
    options = {"dims": dims, "weights": weights, "temperature": temperature, "symmetric": symmetric}
    queries, documents = draw(seed, batch, negatives, 10)
    if batch > 2:  # ties and duplicate rows
        with torch.no_grad():
            documents[1] = documents[0]
            queries[1] = queries[0]
    value, expected = nested_info_nce(queries, documents, **options), reference(queries, documents, **options)
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-10)
    gradients = torch.autograd.grad(value, [queries, documents])
    for found, wanted in zip(gradients, torch.autograd.grad(expected, [queries, documents]), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-9)


def test_float32_is_within_a_hundred_thousandth_of_float64() -> None:
    queries, documents = draw(0, 32, 2, 64, torch.float32)
    value = nested_info_nce(queries, documents, dims=[64, 16, 4])
    expected = reference(queries.double(), documents.double(), dims=[64, 16, 4])
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=0)


def test_gradcheck() -> None:
    queries, documents = draw(1, 3, 1, 6)
    assert torch.autograd.gradcheck(
        lambda q, d: nested_info_nce(q, d, dims=[6, 2], symmetric=True), (queries, documents)
    )


def test_a_short_prefix_sends_no_gradient_to_the_numbers_it_drops() -> None:
    queries, documents = draw(2, 4, 0, 8)
    nested_info_nce(queries, documents, dims=[3]).backward()
    assert (queries.grad[:, 3:] == 0).all()
    assert (queries.grad[:, :3] != 0).any()


def test_zero_vectors_give_a_finite_value_and_gradient() -> None:
    queries, documents = draw(3, 3, 0, 6)
    with torch.no_grad():
        queries[0] = 0
        documents[1, :2] = 0  # a zero prefix of a vector that is not zero
    value = nested_info_nce(queries, documents, dims=[6, 2])
    torch.testing.assert_close(value, reference(queries, documents, dims=[6, 2]))
    value.backward()
    assert torch.isfinite(queries.grad).all()
    assert torch.isfinite(documents.grad).all()


def test_length_does_not_count() -> None:
    queries, documents = draw(4, 4, 1, 8)
    torch.testing.assert_close(
        nested_info_nce(queries, documents, dims=[8, 4]), nested_info_nce(queries * 100, documents / 100, dims=[8, 4])
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_similarities_accumulate_in_float32(dtype: torch.dtype) -> None:
    queries, documents = draw(5, 16, 0, 32, torch.float32)
    halves = queries.detach().to(dtype), documents.detach().to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        value = nested_info_nce(*halves, dims=[32, 8])
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, nested_info_nce(*(half.float() for half in halves), dims=[32, 8]))


@pytest.mark.parametrize(
    ("queries", "documents", "options", "message"),
    [
        (torch.ones(2, 4), torch.ones(3, 4), {}, "2 queries and 3 documents"),
        (torch.ones(0, 4), torch.ones(0, 4), {}, "0 queries"),
        (torch.ones(2, 4), torch.ones(0, 4), {}, "needs one positive"),
        (torch.ones(2, 4), torch.ones(2, 5), {}, r"Queries are \[2, 4\] and documents \[2, 5\]"),
        (torch.ones(4), torch.ones(4), {}, r"Give \[batch, dim\]"),
        (torch.full((2, 4), math.nan), torch.ones(2, 4), {}, "Query embeddings hold numbers that are not finite"),
        (torch.ones(2, 4), torch.full((2, 4), math.inf), {}, "Document embeddings"),
        (torch.ones(2, 4), torch.ones(2, 4), {"temperature": 0.0}, "must be above 0"),
        (torch.ones(2, 4), torch.ones(2, 4), {"temperature": math.nan}, "must be above 0"),
        (torch.ones(2, 4), torch.ones(2, 4), {"weights": [1.0]}, "1 weights for 2 dims"),
        (torch.ones(2, 4), torch.ones(2, 4), {"weights": [1.0, -1.0]}, "not negative"),
        (torch.ones(2, 4), torch.ones(2, 4), {"weights": [math.inf, 1.0]}, "finite"),
        (torch.ones(2, 4), torch.ones(2, 4), {"weights": [0.0, 0.0]}, "nothing to train"),
    ],
)
def test_bad_input_is_one_clear_error(queries, documents, options, message) -> None:
    with pytest.raises(LossInputError, match=message):
        nested_info_nce(queries, documents, **{"dims": [4, 2], **options})


def test_a_dim_outside_the_embedding_is_refused() -> None:
    with pytest.raises(DimensionError, match="larger than the vectors"):
        nested_info_nce(torch.ones(2, 4), torch.ones(2, 4), dims=[8])


class _Embedding(torch.nn.Module):
    """Stands in for a model: the features are the embeddings."""

    def get_embedding_dimension(self) -> int:
        return 4

    def forward(self, features):
        return {"sentence_embedding": features["vectors"]}


def test_the_module_puts_all_columns_after_the_first_behind_each_other() -> None:
    queries, documents = draw(6, 3, 1, 4)
    loss = NestedInfoNCE(_Embedding(), dims=[4, 2], weights=[1.0, 0.5], temperature=0.1)
    value = loss([{"vectors": queries}, {"vectors": documents[:3]}, {"vectors": documents[3:]}])
    torch.testing.assert_close(
        value, nested_info_nce(queries, documents, dims=[4, 2], weights=[1.0, 0.5], temperature=0.1)
    )
    assert loss.get_config_dict()["dims"] == [4, 2]


def test_the_module_refuses_what_cannot_work_when_it_is_made() -> None:
    for options, error in (
        ({"dims": [8]}, DimensionError),
        ({"dims": [4], "temperature": -1.0}, LossInputError),
        ({"dims": [4], "weights": [1.0, 2.0]}, LossInputError),
    ):
        with pytest.raises(error):
            NestedInfoNCE(_Embedding(), **options)
    with pytest.raises(LossInputError, match="no positives"):
        NestedInfoNCE(_Embedding(), dims=[4])([{"vectors": torch.ones(2, 4)}])


def test_the_module_equals_the_loss_of_sentence_transformers() -> None:
    from sentence_transformers.sentence_transformer import losses

    queries, documents = draw(7, 8, 1, 16, torch.float32)
    expected = torch.zeros(())
    theirs = losses.MultipleNegativesRankingLoss(model=_Embedding(), scale=20.0)
    for dim, weight in ((16, 1.0), (4, 0.5)):
        parts = [queries[:, :dim], documents[:8, :dim], documents[8:, :dim]]
        expected = expected + weight * theirs.compute_loss_from_embeddings(parts, None)
    value = nested_info_nce(queries, documents, dims=[16, 4], weights=[1.0, 0.5], temperature=0.05)
    torch.testing.assert_close(value, expected)
