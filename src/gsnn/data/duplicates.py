"""Objects that stand twice in a survey: exactly, by a digest of their values, or nearly, as pictures.

Pictures are compared by the signs of the differences between neighbouring pixels of a thumbnail (the difference hash,
"dHash"), in all eight orientations. Galaxies that are centred alike have like hashes, so a pair is believed only if the
signs of the small-scale residuals agree too: those are mostly noise, which different objects never share.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt64
from torch.nn import functional

from .unequal import Unequal

THUMB = 17  # pixels a side of a thumbnail: 16 differences a row
ALIKE = 0.8  # agreement of difference hashes (-1 to 1) that makes a pair worth a closer look
SAME = 0.5  # agreement of residual signs that makes it a duplicate


def digests(columns: Mapping[str, np.ndarray | Unequal], names: Sequence[str]) -> UInt64[np.ndarray, " n"]:
    """A 64-bit BLAKE2b digest of the values of each object, its id aside."""
    n = len(columns[names[0]])
    parts = [_bytes(columns[name]) for name in names]
    out = np.empty(n, np.uint64)
    for i in range(n):
        digest = hashlib.blake2b(digest_size=8)
        for part in parts:
            digest.update(part[i])
        out[i] = int.from_bytes(digest.digest(), "little")
    return out


def _bytes(values: np.ndarray | Unequal) -> Sequence[Any]:
    """The bytes of each object."""
    if isinstance(values, Unequal):
        return list(values.row_bytes())
    return np.ascontiguousarray(values).reshape(len(values), -1).view(np.uint8)


def thumbnail(images: torch.Tensor) -> torch.Tensor:
    """[object, band, y, x] averaged over bands to [object, 17, 17]."""
    return functional.adaptive_avg_pool2d(images.mean(1, keepdim=True), THUMB)[:, 0]


def turned(images: torch.Tensor, way: int) -> torch.Tensor:
    """One of the eight orientations of [..., y, x]: ``way % 4`` quarter turns, mirrored from 4 on."""
    images = torch.rot90(images, way % 4, (-2, -1))
    return images.flip(-1) if way >= 4 else images


def _hash(thumbs: torch.Tensor) -> torch.Tensor:
    """Signs of horizontal and vertical differences, scaled to unit length; flat sky contributes nothing."""
    across, down = thumbs.diff(dim=-1).flatten(1), thumbs.diff(dim=-2).flatten(1)
    signs = torch.cat([across, down], 1).sign()
    return signs / signs.norm(dim=1, keepdim=True).clamp(min=1)


def _residual_signs(images: torch.Tensor) -> torch.Tensor:
    smooth = functional.avg_pool2d(images, 3, 1, 1, count_include_pad=False)
    signs = (images - smooth).sign().flatten(1)
    return signs / signs.norm(dim=1, keepdim=True).clamp(min=1)


def candidates(
    first: Float32[torch.Tensor, "n y x"], second: Float32[torch.Tensor, "m y x"], square: bool = True, most: int = 500
) -> Int64[np.ndarray, "pair three"]:
    """Pairs (place in ``first``, place in ``second``, orientation of the first) with like hashes, the likest first."""
    target, found = _hash(second), []
    for way in range(8) if square else (0, 2, 4, 6):
        for start in range(0, len(first), 1024):
            alike = _hash(turned(first[start : start + 1024], way)) @ target.T
            i, j = torch.nonzero(alike > ALIKE, as_tuple=True)
            keep = torch.topk(alike[i, j], min(most, len(i))).indices
            i, j = i[keep], j[keep]
            found.append(torch.stack([i + start, j, torch.full_like(i, way), (alike[i, j] * 1e6).long()], 1))
    pairs = torch.cat(found)
    return pairs[pairs[:, 3].argsort(descending=True)][:most, :3].numpy()


def same(first: torch.Tensor, second: torch.Tensor, ways: Sequence[int]) -> np.ndarray:
    """Whether images [pair, band, y, x] are of one object, the first turned by ``ways``."""
    first = torch.stack([turned(image, int(way)) for image, way in zip(first, ways)])
    return ((_residual_signs(first) * _residual_signs(second)).sum(1) > SAME).numpy()
