"""Variable stars: their periods are in the light, relations of period and luminosity, eclipses where geometry says."""

import numpy as np
import pytest
import torch

from gsnn.config import build
from gsnn.data.light_curves import LightCurves
from gsnn.data.schema import Schema
from gsnn.data.source import Source
from gsnn.errors import ConfigError
from gsnn.simulate.population import Draw
from gsnn.simulate.variable_stars import CLASSES, ECLIPSING, PULSATING, VariableStars

N = 120


@pytest.fixture(scope="module")
def survey():
    return VariableStars(objects=N)


@pytest.fixture(scope="module")
def batch(survey):
    return survey.rows(np.arange(N), 3)


def column(batch, name):
    return np.array(batch[name].to_pylist())


def test_is_a_source_whose_batches_have_its_schema(survey, batch):
    assert isinstance(survey, Source)
    assert len(build({"name": "variable-stars", "objects": 10}, "source")) == 10
    schema = survey.schema()
    assert batch.schema == schema.arrow()
    assert Schema.from_arrow(batch.schema).columns == schema.columns
    assert set(column(batch, "type")) == set(CLASSES)
    assert LightCurves.from_arrow(batch["lc"]).faults(2) == [None] * N
    assert survey.rows(np.array([], dtype=np.int64), 3).num_rows == 0
    with pytest.raises(IndexError):
        survey.rows(np.array([N]), 3)


def test_a_row_is_the_same_alone_and_in_company(survey, batch):
    some = survey.rows(np.array([31, 5, 77]), 3)
    for place, row in enumerate((31, 5, 77)):
        for name in batch.schema.names:
            one, other = (b.slice(i, 1)[name].to_pylist() for b, i in ((some, place), (batch, row)))
            if name != "lc":
                assert one == other or one[0] != one[0], (row, name)
            else:
                for part in one[0]:
                    np.testing.assert_allclose(one[0][part], other[0][part], rtol=1e-6)


def test_the_period_is_in_the_light(batch):
    """Lomb-Scargle finds the period, a harmonic or half of it (eclipses look alike) of nearly every pulsating star."""
    from astropy.timeseries import LombScargle

    curves, kind, period = LightCurves.from_arrow(batch["lc"]), column(batch, "type"), column(batch, "period")
    found = []
    for i in np.flatnonzero(np.isin(kind, ["RR Lyrae", "Cepheid"]))[:25]:
        one = curves[int(i)]
        own = one.band == 0
        frequency = np.arange(0.01, 5, 2e-4)
        power = LombScargle(one.time[own], one.flux[own], one.flux_error[own]).power(frequency)
        found.append(frequency[power.argmax()] * period[i])
    assert np.mean(np.abs(np.array(found) - 1) < 0.002) > 0.85


def test_longer_cepheids_are_brighter(batch):
    kind, period, absolute = (column(batch, name) for name in ("type", "period", "absolute"))
    own = kind == "Cepheid"
    slope, zero = np.polyfit(np.log10(period[own]) - 1, absolute[own], 1)
    assert slope == pytest.approx(PULSATING["Cepheid"].slope, abs=0.4)
    assert zero == pytest.approx(PULSATING["Cepheid"].zero, abs=0.2)
    assert np.isnan(absolute[kind == "eclipsing binary"]).all()


def test_amplitudes_are_as_told_and_smaller_in_the_red(batch):
    curves, kind, amplitude = LightCurves.from_arrow(batch["lc"]), column(batch, "type"), column(batch, "amplitude")
    ratio, told = [], []
    for i in np.flatnonzero(np.isin(kind, ["RR Lyrae", "Cepheid"])):
        one = curves[int(i)]
        g, r = (np.ptp(one.flux[one.band == k]) for k in (0, 1))
        ratio.append(r / g)
        told.append(g / amplitude[i])
    assert np.median(ratio) == pytest.approx((0.626 / 0.483) ** -0.8, abs=0.05)
    assert np.median(told) == pytest.approx((0.483 / 0.55) ** -0.8, abs=0.12)


def test_pulsation_rises_faster_than_it_fades(survey):
    rows = torch.arange(30)
    time = torch.linspace(0, 1, 400).expand(30, -1).double()
    kind = torch.zeros(30, dtype=torch.long)
    period, _, shape = survey._pulsating(Draw(1, rows, "variable-stars"), kind, time[:, :1])
    _, _, shape = survey._pulsating(Draw(1, rows, "variable-stars"), kind, time * period[:, None])
    brightest, faintest = shape.argmin(1), shape.argmax(1)
    rise = ((brightest - faintest) % 400) / 400
    assert rise.median() < 0.45


def test_a_binary_has_two_eclipses_half_a_period_apart(survey):
    rows = torch.arange(40)
    draw = Draw(5, rows, "variable-stars")
    period, depth, _ = survey._eclipsing(draw, torch.zeros(40, 1, dtype=torch.float64))
    phase = torch.linspace(0, 1, 2001).double()
    _, _, change = survey._eclipsing(draw, phase * period[:, None].double())
    start = draw.uniform("conjunction").double()
    for i in range(40):
        near = [float(change[i][int(((start[i] + k) % 1) * 2000)]) for k in (0, 0.25, 0.5, 0.75)]
        assert max(near[0], near[2]) > near[1] + 0.005
        assert near[0] + 1e-3 > near[1]
        assert near[2] + 1e-3 > near[3]
        assert change[i].max() < depth[i] + 0.6  # tides and limb darkening add a little
    assert (draw.uniform("surface") <= 1).all()


def test_seasons_have_gaps_and_nights_are_clear(survey):
    batch = VariableStars(objects=20, years=4).rows(np.arange(20), 1)
    for one in LightCurves.from_arrow(batch["lc"]):
        day = (one.time - 59000 + 1) % 365.25
        assert day.max() < 365.25 * 2 / 3 + 2.5
    shared = [set(np.floor(one.time).astype(int)) for one in LightCurves.from_arrow(batch["lc"])]
    every = set.union(*shared)
    assert len(every) < 0.85 * 4 * 365.25 * 2 / 3  # some nights are cloudy for all


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"bands": ["g", "q"]}, "no band 'q'"),
        ({"fractions": [0.5, 0.5, 0.5, 0.0, 0.0]}, "add up to 1"),
        ({"magnitudes": [19.0, 14.0]}, "bright limit"),
        ({"visits": 1}, "greater than"),
    ],
)
def test_settings_that_cannot_be_drawn(settings, words):
    with pytest.raises(ConfigError, match=words):
        build({"name": "variable-stars", **settings}, "source")


def test_the_names_of_the_classes():
    assert CLASSES[ECLIPSING] == "eclipsing binary"
