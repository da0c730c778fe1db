"""What runs on a GPU gives what it gives on a processor. Run: pytest tests/test_gpu.py, where there is a GPU (half a minute)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from loss_cases import BY_NAME, draw_columns, extras_of, relative_error
from nestvec.encoders import SentenceTransformerEncoder, load_model
from nestvec.jobs.train_and_measure import train_and_measure
from nestvec.losses import engine
from nestvec.training import load_recipe

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="There is no CUDA device.")]

DIMS, ROWS = [16, 8, 4], 40


def value_and_gradients(name: str, device: str, dtype: torch.dtype) -> list[torch.Tensor]:
    """The loss and its gradients with respect to every column, computed on a device."""
    case = BY_NAME[name]
    drawn = draw_columns(3, case.n_columns, ROWS, DIMS[0])
    labels = case.labels(torch.Generator().manual_seed(4), ROWS)
    extras = extras_of(case, drawn, DIMS)
    extras.pop("full", None)  # for the oracle alone

    def moved(given: object) -> object:
        if isinstance(given, list):
            return [moved(one) for one in given]
        assert isinstance(given, torch.Tensor)
        return given.detach().to(device, dtype if given.is_floating_point() else given.dtype)

    columns = [column.requires_grad_() for column in moved(drawn)]
    extras = {key: moved(given) for key, given in extras.items()}
    value = case.function(
        columns,
        None if labels is None else moved(labels),
        dims=DIMS,
        weights=[1.0, 0.5, 2.0],
        **case.settings,
        **extras,
    )
    return [one.cpu() for one in (value, *torch.autograd.grad(value, columns))]


@pytest.mark.parametrize("height", [7, 1024], ids=["tiles", "whole"])
@pytest.mark.parametrize("name", list(BY_NAME))
def test_every_loss_is_the_same_on_both(name: str, height: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_TILE_SCORES_GPU", 1)
    monkeypatch.setattr(engine, "_LEAST_TILE_ROWS_GPU", height)
    wanted = value_and_gradients(name, "cpu", torch.float64)
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 2e-4)):
        found = value_and_gradients(name, "cuda", dtype)
        for one, other in zip(found, wanted, strict=True):
            assert relative_error(one, other) < tolerance


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_a_recipe_trains_to_a_better_model(precision: str, tiny_recipe: Path, tmp_path: Path) -> None:
    recipe = load_recipe(tiny_recipe, [f'training.precision="{precision}"', "training.epochs=6.0"])
    cells = train_and_measure(recipe, tmp_path / "run").cells
    scores = {(cell.model, cell.dim): cell.metrics["MRR@10"].value for cell in cells}
    assert scores["after", 16] > scores["before", 16] + 0.02


def test_texts_have_the_same_vectors_on_both(tiny_model: Path) -> None:
    model = load_model(str(tiny_model))
    assert model.device.type == "cuda"
    encoder = SentenceTransformerEncoder(model)
    texts = [str(row) for row in range(50)] + ["what does the river do", "the engine powers the stone every day"]
    on_gpu = encoder.encode_documents(texts)
    model.to("cpu")
    assert on_gpu == pytest.approx(encoder.encode_documents(texts), abs=1e-5)
