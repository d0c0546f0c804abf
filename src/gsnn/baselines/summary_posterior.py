"""A likelihood of summaries, calibrated by simulations: Gaussian, its mean and scatter follow the parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from ..data.response import polynomial
from ..errors import GsnnError
from .grid_posterior import CHUNK, GridPosterior

if TYPE_CHECKING:
    from ..data.survey import View

SHRUNK = 1e-6  # of the mean variance, added to the diagonal of a covariance


class SummaryPosterior(GridPosterior):
    """The posterior of what a subclass ``read``s of each object: some numbers whose scatter is nearly Gaussian.

    The mean of each is a polynomial of the parameters, and so is the logarithm of its variance; their correlation is
    one for all. Degrees (1 to 4 and 0 to 2) are chosen by the likelihood of the validation part.
    """

    def summaries(self, view: View) -> Float[np.ndarray, "object summary"]:
        name = self.column.name
        return np.concatenate([self.read(chunk[name]) for chunk in view.chunks([name], CHUNK)])

    def learn(self, train: View, valid: View) -> None:
        self.choose(*(self.known(view) for view in (train, valid)))

    def choose(self, train: tuple[np.ndarray, np.ndarray], valid: tuple[np.ndarray, np.ndarray]) -> None:
        """The likelihood from (summaries, parameters)."""
        (x, theta), (x_valid, theta_valid) = train, valid
        self.centre, self.scale = self.points.mean(0), self.points.std(0)
        if len(x) < 10 * x.shape[1]:
            raise GsnnError(
                f"baseline {type(self).__name__}: {len(x)} training objects cannot tell the covariance of {x.shape[1]} "
                "numbers; simulate more, or give fewer bins"
            )
        tried = {}
        for degree in range(1, 5):
            for rise in range(3):
                fitted = self._fitted(x, theta, degree, rise)
                tried[degree, rise] = self._likelihood(x_valid, theta_valid, *fitted).mean(), fitted
        (self.degree, self.rise), (_, fitted) = max(tried.items(), key=lambda item: item[1][0])
        mean, log_sigma, self.root = fitted
        terms = self._terms(self.points, self.degree) @ mean, self._terms(self.points, self.rise) @ log_sigma
        self.mean, self.log_sigma = terms

    def known(self, view: View, x: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Summaries (or ``x``) and parameters of the objects that have both."""
        columns, x = view.columns(list(self.targets)), self.summaries(view) if x is None else x
        theta = np.stack([np.asarray(columns[name], float) for name in self.targets], 1)
        good = np.isfinite(theta).all(1) & np.isfinite(x).all(1)
        return x[good], theta[good]

    def _terms(self, theta: np.ndarray, degree: int) -> np.ndarray:
        return polynomial((theta - self.centre) / self.scale, degree)

    def _fitted(self, x: np.ndarray, theta: np.ndarray, degree: int, rise: int) -> tuple[np.ndarray, ...]:
        """Coefficients of the mean and of log sigma, and the inverse root of the correlation."""
        mean = np.linalg.lstsq(self._terms(theta, degree), x, rcond=None)[0]
        residual = x - self._terms(theta, degree) @ mean
        terms = self._terms(theta, rise)
        logged = np.log(residual**2 + 1e-300) / 2 + 0.635  # E ln|N(0, 1)| = -0.635
        log_sigma = np.linalg.lstsq(terms, logged, rcond=None)[0]
        unit = residual / np.exp(terms @ log_sigma)
        log_sigma[0] += np.log(unit.std(0))
        correlation = np.cov((residual / np.exp(terms @ log_sigma)).T)
        root = np.linalg.inv(np.linalg.cholesky(correlation + SHRUNK * np.eye(len(correlation))))
        return mean, log_sigma, root

    def _likelihood(self, x: np.ndarray, theta: np.ndarray, mean: np.ndarray, log_sigma: np.ndarray, root: np.ndarray):
        width = self._terms(theta, self._degree(log_sigma)) @ log_sigma
        apart = (x - self._terms(theta, self._degree(mean)) @ mean) / np.exp(width)
        return -0.5 * ((apart @ root.T) ** 2).sum(1) - width.sum(1) + np.log(np.diag(root)).sum()

    def _degree(self, coefficients: np.ndarray) -> int:
        sizes = [polynomial(self.centre[None], degree).shape[1] for degree in range(5)]
        return sizes.index(len(coefficients))

    def log_likelihood(self, x: Float[np.ndarray, "object summary"]) -> Float[np.ndarray, "object point"]:
        found = np.empty((len(x), len(self.points)))
        inverse, turned = np.exp(-self.log_sigma), self.root.T
        for i, one in enumerate(x):
            found[i] = -0.5 * ((((one - self.mean) * inverse) @ turned) ** 2).sum(1)
        return found - self.log_sigma.sum(1)

    def describe(self) -> str:
        return (
            f"a Gaussian likelihood of {self.root.shape[0]} numbers, its mean a polynomial of degree {self.degree} and "
            f"its scatter of degree {self.rise} in the parameters, on a grid of {len(self.points)} points."
        )
