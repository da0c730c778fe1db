"""What NestedMixture adds to the sum of its parts. Run: pytest tests/test_losses_mixture.py (a second)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nestvec.encoders import load_model
from nestvec.errors import LossInputError, PrecisionError
from nestvec.losses import (
    NestedInfoNCE,
    NestedMixture,
    nested_info_nce,
    nested_similarity_distillation,
    straight_through,
)
from nestvec.losses.modules.base import Batch

GENERATOR = torch.Generator().manual_seed(0)
QUERIES, DOCUMENTS, NEGATIVES = (torch.randn(12, 8, generator=GENERATOR) for _ in range(3))
COLUMNS = [QUERIES, DOCUMENTS, NEGATIVES]
EVERY = torch.cat([DOCUMENTS, NEGATIVES])


def computed(loss: NestedInfoNCE) -> torch.Tensor:
    return loss.compute(COLUMNS, Batch(None), loss.dims, loss.weights)


def test_with_everything_off_it_is_info_nce() -> None:
    model = torch.nn.Identity()
    torch.testing.assert_close(computed(NestedMixture(model, [8, 4])), computed(NestedInfoNCE(model, [8, 4])))


def test_documents_are_ranked_as_they_will_be_stored() -> None:
    loss = NestedMixture(torch.nn.Identity(), [8, 4], precisions=["int8", "binary"], shortest_code=1)
    expected = [
        nested_info_nce(QUERIES, straight_through(EVERY, precision), dims=[8, 4]) for precision in ("int8", "binary")
    ]
    torch.testing.assert_close(computed(loss), sum(expected) / 2)


def test_short_codes_do_not_count() -> None:
    loss = NestedMixture(torch.nn.Identity(), [8, 4, 2], precisions=["float32", "int4"], shortest_code=2)
    stored = [EVERY, straight_through(EVERY, "int4")]
    long = sum(nested_info_nce(QUERIES, documents, dims=[8, 4]) for documents in stored) / 2
    short = nested_info_nce(QUERIES, EVERY, dims=[2])  # one number has no code of two bytes: float32 alone counts
    torch.testing.assert_close(computed(loss), long + short)
    loss.set_weights([0, 0, 1])
    torch.testing.assert_close(computed(loss), short)
    with pytest.raises(LossInputError, match="At 2 dimensions no code of int4 has 2 bytes"):
        NestedMixture(torch.nn.Identity(), [8, 4, 2], precisions=["int4"], shortest_code=2)


def test_a_batch_of_one_row_can_be_learned_from() -> None:
    loss = NestedMixture(torch.nn.Identity(), [8, 4], spread=1.0, self_distillation=1.0, neighbours=5)
    value = loss.compute([QUERIES[:1], DOCUMENTS[:1]], Batch(None), loss.dims, loss.weights)
    assert torch.isfinite(value)


def test_prefixes_learn_the_similarities_of_a_teacher() -> None:
    loss = NestedMixture(torch.nn.Identity(), [8, 4], teacher=0.5)
    taught = torch.randn(12, 3, 5, generator=torch.Generator().manual_seed(1))
    distilled = nested_similarity_distillation(
        QUERIES,
        EVERY,
        dims=[8, 4],
        teacher_queries=taught[:, 0],
        teacher_documents=torch.cat([taught[:, 1], taught[:, 2]]),
    )
    with_teacher = loss.compute(COLUMNS, Batch(taught), loss.dims, loss.weights)
    torch.testing.assert_close(with_teacher, nested_info_nce(QUERIES, EVERY, dims=[8, 4]) + 0.5 * distilled)
    with pytest.raises(LossInputError, match="there are no labels"):
        loss.check_labels(None)
    with pytest.raises(LossInputError, match="For 3 text columns"):
        loss.compute(COLUMNS, Batch(taught[:, :2]), loss.dims, loss.weights)


def test_prefixes_learn_the_neighbours_of_the_largest_size() -> None:
    loss = NestedMixture(torch.nn.Identity(), [6, 4], self_distillation=0.5, neighbours=3)
    distilled = nested_similarity_distillation(
        QUERIES, EVERY, dims=[6, 4], teacher_queries=QUERIES[:, :6], teacher_documents=EVERY[:, :6], top_k=3
    )
    torch.testing.assert_close(computed(loss), nested_info_nce(QUERIES, EVERY, dims=[6, 4]) + 0.5 * distilled)
    many = NestedMixture(torch.nn.Identity(), [6, 4], self_distillation=0.5, neighbours=99)
    everything = NestedMixture(torch.nn.Identity(), [6, 4], self_distillation=0.5)
    torch.testing.assert_close(computed(many), computed(everything))


def test_mini_batches_change_nothing(tiny_model: Path) -> None:
    model = load_model(str(tiny_model))
    texts = ["what does the river do", "the engine powers the paper", "silver", "the planet orbits water every day"]
    features = [model.preprocess(column) for column in (texts, texts[::-1], texts[1:] + texts[:1])]
    options = {
        "precisions": ["float32", "binary"],
        "shortest_code": 2,
        "self_distillation": 0.5,
        "spread": 2.0,
        "neighbours": 4,
    }
    gradients = []
    for mini_batch_size in (None, 3):
        model.zero_grad()
        loss = NestedMixture(model.eval(), [128, 16], mini_batch_size=mini_batch_size, **options)
        value = loss([dict(column) for column in features])
        value.backward()
        gradients.append([value.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
    assert len(gradients[0]) == len(gradients[1]) > 5
    for whole, parts in zip(*gradients, strict=True):
        torch.testing.assert_close(parts, whole, atol=1e-4, rtol=1e-3)


def test_settings_that_make_no_sense_are_refused() -> None:
    model = torch.nn.Identity()
    for options, message in (
        ({"precisions": []}, "at least one"),
        ({"precisions": ["int8", "int8"]}, "each once"),
        ({"precisions": ["binary"]}, "No code of binary has 32 bytes"),
        ({"spread": -1.0}, "0 or more"),
        ({"neighbours": 5}, "self_distillation above 0"),
        ({"neighbours": 1, "self_distillation": 1.0}, "at least 2"),
    ):
        with pytest.raises(LossInputError, match=message):
            NestedMixture(model, [8], **options)
    with pytest.raises(PrecisionError):
        NestedMixture(model, [8], precisions=["int3"])
    assert NestedMixture(model, [8], spread=0.5).get_config_dict()["spread"] == 0.5
    assert "spread" not in NestedMixture(model, [8]).get_config_dict()
