"""Emulators without a network: polynomials and neighbours on the principal components of the curves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float

from ..data.pca import PCA
from ..data.schema import DENSE, Column, Schema
from ..data.transforms import Standardise
from ..errors import GsnnError
from .base import cpu_seconds, grid

if TYPE_CHECKING:
    from ..data.survey import View
    from ..evaluation.distributions import Distribution

COMPONENTS = 64  # of each band; fewer where there are fewer training objects


class Emulator:
    """A baseline of curves or scalars; a subclass fits the standardised inputs to the components of the curves.

    Every setting is chosen by the squared error of the components on validation, each by its own variance: that is the
    error of the standardised steps. Widths are the errors on validation, step by step.
    """

    def __init__(self, inputs: Schema, target: Column):
        self.inputs, self.target, self.seconds = inputs, target, 0.0
        self.name = type(self).__name__.lower()
        if target.kind not in ("scalar", *DENSE) or len(target.shape) > 2:
            raise GsnnError(
                f"baseline {self.name}: it emulates curves and scalars, not the {target.kind} {target.name!r}"
            )
        if any(column.kind != "scalar" for column in inputs.columns):
            raise GsnnError(f"baseline {self.name}: it emulates from scalars alone")
        self.shape = (1, *target.shape)[-2:] if target.shape else ()

    def fit(self, train: View, valid: View, seed: int) -> None:
        from threadpoolctl import threadpool_limits

        start = cpu_seconds()
        with threadpool_limits(1):
            x, y = self.matrix(train), self.curves(train)
            self.centre, self.spread = x.mean(0), x.std(0)
            few = max(1, min(COMPONENTS, len(y) - 1))
            self.transform = PCA(*self.shape, components=few) if self.shape else Standardise(1)
            self.transform.fit(torch.tensor(y))
            parts = [self.components(torch.tensor(part)) for part in (y, self.curves(valid))]
            weight = self.transform.spread.flatten().double().numpy() if self.shape else np.ones(1)
            z = [(part - self.centre) / self.spread for part in (x, self.matrix(valid))]
            found = [(self.learn(z[0], parts[0], **one), one) for one in self.settings(len(x))]
            self.model, self.chosen = min(
                found, key=lambda one: float((((one[0](z[1]).reshape(parts[1].shape) - parts[1]) * weight) ** 2).mean())
            )
            self.objects = len(x)
            error = self.answer(self.matrix(valid)) - self.curves(valid)
            self.width = np.sqrt((error**2).mean(0)) + 1e-300
        self.seconds = cpu_seconds() - start

    def predict(self, view: View) -> dict[str, Distribution]:
        from ..evaluation.distributions import Mixture
        from ..evaluation.vectors import Vectors

        value = self.answer(self.matrix(view))
        if self.shape:
            return {self.target.name: Vectors(value, self.width, self.target.bands)}
        one = np.ones_like(value)
        return {self.target.name: Mixture(one, value, one * self.width)}

    def matrix(self, view: View) -> Float[np.ndarray, "object input"]:
        columns = view.columns(list(self.inputs))
        x = np.stack([np.asarray(columns[name], float) for name in self.inputs], 1)
        if not np.isfinite(x).all():
            raise GsnnError(f"baseline {self.name}: an input is missing; leave such objects out by [data] where")
        return x

    def curves(self, view: View) -> Float[np.ndarray, "object ..."]:
        y = np.asarray(view.columns([self.target.name])[self.target.name], float)
        return y.reshape(len(y), *(self.shape or (1,)))

    def components(self, curves: torch.Tensor) -> Float[np.ndarray, "object component"]:
        return self.transform(curves.float()).flatten(1).double().numpy()

    def answer(self, x: Float[np.ndarray, "object input"]) -> Float[np.ndarray, "object ..."]:
        found = torch.from_numpy(self.model((x - self.centre) / self.spread)).float()
        found = self.transform.inverse(found.view(len(x), *((self.shape[0], -1) if self.shape else (1,))))
        return found.double().numpy()

    def settings(self, objects: int) -> list[dict[str, Any]]:
        raise NotImplementedError

    def learn(self, x: np.ndarray, y: np.ndarray, **setting: Any) -> Any:
        raise NotImplementedError

    def describe(self) -> str:
        raise NotImplementedError


class Polynomial(Emulator):
    """Ridge regression of the components on all monomials of the inputs up to ``degree`` (1 or 2 is tried as well)."""

    def __init__(self, inputs: Schema, target: Column, *, degree: int = 2):
        super().__init__(inputs, target)
        if not 1 <= degree <= 6:
            raise GsnnError(f"baseline polynomial: degrees of 1 to 6, not {degree}")
        self.degree = degree

    def settings(self, objects: int) -> list[dict[str, Any]]:
        return grid(degree=range(1, self.degree + 1), alpha=(1e-8, 1e-6, 1e-4, 1e-2, 1.0))

    def learn(self, x: np.ndarray, y: np.ndarray, *, degree: int, alpha: float) -> Any:
        from sklearn.linear_model import Ridge
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import PolynomialFeatures

        return make_pipeline(PolynomialFeatures(degree, include_bias=False), Ridge(alpha)).fit(x, y).predict

    def describe(self) -> str:
        degree, alpha = self.chosen["degree"], self.chosen["alpha"]
        return (
            f"Polynomials of degree {degree} (ridge, alpha = {alpha:g}) for each component, on {self.objects} objects."
        )


class Nearest(Emulator):
    """The mean of the components of the nearest training objects, weighted by distance."""

    def settings(self, objects: int) -> list[dict[str, Any]]:
        return grid(k=sorted({min(k, objects) for k in (1, 3, 6, 12, 24)}), power=(1, 2, 4))

    def learn(self, x: np.ndarray, y: np.ndarray, *, k: int, power: int) -> Any:
        from sklearn.neighbors import KNeighborsRegressor

        def near(distance: np.ndarray) -> np.ndarray:
            return 1 / np.maximum(distance, 1e-9) ** power

        return KNeighborsRegressor(k, weights=near).fit(x, y).predict

    def describe(self) -> str:
        k, power = self.chosen["k"], self.chosen["power"]
        return f"{k} nearest neighbours (weights distance^-{power}) of each component, among {self.objects} objects."
