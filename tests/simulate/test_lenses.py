"""Lenses: deflection against its closed forms, light that is traced, and truth that gives nothing away."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from gsnn.config import build
from gsnn.data.source import Source
from gsnn.errors import ConfigError
from gsnn.simulate.galaxies import Galaxies
from gsnn.simulate.lenses import LENS_CLASSES, Lenses, deflection
from gsnn.simulate.population import SMOOTH, Draw

ROWS = np.array([5, 0, 33, 77, 12, 90, 41])


@pytest.fixture(scope="module")
def survey():
    return Lenses(objects=400, size=48, pixel_scale=0.2)


def grid(half: float, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    along = torch.linspace(-half, half, count, dtype=torch.float64)
    y, x = torch.meshgrid(along, along, indexing="ij")
    return x.reshape(1, -1), y.reshape(1, -1)


def one(*values: float) -> list[torch.Tensor]:
    return [torch.tensor([value], dtype=torch.float64) for value in values]


@pytest.mark.parametrize(("q", "angle"), [(0.5, 0.3), (0.7, 1.2), (0.95, 2.9)])
def test_the_divergence_of_deflection_is_twice_the_convergence(q, angle):
    """Kormann et al. 1994, eq. 19 and the Poisson equation of lensing, by finite differences."""
    x, y = grid(3.0, 21)
    away = x.hypot(y) > 0.3
    h = 1e-5
    parts = one(1.3, q, angle)
    dx = (deflection(x + h, y, *parts)[0] - deflection(x - h, y, *parts)[0]) / (2 * h)
    dy = (deflection(x, y + h, *parts)[1] - deflection(x, y - h, *parts)[1]) / (2 * h)
    cross = (deflection(x, y + h, *parts)[0] - deflection(x, y - h, *parts)[0]) / (2 * h)
    other = (deflection(x + h, y, *parts)[1] - deflection(x - h, y, *parts)[1]) / (2 * h)
    minor = math.cos(angle) * x + math.sin(angle) * y
    major = math.cos(angle) * y - math.sin(angle) * x
    kappa = 1.3 * math.sqrt(q) / (2 * torch.sqrt(minor**2 + q**2 * major**2))
    assert torch.allclose((dx + dy)[away], 2 * kappa[away], rtol=1e-6)
    assert torch.allclose(cross[away], other[away], atol=1e-6)  # a gradient: no curl


def test_a_round_lens_bends_by_its_einstein_radius():
    x, y = grid(2.0, 8)
    bent_x, bent_y = deflection(x, y, *one(1.1, 0.9999, 0.4))
    away = x.hypot(y)
    assert torch.allclose(bent_x, 1.1 * x / away, atol=1e-3)
    assert torch.allclose(bent_y, 1.1 * y / away, atol=1e-3)


def test_rows_are_pure_and_of_their_schema(survey):
    assert isinstance(survey, Source)
    assert isinstance(build({"name": "lenses", "objects": 10}, "source"), Lenses)
    batch = survey.rows(ROWS, 7)
    assert batch.schema == survey.schema().arrow()
    assert set(batch["lens"].to_pylist()) <= set(LENS_CLASSES)
    again = survey.rows(np.arange(92), 7)
    for place, row in enumerate(ROWS):
        assert survey.rows(np.array([row]), 7).slice(0, 1).equals(batch.slice(place, 1))
        assert again.slice(row, 1).equals(batch.slice(place, 1))
    assert batch["id"][0].as_py().startswith("lenses-")
    for column in survey.schema().of_kind("scalar", "position"):
        assert np.isfinite(batch[column.name].to_numpy()).all(), column.name


def test_light_of_a_source_is_what_it_emits(survey):
    """Traced without a lens on a wide and fine grid, its integral is the closed form."""
    rows = torch.arange(8)
    draw, g = Draw(3, rows), survey.population(rows, 3)
    s = survey.sources(draw, g)
    plain = replace(s, lensed=torch.zeros_like(s.lensed), x=0 * s.x, y=0 * s.y)
    x, y = (v.float().expand(8, -1) for v in grid(8.0, 401))
    traced = survey.trace(draw, plain, x, y).sum(1) * 0.04**2
    assert torch.allclose(traced, survey.emitted(draw, s), rtol=5e-3)


def test_a_point_like_source_behind_the_middle_is_a_ring_of_the_einstein_radius(survey):
    rows = torch.arange(1)
    draw, g = Draw(0, rows), survey.population(rows, 0)
    s = replace(
        survey.sources(draw, g), lensed=torch.tensor([True]), x=torch.zeros(1), y=torch.zeros(1),
        shear=torch.zeros(1, 2), mass_q=torch.tensor([0.9999]), radius=torch.tensor([0.02]),
        einstein=torch.tensor([1.5]),
    )  # fmt: skip
    x, y = (v.float() for v in grid(3.0, 301))
    light = survey.trace(draw, s, x, y)
    mean = (light * x.hypot(y)).sum() / light.sum()
    assert mean.item() == pytest.approx(1.5, abs=0.02)


def test_signal_to_noise_is_what_the_table_says(survey):
    rows = torch.arange(60)
    g = survey.population(rows, 1)
    alone, made = Galaxies.scene(survey, rows, 1, g), survey.scene(rows, 1, g)
    arcs = made.image - alone.image
    snr = torch.sqrt((arcs**2 / alone.variance).flatten(1).sum(1))
    assert np.allclose(snr.numpy(), made.truth["arc_snr"], rtol=1e-3, atol=1e-3)
    assert (made.variance >= alone.variance * 0.999).all()
    lens = made.truth["lens"] == "lens"
    assert (made.truth["magnification"][lens] > 1.2).all()
    assert (made.truth["einstein_radius"][lens] >= survey.einstein[0]).all()
    assert (made.truth["einstein_radius"][~lens] == 0).all()
    assert (g.label[lens] == SMOOTH).all()


def test_neither_the_galaxy_nor_the_light_beside_it_tells_a_lens():
    """Among smooth galaxies the magnitude, radius and redshift, and among decoys the S/N, are those of lenses."""
    from scipy.stats import ks_2samp

    survey = Lenses(objects=3000)
    rows = torch.arange(3000)
    draw, g = Draw(0, rows), survey.population(rows, 0)
    s = survey.sources(draw, g)
    smooth = g.label == SMOOTH
    for value in (g.magnitude, g.radius, g.redshift, s.einstein):
        assert ks_2samp(value[smooth & s.lensed], value[smooth & ~s.lensed]).pvalue > 1e-3
    decoy = s.shown & ~s.lensed
    for value in (s.snr, s.young, s.redshift):
        assert ks_2samp(value[s.lensed], value[decoy]).pvalue > 1e-3
    assert s.lensed.float().mean().item() == pytest.approx(0.49, abs=0.03)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"einstein": (2.0, 1.0)}, "einstein|quarter of the stamp"),
        ({"einstein": (0.5, 9.0)}, "quarter of the stamp"),
        ({"arc_snr": (0.0, 10.0)}, "above 0"),
        ({"lenses": 1.5}, "probability"),
        ({"decoys": -0.1}, "probability"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        Lenses(objects=4, **settings)
