"""The multilayer perceptron: the network for tables."""

from __future__ import annotations

from itertools import combinations_with_replacement, pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..data.schema import DENSE, Schema
from .layers import Activation, activation, at_least, flatten, head, readable


class Hidden(nn.Module):
    """Norm, linear, activation, dropout; added to its own input if ``residual`` is asked for and the widths agree."""

    def __init__(self, width_in: int, width: int, act: Activation, norm: bool, dropout: float, residual: bool):
        super().__init__()
        self.norm = nn.LayerNorm(width_in) if norm else nn.Identity()
        self.linear = nn.Linear(width_in, width)
        self.activation, self.dropout = activation(act), nn.Dropout(dropout)
        self.residual = residual and width_in == width

    def forward(self, x: Float[Tensor, "object value"]) -> Float[Tensor, "object feature"]:
        y = self.dropout(self.activation(self.linear(self.norm(x))))
        return x + y if self.residual else y


class MLP(nn.Module):
    """Hidden layers of one ``width`` (``depth`` of them) or of the given ``widths``, then a linear head.

    Scalars stand side by side in the schema's order; images and spectra are flattened behind them. The first layer
    sees the values themselves: LayerNorm (Ba et al. 2016, arXiv:1607.06450) is put between hidden layers, because over
    the inputs it would take away the mean of an object's magnitudes, that is, its brightness. Residual sums follow
    He et al. 2016 (arXiv:1512.03385) and, for tables, Gorishniy et al. 2021 (arXiv:2106.11959). With ``powers`` the
    monomials of the inputs up to that degree stand beside the last hidden layer, so that the head holds a response
    surface (Box & Wilson 1951, J. R. Stat. Soc. B 13, 1) and the layers what it leaves.
    """

    def __init__(
        self,
        inputs: Schema,
        outputs: int,
        *,
        width: int = 128,
        depth: int = 3,
        widths: tuple[int, ...] = (),
        activation: Activation = "gelu",
        norm: Literal["layer", "none"] = "none",
        residual: bool = False,
        dropout: float = 0.0,
        powers: int = 0,
    ):
        super().__init__()
        at_least(1, width=width, depth=depth, widths=widths, outputs=outputs)
        at_least(0, powers=powers)
        self.columns = readable(inputs, "mlp", ("scalar", *DENSE))
        sizes = (sum(c.size for c in self.columns), *(widths or (width,) * depth))
        self.hidden = nn.ModuleDict(
            {
                f"hidden{i}": Hidden(a, b, activation, norm == "layer" and i > 0, dropout, residual and i > 0)
                for i, (a, b) in enumerate(pairwise(sizes))
            }
        )
        self.powers = [list(c) for n in range(1, powers + 1) for c in combinations_with_replacement(range(sizes[0]), n)]
        factors = [[*some, *[sizes[0]] * (powers - len(some))] for some in self.powers]  # filled up with ones
        self.register_buffer("factors", torch.tensor(factors, dtype=torch.long), persistent=False)
        self.head = nn.Linear(sizes[-1] + len(self.powers), outputs)

    def features(self, **columns: Tensor) -> Float[Tensor, "object feature"]:
        """The last hidden layer, and the monomials where there are some."""
        given = x = flatten(columns, self.columns)
        for layer in self.hidden.values():
            x = layer(x)
        if not self.powers:
            return x
        return torch.cat([x, torch.nn.functional.pad(given, (0, 1), value=1.0)[:, self.factors].prod(2)], 1)

    def forward(self, **columns: Tensor) -> Float[Tensor, "object output"]:
        return head(self.head, self.features(**columns))
