"""What is special to InfoNCE: false negatives, temperature, parts of a batch. Run: pytest tests/test_losses_info_nce.py.

Value and gradient of the loss itself are judged in test_losses_functions.py.
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer

from loss_cases import plain_info_nce, relative_error, unit
from module_checks import features_of, make_model
from nestvec.errors import DimensionError, LossInputError
from nestvec.losses import FalseNegatives, NestedInfoNCE, nested_info_nce

DIMS = [8, 4]


def draw(seed: int, batch: int, negatives: int, dim: int, dtype=torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    queries = torch.randn(batch, dim, generator=generator, dtype=dtype)
    documents = torch.randn(batch * (1 + negatives), dim, generator=generator, dtype=dtype)
    documents[:batch] += queries / 2
    return queries.requires_grad_(), documents.requires_grad_()


def oracle(queries, documents, *, dims=DIMS, allowed=None, **options) -> torch.Tensor:
    """The loop; `allowed(columns, i, j, back=False)` says which documents (queries) count for a query (document)."""
    total = queries.new_zeros(())
    for dim in dims:
        columns = [torch.stack([unit(v[:dim]) for v in vectors]) for vectors in (queries, documents)]
        total = total + plain_info_nce(columns, None, allowed=allowed, **options)
    return total


def assert_same(queries, documents, found, expected) -> None:
    assert relative_error(found, expected) < 1e-10
    pairs = zip(*(torch.autograd.grad(value, [queries, documents]) for value in (found, expected)), strict=True)
    for one, other in pairs:
        assert relative_error(one, other) < 1e-10


@pytest.mark.parametrize("symmetric", [False, True])
def test_a_copy_of_the_positive_is_no_negative(symmetric: bool) -> None:
    queries, documents = draw(0, 6, 1, 8)
    document_ids = torch.tensor([0, 1, 1, 3, 4, 5, 5, 7, 8, 0, 10, 11])  # 1 twice, and two positives as negatives

    def allowed(_columns, i, j, back=False):
        return document_ids[i] != document_ids[j]

    found = nested_info_nce(
        queries,
        documents,
        dims=DIMS,
        symmetric=symmetric,
        false_negatives=FalseNegatives(document_ids=document_ids),
    )
    assert_same(queries, documents, found, oracle(queries, documents, allowed=allowed, symmetric=symmetric))


@pytest.mark.parametrize("symmetric", [False, True])
def test_queries_that_agree_in_an_id_share_their_positives_but_not_their_negatives(symmetric: bool) -> None:
    queries, documents = draw(1, 6, 1, 8)
    ids = torch.tensor([[0, 9], [1, 8], [0, 7], [3, 8], [4, 5], [5, 4]])

    def allowed(_columns, i, j, back=False):
        return j >= 6 or not (ids[i] == ids[j]).any()

    found = nested_info_nce(
        queries, documents, dims=DIMS, symmetric=symmetric, false_negatives=FalseNegatives(query_ids=ids)
    )
    assert_same(queries, documents, found, oracle(queries, documents, allowed=allowed, symmetric=symmetric))


def test_a_document_known_to_answer_a_query_is_no_negative_of_it_wherever_it_stands() -> None:
    queries, documents = draw(1, 6, 1, 8)
    ids = torch.arange(6)
    answers = torch.tensor([-1, 1, 2, 3, 4, 5, 3, 0, -1, 5, 4, 2])  # the first positive is not known, and stays

    def allowed(_columns, i, j, back=False):
        return i == j or ids[i] != answers[j]

    rules = FalseNegatives(query_ids=ids, answers=answers)
    found = nested_info_nce(queries, documents, dims=DIMS, false_negatives=rules)
    assert_same(queries, documents, found, oracle(queries, documents, allowed=allowed))


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(("margin", "relative"), [(0.1, False), (-0.3, False), (0.2, True)])
def test_documents_too_close_to_the_positive_are_no_negatives(symmetric: bool, margin: float, relative: bool) -> None:
    queries, documents = draw(2, 6, 1, 8)

    def allowed(columns, i, j, back=False):
        rows, others = (columns[1], columns[0]) if back else columns
        positive, other = columns[0][i] @ columns[1][i], rows[i] @ others[j]
        return other <= positive - (positive.abs() * margin if relative else margin)

    found = nested_info_nce(
        queries,
        documents,
        dims=DIMS,
        symmetric=symmetric,
        false_negatives=FalseNegatives(margin=margin, relative=relative),
    )
    expected = oracle(queries, documents, allowed=allowed, symmetric=symmetric)
    assert_same(queries, documents, found, expected)
    assert relative_error(found, oracle(queries, documents, symmetric=symmetric)) > 0.01, "nothing was masked"


@pytest.mark.parametrize("symmetric", [False, True])
def test_a_guide_decides_instead_of_the_vectors_that_are_trained(symmetric: bool) -> None:
    queries, documents = draw(3, 6, 1, 8)
    guides = [vectors.detach() for vectors in draw(4, 6, 1, 5)]

    def allowed(_columns, i, j, back=False):
        rows, others = [[unit(v) for v in side] for side in (guides[::-1] if back else guides)]
        return rows[i] @ others[j] <= unit(guides[0][i]) @ unit(guides[1][i]) - 0.05

    rules = FalseNegatives(margin=0.05, guide_queries=guides[0], guide_documents=guides[1])
    found = nested_info_nce(queries, documents, dims=DIMS, symmetric=symmetric, false_negatives=rules)
    expected = oracle(queries, documents, allowed=allowed, symmetric=symmetric)
    assert_same(queries, documents, found, expected)
    assert relative_error(found, oracle(queries, documents, symmetric=symmetric)) > 0.01, "nothing was masked"


def test_a_guide_in_half_precision_decides_in_float32() -> None:
    queries, documents = draw(3, 200, 0, 8)
    guides = [vectors.detach().bfloat16() for vectors in draw(4, 200, 0, 16)]
    found, expected = (
        nested_info_nce(
            queries,
            documents,
            dims=DIMS,
            false_negatives=FalseNegatives(margin=0.0, guide_queries=one, guide_documents=other),
        )
        for one, other in (guides, [guide.double() for guide in guides])
    )
    assert relative_error(found, expected) < 1e-10


def test_when_every_negative_is_false_there_is_nothing_to_learn() -> None:
    queries, documents = draw(5, 4, 1, 8)
    everything = FalseNegatives(margin=10.0)
    value = nested_info_nce(queries, documents, dims=DIMS, false_negatives=everything)
    value.backward()
    assert value == 0
    assert not queries.grad.any()
    assert not documents.grad.any()


@pytest.mark.parametrize("symmetric", [False, True])
def test_parts_of_a_batch_average_to_the_whole(symmetric: bool) -> None:
    queries, documents = draw(6, 6, 1, 8)
    rules = FalseNegatives(
        margin=0.1,
        query_ids=torch.tensor([0, 1, 0, 3, 4, 5]),
        document_ids=torch.arange(12) % 9,
        guide_queries=torch.randn(6, 3),
        guide_documents=torch.randn(12, 3),
    )
    options = {"dims": DIMS, "symmetric": symmetric, "false_negatives": rules}
    parts = [nested_info_nce(queries, documents, rows=slice(i, i + 2), **options) for i in (0, 2, 4)]
    assert_same(queries, documents, sum(parts) / 3, nested_info_nce(queries, documents, **options))


@pytest.mark.parametrize("temperature", [1e-3, 0.01, 1.0, 100.0])
def test_any_temperature_keeps_its_digits(temperature: float) -> None:
    queries, documents = draw(7, 40, 1, 32, torch.float32)
    found = nested_info_nce(queries, documents, dims=[32, 8], temperature=temperature)
    wide = [vectors.detach().double().requires_grad_() for vectors in (queries, documents)]
    expected = oracle(*wide, dims=[32, 8], temperature=temperature)
    assert relative_error(found, expected) < 1e-5
    for one, other in zip(
        torch.autograd.grad(found, [queries, documents]), torch.autograd.grad(expected, wide), strict=True
    ):
        assert relative_error(one, other) < 1e-5


def test_a_nearly_solved_batch_keeps_the_digits_of_its_small_loss() -> None:
    queries = torch.eye(8).requires_grad_()
    found = nested_info_nce(queries, queries.detach(), dims=[8], temperature=0.04)
    wide = torch.eye(8, dtype=torch.float64).requires_grad_()
    expected = nested_info_nce(wide, wide.detach(), dims=[8], temperature=0.04)
    assert found.item() == pytest.approx(math.log1p(7 * math.exp(-25.0)), rel=1e-5)
    assert expected.item() == pytest.approx(math.log1p(7 * math.exp(-25.0)), rel=1e-12)
    one, other = torch.autograd.grad(found, queries)[0], torch.autograd.grad(expected, wide)[0]
    assert float((one - other).norm()) < 1e-5 * float(other.norm())


@pytest.mark.parametrize("symmetric", [False, True])
def test_the_temperature_can_be_learned(symmetric: bool) -> None:
    queries, documents = draw(8, 6, 1, 8)
    temperature = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    found = nested_info_nce(queries, documents, dims=DIMS, temperature=temperature, symmetric=symmetric)
    expected = oracle(queries, documents, temperature=temperature, symmetric=symmetric)
    (one,), (other,) = (torch.autograd.grad(value, temperature) for value in (found, expected))
    assert relative_error(one, other) < 1e-10


def test_batches_larger_than_a_tile_equal_the_dense_formula() -> None:
    queries, documents = draw(9, 600, 1, 24, torch.float32)
    found = nested_info_nce(queries, documents, dims=[24, 8], symmetric=True)
    wide = [vectors.detach().double().requires_grad_() for vectors in (queries, documents)]
    expected = wide[0].new_zeros(())
    for dim in (24, 8):
        q, d = (torch.nn.functional.normalize(vectors[:, :dim]) for vectors in wide)
        scores, targets = q @ d.T / 0.05, torch.arange(600)
        directions = [torch.nn.functional.cross_entropy(s, targets) for s in (scores, scores[:, :600].T)]
        expected = expected + sum(directions) / 2
    assert relative_error(found, expected) < 1e-5
    for one, other in zip(
        torch.autograd.grad(found, [queries, documents]), torch.autograd.grad(expected, wide), strict=True
    ):
        assert relative_error(one, other) < 1e-5


def test_a_second_backward_pass_gives_the_same_gradient() -> None:
    queries, documents = draw(10, 6, 0, 8)
    value = nested_info_nce(queries, documents, dims=DIMS) * 3
    first, second = (torch.autograd.grad(value, queries, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)


def test_without_gradients_the_value_is_the_same_and_half_wanted_gradients_too() -> None:
    queries, documents = draw(11, 6, 1, 8)
    value = nested_info_nce(queries, documents, dims=DIMS)
    both = torch.autograd.grad(value, [queries, documents])
    with torch.no_grad():
        assert nested_info_nce(queries, documents, dims=DIMS) == value
    for leaf, other, wanted in ((queries, documents.detach(), both[0]), (documents, queries.detach(), both[1])):
        inputs = (leaf, other) if leaf is queries else (other, leaf)
        torch.testing.assert_close(torch.autograd.grad(nested_info_nce(*inputs, dims=DIMS), leaf)[0], wanted)


@pytest.mark.parametrize(
    ("queries", "documents", "options", "message"),
    [
        (torch.ones(2, 4), torch.ones(3, 4), {}, "2 queries and 3 documents"),
        (torch.ones(0, 4), torch.ones(0, 4), {}, "no queries"),
        (torch.ones(2, 4), torch.ones(0, 4), {}, "no documents"),
        (torch.ones(2, 4), torch.ones(2, 5), {}, "differ in size"),
        (torch.ones(4), torch.ones(4), {}, r"Give floating-point numbers \[rows, dim\]"),
        (torch.ones(2, 4, dtype=torch.long), torch.ones(2, 4), {}, "int64"),
        (torch.full((2, 4), math.nan), torch.ones(2, 4), {}, "queries hold numbers that are not finite"),
        (torch.ones(2, 4), torch.full((2, 4), math.inf), {}, "documents hold numbers"),
        (torch.ones(2, 4), torch.ones(2, 4), {"temperature": 0.0}, "must be above 0"),
        (torch.ones(2, 4), torch.ones(2, 4), {"temperature": math.nan}, "must be above 0"),
        (torch.ones(2, 4), torch.ones(2, 4), {"temperature": torch.tensor(-1.0)}, "must be above 0"),
        (torch.ones(2, 4), torch.ones(2, 4), {"temperature": torch.ones(2)}, "Give one number"),
        (torch.ones(2, 4), torch.ones(2, 4), {"temperature": 1e-40}, "1e-6 at least"),
        (torch.ones(2, 4), torch.ones(2, 4), {"rows": slice(2, 4)}, "none of the 2 rows"),
        (torch.ones(2, 4), torch.ones(2, 4), {"weights": [1.0]}, "1 weights for 2 dims"),
        (torch.ones(2, 4), torch.ones(2, 4), {"weights": [1.0, -1.0]}, "not negative"),
        (torch.ones(2, 4), torch.ones(2, 4), {"weights": [math.inf, 1.0]}, "finite"),
        (torch.ones(2, 4), torch.ones(2, 4), {"weights": [0.0, 0.0]}, "nothing to train"),
    ],
)
def test_bad_input_is_one_clear_error(queries, documents, options, message) -> None:
    with pytest.raises(LossInputError, match=message):
        nested_info_nce(queries, documents, **{"dims": [4, 2], **options})


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"margin": math.nan}, "must be finite"),
        ({"guide_queries": torch.ones(2, 3), "margin": 0.0}, "both guide_queries and guide_documents"),
        ({"guide_queries": torch.ones(2, 3), "guide_documents": torch.ones(2, 3)}, "without a margin"),
        ({"query_ids": torch.arange(3)}, "query_ids has 3 rows, but the batch has 2"),
        ({"answers": torch.arange(4)}, "answers name queries by their query_ids"),
        ({"answers": torch.arange(3), "query_ids": torch.arange(2)}, "answers has 3 rows"),
        ({"document_ids": torch.ones(2)}, "one whole number a row"),
        ({"document_ids": torch.ones(2, 2, dtype=torch.long)}, "one whole number a row"),
        (
            {"guide_queries": torch.ones(2, 3), "guide_documents": torch.ones(2, 4), "margin": 0.0},
            "differ in size",
        ),
    ],
)
def test_rules_for_false_negatives_that_do_not_fit_are_refused(rules, message) -> None:
    with pytest.raises(LossInputError, match=message):
        nested_info_nce(torch.ones(2, 4), torch.ones(2, 4), dims=[4], false_negatives=FalseNegatives(**rules))


def test_a_dim_outside_the_embedding_is_refused() -> None:
    with pytest.raises(DimensionError, match="larger than the vectors"):
        nested_info_nce(torch.ones(2, 4), torch.ones(2, 4), dims=[8])


def test_the_function_equals_the_losses_of_sentence_transformers() -> None:
    from sentence_transformers.sentence_transformer import losses

    queries, documents = draw(12, 8, 1, 16, torch.float32)
    parts = [queries, documents[:8], documents[8:]]
    for symmetric, theirs in (
        (False, losses.MultipleNegativesRankingLoss(torch.nn.Identity(), scale=20.0)),
        (
            True,
            losses.MultipleNegativesRankingLoss(
                torch.nn.Identity(),
                scale=20.0,
                directions=("query_to_doc", "doc_to_query"),
                partition_mode="per_direction",
            ),
        ),
    ):
        expected = sum(
            weight * theirs.compute_loss_from_embeddings([part[:, :dim] for part in parts], None)
            for dim, weight in ((16, 1.0), (4, 0.5))
        )
        found = nested_info_nce(queries, documents, dims=[16, 4], weights=[1.0, 0.5], symmetric=symmetric)
        torch.testing.assert_close(found, expected)


# The module: what it reads from a batch of texts.


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> SentenceTransformer:
    return SentenceTransformer(str(tiny_model), device="cpu").double().eval()


COLUMNS = [
    ["what does the river do", "what does the engine do", "what does the river do", "when does it"],
    ["the river crosses stone", "the engine powers light", "the river feeds water", "every day"],
    ["the engine powers light", "the castle", "the castle", "the market"],
]
# "what does the river do" is asked twice, so rows 0 and 2 share positives; the positive of row 1 is a negative of 0.
QUERY_IDS, DOCUMENT_IDS = torch.tensor([0, 1, 0, 3]), torch.tensor([0, 1, 2, 3, 1, 5, 5, 6])


def embed(model: SentenceTransformer) -> tuple[torch.Tensor, torch.Tensor]:
    columns = [model(features)["sentence_embedding"] for features in features_of(model, COLUMNS)]
    return columns[0], torch.cat(columns[1:])


@pytest.mark.parametrize("kind", ["transformer", "static"])
@pytest.mark.parametrize("symmetric", [False, True])
def test_the_module_sees_which_texts_are_the_same(kind: str, symmetric: bool, tiny_model: Path) -> None:
    model = make_model(kind, tiny_model, tiny_model)
    found = NestedInfoNCE(model, DIMS, symmetric=symmetric, mask_same_text=True)(features_of(model, COLUMNS))
    rules = FalseNegatives(query_ids=QUERY_IDS, document_ids=DOCUMENT_IDS)
    expected = nested_info_nce(*embed(model), dims=DIMS, symmetric=symmetric, false_negatives=rules)
    torch.testing.assert_close(found, expected)
    assert not torch.isclose(found, nested_info_nce(*embed(model), dims=DIMS, symmetric=symmetric))


@pytest.mark.parametrize("mini_batch_size", [None, 2])
def test_the_module_takes_labels_for_ids(model: SentenceTransformer, mini_batch_size: int | None) -> None:
    labels = torch.tensor([7, 8, 7, 8])
    loss = NestedInfoNCE(model, DIMS, mask_same_label=True, mini_batch_size=mini_batch_size)
    expected = nested_info_nce(*embed(model), dims=DIMS, false_negatives=FalseNegatives(query_ids=labels))
    torch.testing.assert_close(loss(features_of(model, COLUMNS), labels), expected)
    with pytest.raises(LossInputError, match="one whole number a row"):
        loss(features_of(model, COLUMNS))


@pytest.mark.parametrize("mini_batch_size", [None, 3])
@pytest.mark.parametrize("same_tokenizer", [True, False])
def test_the_module_asks_a_guide(
    model: SentenceTransformer, tmp_path: Path, mini_batch_size: int | None, same_tokenizer: bool
) -> None:
    guide = make_model("transformer" if same_tokenizer else "static", *[model_folder(tmp_path)] * 2).train()
    before = {name: parameter.clone() for name, parameter in guide.named_parameters()}
    loss = NestedInfoNCE(model, DIMS, guide=guide, mini_batch_size=mini_batch_size)
    value = loss(features_of(model, COLUMNS))
    vectors = [guide.encode(column, convert_to_tensor=True).clone() for column in COLUMNS]
    rules = FalseNegatives(margin=0.0, guide_queries=vectors[0], guide_documents=torch.cat(vectors[1:]))
    torch.testing.assert_close(value, nested_info_nce(*embed(model), dims=DIMS, false_negatives=rules))
    assert not torch.isclose(value, nested_info_nce(*embed(model), dims=DIMS)), "the guide changed nothing"
    value.backward()
    assert all(parameter.grad is None for parameter in guide.parameters())
    assert not any("guide" in name for name, _ in loss.named_parameters())
    assert all(torch.equal(before[name], parameter) for name, parameter in guide.named_parameters())
    assert loss.get_config_dict()["guide"]


def model_folder(folder: Path) -> Path:
    from builders import build_tiny_model

    return build_tiny_model(folder / "guide", dim=16, seed=5)


def test_the_module_refuses_what_cannot_work_when_it_is_made(model: SentenceTransformer) -> None:
    for options, error, message in (
        ({"dims": [256]}, DimensionError, "larger than the vectors"),
        ({"temperature": -1.0}, LossInputError, "above 0"),
        ({"weights": [1.0, 2.0, 3.0]}, LossInputError, "3 weights for 2 dims"),
        ({"margin": math.inf}, LossInputError, "must be finite"),
        ({"relative_margin": True}, LossInputError, "Give a margin"),
        ({"guide": model}, LossInputError, "the model that is trained"),
        ({"n_dims_per_step": 3}, LossInputError, "Draw from 1 to 2"),
        ({"n_dims_per_step": 2, "weights": [1.0, 0.0]}, LossInputError, "Draw from 1 to 1"),
        ({"mini_batch_size": 0}, LossInputError, "at least 1 row"),
        ({"mini_batch_size": 2.5}, LossInputError, "at least 1 row"),
        ({"n_dims_per_step": 1.5}, LossInputError, "Draw from 1 to 2"),
        ({"learn_temperature": True, "temperature": 0.005}, LossInputError, "never falls below 0.01"),
        ({"layers": [1]}, LossInputError, "none below the last"),
        ({"layer_weights": [1.0]}, LossInputError, "without layers"),
    ):
        with pytest.raises(error, match=message):
            NestedInfoNCE(model, **{"dims": DIMS, **options})
    with pytest.raises(LossInputError, match="1 text columns. It needs a data set of queries, positives"):
        NestedInfoNCE(model, dims=DIMS)(features_of(model, COLUMNS[:1]))
