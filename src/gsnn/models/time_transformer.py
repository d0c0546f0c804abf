"""A transformer over observations at uneven times: every one looks at every other, however far apart."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..data.schema import Schema
from ..errors import GsnnError
from .attention import Attention, Places, RMSNorm, rotate
from .layers import Activation, at_least
from .sequences import Pooling, Sequences, Step
from .transformer import SwiGLU

Position = Literal["rotary", "fourier"]
SLOWEST, FASTEST = 0.25, 64.0  # turns in a typical span, before training


class TimeAttention(Attention):
    """Attention whose queries and keys are turned by the time itself, so that it depends on differences of time."""

    def __init__(self, width: int, heads: int, causal: bool):
        super().__init__(width, heads, heads, Places(((1, 1),)), causal)

    def forward(
        self,
        x: Float[Tensor, "object step width"],
        angle: Float[Tensor, "object 1 step pair"] | None,
        mask: Bool[Tensor, "object 1 1 step"] | None,
    ) -> Float[Tensor, "object step width"]:
        q, k, v = (linear(x).unflatten(-1, (-1, self.dim)).transpose(1, 2) for linear in (self.q, self.k, self.v))
        q, k = self.norm_q(q), self.norm_k(k)
        if angle is not None:
            q, k = rotate(q, angle), rotate(k, angle)
        q, k = q.to(v.dtype), k.to(v.dtype)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=self.causal)
        return self.o(out.transpose(1, 2).flatten(2))


class TimeBlock(nn.Module):
    """Attention, then SwiGLU, each on normalised steps and added to them, as in the transformer of tokens."""

    def __init__(self, width: int, heads: int, causal: bool, dropout: float):
        super().__init__()
        self.norm1, self.norm2 = RMSNorm(width), RMSNorm(width)
        self.attention, self.mlp = TimeAttention(width, heads, causal), SwiGLU(width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "object step width"],
        angle: Float[Tensor, "object 1 step pair"] | None,
        mask: Bool[Tensor, "object 1 1 step"] | None,
    ) -> Float[Tensor, "object step width"]:
        x = x + self.dropout(self.attention(self.norm1(x), angle, mask))
        return x + self.dropout(self.mlp(self.norm2(x)))


class Observations(nn.Module):
    """Steps as tokens, at times in spans, through ``layers`` blocks.

    ``rotary`` turns queries and keys by frequency times time (Su et al. 2021, arXiv:2104.09864, with times instead of
    numbers); ``fourier`` scales and shifts each token by a learnt Fourier series of its time (Cabrera-Vives et al.
    2024, ATAT, arXiv:2405.03078, sect. 3). The frequencies are learnt too.
    """

    def __init__(
        self, features: int, width: int, layers: int, heads: int, causal: bool, position: Position, dropout: float
    ):
        super().__init__()
        self.causal, self.position = causal, position
        self.tokens = nn.Linear(features, width)
        pairs = width // heads // 2
        self.frequency = nn.Parameter(2 * math.pi * torch.logspace(math.log10(SLOWEST), math.log10(FASTEST), pairs))
        self.modulate = nn.Linear(2 * pairs, 2 * width) if position == "fourier" else None
        self.blocks = nn.ModuleList(TimeBlock(width, heads, causal, dropout) for _ in range(layers))
        self.norm = RMSNorm(width)

    def forward(
        self,
        x: Float[Tensor, "object step feature"],
        time: Float[Tensor, "object step"],
        valid: Bool[Tensor, "object step"] | None,
    ) -> Float[Tensor, "object step width"]:
        x, angle = self.tokens(x), time[..., None] * self.frequency
        if self.modulate is not None:
            scale, shift = self.modulate(torch.cat([angle.sin(), angle.cos()], 2)).chunk(2, 2)
            x, angle = x * (1 + scale) + shift, None
        else:
            angle = angle[:, None]
        for block in self.blocks:
            x = block(x, angle, self.mask(valid))
        return self.norm(x)

    def mask(self, valid: Bool[Tensor, "object step"] | None) -> Bool[Tensor, "object 1 1 step"] | None:
        """What may be looked at. Padding stands at the end, so what is causal does not see it; a first step is real."""
        if self.causal or valid is None:
            return None
        first = torch.arange(valid.shape[1], device=valid.device) == 0
        return (valid | first)[:, None, None]


class TimeTransformer(Sequences):
    """``layers`` blocks of masked attention over observations, of ``width`` and ``heads``; the cost grows with length
    squared.

    The error of a flux, and whether there is one, is part of its token. With ``causal = true`` an observation sees
    those before it, as in ATCAT (Tung 2025, arXiv:2511.00614), and there is an answer at each.
    """

    def __init__(
        self,
        inputs: Schema,
        outputs: int,
        *,
        width: int = 64,
        layers: int = 3,
        heads: int = 4,
        causal: bool = False,
        position: Position = "rotary",
        pool: Pooling = "mean",
        activation: Activation = "gelu",
        dropout: float = 0.0,
        clock: bool = True,
        step: Step = "observation",
    ):
        at_least(1, width=width, layers=layers, heads=heads)
        if width % (2 * heads):
            raise GsnnError(f"width = {width} cannot be shared by heads = {heads}: each needs an even number of values")
        if position == "fourier" and not clock:
            raise GsnnError('position = "fourier" is a clock: take "rotary" for a network without one')
        super().__init__(
            inputs, "time-transformer",
            lambda features: Observations(features, width, layers, heads, causal, position, dropout), width, outputs,
            pool=pool, act=activation, dropout=dropout, clock=clock, causal=causal, step=step,
        )  # fmt: skip
