import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy import units
from astropy.coordinates import SkyCoord, match_coordinates_sky, search_around_sky
from hypothesis import given, settings
from hypothesis import strategies as st

from gsnn.data import sky as sky_search
from gsnn.data.schema import Column
from gsnn.data.sky import cone, crossmatch, pixel_ranges, write_pairs
from gsnn.data.values import healpix
from gsnn.errors import GsnnError

CENTRES = [
    (0.0, 0.0),
    (359.9999, 45.0),
    (180.0, -89.9999),
    (10.0, 90.0),
    (77.7, -90.0),
    (45.0, 41.8103),
    (-0.001, -30.0),
]
HARD_RA = st.one_of(st.floats(0, 360), st.floats(-1e-3, 1e-3), st.floats(359.999, 360), st.sampled_from([0.0, 360.0]))
HARD_DEC = st.one_of(
    st.floats(-90, 90), st.floats(89.9, 90), st.floats(-90, -89.9), st.sampled_from([-90.0, 0.0, 90.0])
)
PLACES = st.tuples(HARD_RA, HARD_DEC)


def coordinates(ra, dec):
    return SkyCoord(np.asarray(ra) * units.deg, np.asarray(dec) * units.deg)


def around(ra, dec, radius, n, seed=0):
    """Positions within a few radii (degrees) of one, evenly on the sphere there."""
    random = np.random.default_rng(seed)
    place = coordinates([ra] * n, [dec] * n)
    moved = place.directional_offset_by(
        random.uniform(0, 360, n) * units.deg, radius * random.uniform(0, 2, n) * units.deg
    )
    return moved.ra.deg, moved.dec.deg


def catalogue(make, ra, dec):
    ids = [f"o{i}" for i in range(len(ra))]
    place = {name: Column(name, "position", unit="deg", dtype="float64") for name in ("ra", "dec")}
    return make({Column("id", "id"): ids, place["ra"]: list(ra), place["dec"]: list(dec)})


@pytest.mark.parametrize("centre", CENTRES)
def test_a_cone_finds_what_astropy_finds(make, centre):
    radii = (0.5 / 3600, 0.05, 3.0, 60.0)
    places = [around(*centre, radius, 60, seed) for seed, radius in enumerate(radii)]
    ra, dec = (np.concatenate(values) for values in zip(*places))
    survey = catalogue(make, ra, dec)
    apart = coordinates(ra, dec).separation(coordinates(*centre)).arcsec
    for radius in radii:
        rows, separation = cone(survey, *centre, radius * 3600)
        wanted = np.flatnonzero(apart <= radius * 3600)
        assert 0 < len(wanted) < len(ra)
        np.testing.assert_array_equal(np.sort(rows), wanted)
        np.testing.assert_allclose(separation, apart[rows], atol=1e-6)
        assert (np.diff(separation) >= 0).all()
        np.testing.assert_array_equal(survey.cone(*centre, radius * 3600), rows)


@settings(max_examples=30, deadline=None)
@given(PLACES, st.floats(1e-4, 170))
def test_the_pixels_of_a_cone_hold_all_of_it_in_few_ranges(centre, degrees):
    ra, dec = around(*centre, degrees / 2, 300)
    inside = coordinates(ra, dec).separation(coordinates(*centre)).deg <= degrees
    ranges = pixel_ranges(*centre, np.radians(degrees))
    pixels = healpix(ra, dec)
    found = np.any([(pixels >= first) & (pixels < last) for first, last in ranges], axis=0)
    assert found[inside].all()
    assert len(ranges) < 200
    area = sum(last - first for first, last in ranges) / (12 * 512**2)
    assert area < 6 * (1 - np.cos(np.radians(degrees))) / 2 + 40 / (12 * 512**2), "it asks for much more than the cone"


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ((0, 0, 0), "radius = 0"),
        ((0, 0, -1), "radius = -1"),
        ((0, 91, 1), "no position"),
        ((np.nan, 0, 1), "no position"),
    ],
)
def test_a_cone_that_cannot_be_is_refused(make, sky, where, words):
    with pytest.raises(GsnnError, match=words):
        make(sky(5)).cone(*where)


def test_without_positions_there_is_no_cone_and_no_match(make):
    survey = make({Column("id", "id"): list("ab")})
    with pytest.raises(GsnnError, match="no column 'ra'"):
        survey.cone(0, 0, 1)
    with pytest.raises(GsnnError, match="no column 'ra'"):
        crossmatch(survey, survey, 1.0)


# ---------------------------------------------------------------------------- cross-match


@settings(max_examples=80, deadline=None)
@given(st.lists(PLACES, min_size=1, max_size=12), st.lists(PLACES, min_size=1, max_size=12), st.floats(0.01, 1e5))
def test_matches_are_those_of_astropy(left, right, radius):
    a, b = (tuple(np.array(side).T) for side in (left, right))
    one, other = coordinates(*a), coordinates(*b)
    _, apart, _ = match_coordinates_sky(one, other)
    nearest = crossmatch(a, b, radius)
    near = apart.arcsec <= radius
    edge = np.abs(apart.arcsec / radius - 1) < 1e-9
    assert set(np.flatnonzero(near & ~edge)) <= set(nearest.left) <= set(np.flatnonzero(near | edge))
    np.testing.assert_allclose(nearest.separation_arcsec, apart.arcsec[nearest.left], rtol=1e-7, atol=1e-6)
    np.testing.assert_allclose(
        one[nearest.left].separation(other[nearest.right]).arcsec, nearest.separation_arcsec, atol=1e-6
    )
    all_pairs = crossmatch(a, b, radius, keep="all", piece=5)
    matrix = one[:, None].separation(other[None]).arcsec
    sure = {tuple(p) for p in np.argwhere(matrix < radius * (1 - 1e-9) - 1e-8)}
    maybe = {tuple(p) for p in np.argwhere(matrix <= radius * (1 + 1e-9) + 1e-8)}
    found = list(zip(all_pairs.left.tolist(), all_pairs.right.tolist()))
    assert sure <= set(found) <= maybe
    assert len(found) == len(set(found))


@pytest.mark.parametrize("centre", CENTRES)
@pytest.mark.parametrize("piece", [64, 1 << 20])
def test_crowded_fields_match_piece_by_piece(centre, piece):
    a, b = around(*centre, 0.02, 300, 1), around(*centre, 0.02, 400, 2)
    one, other = coordinates(*a), coordinates(*b)
    index, apart, _ = match_coordinates_sky(one, other)
    got = crossmatch(a, b, 10.0, piece=piece)
    np.testing.assert_array_equal(got.left, np.flatnonzero(apart.arcsec <= 10))
    np.testing.assert_array_equal(got.right, index[got.left])
    i, j, separation, _ = search_around_sky(one, other, 10 * units.arcsec)
    every = crossmatch(a, b, 10.0, keep="all", piece=piece)
    assert set(zip(every.left.tolist(), every.right.tolist())) == set(zip(i.tolist(), j.tolist()))
    np.testing.assert_allclose(np.sort(every.separation_arcsec), np.sort(separation.arcsec), atol=1e-6)
    key = every.left * 1e6 + every.separation_arcsec
    assert (np.diff(key) >= 0).all()
    assert len(i) > 100


def test_surveys_and_views_match_by_their_row_numbers(make, tmp_path):
    ra, dec = around(0, 89.99, 0.1, 200)
    left = catalogue(make, np.append(ra, [np.nan, 5]), np.append(dec, [0, np.nan]))
    right = catalogue(make, (ra[::-1] + 360) % 360, dec[::-1])
    got = crossmatch(left, right, 1e-3)
    np.testing.assert_array_equal(got.left, np.arange(200))
    np.testing.assert_array_equal(got.right, np.arange(200)[::-1])
    some = crossmatch(left.view(np.array([7, 3, 201])), right, 1e-3)
    assert list(zip(some.left, some.right)) == [(7, 192), (3, 196)]
    assert len(crossmatch(left, ((ra + 180) % 360, -dec), 60.0)) == 0
    assert write_pairs(left, right, 1e-3, tmp_path / "pairs.parquet") == 200
    table = pq.read_table(tmp_path / "pairs.parquet")
    assert table.column("left_id").to_pylist() == [f"o{i}" for i in range(200)]
    assert table.column("right_row").to_pylist() == got.right.tolist()
    assert [p.name for p in tmp_path.iterdir() if "partial" in p.name] == []


def test_memory_is_that_of_a_piece(monkeypatch):
    held = []
    original = sky_search.vectors
    monkeypatch.setattr(sky_search, "vectors", lambda ra, dec: held.append(len(ra)) or original(ra, dec))
    ra, dec = around(30, 30, 1, 1000)
    crossmatch((ra, dec), (ra, dec), 1.0, piece=128)
    assert max(held) == 128


@pytest.mark.parametrize(
    ("options", "words"),
    [({"radius_arcsec": 0.0}, "radius = 0"), ({"radius_arcsec": 1.0, "keep": "best"}, '"nearest" or')],
)
def test_matches_that_cannot_be_are_refused(options, words):
    with pytest.raises(GsnnError, match=words):
        crossmatch(([0.0], [0.0]), ([0.0], [0.0]), **options)
    with pytest.raises(GsnnError, match="one length"):
        crossmatch(([0.0, 1.0], [0.0]), ([0.0], [0.0]), 1.0)


def test_the_command_writes_pairs(make, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from gsnn.cli import app

    monkeypatch.chdir(tmp_path)
    ra, dec = around(0, 0, 0.01, 20)
    one, other = catalogue(make, ra, dec), catalogue(make, ra, dec)
    done = CliRunner().invoke(app, ["crossmatch", one.path, other.path, "--radius", "0.5", "--out", "p.parquet"])
    assert done.exit_code == 0, done.output
    assert "20 pairs within 0.5 arcsec in p.parquet (20 and 20 objects)" in done.output
    every = CliRunner().invoke(app, ["crossmatch", one.path, other.path, "--radius", "300", "--all"])
    assert pq.read_table("pairs.parquet").num_rows == 400, every.output
