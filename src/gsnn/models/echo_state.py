"""Echo-state networks: a random recurrent network that is never trained, and a readout that is."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..data.schema import Schema
from ..errors import GsnnError
from .layers import Activation, at_least
from .sequences import Pooling, Sequences


class Reservoir(nn.Module):
    """x(n) = (1 - leak) x(n - 1) + leak tanh(W x(n - 1) + V u(n) + b), with W, V and b drawn once.

    Jaeger 2001 (GMD report 148), with the leak of Jaeger et al. 2007 (doi:10.1016/j.neunet.2007.04.016), eq. 2. Each
    unit hears ``degree`` others; W is scaled to its ``radius``, the size of its largest eigenvalue, below 1 so that the
    past fades. States are handed on with zero mean and unit variance over the units, so that the readout learns at the
    usual rate. Nothing here has a gradient, so a training step costs a pass forwards.
    """

    def __init__(self, features: int, width: int, radius: float, leak: float, scale: float, degree: int):
        super().__init__()
        self.leak = leak
        weight = torch.randn(width, width)
        hears = torch.rand(width, width).argsort(1) < degree
        weight = weight * hears
        if not weight.is_meta:
            weight *= radius / torch.linalg.eigvals(weight).abs().max().clamp(min=1e-6)
        self.register_buffer("weight", weight)
        self.register_buffer("read", scale * (2 * torch.rand(width, features) - 1))
        self.register_buffer("bias", 0.2 * (2 * torch.rand(width) - 1))

    def forward(
        self,
        x: Float[Tensor, "object step feature"],
        time: Float[Tensor, "object step"],
        valid: Bool[Tensor, "object step"] | None,
    ) -> Float[Tensor, "object step width"]:
        given = nn.functional.linear(x, self.read, self.bias).unbind(1)
        state, states = torch.zeros_like(given[0]), []
        for heard in given:
            state = torch.lerp(state, torch.tanh(torch.addmm(heard, state, self.weight.T)), self.leak)
            states.append(state)
        return nn.functional.layer_norm(torch.stack(states, 1), state.shape[1:])


class EchoState(Sequences):
    """A reservoir of ``width`` units; what is pooled of their states is read by a linear layer, the only one trained.

    ``spectral_radius`` and ``leak`` set how long it remembers: about 1 / (leak (1 - spectral_radius)) steps.
    """

    def __init__(
        self,
        inputs: Schema,
        outputs: int,
        *,
        width: int = 256,
        spectral_radius: float = 0.9,
        leak: float = 0.3,
        input_scale: float = 0.5,
        degree: int = 10,
        pool: Pooling = "max",
        activation: Activation = "gelu",
        dropout: float = 0.0,
        clock: bool = True,
    ):
        at_least(1, width=width, degree=degree)
        if not 0 < leak <= 1 or not spectral_radius > 0 or not input_scale > 0:
            raise GsnnError(
                f"leak = {leak} must be above 0 and at most 1, spectral_radius = {spectral_radius} and "
                f"input_scale = {input_scale} above 0"
            )
        super().__init__(
            inputs, "echo-state",
            lambda features: Reservoir(features, width, spectral_radius, leak, input_scale, degree), width, outputs,
            pool=pool, act=activation, dropout=dropout, clock=clock, causal=True,
        )  # fmt: skip
