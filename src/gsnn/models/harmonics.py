"""Spherical harmonics of HEALPix maps in torch: Fourier transforms along rings, Legendre functions across them."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from ..data import sphere


def legendre(cosine: Float[np.ndarray, " ring"], largest: int) -> Float[np.ndarray, "m ring l"]:
    """The harmonics Y_lm at longitude 0, without the sign (-1)^m, by the recurrence in l (Press et al. 2007, section
    6.7, normalised); 0 for l < m."""
    sine = np.sqrt(1 - cosine**2)
    out = np.zeros((largest + 1, len(cosine), largest + 1))
    top = np.full(len(cosine), np.sqrt(1 / (4 * np.pi)))
    for m in range(largest + 1):
        if m:
            top = top * sine * np.sqrt((2 * m + 1) / (2 * m))
        before, now = np.zeros(len(cosine)), top
        for degree in range(m, largest + 1):
            if degree > m:
                rise = np.sqrt((4 * degree**2 - 1) / (degree**2 - m**2))
                fall = np.sqrt(((degree - 1) ** 2 - m**2) / (4 * (degree - 1) ** 2 - 1)) if degree > m + 1 else 0.0
                before, now = now, rise * (cosine * now - fall * before)
            out[m, :, degree] = now
    return out


class BandPowers(nn.Module):
    """The logarithm of the power of a map in ``count`` bands, equally wide in log l from l = 1 to 3 nside - 1.

    C_l are those of the zero-filled map about its mean over the known pixels, without iteration; a band has the mean of
    its modes. C_l do not change when the sky is turned, but for what pixels do to them. :meth:`fit` brings each band to
    zero mean and unit scatter over some maps: powers that are measured to a percent differ little beside what they are.
    """

    measured = ("centre", "scatter")

    def __init__(self, nside: int, count: int):
        super().__init__()
        from astropy_healpix import HEALPix

        self.nside, self.largest = nside, 3 * nside - 1
        grid, pixels = HEALPix(nside, order="ring"), 12 * nside**2
        north = 4 * np.arange(1, nside)
        self.lengths = np.concatenate([north, np.full(2 * nside + 1, 4 * nside), north[::-1]]).tolist()
        first = np.concatenate([[0], np.cumsum(self.lengths)[:-1]])
        lon, lat = (value.to_value("rad") for value in grid.healpix_to_lonlat(first))
        multipole = np.arange(1, self.largest + 1)
        edges = np.geomspace(1, self.largest + 1e-9, count + 1)
        place = np.clip(np.searchsorted(edges, multipole, side="right") - 1, 0, count - 1)
        used = np.unique(place)
        modes = (2 * multipole + 1)[:, None] * (place[:, None] == used)
        share = (
            np.concatenate([np.zeros((1, len(used))), modes / modes.sum(0)])
            / (2 * np.arange(self.largest + 1) + 1)[:, None]
        )
        middle = np.array([multipole[place == band].mean() for band in used])
        self.count = len(used)
        phase = np.exp(-1j * np.arange(self.largest + 1) * lon[:, None])
        constants = {
            "ring": sphere.ring(np.arange(pixels)),
            "legendre": (legendre(np.sin(lat), self.largest) * 4 * np.pi / pixels).astype(np.float32),
            "turn": np.stack([phase.real, phase.imag], -1).astype(np.float32),
            "share": (share * middle).astype(np.float32),
        }
        for name, value in constants.items():
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(value)), persistent=False)
        self.register_buffer("centre", torch.zeros(self.count))
        self.register_buffer("scatter", torch.ones(self.count))

    def fit(self, x: Float[Tensor, "object channel pixel"], known: Float[Tensor, "object channel pixel"]) -> None:
        found = self.logs(x, known).flatten(0, 1)
        self.centre, self.scatter = found.mean(0), found.std(0, correction=0).clamp(min=1e-3)

    def forward(
        self, x: Float[Tensor, "object channel pixel"], known: Float[Tensor, "object channel pixel"]
    ) -> Float[Tensor, "object channel band"]:
        return (self.logs(x, known) - self.centre) / self.scatter

    def waves(self, x: Float[Tensor, "map pixel"]) -> Complex[Tensor, "map ring m"]:
        """The Fourier transform along each ring, of m = 0 to ``largest``."""
        pieces, order = x.split(self.lengths, 1), torch.arange(self.largest + 1, device=x.device)
        belt = slice(self.nside - 1, 3 * self.nside)  # rings of one length
        middle = torch.fft.fft(torch.stack(pieces[belt], 1))[..., order % (4 * self.nside)]
        caps = [torch.fft.fft(one)[:, order % one.shape[1]] for one in (*pieces[: belt.start], *pieces[belt.stop :])]
        whole = [*caps[: belt.start], *middle.unbind(1), *caps[belt.start :]]
        return torch.stack(whole, 1)

    def logs(
        self, x: Float[Tensor, "object channel pixel"], known: Float[Tensor, "object channel pixel"]
    ) -> Float[Tensor, "object channel band"]:
        if x.shape[0] == 0:  # which the transform refuses
            return x.new_zeros(*x.shape[:2], self.count)
        mean = (x * known).sum(-1, keepdim=True) / known.sum(-1, keepdim=True).clamp(min=1)
        flat = ((x - mean) * known).flatten(0, 1)[:, self.ring.to(x.device)]
        waves = self.waves(flat) * torch.view_as_complex(self.turn.to(x.device))
        parts = torch.view_as_real(waves).permute(2, 3, 0, 1).flatten(1, 2)  # m, (part, map), ring
        modes = torch.bmm(parts, self.legendre.to(x.device)).unflatten(1, (2, -1))
        each = modes.square().sum(1)  # m, map, l
        power = 2 * each.sum(0) - each[0]
        seen = known.mean(-1).flatten().clamp(min=1e-6)
        return torch.log(power @ self.share.to(x.device) / seen[:, None] + 1e-9).unflatten(0, x.shape[:2])
