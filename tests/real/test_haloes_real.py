"""Galaxies of SDSS and haloes of an N-body simulation, measured by the parts that the studies stand on."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from astropy import units
from astropy_healpix import HEALPix

from gsnn.baselines.two_point import correlation, landy_szalay, power_law
from gsnn.data.points import Points
from gsnn.data.readers import read
from gsnn.data.readers.cubes import SkyCubes
from gsnn.simulate import haloes
from gsnn.simulate.cosmology import comoving_distance_mpc

SDSS = "sdss_dr7_vollim/vollim_dr7_cbp_102709.fits"


@pytest.fixture(scope="module")
def abacus(data):
    table = pq.read_table(data / "nbody_halos_abacus_mini/abacus_mini_n64_l32_z0_halos.parquet").to_pandas()
    return table[table["N"] > 0]


def test_haloes_of_an_n_body_simulation_are_as_many_as_the_mass_function_says(abacus):
    """Abacus, 32 Mpc/h, omega_m 0.3152: counts above 1e12 and 3e12 Msun/h within 2.5 Poisson errors."""
    mass = abacus["mass_hMsun"].to_numpy()
    for least in (1e12, 3e12):
        grid = np.geomspace(least / 0.6736, 1e16, 300)
        expected = np.trapezoid(haloes.mass_function(grid, 0.3152, 0.808), np.log(grid)) * (32 / 0.6736) ** 3
        assert abs((mass > least).sum() - expected) < 2.5 * np.sqrt(expected)


def test_they_move_inside_as_the_jeans_equation_says(abacus):
    heavy = abacus[abacus["mass_hMsun"] > 3e12]
    log_mass = np.log10(heavy["mass_hMsun"].to_numpy() / 0.6736)
    typical = np.sqrt(3) * haloes.dispersion(np.full(len(heavy), 0.4), log_mass, haloes.concentration(log_mass))
    assert np.median(heavy["sigmav3d_com"] / typical) == pytest.approx(1, abs=0.2)


def test_they_are_clustered(abacus):
    position = abacus[["x_com_x", "x_com_y", "x_com_z"]].to_numpy(float) + 16
    found = correlation(position, np.array([1.0, 3.0, 6.0]), 32.0, True)
    assert found[0] > found[1] > 0


@pytest.fixture(scope="module")
def sdss(data):
    source = read(str(data / SDSS))
    batch = source.rows(np.arange(len(source)), 0)
    ra, dec, z = (batch[name].to_numpy().astype(float) for name in ("ra", "dec", "z"))
    good = (z > 0.02) & (z < 0.106)
    ra, dec = ra[good], dec[good]
    return ra, dec, comoving_distance_mpc(torch.from_numpy(z[good])).numpy() * 0.7


def places(ra, dec, distance):
    ra, dec = np.radians(ra), np.radians(dec)
    return distance[:, None] * np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], 1)


def test_galaxies_of_sdss_are_clustered_as_surveys_have_found(sdss):
    """In redshift space: 2dFGRS has s_0 = 6.82 +- 0.28 Mpc/h (Hawkins et al. 2003, MNRAS 346, 78).

    Brighter galaxies are clustered more. Every fourth galaxy, random points where the sky's pixels hold galaxies.
    """
    ra, dec, distance = sdss
    grid, chance = HEALPix(64, order="nested"), np.random.default_rng(0)
    seen = np.zeros(grid.npix, bool)
    seen[grid.lonlat_to_healpix(ra * units.deg, dec * units.deg)] = True
    some = chance.random((150_000, 2))
    ra_r, dec_r = 360 * some[:, 0], np.degrees(np.arcsin(2 * some[:, 1] - 1))
    inside = seen[grid.lonlat_to_healpix(ra_r * units.deg, dec_r * units.deg)]
    low, high = distance.min() ** 3, distance.max() ** 3
    random = places(ra_r[inside], dec_r[inside], np.cbrt(low + (high - low) * chance.random(inside.sum())))
    edges = np.geomspace(2, 15, 9)
    found = landy_szalay(places(ra, dec, distance)[::4], random, edges)
    s_0, gamma = power_law(np.sqrt(edges[1:] * edges[:-1]), found, np.ones(8))
    assert 6.0 < s_0 < 8.5
    assert 1.1 < gamma < 1.8


def test_cubes_of_sdss_hold_clustered_galaxies(data):
    cubes = SkyCubes(path=str(data / SDSS))
    assert len(cubes) >= 4
    batch = cubes.rows(np.arange(len(cubes)))
    assert all(0.003 < density < 0.009 for density in batch["density"].to_pylist())
    points, edges = Points.from_arrow(batch["galaxies"], 3, 0), np.array([2.0, 5.0, 10.0])
    for i in range(len(points)):
        near, far = correlation(points.take([i]).position.astype(float), edges, 128.0, False)
        assert near > far > 0
