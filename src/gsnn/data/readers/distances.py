"""Distances of supernovae and of baryon acoustic oscillations with their covariances, as the surveys give them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from ...errors import GsnnError

QUANTITIES = ("mu", "DM_over_rs", "DH_over_rs", "DV_over_rs")


@dataclass(frozen=True, eq=False)
class Distances:
    """Measurements at redshifts ``z``: magnitudes of supernovae ("mu"), or distances over the sound horizon.

    ``z_seen`` is the heliocentric redshift, which dims a supernova; it is ``z`` for the rest. ``covariance`` is that of
    all measurements, in order.
    """

    quantity: tuple[str, ...]
    z: Float[np.ndarray, " measurement"]
    z_seen: Float[np.ndarray, " measurement"]
    value: Float[np.ndarray, " measurement"]
    covariance: Float[np.ndarray, "measurement measurement"]

    def __len__(self) -> int:
        return len(self.z)

    def to_json(self) -> str:
        """For the provenance of a survey that was simulated as it would be measured."""
        arrays = {name: getattr(self, name).tolist() for name in ("z", "z_seen", "value", "covariance")}
        return json.dumps({"quantity": self.quantity, **arrays})

    @classmethod
    def from_json(cls, text: str) -> Distances:
        found: dict[str, Any] = json.loads(text)
        return cls(tuple(found.pop("quantity")), **{name: np.array(value) for name, value in found.items()})


def read_distances(paths: str | list[str]) -> Distances:
    """All measurements in these folders or files.

    A folder with lcparam*.txt and a matrix of magnitudes (*covmat*.txt or sys*.txt, as Cobaya and CosmoMC have them)
    holds supernovae; one with *_mean.txt and *_cov.txt holds acoustic oscillations. Where there are several means, that
    of all tracers (ALL) is taken. Raises GsnnError for what is missing, or no covariance.
    """
    parts = [_of(Path(one)) for one in ([paths] if isinstance(paths, str) else paths)]
    size, start = sum(map(len, parts)), 0
    covariance = np.zeros((size, size))
    for part in parts:
        covariance[start : start + len(part), start : start + len(part)] = part.covariance
        start += len(part)
    joined = {name: np.concatenate([getattr(p, name) for p in parts]) for name in ("z", "z_seen", "value")}
    return Distances(tuple(q for part in parts for q in part.quantity), covariance=covariance, **joined)


def _of(path: Path) -> Distances:
    folder = path if path.is_dir() else path.parent
    if not folder.is_dir():
        raise GsnnError(f"no distances at {path}: name a folder with a table and its covariance")
    if tables := sorted(folder.glob("lcparam*.txt")):
        return _supernovae(tables[0], sorted([*folder.glob("*covmat*.txt"), *folder.glob("sys*.txt")]))
    means = sorted(folder.glob("*_mean.txt"))
    chosen = [path] if path in means else [one for one in means if "_ALL_" in one.name] or means
    if not chosen:
        raise GsnnError(f"{folder} holds neither supernovae (lcparam*.txt) nor acoustic oscillations (*_mean.txt)")
    return _oscillations(chosen[0])


def _supernovae(table: Path, matrices: list[Path]) -> Distances:
    rows = [line.split() for line in table.read_text().splitlines() if line.strip() and not line.startswith("#")]
    try:
        z, seen, value, error = (np.array([float(row[i]) for row in rows]) for i in (1, 2, 4, 5))
    except (ValueError, IndexError) as problem:
        raise GsnnError(f"{table}: a row of supernovae has name, zcmb, zhel, dz, mb, dmb, ...: {problem}") from None
    covariance = np.diag(error**2)
    if not matrices and not (error > 0).all():
        raise GsnnError(f"{table.parent} holds supernovae without errors and no covariance of their magnitudes")
    for path in matrices[:1]:
        numbers = np.array(path.read_text().split(), float)
        if len(numbers) != 1 + len(z) ** 2 or numbers[0] != len(z):
            raise GsnnError(f"{path}: a matrix of {len(z)} supernovae has {len(z)} and then {len(z) ** 2} numbers")
        covariance = covariance + numbers[1:].reshape(len(z), len(z))
    return Distances(("mu",) * len(z), z, seen, value, _checked(covariance, table))


def _oscillations(table: Path) -> Distances:
    rows = [line.split() for line in table.read_text().splitlines() if line.strip() and not line.startswith("#")]
    try:
        z, value, quantity = zip(*((float(a), float(b), c) for a, b, c in rows))
    except ValueError as problem:
        raise GsnnError(f"{table}: a row has a redshift, a value and a quantity: {problem}") from None
    for name in quantity:
        if name not in QUANTITIES[1:]:
            raise GsnnError(f"{table}: no quantity {name!r} is known; use {', '.join(QUANTITIES[1:])}")
    matrix = table.with_name(table.name.replace("_mean.txt", "_cov.txt"))
    if not matrix.is_file():
        raise GsnnError(f"{table} has no covariance beside it ({matrix.name})")
    covariance = np.loadtxt(matrix, ndmin=2)
    if covariance.shape != (len(z), len(z)):
        raise GsnnError(f"{matrix}: a covariance of {len(z)} values, not of shape {covariance.shape}")
    at = np.array(z)
    return Distances(quantity, at, at, np.array(value), _checked(covariance, matrix))


def _checked(covariance: np.ndarray, path: Path) -> np.ndarray:
    if not np.allclose(covariance, covariance.T, rtol=1e-6, atol=1e-12):
        raise GsnnError(f"{path}: the covariance is not symmetric")
    lowest = np.linalg.eigvalsh(covariance)[0]
    if lowest <= 0:
        raise GsnnError(
            f"{path}: the covariance is not positive definite (its lowest eigenvalue is {lowest:.2g}); "
            "bring the whole matrix, without rounding"
        )
    return covariance
