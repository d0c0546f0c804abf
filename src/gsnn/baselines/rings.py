"""What finders of gravitational lenses measure: blue light that is left beside a red galaxy, and how it lies around it.

After RingFinder (Gavazzi et al. 2014, arXiv:1403.1041): the reddest band, scaled to take the galaxy's middle away, is
subtracted from the bluest; excess light in rings around it makes a candidate, the more so where it is drawn out along
the ring (arcs) or stands on opposite sides (images of one source).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import GsnnError
from .outline import sky
from .statistics import statistics

RINGS = (2.0, 4.0, 6.0, 8.0, 10.0, 13.0, 17.0)  # radii in pixels between which rings lie
MIDDLE = 2.5  # pixels, within which the galaxy is taken away


def rings(images: np.ndarray | Tensor) -> tuple[Float[np.ndarray, "object statistic"], list[str]]:
    """Statistics of rings in ``images`` [object, band, y, x], bands from blue to red, and those of the galaxies.

    Per ring, of the difference image in units of its noise: mean, brightest pixel, scatter, the amplitude of one- and
    two-sidedness (m = 1, 2), how much its gradients point to the middle (arcs) rather than along the ring, and whether
    it looks the same turned by 180 degrees; then the colour of the excess. Raises GsnnError for one band.
    """
    images = torch.nan_to_num(torch.as_tensor(np.array(images), dtype=torch.float32))
    if images.shape[1] < 2:
        raise GsnnError("baseline ring-finder: a difference of colours needs images in at least two bands")
    skies = [sky(band) for band in images.unbind(1)]
    bands = [band - s.level[:, None, None] for band, s in zip(images.unbind(1), skies)]
    blue, red = bands[0], bands[-1]
    y, x = (torch.arange(n) - (n - 1) / 2 for n in images.shape[-2:])
    away = torch.sqrt(y[:, None] ** 2 + x**2)
    around = torch.atan2(y[:, None].expand_as(away), x.expand_as(away))
    middle = away < MIDDLE
    ratio = blue[:, middle].sum(1) / red[:, middle].sum(1).clamp_min(1e-6)
    noise = torch.sqrt(skies[0].sigma ** 2 + (ratio * skies[-1].sigma) ** 2)
    left = (blue - ratio[:, None, None] * red) / noise[:, None, None]
    slope_y, slope_x = torch.gradient(left, dim=(1, 2))
    unit_y, unit_x = (y[:, None] / away.clamp_min(1e-6)), (x / away.clamp_min(1e-6))
    radial, tangential = slope_y * unit_y + slope_x * unit_x, slope_x * unit_y - slope_y * unit_x
    turned = left.flip(1, 2)
    columns = {"ratio": ratio}
    for inner, outer in pairwise(RINGS):
        here = (away >= inner) & (away < outer)
        some, angle = left[:, here], around[here]
        rest = some - some.mean(1, keepdim=True)
        energy = (rest**2).mean(1).clamp_min(1e-9)
        name = f"{inner:g}"
        columns |= {
            f"mean_{name}": some.mean(1),
            f"peak_{name}": some.amax(1),
            f"scatter_{name}": energy.sqrt(),
            f"arc_{name}": ((radial[:, here] ** 2).mean(1) + 1) / ((tangential[:, here] ** 2).mean(1) + 1),
            f"symmetry_{name}": (rest * (turned[:, here] - turned[:, here].mean(1, keepdim=True))).mean(1) / energy,
        }
        for m in (1, 2):
            wave = torch.stack([(rest * torch.cos(m * angle)).mean(1), (rest * torch.sin(m * angle)).mean(1)])
            columns[f"m{m}_{name}"] = wave.square().sum(0).sqrt()
    excess = (left > 3) & (away >= RINGS[0]) & (away < RINGS[-1])
    flux = [(band * excess).flatten(1).sum(1) for band in bands]
    columns |= {"excess_area": excess.flatten(1).sum(1).float(), "excess": flux[0], "excess_colour": flux[-1] / flux[0]}
    whole, names = statistics(images)
    return np.concatenate([torch.stack(list(columns.values()), 1).numpy(), whole], 1), [*columns, *names]
