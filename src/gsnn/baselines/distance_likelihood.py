"""The Gaussian likelihood of distances with all its covariance: what a cosmologist would sample."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Annotated

import numpy as np
from jaxtyping import Float
from pydantic import Field

from ..data.readers.distances import Distances
from ..data.schema import Schema
from ..errors import ConfigError, GsnnError
from ..simulate.expansion import PARAMETERS, Pulls, predicted
from .grid_posterior import GridPosterior

if TYPE_CHECKING:
    from ..data.survey import View
    from ..evaluation.mcmc import Chain

BLOCK = 4096  # universes predicted at once


class DistanceLikelihood(GridPosterior):
    """-1/2 |pulls - pulls(theta)|^2 of the measurements, on a grid of omega_m, w and h_rd: no sampling error.

    Redshifts and covariance are those that stand with the survey. With ``mcmc`` the posterior of what was observed is
    sampled as well (:meth:`chain`), which needs emcee.
    """

    kinds = ("series",)

    def __init__(
        self, inputs: Schema, targets: Schema, *, grid: Annotated[int, Field(ge=4, le=66)] = 64, mcmc: bool = False
    ):
        super().__init__(inputs, targets, grid=grid)
        if mcmc and importlib.util.find_spec("emcee") is None:
            raise ConfigError("mcmc needs emcee: pip install 'gsnn[mcmc]'", ("mcmc",))
        self.mcmc = mcmc
        if tuple(targets) != tuple(PARAMETERS):
            raise ConfigError(f"distance-likelihood knows the targets {', '.join(PARAMETERS)}, in this order", ())

    def learn(self, train: View, valid: View) -> None:
        measured = train.schema.provenance.get("measured")
        if not measured:
            raise GsnnError("distance-likelihood: the survey does not say what was measured; it reads `expansion`")
        self.measured = Distances.from_json(measured)
        self.pulls = Pulls(self.measured)
        starts = range(0, len(self.points), BLOCK)
        parts = [self.pulls(predicted(self.measured, self.points[i : i + BLOCK])) for i in starts]
        self.model = np.concatenate(parts)
        self.square = (self.model**2).sum(1)

    def log_likelihood(self, data: Float[np.ndarray, "object measurement"]) -> Float[np.ndarray, "object point"]:
        return data @ self.model.T - self.square / 2

    def log_posterior(
        self, theta: Float[np.ndarray, "universe parameter"], data: Float[np.ndarray, " measurement"]
    ) -> Float[np.ndarray, " universe"]:
        """Of some universes, -inf outside the prior: what :func:`gsnn.evaluation.mcmc.sample` asks for."""
        low, high = self.points.min(0) - self.cell / 2, self.points.max(0) + self.cell / 2
        inside = ((theta > low) & (theta < high)).all(1)
        found = np.full(len(theta), -np.inf)
        if inside.any():
            apart = data - self.pulls(predicted(self.measured, theta[inside]))
            found[inside] = -0.5 * (apart**2).sum(1)
        return found

    def chain(self, view: View, seed: int = 0) -> Chain:
        """The posterior of the first row of ``view`` by MCMC, from draws of the grid."""
        from ..evaluation.draws import together
        from ..evaluation.mcmc import sample

        one = view.take(np.array([0]))
        data = np.asarray(one.columns([self.column.name])[self.column.name][0], float)
        start = together(self.predict(one))[0]
        return sample(lambda theta: self.log_posterior(theta, data), start, list(self.targets), seed=seed)

    def describe(self) -> str:
        return (
            f"The Gaussian likelihood of {len(self.measured)} distances with their covariance, on a grid of "
            f"{len(self.points):,} universes."
        )
