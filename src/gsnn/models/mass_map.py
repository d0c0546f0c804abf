"""From shear to convergence: a U-Net that corrects the Wiener filter, which is solved inside the network."""

from __future__ import annotations

from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle

from ..data.schema import Column, Schema
from ..data.shear import convergence_of, deviation, power_of, shear_columns, weights, wiener
from ..errors import GsnnError
from .layers import at_least, readable
from .unet import UNet


class MassMap(UNet):
    """Residuals to the Wiener filter of the convergence, from maps that turn with the sky.

    Inside the network, without weights: ``iterations`` of conjugate gradients towards the Wiener filter (8 are within
    0.1% of its error), the data projected back (the E mode of shear / noise^2, in which all is that a Gaussian
    likelihood knows) and 1 / noise. These three, in blocks of ``patch`` x ``patch`` pixels, go through a U-Net, whose
    maps are brought back to the pixels (sub-pixel convolution: Shi et al. 2016, arXiv:1609.05158); what it says is
    added to the Wiener filter, in native units. Inputs must come as they are, by the transform "native".
    """

    native = True

    def __init__(
        self,
        inputs: Schema,
        outputs: int,
        *,
        width: int = 16,
        depth: int = 3,
        patch: Annotated[int, Field(ge=1, le=16)] = 2,
        iterations: Annotated[int, Field(ge=1, le=1000)] = 8,
        dropout: float = 0.0,
    ):
        readable(inputs, "mass-map", ("image",))
        at_least(1, width=width, depth=depth, outputs=outputs)
        shear, noise = shear_columns(inputs)
        side = shear.shape[-1]
        if side % patch:
            raise GsnnError(f"a map of {side} pixels has no whole blocks of {patch}: give another patch")
        blocks = Column("maps", "field", shape=(3 * patch**2, side // patch, side // patch))
        super().__init__(Schema.of([blocks]), outputs, width=width, depth=depth, dropout=dropout)
        self.fine = nn.Conv2d(width, width * patch**2, 1)
        self.shear, self.noise, self.patch, self.iterations = shear.name, noise.name, patch, iterations
        power = power_of(inputs, shear)
        self.act = nn.GELU()
        self.power, self.unit = power.float(), deviation(power)  # no state: they follow from the inputs

    def given(self, **columns: Tensor) -> tuple[Float[Tensor, "object 1 y x"], Float[Tensor, "object 3 y x"]]:
        """The Wiener filter in native units; and it, the data projected back and 1 / noise in units near 1."""
        with torch.no_grad():  # in float32 also under autocast, which changes no Fourier transform
            shear, noise = columns[self.shear].float(), columns[self.noise].float()[:, 0]
            if shear.shape[0] == 0:  # no Fourier transform takes it
                return shear[:, :1], shear.new_zeros(0, 3, *shear.shape[2:])
            first = wiener(shear, noise, self.power, iterations=self.iterations, tolerance=0.0)[:, None]
            weight = weights(noise)[:, None]
            usual = (weight.sum((-2, -1), keepdim=True) / (weight > 0).sum((-2, -1), keepdim=True).clamp(min=1)).sqrt()
            back = convergence_of(weight * shear)[..., :1, :, :] / usual.clamp(min=1e-9)
            return first, torch.cat([first / self.unit, back, weight.sqrt() / usual.clamp(min=1e-9)], 1)

    def stacked(self, **columns: Tensor) -> Float[Tensor, "object channel y2 x2"]:
        return self.blocked(self.given(**columns)[1])

    def blocked(self, maps: Float[Tensor, "object channel y x"]) -> Float[Tensor, "object channel2 y2 x2"]:
        """Each pixel of a block as a channel of its own (pixel_unshuffle, which does not know empty batches)."""
        cut = maps.unflatten(3, (-1, self.patch)).unflatten(2, (-1, self.patch))
        return cut.permute(0, 1, 3, 5, 2, 4).flatten(1, 3)

    def through(self, x: Float[Tensor, "object channel y2 x2"]) -> Float[Tensor, "object channel3 y x"]:
        return self.act(pixel_shuffle(self.fine(super().through(x)), self.patch))

    def both(self, **columns: Tensor) -> tuple[Float[Tensor, "object output y x"], Float[Tensor, "object feature"]]:
        first, channels = self.given(**columns)
        out, features = self.told(self.through(self.blocked(channels)))
        return torch.cat([first + self.unit * out[:, :1], out[:, 1:]], 1), features
