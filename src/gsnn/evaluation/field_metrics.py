"""Metrics of whole fields: voxel by voxel, and by their spectra."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from .fields import Fields, Maps, spectra, to_half
from .metric import mean_metric


@mean_metric("correlation", "", "high", "field")
def correlation(prediction: Fields, truth: Maps) -> Float[ndarray, " object"]:
    """r(k) in the shell at half of the Nyquist frequency."""
    found = spectra(prediction, truth)
    return found.correlation[:, to_half(found)[-1]]


@mean_metric("power_error", "", "low", "field", percent=True)
def power_error(prediction: Fields, truth: Maps) -> Float[ndarray, " object"]:
    """The largest |P / P true - 1| of an object up to half of the Nyquist frequency."""
    found = spectra(prediction, truth)
    return abs(found.transfer[:, to_half(found)] - 1).max(1)


@mean_metric("voxel_rmse", "target", "low", "field", finish=np.sqrt)
def voxel_error(prediction: Fields, truth: Maps) -> Float[ndarray, " object"]:
    """Squared error of a voxel's value, one channel with another."""
    return np.array([np.mean((a - b) ** 2, dtype=float) for a, b in zip(prediction.value, truth)])
