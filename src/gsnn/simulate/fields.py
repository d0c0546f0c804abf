"""Slabs of the matter of the universe as maps of its density: Gaussian, or lognormal as structure is today."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from .. import rng
from ..data.schema import Column, Schema
from ..data.source import within
from ..errors import ConfigError
from .matter import power
from .mesh import coloured, multiplicity, wavenumbers

BLOCK = 512  # maps made at once


class Slab:
    """The spectrum of a slab: ``depth`` Mpc/h along the line of sight, ``box`` Mpc/h and ``side`` pixels across.

    Modes that are long against the depth project as P(k) / depth (Limber's approximation; Kaiser 1992, ApJ 388, 272).
    """

    def __init__(self, side: int, box: float, depth: float):
        self.side, self.box, self.depth = side, box, depth
        self.pixel = (box / side) ** 2  # (Mpc/h)^2
        self.k, place = torch.unique(wavenumbers(side, box), return_inverse=True)
        self.place = place

    def spectrum(
        self, omega_m: Float[Tensor, " object"], sigma_8: Float[Tensor, " object"]
    ) -> Float[Tensor, "object y x"]:
        """The power of the overdensity at every mode of rfft2, in (Mpc/h)^2."""
        return (power(self.k, omega_m, sigma_8) / self.depth)[:, self.place]

    def coloured(
        self, white: Float[Tensor, "object y x"], spectrum: Float[Tensor, "object y x2"]
    ) -> Float[Tensor, "object y x"]:
        """White noise of unit variance with this spectrum instead."""
        return coloured(white, spectrum, self.pixel)

    def correlation(self, spectrum: Float[Tensor, "object y x2"]) -> Float[Tensor, "object y x"]:
        """The two-point function at every separation of pixels."""
        return torch.fft.irfft2(spectrum / self.pixel, s=(self.side, self.side))

    def gaussian_of(self, spectrum: Float[Tensor, "object y x2"]) -> tuple[Tensor, Tensor]:
        """Spectrum and variance of the Gaussian field g for which exp(g - variance / 2) - 1 has ``spectrum``.

        Coles & Jones 1991 (MNRAS 248, 1), eq. 21: the correlation of g is ln(1 + that of the lognormal field). Modes
        that would have to have a negative power get none.
        """
        logged = torch.log1p(self.correlation(spectrum).clamp(min=-0.999))
        found = (torch.fft.rfft2(logged).real * self.pixel).clamp(min=0)
        found[:, 0, 0] = 0
        return found, (found * multiplicity(self.side)).sum((-2, -1)) / (self.pixel * self.side**2)


class Fields:
    """Maps of the overdensity of matter in a slab, each of another universe; a Source.

    ``omega_m`` and ``sigma_8`` are flat over their ranges and are the questions; all else is as Planck found it. A
    "gaussian" map is all that its power spectrum says. A "lognormal" one has the same two-point function, and voids
    and peaks as the late universe has them. ``noise`` is the standard deviation of white noise in a pixel. The map is
    periodic.
    """

    def __init__(
        self,
        *,
        maps: int = 20000,
        kind: Literal["gaussian", "lognormal"] = "lognormal",
        side: int = 64,
        box: float = 256.0,
        depth: float = 16.0,
        noise: float = 0.2,
        omega_m: tuple[float, float] = (0.1, 0.5),
        sigma_8: tuple[float, float] = (0.6, 1.0),
    ):
        if maps < 1:
            raise ConfigError(f"a survey needs at least one map, not {maps}", ("maps",))
        if not 8 <= side <= 4096 or side % 2:
            raise ConfigError(f"a map has an even number of 8 to 4096 pixels a side, not {side}", ("side",))
        if not box > 0 or not depth > 0 or not noise >= 0:
            raise ConfigError("lengths are positive and the noise is not negative", ("box",))
        for name, (low, high), most in (("omega_m", omega_m, 1.0), ("sigma_8", sigma_8, 2.0)):
            if not 0.05 <= low < high <= most:
                raise ConfigError(f"{name} rises within 0.05 to {most:g}, not {[low, high]}", (name,))
        self.maps, self.kind, self.noise = maps, kind, noise
        self.slab = Slab(side, box, depth)
        self.ranges = {"omega_m": omega_m, "sigma_8": sigma_8}

    def schema(self) -> Schema:
        side = self.slab.side
        return Schema.of(
            (
                Column("id", "id"),
                Column(
                    "map", "image", shape=(1, side, side), bands=("matter",), dtype="float32",
                    description=f"overdensity in pixels of {self.slab.box / side:g} Mpc/h, with noise",
                ),
                Column("omega_m", "scalar", dtype="float64", description="density of matter over the critical one"),
                Column("sigma_8", "scalar", dtype="float64", description="contrast of matter in spheres of 8 Mpc/h"),
            ),
            simulator="gsnn.simulate.fields",
            box=str(self.slab.box), depth=str(self.slab.depth), noise=str(self.noise), field=self.kind,
        )  # fmt: skip

    def __len__(self) -> int:
        return self.maps

    def parameters(self, rows: Int64[Tensor, " n"], seed: int) -> dict[str, Float[Tensor, " n"]]:
        """The truth of these rows."""
        share = rng.uniform(seed, "fields/parameters", rows, 2).double()
        return {name: low + (high - low) * share[:, i] for i, (name, (low, high)) in enumerate(self.ranges.items())}

    def draw(
        self, omega_m: Float[Tensor, " n"], sigma_8: Float[Tensor, " n"], rows: Int64[Tensor, " n"], seed: int
    ) -> Float[Tensor, "n y x"]:
        """Maps of these universes; their chance is a function of (seed, row)."""
        slab, shape = self.slab, (len(rows), self.slab.side, self.slab.side)
        white = rng.normal(seed, "fields/white", rows, math.prod(shape[1:])).view(shape)
        spectrum = slab.spectrum(omega_m, sigma_8)
        if self.kind == "gaussian":
            made = slab.coloured(white, spectrum.float())
        else:
            inner, variance = slab.gaussian_of(spectrum)
            made = torch.expm1(slab.coloured(white, inner.float()) - variance[:, None, None].float() / 2)
        if self.noise:
            made = made + self.noise * rng.normal(seed, "fields/noise", rows, math.prod(shape[1:])).view(shape)
        return made

    def rows(self, indices: Int64[np.ndarray, " n"], seed: int) -> pa.RecordBatch:
        """The maps of these indices. Raises IndexError beyond the survey."""
        indices = torch.from_numpy(within(indices, self.maps))
        truth = self.parameters(indices, seed)
        parts = [
            self.draw(truth["omega_m"][some], truth["sigma_8"][some], indices[some], seed)
            for some in torch.arange(len(indices)).split(BLOCK)
            if len(some)
        ]
        flat = torch.cat([torch.zeros(0), *(part.flatten() for part in parts)])
        arrays = {
            "id": pa.array([f"{self.kind}-{seed}-{row}" for row in indices.tolist()]),
            "map": pa.FixedSizeListArray.from_arrays(pa.array(flat.numpy()), self.slab.side**2),
            **{name: pa.array(value.numpy()) for name, value in truth.items()},
        }
        schema = self.schema().arrow()
        return pa.RecordBatch.from_arrays([arrays[field.name] for field in schema], schema=schema)
