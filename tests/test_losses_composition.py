"""Every loss module x plain, cached, two processes, static, two towers, layers: the same gradient as the oracle.

Run: pytest tests/test_losses_composition.py (60 s; the two processes are real ones, with gloo).
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from builders import build_tiny_model
from loss_cases import BY_NAME, CASES, LossCase
from module_checks import (
    DIMS,
    IN_BATCH,
    ROWS,
    SAME_LABELS,
    WEIGHTS,
    assert_same_gradients,
    expected_gradients,
    features_of,
    gradients_of,
    heads_of,
    make_model,
    texts_of,
)
from nestvec import losses
from nestvec.errors import LossInputError
from nestvec.losses.modules.base import Batch

every_loss = pytest.mark.parametrize("name", list(BY_NAME))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("models")
    return (
        build_tiny_model(folder / "one", dim=16, n_layers=3),
        build_tiny_model(folder / "other", dim=16, n_layers=3, seed=1),
    )


def check(case: LossCase, kind: str, folders: tuple[Path, Path], *, by_layer=(), **options) -> None:
    model = make_model(kind, *folders)
    texts, labels = texts_of(case.n_columns), case.labels(torch.Generator().manual_seed(0), ROWS)
    torch.manual_seed(1)
    loss = case.module(model, DIMS, WEIGHTS, **case.settings, **options)
    heads = heads_of(case, loss)
    value, wanted = expected_gradients(case, model, texts, labels, heads, by_layer=by_layer)
    wanted_heads = {name: g for name, g in gradients_of(loss).items() if not name.startswith("model.")}
    loss.zero_grad()
    found = loss(features_of(model, texts), labels)
    torch.testing.assert_close(found.detach(), value)
    (found * 0.5).backward()  # as gradient accumulation over two batches does
    assert_same_gradients(gradients_of(model), {name: gradient * 0.5 for name, gradient in wanted.items()})
    if case.head:
        found_heads = {name: g for name, g in gradients_of(loss).items() if not name.startswith("model.")}
        assert_same_gradients(found_heads, {name: gradient * 0.5 for name, gradient in wanted_heads.items()})


@every_loss
@pytest.mark.parametrize("kind", ["transformer", "static", "two_towers", "mixed_towers"])
def test_plain(name: str, kind: str, folders) -> None:
    check(BY_NAME[name], kind, folders)


@every_loss
@pytest.mark.parametrize("kind", ["transformer", "two_towers"])
def test_with_a_gradient_cache(name: str, kind: str, folders) -> None:
    check(BY_NAME[name], kind, folders, mini_batch_size=5)


@every_loss
@pytest.mark.parametrize(("kind", "mini_batch_size"), [("transformer", None), ("transformer", 5), ("two_towers", None)])
def test_at_several_layers(name: str, kind: str, mini_batch_size: int | None, folders) -> None:
    options = {} if mini_batch_size is None else {"mini_batch_size": mini_batch_size}
    check(
        BY_NAME[name], kind, folders, by_layer=[(1, 0.5), (2, 1.5)], layers=[1, 2], layer_weights=[0.5, 1.5], **options
    )


@every_loss
@pytest.mark.parametrize("kind", ["static", "mixed_towers"])
def test_what_a_static_table_cannot_do_is_refused_when_the_loss_is_made(name: str, kind: str, folders) -> None:
    case, model = BY_NAME[name], make_model(kind, *folders)
    with pytest.raises(LossInputError, match="one flat sequence"):
        case.module(model, DIMS, mini_batch_size=4, **case.settings)
    with pytest.raises(LossInputError, match="needs a transformer"):
        case.module(model, DIMS, layers=[1], **case.settings)


@every_loss
def test_gathering_is_refused_where_it_changes_nothing(name: str, folders) -> None:
    case, model = BY_NAME[name], make_model("transformer", *folders)
    if case.rows_meet:
        assert case.module(model, DIMS, gather_across_devices=True, **case.settings).gather_across_devices
    else:
        with pytest.raises(LossInputError, match="gathering them changes nothing"):
            case.module(model, DIMS, gather_across_devices=True, **case.settings)


@pytest.fixture(scope="module")
def from_two_processes(folders, tmp_path_factory) -> dict[str, dict[str, torch.Tensor]]:
    """Gradients of every loss, averaged over two processes that have half the batch each."""
    out = tmp_path_factory.mktemp("two") / "gradients.pt"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    script = Path(__file__).with_name("two_processes.py")
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), str(folders[0]), str(folders[1]), str(out)],
            env={**environment, "RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [process.communicate()[0] for process in processes]  # a process whose twin died gives up by itself
    assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)
    return torch.load(out, weights_only=True)


@every_loss
@pytest.mark.parametrize("mode", ["plain", "cached", "layers"])
def test_two_processes_train_like_one(name: str, mode: str, folders, from_two_processes) -> None:
    case, model = BY_NAME[name], make_model("transformer", *folders)
    texts, labels = texts_of(case.n_columns), case.labels(torch.Generator().manual_seed(0), ROWS)
    torch.manual_seed(1)
    loss = case.module(model, DIMS, WEIGHTS, **case.settings)
    heads = heads_of(case, loss)
    by_layer = [(1, 1.0)] if mode == "layers" else ()
    _, wanted = expected_gradients(case, model, texts, labels, heads, by_layer=by_layer)
    if case.head:
        wanted = wanted | {n: g for n, g in gradients_of(loss).items() if not n.startswith("model.")}
    assert_same_gradients(from_two_processes[f"{name} {mode}"], wanted)


@pytest.mark.parametrize("name", list(IN_BATCH))
def test_two_processes_share_negatives_masks_and_the_temperature(name: str, folders, from_two_processes) -> None:
    model = make_model("transformer", *folders)
    loss = losses.NestedInfoNCE(model, DIMS, WEIGHTS, **IN_BATCH[name]).double()
    loss(features_of(model, texts_of(3)), SAME_LABELS).backward()
    wanted = {key.removeprefix("model."): gradient for key, gradient in gradients_of(loss).items()}
    assert_same_gradients(from_two_processes[name], wanted)
    if "learn_temperature" in IN_BATCH[name]:
        assert wanted["log_temperature"] != 0


@every_loss
@pytest.mark.parametrize("mini_batch_size", [None, 5])
def test_under_autocast_only_the_encoder_loses_digits(name: str, mini_batch_size: int | None, folders) -> None:
    case, model = BY_NAME[name], make_model("transformer", *folders).float()
    texts, labels = texts_of(case.n_columns), case.labels(torch.Generator().manual_seed(0), ROWS)
    torch.manual_seed(1)
    loss = case.module(model, DIMS, WEIGHTS, mini_batch_size=mini_batch_size, **case.settings)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(features_of(model, texts), labels)
        columns = [model(features)["sentence_embedding"] for features in features_of(model, texts)]
    value.backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())
    assert value.dtype == torch.float32
    with torch.no_grad():
        expected = loss.compute([column.float() for column in columns], Batch(labels), DIMS, WEIGHTS)
    if mini_batch_size is None:
        torch.testing.assert_close(value.detach(), expected)
    else:  # bfloat16 rounds differently in batches of another shape
        torch.testing.assert_close(value.detach(), expected, rtol=0.1, atol=0.1)


def test_every_case_has_a_name_of_its_own() -> None:
    assert len(BY_NAME) == len(CASES)
