"""Attention with rotary positions, normalised queries and keys, and fewer heads of keys and values than of queries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

BASE = 10_000.0  # of the slowest rotation (Su et al. 2021)
EPS = 1e-6


class RMSNorm(nn.RMSNorm):
    """x / rms(x) times a weight (Zhang & Sennrich 2019, arXiv:1910.07467), in the precision of x."""

    def __init__(self, width: int):
        super().__init__(width, eps=EPS)

    def forward(self, x: Float[Tensor, "*token width"]) -> Float[Tensor, "*token width"]:
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


@dataclass
class Places:
    """Where the tokens stand: one or two coordinates each, and which of equal slices of them this process holds.

    ``grids`` are the (rows, columns) of tokens of each column in turn. With two ``axes`` a token of an image stands at
    its row and column and any other at the same number twice; a column begins where the one before has ended.
    """

    grids: tuple[tuple[int, int], ...]
    axes: int = 1
    part: tuple[int, int] = (0, 1)

    @property
    def count(self) -> int:
        """All tokens of an object."""
        return sum(rows * columns for rows, columns in self.grids)

    @property
    def held(self) -> slice:
        """The tokens of this process."""
        index, parts = self.part
        return slice(index * self.count // parts, (index + 1) * self.count // parts)

    def __call__(self, device: torch.device) -> Float[Tensor, "token axis"]:
        """The coordinates of the tokens of this process."""
        if self.axes == 1:
            return torch.arange(self.held.start, self.held.stop, dtype=torch.float32, device=device)[:, None]
        found, first = [], 0
        for rows, columns in self.grids:
            i = torch.arange(rows * columns, device=device)
            y, x = (i // columns, i % columns) if rows > 1 else (i, i)
            found.append(torch.stack([y, x], 1) + first)
            first += max(rows, columns)
        return torch.cat(found)[self.held].float()


def angles(places: Float[Tensor, "token axis"], dim: int) -> Float[Tensor, "token pair"]:
    """How far each of the ``dim / 2`` pairs is turned at each place: the axes share the pairs (Su et al., eq. 15)."""
    pairs = dim // 2 // places.shape[1]
    frequency = BASE ** -(torch.arange(pairs, dtype=torch.float32, device=places.device) / pairs)
    return (places[:, :, None] * frequency).flatten(1)


def rotate(
    x: Float[Tensor, "object head token dim"], angle: Float[Tensor, "*any token pair"]
) -> Float[Tensor, "object head token dim"]:
    """Turn pairs (i, i + dim / 2), so that products depend on distances only (Su et al. 2021, arXiv:2104.09864)."""
    a, b = x.float().chunk(2, -1)
    cos, sin = angle.cos(), angle.sin()
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


def attend(
    q: Float[Tensor, "object head token dim"],
    k: Float[Tensor, "object group key dim"],
    v: Float[Tensor, "object group key dim"],
    *,
    causal: bool,
) -> Float[Tensor, "object head token dim"]:
    """Scaled dot-product attention (Vaswani et al. 2017, arXiv:1706.03762); consecutive heads share a group."""
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=q.shape[1] != k.shape[1])


class Attention(nn.Module):
    """Grouped-query attention (Ainslie et al. 2023, arXiv:2305.13245) with QK-norm (Dehghani et al. 2023, 2302.05442).

    ``attend`` is what context parallelism replaces: it gets the tokens of this process, at their true places. How many
    heads there are follows from the sizes of the projections, so that tensor parallelism may divide them.
    """

    attend: Callable[[Tensor, Tensor, Tensor], Tensor]

    def __init__(self, width: int, heads: int, kv_heads: int, places: Places, causal: bool):
        super().__init__()
        self.dim, self.places, self.causal = width // heads, places, causal
        self.q = nn.Linear(width, heads * self.dim, bias=False)
        self.k = nn.Linear(width, kv_heads * self.dim, bias=False)
        self.v = nn.Linear(width, kv_heads * self.dim, bias=False)
        self.o = nn.Linear(heads * self.dim, width, bias=False)
        self.norm_q, self.norm_k = RMSNorm(self.dim), RMSNorm(self.dim)
        self.attend = partial(attend, causal=causal)

    def forward(self, x: Float[Tensor, "object token width"]) -> Float[Tensor, "object token width"]:
        q, k, v = (linear(x).unflatten(-1, (-1, self.dim)).transpose(1, 2) for linear in (self.q, self.k, self.v))
        angle = angles(self.places(x.device), self.dim)
        q, k = (rotate(norm(z), angle).to(v.dtype) for norm, z in ((self.norm_q, q), (self.norm_k, k)))
        return self.o(self.attend(q, k, v).transpose(1, 2).flatten(2))
