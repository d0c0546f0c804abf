"""The COSMOS catalogue and the kappa-TNG map: conventions that the sky decides, and numbers that were published."""

import numpy as np
import pytest
import torch

from gsnn.config import build
from gsnn.data.readers.shear_catalogue import ShearOfMap, catalogue, groups, noise_of, places
from gsnn.data.shear import power_of, wiener
from gsnn.evaluation.map_metrics import map_r, map_squared_error
from gsnn.evaluation.maps import Maps
from gsnn.simulate.lensing import Lensing

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def folder(data):
    return data / "lensing_cosmos_ktng"


@pytest.fixture(scope="module")
def inputs(folder):
    schema = Lensing(path=str(folder)).schema()
    return schema.select(["shear", "noise"]), schema["kappa"]


def test_every_galaxy_lies_in_its_pixel_of_the_noise_map(folder):
    _, noise, middle = catalogue(folder)  # refuses a noise map of other numbers
    assert ((noise > 0) == (noise_of(folder) > 0)).all()
    assert middle == pytest.approx((150.1161, 2.2475), abs=1e-3)


def test_of_the_four_signs_ours_has_most_e_and_fewest_b_modes_and_mass_where_groups_are(folder, inputs):
    shear, noise, middle = catalogue(folder)
    known = groups(folder)
    y, x = places(known[:, 0], known[:, 1], middle, len(noise))
    good = (y >= 0) & (y < len(noise)) & (x >= 0) & (x < len(noise))
    good[good] = noise[y[good], x[good]] > 0
    assert good.sum() == 60
    power, inside = power_of(inputs[0], inputs[0]["shear"]), noise > 0

    def told(first, second):
        maps = torch.tensor(np.stack([first, second]))[None]
        return wiener(maps, torch.tensor(noise)[None], power)[0].numpy()

    def height(found):
        return found[y[good], x[good]].mean() / found[inside].std()

    right, wrong = told(*shear), told(shear[0], -shear[1])
    turned = told(-shear[1], shear[0])
    assert right[inside].std() > 1.1 * turned[inside].std()
    assert height(right) > 1.2
    assert height(wrong) < 0.7
    assert height(told(*-shear)) < -1.2


def test_kaiser_squires_and_wiener_come_out_as_published(folder, inputs):
    """2.49e-2 and r 0.589; 2.36e-2 and r 0.649 (Remy et al. 2022, arXiv:2201.05561, table 1), inside the mask."""
    rows = ShearOfMap(path=str(folder), draws=2).rows(np.arange(2), 0)
    shear, noise, truth = (
        np.array(rows[name].to_pylist(), np.float32).reshape(2, -1, 360, 360) for name in ("shear", "noise", "kappa")
    )
    for spec, error, r in (
        ({"name": "kaiser-squires", "smoothing": 1.0}, 2.49e-2, 0.589),
        ({"name": "wiener", "amplitude": 1.0}, 2.36e-2, 0.649),
    ):
        method = build(spec, "baseline", *inputs)
        found = method.solve(torch.tensor(shear), torch.tensor(noise[:, 0]), method.settings[0])
        told = Maps(found[:, None].numpy(), noise > 0)
        assert float(map_squared_error(told, truth).mean() ** 0.5) == pytest.approx(error, rel=0.015)
        assert float(map_r(told, truth).mean()) == pytest.approx(r, abs=0.015)
