"""Labels that a loss cannot use, and what losses on classes and heads do at the edges. Run: pytest tests/test_losses_labels.py."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from nestvec import losses
from nestvec.errors import DimensionError, LossInputError, NestvecWarning

FOUR = torch.eye(4)


@pytest.mark.parametrize("function", [losses.nested_cosine_regression, losses.nested_cosent, losses.nested_angle])
def test_scores_are_one_finite_number_a_pair(function) -> None:
    for scores, message in (
        (None, "There are no labels"),
        (torch.ones(3), r"scores \[3\] for 4 pairs"),
        (torch.ones(4, 2), r"scores \[4, 2\] for 4 pairs"),
        (torch.tensor([0.0, math.nan, 0.0, 0.0]), "A score is nan"),
        (torch.tensor([0.0, math.inf, 0.0, 0.0]), "A score is inf"),
    ):
        with pytest.raises(LossInputError, match=message):
            function(FOUR, FOUR, scores, dims=[4])


def test_regression_wants_scores_a_cosine_can_reach() -> None:
    with pytest.raises(LossInputError, match=r"A score is 5. Scores here are from -1 to 1: rescale"):
        losses.nested_cosine_regression(FOUR, FOUR, torch.tensor([0.0, 5.0, 1.0, 1.0]), dims=[4])
    assert losses.nested_cosent(FOUR, FOUR, torch.tensor([0, 5, 1, 1]), dims=[4]).isfinite()  # only the order counts


@pytest.mark.parametrize("function", [losses.nested_contrastive, losses.nested_online_contrastive])
def test_pairs_are_labelled_0_or_1(function) -> None:
    for labels, message in (
        (None, "There are no labels. Give each row 0 or 1"),
        (torch.tensor([0, 1, 2, 0]), "A label is 2"),
        (torch.tensor([0.0, 1.0, 0.5, 0.0]), "A label is 0.5"),
        (torch.ones(2), r"labels \[2\] for 4 rows"),
    ):
        with pytest.raises(LossInputError, match=message):
            function(FOUR, FOUR, labels, dims=[4])
    for labels in (torch.tensor([0.0, 1.0, 1.0, 0.0]), torch.tensor([False, True, True, False])):
        torch.testing.assert_close(
            function(FOUR, FOUR, labels, dims=[4]), function(FOUR, FOUR, torch.tensor([0, 1, 1, 0]), dims=[4])
        )


def heads_loss(vectors, labels, *, dims):
    return losses.nested_softmax(vectors, labels, torch.ones(2, 4), dims=dims)


@pytest.mark.parametrize(
    "function", [losses.nested_batch_hard_triplet, losses.nested_supervised_contrastive, heads_loss]
)
def test_classes_are_one_whole_number_a_row(function) -> None:
    for labels, message in (
        (None, "There are no labels. Give each row a class"),
        (torch.tensor([0.0, 1.0, 0.0, 1.0]), "Labels are torch.float32. Classes are whole numbers"),
        (torch.tensor([True, False, True, False]), "Labels are torch.bool"),
        (torch.tensor([0, 1]), r"labels \[2\] for 4 rows"),
    ):
        with pytest.raises(LossInputError, match=message):
            function(FOUR, labels, dims=[4])


def test_a_class_without_a_head_is_refused() -> None:
    for labels in (torch.tensor([0, 1, 2, 1]), torch.tensor([0, 1, -1, 1])):
        with pytest.raises(LossInputError, match="With 2 classes they run from 0 to 1"):
            heads_loss(FOUR, labels, dims=[4])


@pytest.mark.parametrize(
    ("heads", "biases", "message"),
    [
        (torch.ones(2, 3), None, r"A head is \[2, 3\]. For 4 dimensions it is \[classes, 4\]"),
        ([torch.ones(2, 4)], None, "1 heads for 2 dims"),
        ([torch.ones(2, 4), torch.ones(2, 4)], None, r"For 2 dimensions it is \[classes, 2\]"),
        ([torch.ones(2, 4), torch.ones(2, 2)], [torch.ones(2)], "1 biases for 2 dims"),
        ([torch.ones(2, 4), torch.ones(2, 2)], [torch.ones(2), torch.ones(3)], r"A bias is \[3\]"),
        (torch.ones(2, 4), [torch.ones(2)], "a list of 1"),
        (torch.full((2, 4), math.nan), None, "not finite"),
        (torch.ones(2, 4), torch.full((2,), math.inf), "not finite"),
    ],
)
def test_heads_that_do_not_fit_are_refused(heads, biases, message) -> None:
    with pytest.raises(LossInputError, match=message):
        losses.nested_softmax(FOUR, torch.tensor([0, 1, 0, 1]), heads, dims=[4, 2], biases=biases)


def test_without_unit_length_the_heads_see_the_bare_numbers() -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = (torch.randn(7, 6, generator=generator, dtype=torch.float64) * 3).requires_grad_()
    head = torch.randn(3, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 0])
    found = losses.nested_softmax(vectors, labels, head, dims=[6, 2], unit_length=False)
    expected = sum(torch.nn.functional.cross_entropy(vectors[:, :dim] @ head[:, :dim].T, labels) for dim in (6, 2))
    torch.testing.assert_close(found, expected)
    for one, other in zip(
        torch.autograd.grad(found, [vectors, head]), torch.autograd.grad(expected, [vectors, head]), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_more_classes_than_a_tile_has_rows_and_the_other_way_round() -> None:
    generator = torch.Generator().manual_seed(1)
    for rows, classes in ((700, 3), (5, 900)):
        vectors = torch.randn(rows, 8, generator=generator, requires_grad=True)
        head = torch.randn(classes, 8, generator=generator, requires_grad=True)
        labels = torch.randint(0, classes, (rows,), generator=generator)
        found = losses.nested_softmax(vectors, labels, head, dims=[8], unit_length=False)
        torch.testing.assert_close(found, torch.nn.functional.cross_entropy(vectors @ head.T, labels))


@pytest.mark.parametrize(
    "compute",
    [
        *(
            lambda vectors, labels=labels, function=function: function(vectors, torch.tensor(labels), dims=[4, 2])
            for function in (losses.nested_batch_hard_triplet, losses.nested_supervised_contrastive)
            for labels in ([0, 1, 2, 3], [5, 5, 5, 5])
        ),
        lambda vectors: losses.nested_similarity_distillation(vectors[:1], dims=[4, 2]),
        lambda vectors: losses.nested_spread_out(vectors[:1], dims=[4, 2]),
        lambda vectors: losses.nested_info_nce(vectors[:1], vectors[1:2], dims=[4, 2]),
        lambda vectors: losses.nested_cosent(vectors[:2], vectors[2:], torch.ones(2), dims=[4, 2]),
        lambda vectors: losses.nested_angle(vectors[:1], vectors[2:3], torch.ones(1), dims=[4, 2]),
    ],
)
def test_where_there_is_nothing_to_compare_a_loss_is_zero_and_so_is_its_gradient(compute: Any) -> None:
    vectors = torch.randn(4, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss = compute(vectors)
    assert loss.shape == ()
    assert loss.item() == 0
    loss.backward()
    assert vectors.grad is not None
    assert not vectors.grad.any()


def test_modules_count_the_batches_from_which_nothing_is_learned_and_say_so_once() -> None:
    for module in (
        losses.NestedSupervisedContrastive(torch.nn.Identity(), dims=[4]),
        losses.NestedBatchHardTriplet(torch.nn.Identity(), dims=[4]),
    ):
        with pytest.warns(NestvecWarning, match="rows of one class alone.*GROUP_BY_LABEL"):
            module.count_idle(torch.tensor([0, 0, 0, 0]))
        for labels in ([0, 1, 2, 3], [0, 0, 1, 1]):
            module.count_idle(torch.tensor(labels))  # a second warning would be an error
        assert module.idle_batches == 2


def test_settings_that_compare_with_more_than_there_is_are_refused() -> None:
    with pytest.raises(LossInputError, match="top_k is 4 and there are 3 to compare with"):
        losses.nested_similarity_distillation(FOUR, dims=[4], top_k=4)
    with pytest.raises(LossInputError, match="top_k is 1"):
        losses.NestedSimilarityDistillation(torch.nn.Identity(), dims=[4], top_k=1)


@pytest.mark.parametrize("function", [losses.nested_batch_hard_triplet, losses.nested_supervised_contrastive])
@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 2, 2], [0, 0, 0, 0, 1, 2], [0, 0, 1, 2, 3, 4]])
def test_parts_of_a_batch_average_to_the_whole(function, labels) -> None:
    vectors = torch.randn(6, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64, requires_grad=True)
    labels = torch.tensor(labels)
    whole = function(vectors, labels, dims=[8, 4])
    parts = sum(function(vectors, labels, dims=[8, 4], rows=slice(i, i + 3)) for i in (0, 3)) / 2
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(torch.autograd.grad(parts, vectors), torch.autograd.grad(whole, vectors))


def test_distances_margins_and_shapes_that_do_not_fit_are_refused() -> None:
    labels = torch.tensor([0, 1, 0, 1])
    for function in (losses.nested_contrastive, losses.nested_online_contrastive):
        with pytest.raises(LossInputError, match="Distance is 'dot'. Choose one of cosine, euclidean, manhattan"):
            function(FOUR, FOUR, labels, dims=[4], distance="dot")
        with pytest.raises(LossInputError, match="Margin is 0"):
            function(FOUR, FOUR, labels, dims=[4], margin=0)
        with pytest.raises(LossInputError, match="4 vectors on the left and 3 on the right"):
            function(FOUR, FOUR[:3], labels, dims=[4])
    with pytest.raises(LossInputError, match="4 anchors, 3 positives and 4 negatives"):
        losses.nested_triplet(FOUR, FOUR[:3], FOUR, dims=[4])
    with pytest.raises(LossInputError, match="4 anchors, 4 positives and 6 negatives"):
        losses.nested_triplet(FOUR, FOUR, torch.ones(6, 4), dims=[4])
    with pytest.raises(DimensionError, match="Dim 3 is odd"):
        losses.nested_angle(FOUR, FOUR, torch.ones(4), dims=[4, 3])


def test_teachers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(LossInputError, match="4 vectors and 3 targets"):
        losses.nested_embedding_distillation(FOUR, FOUR[:3], dims=[4])
    with pytest.raises(DimensionError, match="Dim 4 is larger"):  # the teacher has too few numbers
        losses.nested_embedding_distillation(FOUR, FOUR[:, :3], dims=[4])
    similarity = losses.nested_similarity_distillation
    with pytest.raises(LossInputError, match="teacher_documents without teacher_queries"):
        similarity(FOUR, FOUR, dims=[4], teacher_documents=FOUR)
    with pytest.raises(LossInputError, match="teacher_documents with documents"):
        similarity(FOUR, FOUR, dims=[4], teacher_queries=FOUR)
    with pytest.raises(LossInputError, match="4 documents, but 3 teacher_documents"):
        similarity(FOUR, FOUR, dims=[4], teacher_queries=FOUR, teacher_documents=FOUR[:3])
    with pytest.raises(LossInputError, match="Temperature is -1"):
        similarity(FOUR, FOUR, dims=[4], teacher_temperature=-1)
    with pytest.raises(LossInputError, match="1 temperatures for 2 dims"):
        similarity(FOUR, FOUR, dims=[4, 2], temperature=[0.1], teacher_temperature=0.1)
    with pytest.raises(LossInputError, match="Temperature is 0"):
        similarity(FOUR, FOUR, dims=[4, 2], temperature=[0.1, 0.0], teacher_temperature=0.1)
    with pytest.raises(LossInputError, match="Give teacher_temperature"):
        similarity(FOUR, FOUR, dims=[4, 2], temperature=[0.1, 0.2])


@pytest.mark.parametrize("dims", [[2, 4, 8], [8, 4, 2]])
def test_each_dim_may_have_its_own_temperature(dims: list[int]) -> None:
    """Then the loss is the sum of what each dim costs alone at its temperature, gradients included."""
    generator = torch.Generator().manual_seed(7)
    queries, documents = (torch.randn(n, 8, generator=generator, dtype=torch.float64) for n in (5, 7))
    temperatures, weights = {2: 0.3, 4: 0.1, 8: 0.05}, {2: 1.0, 4: 0.0, 8: 2.0}

    def loss(sides: list[torch.Tensor], some: list[int]) -> torch.Tensor:
        return losses.nested_similarity_distillation(
            *sides,
            dims=some,
            weights=[weights[dim] for dim in some],
            temperature=[temperatures[dim] for dim in some],
            teacher_temperature=0.07,
        )

    together, apart = ([side.clone().requires_grad_() for side in (queries, documents)] for _ in range(2))
    total = loss(together, dims)
    expected = loss(apart, [2]) + loss(apart, [8])
    torch.testing.assert_close(total, expected)
    for one, other in zip(torch.autograd.grad(total, together), torch.autograd.grad(expected, apart), strict=True):
        torch.testing.assert_close(one, other)


def test_a_target_is_scaled_again_after_it_is_cut() -> None:
    """What wrappers that slice labels get wrong: the prefix of a unit vector is shorter than 1."""
    targets = torch.nn.functional.normalize(torch.randn(5, 8, generator=torch.Generator().manual_seed(3)))
    vectors = torch.nn.functional.normalize(targets[:, :4])
    value = losses.nested_embedding_distillation(vectors, targets, dims=[4], distance="euclidean")
    assert value < 1e-6
