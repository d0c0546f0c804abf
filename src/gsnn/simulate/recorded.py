"""Noise that detectors recorded, for signals to be hidden in: parts of files in time, each made white by itself."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from .. import rng
from ..data.readers.gwosc import read_strain
from ..data.strain import density, resample, whiten
from ..errors import GsnnError
from .noise import high_end

STRETCH = 4.0  # s, of the periodograms; 1 / STRETCH is the resolution of a density
EDGE = 2.0  # s at the ends of a part that whitening spoils
APART = 2.0  # s at least between the noise of two detectors where both come from one record


@dataclass(frozen=True)
class Stretch:
    """One detector's noise over one part of a file: whitened samples (NaN: unusable) and its density."""

    white: Float64[Tensor, " time"]
    density: Float64[Tensor, " frequency"]  # every 1 / STRETCH Hz
    start: float  # GPS second of the first sample

    def starts(self, length: int) -> Int64[Tensor, " window"]:
        """The samples at which a window of ``length`` usable samples can begin."""
        bad: Bool[Tensor, " time"] = ~torch.isfinite(self.white)
        before = torch.cat([torch.zeros(1, dtype=torch.int64), bad.cumsum(0)])
        return ((before[length:] - before[:-length]) == 0).nonzero()[:, 0]


def stretches(
    paths: list[str], detectors: tuple[str, ...], rate: float, low: float, parts: tuple[float, ...]
) -> list[list[Stretch]]:
    """[part][detector]: the records of ``paths`` cut in time into shares ``parts``.

    A detector reads its own record; one that no file names reads a record that some file has, at other times.
    """
    records = {one.detector: one for path in paths for one in read_strain(path)}
    out: list[list[Stretch]] = [[] for _ in parts]
    for name in detectors:
        record = records.get(name) or next(iter(records.values()))
        values = resample(torch.from_numpy(record.values), record.rate, rate)
        edges = [round(share * len(values)) for share in [0, *torch.tensor(parts).cumsum(0).tolist()]]
        for part, (first, last) in enumerate(pairwise(edges)):
            piece = values[first:last]
            if len(piece) < 4 * (STRETCH + EDGE) * rate:
                raise GsnnError(
                    f"part {part + 1} of the noise of {name} is {len(piece) / rate:.0f} s long and needs "
                    f"{4 * (STRETCH + EDGE):.0f} s: bring a longer record, or larger parts"
                )
            power = density(piece, rate, STRETCH)
            white = whiten(piece, power, 1 / STRETCH, rate, low, high_end(rate))
            edge = round(EDGE * rate)
            white[:edge] = white[-edge:] = torch.nan
            out[part].append(Stretch(white, power, record.start + first / rate))
    return out


def windows(
    noise: list[Stretch], seed: int, purpose: str, rows: Int64[Tensor, " object"], length: int, rate: float
) -> Float64[Tensor, "object detector time"]:
    """A window of every detector's noise for each row, from different times: what one record says of two detectors
    is then a coincidence by chance alone, as in the time slides of a search (Was et al. 2010, arXiv:0906.2120).
    """
    chance = rng.uniform(seed, f"{purpose}/start", rows, len(noise)).double()
    found, gap = [], round(APART * rate)
    for i, one in enumerate(noise):
        starts = one.starts(length)
        if len(starts) <= 2 * gap:
            raise GsnnError(
                f"the recorded noise has too few whole windows of {length / rate:g} s; bring a longer record"
            )
        place = chance[:, 0] * len(starts)
        if i:  # so far after the first detector's, going round the record
            place = place + gap + chance[:, i] * (len(starts) - 2 * gap)
        at = starts[place.long() % len(starts)]
        found.append(one.white[at[:, None] + torch.arange(length)])
    return torch.stack(found, 1)
