"""One of two processes that train on half a batch each: started by test_losses_composition.py."""

from __future__ import annotations

import datetime
import os
import sys
import traceback
from pathlib import Path

import pytest
import torch
import torch.distributed
from torch.nn.parallel import DistributedDataParallel

from loss_cases import CASES
from module_checks import DIMS, IN_BATCH, ROWS, SAME_LABELS, WEIGHTS, features_of, gradients_of, make_model, texts_of
from nestvec.errors import LossInputError
from nestvec.losses import NestedInfoNCE, NestedSoftmax
from nestvec.losses.modules.devices import check_equal_batches


def main() -> None:
    folders, out = (Path(sys.argv[1]), Path(sys.argv[2])), Path(sys.argv[3])
    torch.distributed.init_process_group("gloo", timeout=datetime.timedelta(minutes=2))  # if the other one dies
    rank = torch.distributed.get_rank()
    own = slice(rank * ROWS // 2, (rank + 1) * ROWS // 2)
    results = {}
    for case in CASES:
        for mode, options in (("plain", {}), ("cached", {"mini_batch_size": 4}), ("layers", {"layers": [1]})):
            model = make_model("transformer", *folders)
            labels = case.labels(torch.Generator().manual_seed(0), ROWS)
            torch.manual_seed(1)
            gathers = {"gather_across_devices": True} if case.rows_meet else {}
            loss = case.module(model, DIMS, WEIGHTS, **case.settings, **gathers, **options).double()
            wrapped = DistributedDataParallel(model, find_unused_parameters=True)
            loss.model = wrapped  # as the trainer does
            features = features_of(model, [column[own] for column in texts_of(case.n_columns)])
            loss(features, None if labels is None else labels[own]).backward()
            heads = {n: g for n, g in gradients_of(loss).items() if not n.startswith("model.")}
            results[f"{case.name} {mode}"] = gradients_of(model) | heads
    for name, settings in IN_BATCH.items():
        model = make_model("transformer", *folders)
        loss = NestedInfoNCE(model, DIMS, WEIGHTS, gather_across_devices=True, **settings).double()
        loss.model = DistributedDataParallel(model, find_unused_parameters=True)
        loss(features_of(model, [column[own] for column in texts_of(3)]), SAME_LABELS[own]).backward()
        temperature = {n: g for n, g in gradients_of(loss).items() if not n.startswith("model.")}
        results[name] = gradients_of(model) | temperature
    torch.manual_seed(rank)  # heads drawn differently become those of the first process
    loss = NestedSoftmax(make_model("transformer", *folders), DIMS, n_classes=3).double()
    loss(features_of(loss.model, texts_of(1)), torch.arange(ROWS) % 3)
    heads = [torch.empty_like(loss.heads[0]) for _ in range(2)]
    torch.distributed.all_gather(heads, loss.heads[0].detach())
    assert torch.equal(*heads)
    with pytest.raises(LossInputError, match=r"batches of \[2, 3\] rows"):
        check_equal_batches(2 + rank, torch.device("cpu"))
    if rank == 0:
        torch.save(results, out)
    torch.distributed.barrier()


if __name__ == "__main__":
    try:
        main()
    except BaseException:  # noqa: BLE001  # whatever it is, it is printed and ends the process
        traceback.print_exc()
        status = 1
    else:
        status = 0
    sys.stderr.flush()
    # Threads of gloo can wait for each other for ever while the interpreter takes everything down.
    os._exit(status)
