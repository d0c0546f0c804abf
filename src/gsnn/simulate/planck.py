"""Skies that Planck would have seen in other universes: emulated spectra with the noise of its band powers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Int64
from scipy.special import ndtr, ndtri

from .. import rng
from ..data.readers.planck import BandPowers, read_planck
from ..data.schema import Column, Schema
from ..data.source import within
from ..emulator import Emulator
from ..errors import ConfigError
from .cmb import PARAMETERS as COSMOLOGY

PARAMETERS = {**COSMOLOGY, "a_planck": "calibration of the map: what is measured is the sky's times its square"}
TAU = (0.0544, 0.0073)  # Planck 2018 VI, table 2, TT,TE,EE+lowE: what polarisation at low multipoles says
CALIBRATION = 0.0025  # Planck 2018 V, section 3.3.4: the absolute calibration, 1 +- 0.0025
BASIS = 1000  # universes whose spectra span what a universe can look like


@dataclass(frozen=True, eq=False)
class Question:
    """The posterior of PARAMETERS: flat in the emulator's box, Gaussian in tau and the calibration."""

    measured: BandPowers
    emulator: Emulator
    tau: tuple[float, float] = TAU
    calibration: float = CALIBRATION

    def prior(self, share: Float[np.ndarray, "point 7"]) -> Float[np.ndarray, "point 7"]:
        """Points of the prior from uniform numbers."""
        low, high = np.array(list(self.emulator.box.values())).T
        theta = np.empty(share.shape)
        theta[:, :6] = low + (high - low) * share[:, :6]
        ends = ndtr((np.array([low[5], high[5]]) - self.tau[0]) / self.tau[1])
        theta[:, 5] = self.tau[0] + self.tau[1] * ndtri(ends[0] + (ends[1] - ends[0]) * share[:, 5])
        theta[:, 6] = 1 + self.calibration * ndtri(np.clip(share[:, 6], 1e-9, 1 - 1e-9))
        return theta

    def log_prior(self, theta: Float[np.ndarray, "point 7"]) -> Float[np.ndarray, " point"]:
        """Up to a constant; -inf outside the box."""
        found = -0.5 * ((theta[:, 5] - self.tau[0]) / self.tau[1]) ** 2
        found = found - 0.5 * ((theta[:, 6] - 1) / self.calibration) ** 2
        return np.where(self.emulator.inside(theta[:, :6]), found, -np.inf)

    def predicted(self, theta: Float[np.ndarray, "point 7"]) -> Float[np.ndarray, "point bin"]:
        """Band powers without noise."""
        return self.measured.binned(self.emulator(theta[:, :6])["spectra"]) / theta[:, 6:] ** 2

    def log_posterior(self, theta: Float[np.ndarray, "point 7"]) -> Float[np.ndarray, " point"]:
        """Of the real measurement, up to a constant: what a sampler asks for."""
        found = self.log_prior(theta)
        good = np.isfinite(found)
        if good.any():
            found[good] -= 0.5 * (self.measured.pulls(self.predicted(theta[good])) ** 2).sum(1)
        return found


class Planck:
    """Universes with the band powers that Planck would have measured in them; a Source.

    ``path`` names the folder of plik-lite, whose covariance is used and whose values are what :meth:`observed` holds;
    ``emulator`` a run of `cmb-emulator`. The prior is flat over the emulator's box, Gaussian in ``tau`` (mean, standard
    deviation) and in the ``calibration``. What a network sees are ``modes``: the band powers, whitened by their
    covariance, along the directions in which universes of the prior differ (Karhunen-Loeve; Tegmark, Taylor & Heavens
    1997, astro-ph/9603021), which loses nothing that is above the noise; and the ``misfit`` of what is left, chi^2 in
    standard deviations. With ``low`` two bins of TT at l < 30 take part.
    """

    def __init__(
        self,
        *,
        path: str | list[str] | None = None,
        emulator: str = "",
        universes: int = 60_000,
        modes: int = 12,
        low: bool = True,
        tau: tuple[float, float] = TAU,
        calibration: float = CALIBRATION,
        actual: bool = False,
    ):
        if not path:
            raise ConfigError("Planck's band powers are needed: name their folder by path, or by --data", ("path",))
        if not emulator:
            raise ConfigError(
                "a trained emulator is needed: `gsnn run cmb-emulator`, then --set data.source.emulator=RUN",
                ("emulator",),
            )
        if universes < 1:
            raise ConfigError(f"a survey needs at least one universe, not {universes}", ("universes",))
        if not tau[1] > 0 or not calibration > 0:
            raise ConfigError("the widths of the priors are positive", ("tau",))
        self.given = {"path": path, "emulator": emulator, "modes": modes, "low": low, "tau": tau}
        self.given["calibration"] = calibration
        self.universes, self.actual = universes, actual
        measured = read_planck(path if isinstance(path, str) else path[0], low=low)
        if not 1 <= modes < len(measured):
            raise ConfigError(
                f"{len(measured)} band powers have 1 to {len(measured) - 1} modes, not {modes}", ("modes",)
            )
        self.question = Question(measured, Emulator.load(emulator), tau, calibration)
        if self.question.emulator.names != tuple(COSMOLOGY):
            raise ConfigError(f"{emulator} emulates of {', '.join(self.question.emulator.names)}", ("emulator",))
        self.middle, self.basis, self.lost = self._basis(modes)

    def _basis(self, modes: int) -> tuple[np.ndarray, np.ndarray, float]:
        """The mean pulls of the prior, the directions of its universes, and the largest variance along any other."""
        share = rng.uniform(0, "planck/basis", torch.arange(BASIS), len(PARAMETERS)).double().numpy()
        pulls = self.question.measured.pulls(self.question.predicted(self.question.prior(share)))
        middle = pulls.mean(0)
        _, size, directions = np.linalg.svd(pulls - middle, full_matrices=False)
        return middle, directions[:modes].T, float(size[modes] ** 2 / (BASIS - 1))

    def observed(self) -> Planck:
        """What Planck did measure: one row, without a truth."""
        return Planck(**self.given, actual=True)

    def schema(self) -> Schema:
        return Schema.of(
            (
                Column("id", "id"),
                Column(
                    "modes", "series", shape=(self.basis.shape[1],),
                    description="whitened band powers along the directions in which universes differ",
                ),
                Column("misfit", "scalar", description="chi^2 of all other directions, in standard deviations"),
                *(Column(name, "scalar", dtype="float64", description=text) for name, text in PARAMETERS.items()),
            ),
            simulator="gsnn.simulate.planck",
            measured=self.given,
            bins=len(self.question.measured),
            variance_lost=self.lost,
        )  # fmt: skip

    def __len__(self) -> int:
        return 1 if self.actual else self.universes

    def seen(self, pulls: Float[np.ndarray, "object bin"]) -> dict[str, Any]:
        """What the network is told of whitened differences to the measurement."""
        apart = pulls - self.middle
        modes = apart @ self.basis
        free = apart.shape[1] - modes.shape[1]
        rest = (apart**2).sum(1) - (modes**2).sum(1)
        return {"modes": modes, "misfit": (rest - free) / np.sqrt(2 * free)}

    def fitted(self, theta: Float[np.ndarray, " 7"]) -> dict[str, np.ndarray]:
        """The measured band powers beside those of one universe, as D_l in muK^2, for a figure."""
        measured, low, high = self.question.measured, *np.array(list(self.question.emulator.box.values())).T
        theta = np.r_[np.clip(theta[:6], low, high), theta[6]]
        spectra = self.question.emulator(theta[None, :6])["spectra"][0] / theta[6] ** 2
        scale = measured.l * (measured.l + 1) / (2 * np.pi)
        return {
            "spectrum": np.array(measured.spectrum), "l": measured.l, "value": scale * measured.value,
            "sigma": scale * np.sqrt(np.diag(measured.covariance)), "model": scale * measured.binned(spectra[None])[0],
            "theory_l": np.arange(2, 2 + spectra.shape[1]), "theory": spectra,
        }  # fmt: skip

    def rows(self, indices: Int64[np.ndarray, " n"], seed: int) -> pa.RecordBatch:
        """The universes of these indices. Raises IndexError beyond the survey."""
        rows = torch.from_numpy(within(indices, len(self)))
        bins = len(self.question.measured)
        if self.actual:
            theta = np.full((len(rows), len(PARAMETERS)), np.nan)
            pulls = np.zeros((len(rows), bins))  # they are differences to this very measurement
        else:
            theta = self.question.prior(rng.uniform(seed, "planck/parameters", rows, len(PARAMETERS)).double().numpy())
            noise = rng.normal(seed, "planck/noise", rows, bins).double().numpy()
            clean = self.question.predicted(theta) if len(rows) else np.zeros((0, bins))
            pulls = self.question.measured.pulls(clean) + noise
        told = self.seen(pulls)
        arrays = {
            "id": pa.array(["observed" if self.actual else f"sky-{seed}-{row}" for row in rows.tolist()], pa.string()),
            "modes": pa.FixedSizeListArray.from_arrays(
                pa.array(told["modes"].astype(np.float32).ravel(), pa.float32()), self.basis.shape[1]
            ),
            "misfit": pa.array(told["misfit"].astype(np.float32)),
            **{name: pa.array(theta[:, i]) for i, name in enumerate(PARAMETERS)},
        }
        schema = self.schema().arrow()
        return pa.RecordBatch.from_arrays([arrays[field.name] for field in schema], schema=schema)
