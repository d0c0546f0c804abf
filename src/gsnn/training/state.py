"""What learns, as a checkpoint keeps it: weights, the optimiser's moments, averages, the best weights, and tallies."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from . import optim
from .parallel import Parallel
from .runtime import Runtime
from .settings import Train

TALLIES = ("loss_sum", "skipped", "streak")  # of the epoch, of the training, of the last steps


class State:
    """A model on its devices with all that its training remembers. ``parallel`` cuts the model in place."""

    def __init__(self, model: nn.Module, settings: Train, runtime: Runtime, parallel: Parallel, keep_best: bool):
        self.model = model
        runtime.place(model)
        parallel.apply(model, runtime)
        self.parameters = optim.trainable(model)
        self.names = {parameter: name for name, parameter in self.parameters.items()}
        self.optimizer = optim.optimizer(model, settings)
        self.average = optim.Average(self.parameters, settings.ema) if settings.ema else None
        self.best = {k: v.detach().clone() for k, v in model.state_dict().items()} if keep_best else {}
        self.loss_sum, self.skipped, self.streak = torch.zeros(3, device=runtime.device).unbind()
        self.norm = torch.zeros((), device=runtime.device)
        if settings.compile:
            network = model.objective.network  # block by block: a network of blocks is never called as a whole
            for part in network.blocks.values() if model.objective.of_blocks else [network]:
                part.compile()

    def tensors(self) -> dict[str, Tensor]:
        """Everything of size, by name: what is written, and what is read into."""
        found = {f"model/{k}": v for k, v in self.model.state_dict().items()}
        moments = optim.moments(self.optimizer, self.names)
        found |= {f"optimizer/{k}": v for k, v in moments.items()}
        found |= {f"average/{k}": v for k, v in (self.average.values if self.average else {}).items()}
        return found | {f"best/{k}": v for k, v in self.best.items()}

    def tally(self) -> list[float]:
        return [getattr(self, name).item() for name in TALLIES]

    def set_tally(self, values: list[float]) -> None:
        for name, value in zip(TALLIES, values):
            setattr(self, name, torch.full_like(getattr(self, name), value))

    @torch.no_grad()
    def keep(self) -> None:
        """These weights are the best so far."""
        for name, value in self.model.state_dict().items():
            self.best[name].copy_(value)

    @torch.no_grad()
    def finish(self, found_best: bool) -> None:
        """Leave the best weights in the model, else the averaged ones, else the last."""
        if found_best:
            for name, value in self.model.state_dict().items():
                value.copy_(self.best[name])
        elif self.average is not None:
            self.average.write()
        self.model.eval()

    def identity(self, settings: Train, seed: int, stream: Any) -> dict[str, Any]:
        """What a resumed training must share with the one that it continues."""
        return {
            **settings.identity(),
            "seed": seed,
            "objects": stream.objects,
            "steps_per_epoch": stream.steps_per_epoch,
            "stream": stream.state() if hasattr(stream, "state") else {},
        }
