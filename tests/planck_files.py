"""A small sky for the tests of Planck: spectra by a formula, an emulator of them, band powers as plik-lite has them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from scipy.io import FortranFile

from gsnn.data.readers.planck import BINS, read_planck
from gsnn.data.survey import Survey
from gsnn.emulator import Emulator
from gsnn.model import Model
from gsnn.simulate.cmb import CMB, DERIVED, PARAMETERS

L = np.arange(2, 2509)
MIDDLE = np.array([0.02235, 0.12, 1.041, 0.965, 3.045, 0.055])
EDGES = np.array(
    [*np.arange(30, 100, 5), *np.arange(100, 1504, 9), *np.arange(1504, 2014, 17), *np.arange(2014, 2510, 33)]
)


def spectra(theta):
    """TT, TE and EE [object, 3, l] with peaks that move with theta; smooth, and positive but for TE."""
    b, c, angle, n, a, tau = (theta / MIDDLE).T[..., None]
    phase = L / 96 / angle
    damping = (
        np.exp(-((L / 1300) ** 1.3) * c) * (L / 500) ** (0.96 * n - 0.96) * np.exp(3.045 * (a - 1) - 2 * 0.055 * tau)
    )
    tt = 2500 * damping * (1.5 + np.cos(phase) * b * 0.8)
    ee = 20 * damping * (1.3 - np.cos(phase) * 0.9) * (L / 500) + 0.3 * tau * np.exp(-L / 8)
    te = -90 * damping * np.sin(phase) * b
    return np.stack([tt, te, ee], 1)


def universe(theta):
    """What ``gsnn.simulate.cmb.spectra`` gives, by the formula."""
    return {"spectra": spectra(theta[None])[0], **{name: 70 * theta[2] + theta[i] for i, name in enumerate(DERIVED)}}


class Toy(CMB):
    """The source `cmb` with spectra by a formula."""

    def rows(self, indices, seed):
        theta = self.parameters(np.asarray(indices), seed)
        columns = {"id": [f"toy-{i}" for i in indices], **{n: theta[:, i] for i, n in enumerate(PARAMETERS)}}
        flat = spectra(theta).reshape(len(theta), -1).astype(np.float32)
        columns["spectra"] = pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel()), flat.shape[1])
        columns |= {name: 70 * theta[:, 2] + theta[:, i] for i, name in enumerate(DERIVED)}
        return pa.RecordBatch.from_pydict(
            {f.name: columns[f.name] for f in self.schema().arrow()}, self.schema().arrow()
        )


def emulator(folder: Path) -> Emulator:
    """A response surface of the toy, saved as a model's folder: no training."""
    view = Survey.create(folder / "toy", Toy(universes=120)).view()
    inputs = view.schema.select(list(PARAMETERS))
    targets = view.schema.select(["spectra", *DERIVED])
    spec = {
        "model": {"name": "mlp", "width": 4, "depth": 1, "powers": 2},
        "objective": {"name": "emulate", "components": 20},
    }
    model = Model(inputs, targets, spec)
    model.fit(view)
    model.objective.network.head.weight.data.zero_()
    model.objective.network.head.bias.data.zero_()
    model.save(folder / "emulator")
    return Emulator.load(folder / "emulator")


def band_powers(folder: Path, scale: float = 1.0) -> Path:
    """Files of plik-lite with 613 bins of the toy at MIDDLE, 1% errors that neighbours share, and two low bins."""
    lite, low = folder / "planck2018_plik_lite", folder / "planck2018_low_ell"
    lite.mkdir(parents=True), low.mkdir()
    first, last = EDGES[: BINS["tt"]], EDGES[1 : BINS["tt"] + 1] - 1
    np.savetxt(lite / "blmin.dat", first - 30)
    np.savetxt(lite / "blmax.dat", last - 30)
    weight = np.concatenate([np.full(b - a + 1, 1 / (b - a + 1)) for a, b in zip(first, last)])
    np.savetxt(lite / "bweight.dat", weight)
    cl = spectra(MIDDLE[None])[0] * 2 * np.pi / (L * (L + 1))
    value = [cl[i, a - 2 : b - 1].mean() for i, n in enumerate(BINS.values()) for a, b in zip(first[:n], last[:n])]
    sigma = 0.01 * np.concatenate(
        [np.abs(cl[i, first[:n]]) + 1e-3 * cl[0, first[:n]] for i, n in enumerate(BINS.values())]
    )
    np.savetxt(lite / "cl_cmb_plik_v22.dat", np.stack([np.arange(613), value, sigma], 1))
    covariance = np.outer(sigma, sigma) * (np.eye(613) + 0.2 * (np.eye(613, k=1) + np.eye(613, k=-1))) * scale
    with FortranFile(lite / "c_matrix_plik_v22.dat", "w") as file:
        file.write_record(np.triu(covariance).T.ravel())  # columns first; of the lower triangle nothing is told
    np.savetxt(low / "blmin_low_ell.dat", [0, 14]), np.savetxt(low / "blmax_low_ell.dat", [13, 27])
    np.savetxt(low / "bweight_low_ell.dat", np.full(28, 1 / 14))
    means = [cl[0, :14].mean(), cl[0, 14:28].mean()]
    np.savetxt(low / "CTT_bin_low_ell_2018.dat", [[8.5, means[0], means[0] / 10], [22.5, means[1], means[1] / 10]])
    assert len(read_planck(folder)) == 615
    return folder
