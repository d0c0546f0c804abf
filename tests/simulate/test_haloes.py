"""Haloes and groups beside closed forms and published numbers."""

import numpy as np
import pytest
from scipy.integrate import quad

from gsnn.config import build
from gsnn.data.points import Points
from gsnn.data.schema import Schema
from gsnn.data.source import Source
from gsnn.errors import ConfigError
from gsnn.simulate import haloes
from gsnn.simulate.groups import BREAK, FAINT, THRESHOLD, satellite_masses


def test_matter_in_spheres_of_8_mpc_scatters_by_sigma_8():
    mass = 4 / 3 * np.pi * (8 / haloes.HUBBLE) ** 3 * 0.3 * haloes.CRITICAL
    assert haloes.deviation(np.array([mass]), 0.3, 0.9)[0] == pytest.approx(0.9, rel=1e-3)


def test_all_matter_is_in_haloes_of_some_mass():
    assert quad(lambda x: haloes.multiplicity(np.exp(x)), -40, 5, limit=500)[0] == pytest.approx(1, abs=2e-3)
    mass = np.geomspace(1e12, 1e15, 200)  # and in these as much as lies between their nu
    share = np.trapezoid(haloes.mass_function(mass) * mass, np.log(mass)) / (haloes.OMEGA_M * haloes.CRITICAL)
    low, high = np.log(haloes.COLLAPSE / haloes.deviation(mass[[0, -1]]))
    assert share == pytest.approx(quad(lambda x: haloes.multiplicity(np.exp(x)), low, high)[0], rel=1e-3)


def test_galaxies_are_as_many_as_the_survey_found_that_the_occupation_was_fitted_to():
    """SDSS, M_r < -19 + 5 log h: 0.0157 per (Mpc/h)^3 (Zehavi et al. 2011, ApJ 736, 59, Table 2: 1.57e-2)."""
    log_mass = np.linspace(11.0, 15.8, 600)
    each = haloes.centrals(log_mass) + haloes.satellites(log_mass)
    count = np.trapezoid(haloes.mass_function(10.0**log_mass) * each, log_mass * np.log(10)) / haloes.HUBBLE**3
    assert count == pytest.approx(0.0157, rel=0.15)


def test_stellar_masses_are_those_of_the_relation():
    """The largest share of stars is about 3.5% and lies near 10^11.8 Msun (Moster et al. 2013, fig. 4)."""
    log_mass = np.linspace(11, 15, 401)
    share = 10 ** (haloes.stellar_mass(log_mass) - log_mass)
    assert share.max() == pytest.approx(0.038, abs=0.004)
    assert log_mass[share.argmax()] == pytest.approx(11.8, abs=0.15)


def test_radii_follow_the_profile():
    share = np.linspace(0.01, 1, 50)
    for c in (3.0, 10.0):
        radius = haloes.radii(share, c)
        np.testing.assert_allclose(haloes.enclosed(radius * c) / haloes.enclosed(c), share, rtol=1e-8)
    mean = 3 * 1e14 / (4 * np.pi * haloes.radius_200(14.0) ** 3)
    assert mean == pytest.approx(200 * haloes.CRITICAL, rel=1e-12)


@pytest.mark.parametrize("radius", [0.05, 0.3, 1.0])
def test_speeds_obey_the_jeans_equation(radius):
    """rho sigma^2 at r is the weight of all that lies beyond it."""
    log_mass, c = 14.0, 6.0
    r200 = haloes.radius_200(log_mass)

    def rho(r):
        x = r * c
        return 1 / (x * (1 + x) ** 2)

    def weight(r):
        mass = 10**log_mass * haloes.enclosed(r * c) / haloes.enclosed(c)
        return rho(r) * haloes.GRAVITY * mass / (r * r200) ** 2 * r200

    expected = np.sqrt(quad(weight, radius, 1e3, limit=200)[0] / rho(radius))
    found = haloes.dispersion(np.array([radius]), np.array([log_mass]), np.array([c]))
    assert found[0] == pytest.approx(expected, rel=5e-3)


def test_masses_are_drawn_from_the_mass_function():
    masses = haloes.Masses(12.0, 15.0)
    drawn = masses(np.random.default_rng(0).random(200_000))
    grid = np.linspace(13.0, 13.5, 50)
    expected = np.trapezoid(haloes.mass_function(10.0**grid), grid * np.log(10)) / masses.density
    assert ((drawn > 13.0) & (drawn < 13.5)).mean() == pytest.approx(expected, rel=0.02)


def test_satellites_are_lighter_than_the_break_of_their_central():
    drawn = satellite_masses(np.random.default_rng(0), 11.5, 100_000)
    grid = np.linspace(THRESHOLD, 11.8, 2000)
    x = 10 ** (grid - 11.5) / BREAK
    weight = x ** (FAINT + 1) * np.exp(-(x**2))
    assert drawn.min() >= THRESHOLD
    assert drawn.mean() == pytest.approx(np.average(grid, weights=weight), abs=0.01)


class TestGroups:
    def make(self, **settings):
        return build({"name": "groups", "groups": 300, **settings}, "source")

    def table(self, batch):
        return {name: batch[name].to_numpy() for name in batch.schema.names[2:]}

    def test_is_a_source_whose_rows_are_the_same_alone_and_in_company(self):
        groups = self.make()
        assert isinstance(groups, Source)
        batch = groups.rows(np.arange(40), 3)
        assert Schema.from_arrow(batch.schema).columns == groups.schema().columns
        again = groups.rows(np.array([31, 5]), 3)
        assert again.slice(0, 1).to_pylist() == batch.slice(31, 1).to_pylist()
        assert groups.rows(np.array([5]), 4).to_pylist() != batch.slice(5, 1).to_pylist()
        assert groups.rows(np.arange(0), 0).num_rows == 0
        with pytest.raises(IndexError):
            groups.rows(np.array([300]), 0)

    def test_a_group_is_what_the_catalogue_promises(self):
        batch = self.make(velocity_error=0.0).rows(np.arange(200), 0)
        points, truth = Points.from_arrow(batch["galaxies"], 2, 2), self.table(batch)
        assert points.faults() == [None] * 200
        assert points.lengths.min() >= 5
        assert np.array_equal(points.lengths, truth["members"] + truth["interlopers"])
        assert np.hypot(*points.position.T).max() < 1.0
        assert np.abs(points.feature[:, 1]).max() <= 1500.0

    def test_interlopers_are_as_many_as_the_cylinder_holds(self):
        groups = self.make(least=1, density=0.01, aperture=2.0)
        truth = self.table(groups.rows(np.arange(300), 1))
        expected = 0.01 * np.pi * 4 * 3000 / (100 * haloes.HUBBLE)
        assert truth["interlopers"].mean() == pytest.approx(expected, rel=0.1)

    def test_the_centre_of_a_halo_scatters_about_the_relation(self):
        truth = self.table(self.make(least=1).rows(np.arange(300), 2))
        apart = truth["log_central_mass"] - haloes.stellar_mass(truth["log_halo_mass"])
        assert apart.std() == pytest.approx(0.2, rel=0.15)
        assert abs(apart.mean()) < 0.04

    def test_members_move_as_the_mass_asks(self):
        """Without the field and without errors, speeds over those of the Jeans equation scatter by 1."""
        groups = self.make(density=0.0, velocity_error=0.0, aperture=10.0, window=10_000.0, log_mass=(14.0, 14.5))
        batch = groups.rows(np.arange(150), 0)
        points, truth = Points.from_arrow(batch["galaxies"], 2, 2), self.table(batch)
        log_mass = truth["log_halo_mass"][points.object]
        typical = haloes.dispersion(np.full(len(log_mass), 0.4), log_mass, haloes.concentration(log_mass))
        moving = points.feature[:, 1] != 0
        assert (points.feature[moving, 1] / typical[moving]).std() == pytest.approx(1, rel=0.1)

    @pytest.mark.parametrize("wrong", [{"least": 0}, {"log_mass": (15.0, 12.0)}, {"aperture": 0.0}])
    def test_what_cannot_be_is_refused(self, wrong):
        with pytest.raises(ConfigError):
            self.make(**wrong)

    def test_a_catalogue_that_nothing_enters_says_so(self):
        groups = self.make(least=20, density=0.0, log_mass=(12.0, 12.1))
        with pytest.raises(ConfigError, match="no group had 20 galaxies"):
            groups.rows(np.arange(1), 0)
