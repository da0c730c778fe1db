"""The mean of the weights over the last steps of a run, in place of the last ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback

from nestvec.tensor_files import read_tensors, write_tensors

__all__ = ["WeightAverage"]

_FILE, _FORMAT, _WHAT = "average.safetensors", "nestvec-average/1", "averaged weights"


class WeightAverage(TrainerCallback):
    """Keeps a running mean of what is trained, also over an interruption.

    Source:
        Izmailov et al. 2018, arXiv:1803.05407 (stochastic weight averaging); over the last steps of one run under a
        falling learning rate as in Kaddour 2022, arXiv:2209.14981.
    """

    def __init__(self, model: nn.Module, *, first_step: int) -> None:
        """Begin with nothing.

        Args:
            model: What is trained.
            first_step: The first step, counted from 1, whose weights count.
        """
        self._parameters = {name: one for name, one in model.named_parameters() if one.requires_grad}
        self._first_step = first_step
        self._count = 0
        self._means: dict[str, torch.Tensor] = {}

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Count the weights of a step."""
        if state.global_step < self._first_step:
            return
        self._count += 1
        for name, parameter in self._parameters.items():
            if self._count == 1:
                self._means[name] = parameter.detach().clone()
            else:
                self._means[name].lerp_(parameter.detach(), 1 / self._count)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the mean beside the weights of a checkpoint."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        arrays = {name: mean.cpu().numpy() for name, mean in self._means.items()}
        write_tensors(folder / _FILE, arrays, {"format": _FORMAT, "count": str(self._count)})

    def resume(self, checkpoint: Path) -> None:
        """Go on from a checkpoint.

        Args:
            checkpoint: Its folder.
        """
        found = read_tensors(checkpoint / _FILE, _FORMAT, _WHAT)
        self._count = int(found.metadata["count"])
        self._means = {
            name: torch.tensor(array).to(self._parameters[name].device) for name, array in found.arrays.items()
        }

    @torch.no_grad()
    def apply(self) -> None:
        """Put the mean in the place of the weights."""
        for name, mean in self._means.items():
            self._parameters[name].copy_(mean)
