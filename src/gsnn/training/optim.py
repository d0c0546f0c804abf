"""Optimisers, the learning rate, frozen parameters and the moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..errors import ConfigError, suggest
from .parallel import by_mesh, local
from .settings import Train

_NETWORK = "objective.network."


def freeze(model: nn.Module, prefixes: tuple[str, ...]) -> None:
    """Stop the parameters whose name (in the model or in its network) is, or lies below, one of ``prefixes``."""
    parameters = dict(model.named_parameters())
    for prefix in prefixes:
        below = [
            parameter
            for name, parameter in parameters.items()
            if any((n + ".").startswith(prefix + ".") for n in (name, name.removeprefix(_NETWORK)))
        ]
        if not below:
            known = {name.removeprefix(_NETWORK).split(".")[0] for name in parameters}
            raise ConfigError(f"the network has no part {prefix!r}; {suggest(prefix, known)}", ("train", "freeze"))
        for parameter in below:
            parameter.requires_grad_(False)


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that learn, by name."""
    found = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not found:
        raise ConfigError("nothing is left to learn: freeze fewer parts", ("train", "freeze"))
    return found


def optimizer(model: nn.Module, settings: Train) -> torch.optim.Optimizer:
    """The optimiser of the trainable parameters; biases and norms (one dimension or none) do not decay.

    AdamW: Loshchilov & Hutter 2019 (arXiv:1711.05101); SGD with Nesterov momentum: Sutskever et al. 2013; RMSprop:
    Tieleman & Hinton 2012.
    """
    parameters = list(trainable(model).values())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [{**group, "params": some} for group in groups for some in by_mesh(group["params"])]
    rate, momentum = settings.learning_rate, settings.momentum
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=rate, betas=(momentum, 0.999), fused=True)
    if settings.optimizer == "rmsprop":
        return torch.optim.RMSprop(groups, lr=rate, momentum=momentum, foreach=True)
    made = torch.optim.SGD(groups, lr=rate, momentum=momentum, nesterov=momentum > 0, fused=True)
    if momentum:
        # Zeros give the same first step as PyTorch's lazy start, which a skipped first step would leave uninitialised.
        for parameter in parameters:
            made.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return made


def step_unless(optimizer: torch.optim.Optimizer, bad: Tensor) -> None:
    """A step of the optimiser, unless ``bad`` (a flag on the device) is set; fused kernels need not wait for it."""
    if optimizer.defaults.get("fused") and not any(hasattr(p, "device_mesh") for p in _parameters(optimizer)):
        optimizer.found_inf = bad.float()
        optimizer.step()
    elif not bad.item():
        optimizer.step()


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def moments(optimizer: torch.optim.Optimizer, names: dict[Tensor, str]) -> dict[str, Tensor]:
    """The optimiser's state as tensors ``parameter/key``, made now if it has not stepped yet.

    Rates and decays are not in it: they come from the settings.
    """
    parameters = _parameters(optimizer)
    if not all(optimizer.state.get(parameter) for parameter in parameters):
        kept = [(parameter.grad, group["lr"]) for group in optimizer.param_groups for parameter in group["params"]]
        for group in optimizer.param_groups:
            group["lr"] = 0.0  # a step of no length: it changes nothing but makes the state
            for parameter in group["params"]:
                parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad, group["lr"] = kept.pop(0)
                if "step" in optimizer.state[parameter]:
                    optimizer.state[parameter]["step"].zero_()
    return {
        f"{names[parameter]}/{key}": value
        for parameter in parameters
        for key, value in optimizer.state[parameter].items()
        if isinstance(value, Tensor)
    }


def rate(step: int, total: int, settings: Train) -> float:
    """The learning rate of ``step`` (0-based) of ``total``: a linear rise, then constant or a half cosine to zero.

    Loshchilov & Hutter 2017, SGDR, eq. 5 (arXiv:1608.03983), without restarts.
    """
    rise = settings.warmup * total
    if step < rise:
        return settings.learning_rate * (step + 1) / (math.ceil(rise) + 1)
    if settings.schedule == "constant":
        return settings.learning_rate
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(total - rise, 1)))


class Average:
    """An exponential moving average of the trainable parameters (Polyak & Juditsky 1992; Tarvainen & Valpola 2017).

    The decay rises as (1 + step) / (10 + step) up to its value, so that the first weights are soon forgotten.
    """

    def __init__(self, parameters: dict[str, nn.Parameter], decay: float):
        self.decay = decay
        self.parameters = parameters
        self.values = {name: parameter.detach().clone() for name, parameter in parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        now = [local(parameter.detach()) for parameter in self.parameters.values()]
        torch._foreach_lerp_([local(value) for value in self.values.values()], now, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within, the model has the averaged weights."""
        own = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}
        self.write()
        try:
            yield
        finally:
            self._copy(own, self.parameters)

    def write(self) -> None:
        """Give the model the averaged weights."""
        self._copy(self.values, self.parameters)

    def load(self, values: dict[str, Tensor]) -> None:
        self._copy(values, self.values)

    @staticmethod
    @torch.no_grad()
    def _copy(source: dict[str, Tensor], target: dict[str, Tensor]) -> None:
        for name, value in target.items():
            value.copy_(source[name])
