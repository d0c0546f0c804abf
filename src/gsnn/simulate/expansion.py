"""Distances in flat universes of matter and dark energy, as supernovae and acoustic oscillations measure them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Int64

from .. import rng
from ..data.readers.distances import Distances, read_distances
from ..data.schema import Column, Schema
from ..data.source import within
from ..errors import ConfigError

HUBBLE_DISTANCE = 2997.92458  # c / (100 km/s/Mpc) in Mpc/h
NODES = 400  # of the integral over redshift
FIDUCIAL = (0.3, -1.0, 101.0)
PARAMETERS = {
    "omega_m": ("", "density of matter today over the critical one"),
    "w": ("", "pressure over density of the dark energy, constant in time"),
    "h_rd": ("Mpc", "the sound horizon at the drag epoch times H0 / (100 km/s/Mpc)"),
}


def rate(z: Float[np.ndarray, " z"], omega_m: np.ndarray, w: np.ndarray) -> Float[np.ndarray, "object z"]:
    """H(z) / H0 of a flat universe without radiation (Linder 2003, astro-ph/0208512, eq. 4 with constant w)."""
    matter, dark = omega_m[:, None], w[:, None]
    return np.sqrt(matter * (1 + z) ** 3 + (1 - matter) * (1 + z) ** (3 * (1 + dark)))


def predicted(
    measured: Distances, theta: Float[np.ndarray, "object parameter"]
) -> Float[np.ndarray, "object measurement"]:
    """What would be measured without noise; magnitudes up to one constant.

    Comoving distances by Simpson's rule in ln(1 + z), better than 1e-6 (Hogg 1999, astro-ph/9905116, eqs 15, 16, 21).
    Radiation is left out: 0.04% of the distance at z = 2.3.
    """
    omega_m, w, h_rd = theta.T
    u = np.linspace(0, np.log1p(measured.z.max()), 2 * NODES + 1)
    step = u[1] / 3
    value = np.exp(u) / rate(np.expm1(u), omega_m, w)
    pieces = (value[:, :-2:2] + 4 * value[:, 1::2] + value[:, 2::2]) * step
    steps = np.concatenate([np.zeros((len(theta), 1)), pieces.cumsum(1)], 1)
    from scipy.interpolate import CubicSpline

    distance = CubicSpline(u[::2], steps, axis=1)(np.log1p(measured.z))
    along = 1 / rate(measured.z, omega_m, w)
    scale = (HUBBLE_DISTANCE / h_rd)[:, None]
    found = {
        "mu": 5 * np.log10((1 + measured.z_seen) * distance),
        "DM_over_rs": scale * distance,
        "DH_over_rs": scale * along,
        "DV_over_rs": scale * np.cbrt(measured.z * distance**2 * along),
    }
    kinds = np.array(measured.quantity)
    return np.stack([found[kinds[i]][:, i] for i in range(len(kinds))], 1)


class Pulls:
    """Measurements as whitened differences to a fiducial universe, blind to the absolute magnitude of supernovae.

    Whitening is by the Cholesky factor of the covariance. The constant of all magnitudes, which nobody knows, is
    projected out: that is the same as a flat prior of it (Bridle et al. 2002, astro-ph/0112114, in the limit).
    """

    def __init__(self, measured: Distances):
        self.measured = measured
        self.factor = np.linalg.cholesky(measured.covariance)
        self.middle = predicted(measured, np.array([FIDUCIAL]))[0]
        constant = np.array([float(name == "mu") for name in measured.quantity])
        self.blind = np.linalg.solve(self.factor, constant)
        if constant.any():
            self.blind /= np.linalg.norm(self.blind)

    def __call__(self, values: Float[np.ndarray, "object measurement"]) -> Float[np.ndarray, "object measurement"]:
        pulls = np.linalg.solve(self.factor, (values - self.middle).T).T
        return pulls - (pulls @ self.blind)[:, None] * self.blind


class Expansion:
    """Universes with the distances that these very surveys would have measured in them; a Source.

    ``path`` names folders of supernovae and of acoustic oscillations (``gsnn.data.readers.distances``); their redshifts
    and covariances are used, and their values are what :meth:`observed` holds. Parameters are flat over their ranges.
    """

    def __init__(
        self,
        *,
        path: str | list[str] | None = None,
        universes: int = 100_000,
        omega_m: tuple[float, float] = (0.2, 0.42),
        w: tuple[float, float] = (-1.4, -0.5),
        h_rd: tuple[float, float] = (94.0, 108.0),
        actual: bool = False,
    ):
        if path is None:
            raise ConfigError("distances need the surveys' tables: name them by path, or by --data", ("path",))
        if universes < 1:
            raise ConfigError(f"a survey needs at least one universe, not {universes}", ("universes",))
        self.ranges = {"omega_m": omega_m, "w": w, "h_rd": h_rd}
        for name, (low, high), (least, most) in zip(
            self.ranges, self.ranges.values(), ((0.01, 1.0), (-3.0, 0.0), (50.0, 200.0))
        ):
            if not least <= low < high <= most:
                raise ConfigError(f"{name} rises within {least:g} to {most:g}, not {[low, high]}", (name,))
        self.path, self.universes, self.actual = path, universes, actual
        self.measured = read_distances(path)
        self.pulls = Pulls(self.measured)

    def observed(self) -> Expansion:
        """What the surveys did measure: one row, without a truth."""
        return Expansion(path=self.path, actual=True, **self.ranges)

    def schema(self) -> Schema:
        return Schema.of(
            (
                Column("id", "id"),
                Column(
                    "pulls", "series", shape=(len(self.measured),),
                    description="differences to a fiducial universe, whitened by the covariance",
                ),
                *(
                    Column(name, "scalar", unit=unit, dtype="float64", description=text)
                    for name, (unit, text) in PARAMETERS.items()
                ),
            ),
            simulator="gsnn.simulate.expansion",
            measured=self.measured.to_json(),
        )  # fmt: skip

    def __len__(self) -> int:
        return 1 if self.actual else self.universes

    def rows(self, indices: Int64[np.ndarray, " n"], seed: int) -> pa.RecordBatch:
        """The universes of these indices. Raises IndexError beyond the survey."""
        rows = torch.from_numpy(within(indices, len(self)))
        share = rng.uniform(seed, "expansion/parameters", rows, 3).double().numpy()
        low, high = np.array(list(self.ranges.values())).T
        theta = low + (high - low) * share
        if self.actual:
            theta = np.full((len(rows), 3), np.nan)
            pulls = self.pulls(np.repeat(self.measured.value[None], len(rows), 0))
        elif len(rows):
            noise = rng.normal(seed, "expansion/noise", rows, len(self.measured)).double().numpy()
            pulls = self.pulls(predicted(self.measured, theta) + noise @ self.pulls.factor.T)
        else:
            pulls = np.zeros((0, len(self.measured)))
        arrays = {
            "id": pa.array(["observed" if self.actual else f"universe-{seed}-{row}" for row in rows.tolist()]),
            "pulls": pa.FixedSizeListArray.from_arrays(
                pa.array(pulls.astype(np.float32).ravel(), pa.float32()), len(self.measured)
            ),
            **{name: pa.array(theta[:, i]) for i, name in enumerate(PARAMETERS)},
        }
        schema = self.schema().arrow()
        return pa.RecordBatch.from_arrays([arrays[field.name] for field in schema], schema=schema)
