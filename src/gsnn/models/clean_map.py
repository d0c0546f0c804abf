"""From maps at several frequencies to the background: a U-Net that corrects the Wiener filter of each patch."""

from __future__ import annotations

from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from ..data.components import combine, covariance, lost, plane, shares, to_modes
from ..data.schema import Column, Schema
from ..errors import GsnnError
from .layers import at_least, readable
from .unet import UNet


class CleanMap(UNet):
    """Residuals to a linear combination of the frequencies that is solved anew for each patch.

    Inside the network, without weights: the Wiener filter in rings of multipoles, by covariances of which ``mix`` is
    the mean that the source tells, and the rest the patch's own. It, and what each band has beyond it in units of that
    band's scatter, go through a U-Net with periodic faces; what it says is added to the filter, in native units. Inputs
    must come as they are, by the transform "native".
    """

    native = True

    def __init__(
        self,
        inputs: Schema,
        outputs: int,
        *,
        width: int = 16,
        depth: int = 3,
        mix: Annotated[float, Field(ge=0, le=1)] = 0.9,
        dropout: float = 0.0,
    ):
        readable(inputs, "clean-map", ("image",))
        at_least(1, width=width, depth=depth, outputs=outputs)
        maps = [column for column in inputs.of_kind("image") if len(column.bands) > 1]
        if len(maps) != 1:
            raise GsnnError("the network 'clean-map' reads one image of several frequencies")
        (column,) = maps
        channels = Column("maps", "field", shape=(column.shape[0] + 1, *column.shape[1:]))
        super().__init__(Schema.of([channels]), outputs, width=width, depth=depth, boundary="periodic", dropout=dropout)
        self.column, self.plane, self.mix = column.name, plane(inputs, column), mix
        with torch.device("cpu"):
            power = self.plane.power * self.plane.wanted**2
            self.unit = float(power.mean().sqrt())  # rms of the answer, in native units
            self.error = float((power * lost(self.plane)).mean().sqrt())  # of the filter in the usual sky

    def given(self, **columns: Tensor) -> tuple[Float[Tensor, "object 1 y x"], Float[Tensor, "object channel y x"]]:
        """The Wiener filter in native units; it and the bands beyond it in units near 1."""
        with torch.no_grad():
            maps = columns[self.column].float()
            if maps.shape[0] == 0:  # no Fourier transform takes it
                return maps[:, :1], maps.new_zeros(0, maps.shape[1] + 1, *maps.shape[2:])
            modes = to_modes(maps.double())  # beams are divided by; autocast leaves double precision alone
            total = covariance(modes, self.plane)
            if self.plane.usual is not None:
                total = total + self.mix * (self.plane.usual.to(total) - total)
            first = combine(modes, shares(total, self.plane, wiener=True))[:, None].float()
            beyond = maps - first
            scale = beyond.square().mean((2, 3), keepdim=True).sqrt().clamp(min=1e-6)
            return first, torch.cat([first / self.unit, torch.asinh(beyond / scale)], 1)

    def stacked(self, **columns: Tensor) -> Float[Tensor, "object channel y x"]:
        return self.given(**columns)[1]

    def both(self, **columns: Tensor) -> tuple[Float[Tensor, "object output y x"], Float[Tensor, "object feature"]]:
        first, channels = self.given(**columns)
        out, features = self.told(self.through(channels))
        return torch.cat([first + self.error * out[:, :1], out[:, 1:]], 1), features
