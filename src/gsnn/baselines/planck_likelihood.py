"""The exact likelihood of band powers by an emulator: importance sampling about its own maximum."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field

from .. import rng
from ..data.schema import Schema
from ..errors import ConfigError, GsnnError
from ..simulate.planck import PARAMETERS, Planck
from .base import cpu_seconds

if TYPE_CHECKING:
    from ..data.survey import View
    from ..evaluation.distributions import Distribution

DRAWS = 1000
STEP = 0.02  # of the slopes, in half the box
COUNT = 100  # points that tell the covariance of seven parameters
TURNS, ENOUGH = 8, 0.2  # rounds of proposals; the effective share that needs no other
WIDER = 1.2  # the proposal over the Gaussian of the curvature
FREEDOM = 7  # of the proposal's t distribution: its tails are above the posterior's


def effective(weight: Float[np.ndarray, " point"]) -> float:
    """How many equally weighted points these are worth (Kong 1992)."""
    return float(weight.sum() ** 2 / (weight**2).sum())


def softened(weight: Float[np.ndarray, " point"]) -> Float[np.ndarray, " point"]:
    """The weights to the largest power, up to 1, by which enough points count to tell a covariance."""
    powers = (1.0, 0.5, 0.25, 0.1, 0.05, 0.02, 0.01)
    return next((w for w in (weight**p for p in powers) if effective(w) >= COUNT), weight ** powers[-1])


class PlanckLikelihood:
    """Draws of the posterior that the likelihood of the modes, the emulator and the prior say; a joint baseline.

    The maximum is found by least squares, a multivariate t distribution about it proposes ``proposals`` points,
    and draws are taken of them by their exact weights (Kloek & van Dijk 1978, Econometrica 46, 1); where few count, the
    next round proposes about those (population Monte Carlo: Cappe et al. 2004, J. Comput. Graph. Stat. 13, 907). The
    modes of :class:`gsnn.simulate.planck.Planck` have unit noise. GsnnError where the effective share of the last
    round is below ``least``.
    """

    joint = True

    def __init__(
        self,
        inputs: Schema,
        targets: Schema,
        *,
        proposals: Annotated[int, Field(ge=500)] = 4000,
        least: Annotated[float, Field(ge=0, lt=1)] = 0.02,
    ):
        if tuple(targets) != tuple(PARAMETERS):
            raise ConfigError(f"planck-likelihood knows the targets {', '.join(PARAMETERS)}, in this order", ())
        if "modes" not in inputs:
            raise ConfigError(
                "planck-likelihood reads the modes of the source `planck`; name them in [data] inputs", ()
            )
        self.inputs, self.proposals, self.least, self.seconds = inputs, proposals, least, 0.0

    def fit(self, train: View, valid: View, seed: int) -> None:
        start = cpu_seconds()
        about = train.schema.provenance.get("measured")
        if not about:
            raise GsnnError("planck-likelihood: the survey does not say what was measured; it reads `planck`")
        self.sky = Planck(**{key: tuple(v) if key == "tau" else v for key, v in about.items()})
        self.low, self.high = np.array(list(self.sky.question.emulator.box.values())).T
        self.seconds = cpu_seconds() - start

    def modes(self, theta: Float[np.ndarray, "point 7"]) -> Float[np.ndarray, "point mode"]:
        question = self.sky.question
        return self.sky.seen(question.measured.pulls(question.predicted(theta)))["modes"]

    def predict(self, view: View) -> dict[str, Distribution]:
        """The posterior of every row of ``view``, in its order: draws that belong together."""
        from ..evaluation.draws import Draws

        start = cpu_seconds()
        data = np.asarray(view.columns(["modes"])["modes"], float)
        made, self.shares = [], []
        for row, one in enumerate(data):
            draws, share = self.posterior(one, row)
            if share < self.least:
                raise GsnnError(
                    f"planck-likelihood: only {share:.1%} of the proposals count for object {row}; give more proposals"
                )
            made.append(draws)
            self.shares.append(share)
        draws = np.stack(made) if made else np.zeros((0, DRAWS, len(PARAMETERS)))
        self.seconds += cpu_seconds() - start
        return {name: Draws(draws[..., i]) for i, name in enumerate(PARAMETERS)}

    def posterior(self, data: Float[np.ndarray, " mode"], row: int) -> tuple[Float[np.ndarray, "draw 7"], float]:
        """Draws for one sky, and the effective share of the proposals."""
        centre, covariance = self.summit(data)
        for turn in range(TURNS):
            theta, weight = self.weighted(data, centre, covariance * WIDER**2, (row, turn))
            share = effective(weight) / len(weight)
            if share > ENOUGH:
                break
            some = softened(weight)
            centre, covariance = np.average(theta, 0, some), np.cov(theta.T, aweights=some)
        reached = weight.cumsum()
        at = rng.uniform(0, "planck-likelihood/draws", torch.tensor([row]), DRAWS).double().numpy()[0] * reached[-1]
        return theta[np.searchsorted(reached, at).clip(max=len(theta) - 1)], float(share)

    def summit(self, data: Float[np.ndarray, " mode"]) -> tuple[Float[np.ndarray, " 7"], Float[np.ndarray, "7 7"]]:
        """The maximum of the posterior within the box, and the inverse of the curvature there."""
        from scipy.optimize import least_squares

        question, size = self.sky.question, len(PARAMETERS)
        middle = np.r_[(self.low + self.high) / 2, 1.0]
        scale = np.r_[(self.high - self.low) / 2, question.calibration]
        width = np.r_[np.full(5, 1e3), question.tau[1] / scale[5], 1.0]  # of the prior: flat, but for two
        shift = np.r_[np.zeros(5), (question.tau[0] - middle[5]) / scale[5], 0.0]
        ends = np.r_[np.ones(6), 20.0]

        def missed(unit: Float[np.ndarray, " 7"]) -> Float[np.ndarray, " residual"]:
            return np.r_[self.modes((middle + scale * unit)[None])[0] - data, (unit - shift) / width]

        def slope(unit: Float[np.ndarray, " 7"]) -> Float[np.ndarray, "residual 7"]:
            below, above = (np.clip(unit + sign * STEP * np.eye(size), -ends, ends) for sign in (-1, 1))
            told = self.modes(middle + scale * np.concatenate([below, above]))
            apart = np.diag(above - below)
            return np.concatenate([((told[size:] - told[:size]) / apart[:, None]).T, np.diag(1 / width)])

        found = least_squares(missed, shift, slope, (-ends, ends), max_nfev=60)
        covariance = np.linalg.inv(found.jac.T @ found.jac)
        return middle + scale * found.x, covariance * np.outer(scale, scale)

    def weighted(
        self, data: np.ndarray, centre: np.ndarray, covariance: np.ndarray, place: tuple[int, int]
    ) -> tuple[Float[np.ndarray, "point 7"], Float[np.ndarray, " point"]]:
        """Points of a t distribution, and their posterior over their density, up to a constant."""
        size = len(PARAMETERS)
        rows = torch.arange(self.proposals) + place[0] * self.proposals
        normal = rng.normal(0, "planck-likelihood", rows, size + FREEDOM, place[1]).double().numpy()
        unit = normal[:, :size] / np.sqrt((normal[:, size:] ** 2).mean(1))[:, None]
        theta = centre + unit @ np.linalg.cholesky(covariance).T
        logs = self.sky.question.log_prior(theta)
        good = np.isfinite(logs)
        if not good.any():
            raise GsnnError("planck-likelihood: no proposal lies in the emulator's box")
        logs[good] -= 0.5 * ((data - self.modes(theta[good])) ** 2).sum(1)
        logs += (FREEDOM + size) / 2 * np.log1p((unit**2).sum(1) / FREEDOM)
        return theta, np.exp(logs - logs.max())

    def describe(self) -> str:
        share = f", {np.mean(self.shares):.0%} of which count" if getattr(self, "shares", None) else ""
        return f"The exact likelihood by the emulator: {self.proposals:,} proposals about its maximum{share}."
