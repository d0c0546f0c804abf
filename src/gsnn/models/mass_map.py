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

    Fields of the map's size may stand beside these, and scalars, which scale and shift channels: the state and the time
    of a flow (:class:`gsnn.objectives.flow_matching.FlowMatching`). What is said is then no map, and is added to none.
    """

    native = True
    fixed_columns = ("mass-map.wiener", "mass-map.channels")  # of :meth:`fixed`; a flow adds to the first

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
        columns = readable(inputs, "mass-map", ("image", "field", "scalar"))
        at_least(1, width=width, depth=depth, outputs=outputs)
        shear, noise = shear_columns(inputs)
        side = shear.shape[-1]
        if side % patch:
            raise GsnnError(f"a map of {side} pixels has no whole blocks of {patch}: give another patch")
        self.beside = tuple(c for c in columns if c.kind == "field")
        if any(c.shape[1:] != shear.shape[1:] for c in self.beside):
            raise GsnnError(f"fields beside the shear have its size, {side} x {side}")
        numbers = [c for c in columns if c.kind == "scalar"]
        channels = 3 + sum(c.shape[0] for c in self.beside)
        blocks = Column("maps", "field", shape=(channels * patch**2, side // patch, side // patch))
        how = {"width": width, "depth": depth, "dropout": dropout, "film": bool(numbers)}
        super().__init__(Schema.of([blocks, *numbers]), outputs, **how)
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

    def fixed(self, **columns: Tensor) -> dict[str, Tensor]:
        """What follows from shear and noise alone: columns that need not be computed again in each step of a flow."""
        first, channels = self.given(**columns)
        return dict(zip(self.fixed_columns, (first, channels)))

    def stacked(self, **columns: Tensor) -> Float[Tensor, "object channel y2 x2"]:
        if self.fixed_columns[0] not in columns:
            columns |= self.fixed(**columns)
        return self.blocked(torch.cat([columns[self.fixed_columns[1]], *(columns[c.name] for c in self.beside)], 1))

    def blocked(self, maps: Float[Tensor, "object channel y x"]) -> Float[Tensor, "object channel2 y2 x2"]:
        """Each pixel of a block as a channel of its own (pixel_unshuffle, which does not know empty batches)."""
        cut = maps.unflatten(3, (-1, self.patch)).unflatten(2, (-1, self.patch))
        return cut.permute(0, 1, 3, 5, 2, 4).flatten(1, 3)

    def through(
        self, x: Float[Tensor, "object channel y2 x2"], condition: Float[Tensor, "object number"] | None = None
    ) -> Float[Tensor, "object channel3 y x"]:
        return self.act(pixel_shuffle(self.fine(super().through(x, condition)), self.patch))

    def both(self, **columns: Tensor) -> tuple[Float[Tensor, "object output y x"], Float[Tensor, "object feature"]]:
        if self.fixed_columns[0] not in columns:
            columns |= self.fixed(**columns)
        out, features = self.told(self.maps(**columns))
        if self.beside:
            return out, features
        return torch.cat([columns[self.fixed_columns[0]] + self.unit * out[:, :1], out[:, 1:]], 1), features
