"""The band powers of Planck 2018 with their covariance: the likelihood plik-lite, foregrounds marginalised."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ...errors import GsnnError

LOWEST, HIGHEST = 2, 2508  # multipoles of the theory
START, START_LOW = 30, 2  # the multipole that the bins' limits count from, at high and at low multipoles
BINS = {"tt": 215, "te": 199, "ee": 199}
NAMES = {"blmin": "blmin.dat", "blmax": "blmax.dat", "weight": "bweight.dat"}


@dataclass(frozen=True, eq=False)
class BandPowers:
    """Binned C_l in muK^2 and the covariance of all of them.

    ``spectrum`` names the theory that each bin is of (tt, te, ee), ``first`` and ``last`` its multipoles, ``l`` their
    weighted mean. Row b of ``window`` makes a bin of the D_l = l (l + 1) C_l / 2 pi at l = 2 to 2508 of its spectrum.
    """

    spectrum: tuple[str, ...]
    first: Int[np.ndarray, " bin"]
    last: Int[np.ndarray, " bin"]
    value: Float[np.ndarray, " bin"]
    covariance: Float[np.ndarray, "bin bin"]
    window: Any  # scipy.sparse [bin, l]

    def __len__(self) -> int:
        return len(self.value)

    def only(self, *spectra: str) -> BandPowers:
        """The bins of these spectra."""
        keep = np.flatnonzero(np.isin(self.spectrum, spectra))
        return BandPowers(
            tuple(self.spectrum[i] for i in keep), self.first[keep], self.last[keep], self.value[keep],
            self.covariance[np.ix_(keep, keep)], self.window[keep],
        )  # fmt: skip

    @cached_property
    def l(self) -> Float[np.ndarray, " bin"]:  # noqa: E743
        """The multipole of each bin, weighted as the bin is."""
        at = np.arange(LOWEST, HIGHEST + 1)
        to_cl = self.window.multiply(at * (at + 1) / (2 * np.pi)).tocsr()
        return np.asarray(to_cl @ at) / np.asarray(to_cl.sum(1)).ravel()

    @cached_property
    def factor(self) -> Float[np.ndarray, "bin bin"]:
        """The lower Cholesky factor of the covariance."""
        return np.linalg.cholesky(self.covariance)

    def binned(self, spectra: Float[np.ndarray, "object 3 l"]) -> Float[np.ndarray, "object bin"]:
        """What would be measured without noise, of D_l in muK^2 (TT, TE, EE) at l = 2 to 2508."""
        if spectra.ndim != 3 or spectra.shape[1:] != (3, HIGHEST - LOWEST + 1):
            raise GsnnError(f"band powers are made of [object, 3, {HIGHEST - LOWEST + 1}] D_l, not {spectra.shape}")
        kind, out = np.array(self.spectrum), np.empty((len(spectra), len(self)))
        for i, name in enumerate(("tt", "te", "ee")):
            some = kind == name
            if some.any():
                out[:, some] = (self.window[some] @ spectra[:, i].T).T
        return out

    def pulls(self, binned: Float[np.ndarray, "object bin"]) -> Float[np.ndarray, "object bin"]:
        """Differences to the measurement, whitened by the covariance."""
        from scipy.linalg import solve_triangular

        return solve_triangular(self.factor, (binned - self.value).T, lower=True).T

    def log_likelihood(
        self, spectra: Float[np.ndarray, "object 3 l"], calibration: Float[np.ndarray, " object"] | float = 1.0
    ) -> Float[np.ndarray, " object"]:
        """-chi^2 / 2 (Planck 2018 V, arXiv:1907.12875, section 3.6); theory is divided by ``calibration`` squared."""
        theory = self.binned(spectra) / np.reshape(np.square(calibration), (-1, 1))
        return -0.5 * (self.pulls(theory) ** 2).sum(1)


def read_planck(path: str | Path, *, low: bool = True) -> BandPowers:
    """plik-lite as `planck-lite-py` (Prince & Dunkley 2019, arXiv:1909.05869) has it: TT, TE and EE at l = 30 to 2508.

    ``path`` is the folder planck2018_plik_lite, or the one that holds it. With ``low`` two bins of TT at l = 2 to 29
    stand before them, from planck2018_low_ell beside it. Raises GsnnError for what is missing, of another length, or no
    covariance.
    """
    folder = Path(path)
    folder = folder / "planck2018_plik_lite" if (folder / "planck2018_plik_lite").is_dir() else folder
    limits = {name: _numbers(folder / file) for name, file in NAMES.items()}
    powers = _numbers(folder / "cl_cmb_plik_v22.dat", columns=3)
    count = sum(BINS.values())
    if len(powers) != count or len(limits["blmin"]) < BINS["tt"]:
        raise GsnnError(f"{folder}: plik-lite has {count} band powers, not {len(powers)}")
    spectrum = [name for name, bins in BINS.items() for _ in range(bins)]
    place = np.concatenate([np.arange(bins) for bins in BINS.values()])
    first, last = (limits[name].astype(int)[place] for name in ("blmin", "blmax"))
    window = _window(first, last, limits["weight"], START)
    value, covariance = powers[:, 1], _covariance(folder / "c_matrix_plik_v22.dat", count)
    first, last = first + START, last + START
    if low:
        from scipy.sparse import vstack

        beside = folder.parent / "planck2018_low_ell"
        bins = _numbers(beside / "CTT_bin_low_ell_2018.dat", columns=3)
        ends = [_numbers(beside / f"{name}_low_ell.dat").astype(int) for name in ("blmin", "blmax")]
        window = vstack([_window(*ends, _numbers(beside / "bweight_low_ell.dat"), START_LOW), window]).tocsr()
        wider = np.zeros((count + len(bins),) * 2)
        wider[: len(bins), : len(bins)], wider[len(bins) :, len(bins) :] = np.diag(bins[:, 2] ** 2), covariance
        covariance, value = wider, np.r_[bins[:, 1], value]
        first, last = np.r_[ends[0] + START_LOW, first], np.r_[ends[1] + START_LOW, last]
        spectrum = ["tt"] * len(bins) + spectrum
    return BandPowers(tuple(spectrum), first, last, value, covariance, window)


def _numbers(path: Path, columns: int = 1) -> Float[np.ndarray, "..."]:
    try:
        found = np.loadtxt(path, ndmin=columns if columns == 1 else 2)
    except OSError:
        raise GsnnError(
            f"no band powers at {path}: name the folder that holds planck2018_plik_lite and planck2018_low_ell"
        ) from None
    except ValueError as error:
        raise GsnnError(f"{path}: {error}") from None
    if columns > 1 and found.shape[1] != columns:
        raise GsnnError(f"{path}: {columns} columns are needed, not {found.shape[1]}")
    return found


def _window(first: np.ndarray, last: np.ndarray, weight: np.ndarray, start: int) -> Any:
    """The weights of C_l in each bin, times 2 pi / l (l + 1)."""
    from scipy.sparse import csr_array

    row = np.repeat(np.arange(len(first)), last - first + 1)
    offset = np.concatenate([np.arange(a, b + 1) for a, b in zip(first, last)])
    l = offset + start  # noqa: E741
    if l.max() > HIGHEST or offset.max() >= len(weight):
        raise GsnnError(f"the bins reach l = {l.max()}, beyond the weights or l = {HIGHEST}")
    values = weight[offset] * 2 * np.pi / (l * (l + 1))
    return csr_array((values, (row, l - LOWEST)), shape=(len(first), HIGHEST - LOWEST + 1))


def _covariance(path: Path, count: int) -> Float[np.ndarray, "bin bin"]:
    """A Fortran record of float64, of which the upper triangle is meant."""
    from scipy.io import FortranFile

    try:
        with FortranFile(path, "r") as file:
            found = file.read_reals(float)
    except FileNotFoundError:
        raise GsnnError(f"no covariance of the band powers at {path}") from None
    except Exception as error:  # scipy raises what it likes for a broken record
        raise GsnnError(f"{path}: no Fortran record of numbers ({error}); copy the file anew") from None
    if found.size != count**2:
        raise GsnnError(f"{path}: a covariance of {count} band powers, not {found.size} numbers")
    upper = np.triu(found.reshape(count, count).T)
    whole = upper + np.triu(upper, 1).T
    lowest = np.linalg.eigvalsh(whole)[0]
    if not lowest > 0:
        raise GsnnError(
            f"{path}: the covariance is not positive definite (its lowest eigenvalue is {lowest:.2g}); "
            "copy the file anew"
        )
    return whole
