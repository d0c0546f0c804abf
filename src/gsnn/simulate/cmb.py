"""Power spectra of the microwave background of flat universes with cold dark matter and a cosmological constant."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int64

from ..data.schema import Column, Schema
from ..data.source import QUARANTINE, within
from ..errors import ConfigError, GsnnError

LARGEST = 2508  # multipole, of Planck's likelihood at high multipoles
MULTIPOLES = np.arange(2, LARGEST + 1)
SPECTRA = ("tt", "te", "ee")
MARGIN = 42  # more multipoles are computed than kept
NEUTRINO, SPECIES = 0.06, 3.046  # eV in one neutrino of three; effective number of species (Planck 2018 VI, section 2)
BOX = {  # at least six standard deviations of Planck 2018 to either side, and four of tau
    "omega_b": (0.0214, 0.0233),
    "omega_c": (0.1110, 0.1290),
    "theta": (1.0390, 1.0430),
    "n_s": (0.938, 0.992),
    "ln_a": (2.94, 3.15),
    "tau": (0.024, 0.086),
}
POSSIBLE = {  # beyond these CAMB has no recombination, or no reionisation, to speak of
    "omega_b": (0.005, 0.1),
    "omega_c": (0.01, 0.5),
    "theta": (0.8, 1.2),
    "n_s": (0.5, 1.5),
    "ln_a": (1.5, 4.5),
    "tau": (0.02, 0.3),
}
PARAMETERS = {
    "omega_b": "physical density of baryons, Omega_b h^2",
    "omega_c": "physical density of cold dark matter, Omega_c h^2",
    "theta": "100 theta_MC: the sound horizon at recombination over its distance, as CosmoMC approximates it",
    "n_s": "tilt of the primordial spectrum",
    "ln_a": "ln(10^10 A_s), the primordial amplitude at 0.05/Mpc",
    "tau": "optical depth of reionisation",
}
DERIVED = {
    "h0": ("km/s/Mpc", "the Hubble constant"),
    "omega_m": ("", "density of matter today over the critical one"),
    "sigma_8": ("", "contrast of matter in spheres of 8 Mpc/h"),
}


def camb() -> Any:
    """The Boltzmann code. Raises GsnnError if it is not installed."""
    try:
        import camb
    except ImportError:
        raise GsnnError("spectra of the microwave background need CAMB: pip install 'gsnn[cmb]'") from None
    camb.set_feedback_level(0)
    return camb


def spectra(theta: Float[np.ndarray, " 6"]) -> dict[str, Any]:
    """The lensed spectra l (l + 1) C_l / 2 pi in muK^2 [SPECTRA, MULTIPOLES], and the DERIVED numbers, of a universe.

    ``theta`` are the PARAMETERS in their order. CAMB (Lewis, Challinor & Lasenby 2000, astro-ph/9911177) with one
    massive neutrino, helium of nucleosynthesis, and lensing by non-linear structure at ``lens_potential_accuracy`` 1.
    """
    code = camb()
    omega_b, omega_c, angle, n_s, ln_a, tau = map(float, theta)
    settings = code.CAMBparams()
    settings.set_cosmology(
        ombh2=omega_b, omch2=omega_c, H0=None, cosmomc_theta=angle / 100, tau=tau,
        mnu=NEUTRINO, num_massive_neutrinos=1, nnu=SPECIES,
    )  # fmt: skip
    settings.InitPower.set_params(As=np.exp(ln_a) * 1e-10, ns=n_s)
    settings.set_for_lmax(LARGEST + MARGIN, lens_potential_accuracy=1)
    settings.WantTransfer = True
    found = code.get_results(settings)
    power = found.get_lensed_scalar_cls(LARGEST, CMB_unit="muK")[2:]
    return {
        "spectra": power[:, [0, 3, 1]].T,
        "h0": settings.H0,
        "omega_m": (omega_b + omega_c + settings.omnuh2) / (settings.H0 / 100) ** 2,
        "sigma_8": float(found.get_sigma8_0()),
    }


class CMB:
    """Universes with their spectra of temperature (tt), polarisation (ee) and both together (te); a Source.

    Six parameters fill a box evenly: Sobol's sequence, scrambled by the seed (Owen 1998, J. Complexity 14, 466), so the
    first rows of a long survey are those of a short one. Each range may be narrowed or widened by its name.
    """

    keep = 16  # rows that are worth keeping as they are made: half a minute of a core

    def __init__(
        self,
        *,
        universes: int = 672,
        omega_b: tuple[float, float] = BOX["omega_b"],
        omega_c: tuple[float, float] = BOX["omega_c"],
        theta: tuple[float, float] = BOX["theta"],
        n_s: tuple[float, float] = BOX["n_s"],
        ln_a: tuple[float, float] = BOX["ln_a"],
        tau: tuple[float, float] = BOX["tau"],
    ):
        if universes < 1:
            raise ConfigError(f"a survey needs at least one universe, not {universes}", ("universes",))
        self.universes = universes
        self.ranges = dict(zip(PARAMETERS, (omega_b, omega_c, theta, n_s, ln_a, tau)))
        for name, (low, high) in self.ranges.items():
            least, most = POSSIBLE[name]
            if not least <= low < high <= most:
                raise ConfigError(f"{name} rises within {least:g} to {most:g}, not {[low, high]}", (name,))

    def schema(self) -> Schema:
        return Schema.of(
            (
                Column("id", "id"),
                *(Column(name, "scalar", dtype="float64", description=text) for name, text in PARAMETERS.items()),
                Column(
                    "spectra", "spectrum", unit="muK^2", bands=SPECTRA, shape=(len(SPECTRA), len(MULTIPOLES)),
                    description=f"l (l + 1) C_l / 2 pi, lensed, l = 2 to {LARGEST}",
                ),
                *(
                    Column(name, "scalar", unit=unit, dtype="float64", description=text)
                    for name, (unit, text) in DERIVED.items()
                ),
            ),
            simulator="gsnn.simulate.cmb",
            code=f"CAMB {camb().__version__}",
            box={name: list(range_) for name, range_ in self.ranges.items()},
        )  # fmt: skip

    def __len__(self) -> int:
        return self.universes

    def parameters(self, indices: Int64[np.ndarray, " n"], seed: int) -> Float[np.ndarray, "n 6"]:
        """The truth of these rows, a function of (seed, index)."""
        from scipy.stats import qmc

        indices = within(indices, self.universes)
        count = int(indices.max(initial=0)) + 1
        points = qmc.Sobol(len(PARAMETERS), seed=seed).random(1 << (count - 1).bit_length())[indices]
        low, high = np.array(list(self.ranges.values())).T
        return low + (high - low) * points

    def rows(self, indices: Int64[np.ndarray, " n"], seed: int) -> pa.RecordBatch:
        """The universes of these indices; about 2 s each on one core. Raises IndexError beyond the survey."""
        theta, code = self.parameters(indices, seed), camb()
        made, reasons = [], []
        for point in theta:
            try:
                made.append(spectra(point))
                reasons.append(None)
            except code.CAMBError as error:
                made.append({"spectra": np.zeros((len(SPECTRA), len(MULTIPOLES))), **dict.fromkeys(DERIVED, np.nan)})
                reasons.append(f"CAMB: {' '.join(str(error).split())}")
        arrays = {
            "id": pa.array([f"universe-{seed}-{row}" for row in np.asarray(indices).tolist()], pa.string()),
            **{name: pa.array(theta[:, i]) for i, name in enumerate(PARAMETERS)},
            **{name: pa.array([one[name] for one in made], pa.float64()) for name in DERIVED},
        }
        flat = np.concatenate([np.zeros(0), *(one["spectra"].ravel() for one in made)]).astype(np.float32)
        size = len(SPECTRA) * len(MULTIPOLES)
        arrays["spectra"] = pa.FixedSizeListArray.from_arrays(pa.array(flat), size)
        schema = self.schema().arrow()
        batch = pa.RecordBatch.from_arrays([arrays[field.name] for field in schema], schema=schema)
        return batch if not any(reasons) else batch.append_column(QUARANTINE, pa.array(reasons, pa.string()))
