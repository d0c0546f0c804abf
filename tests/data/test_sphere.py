"""HEALPix maps: their order, neighbours and faces against astropy-healpix and healpy; the reader of their files."""

import healpy
import numpy as np
import pytest
import torch
from astropy.io import fits

from gsnn.data import sphere
from gsnn.data.readers import read
from gsnn.data.schema import Column, Schema
from gsnn.data.source import QUARANTINE
from gsnn.data.survey import Survey
from gsnn.data.transforms import Transforms
from gsnn.errors import GsnnError

NSIDE = 8
PIXELS = 12 * NSIDE**2
VALUES = np.random.default_rng(3).normal(size=PIXELS).astype(np.float32)
UNSEEN = -1.6375e30


def write(path, values=VALUES, *, order="RING", wide=1, pixel=None, name="T", **cards):
    columns = [] if pixel is None else [fits.Column("PIXEL", "J", array=pixel)]
    shaped = values.reshape(-1, wide) if wide > 1 else values
    columns.append(fits.Column(name, f"{wide if wide > 1 else ''}E", unit="uK_CMB", array=shaped))
    table = fits.BinTableHDU.from_columns(columns)
    given = {"PIXTYPE": "HEALPIX", "ORDERING": order, "NSIDE": NSIDE} | cards
    table.header.update({key: value for key, value in given.items() if value is not None})
    table.writeto(path)
    return str(path)


def values_of(source, name="T"):
    batch = source.rows(np.arange(len(source)), 0)
    return np.array(batch[name].to_pylist(), float)


@pytest.mark.parametrize("nside", [1, 2, 8, 32])
def test_ring_and_nested_are_one_map_in_two_orders(nside):
    ring = np.arange(2 * 12 * nside**2).reshape(2, -1)
    nested = sphere.nested(ring)
    assert np.array_equal(sphere.ring(nested), ring)
    assert np.array_equal(nested[0], healpy.reorder(ring[0].astype(float), r2n=True))
    lat = healpy.pix2ang(nside, np.arange(12 * nside**2), nest=True, lonlat=True)[1]
    assert np.allclose(sphere.latitudes(nside), lat)


@pytest.mark.parametrize("nside", [2, 4, 16])
def test_faces_hold_each_pixel_once_and_are_bordered_by_its_neighbours(nside):
    faces, bordered, around = sphere.faces(nside), sphere.bordered(nside), sphere.neighbours(nside)
    assert np.array_equal(np.sort(faces.ravel()), np.arange(12 * nside**2))
    assert np.array_equal(bordered[:, 1:-1, 1:-1], faces)
    windows = np.stack([bordered[:, 1 + dy : nside + 1 + dy, 1 + dx : nside + 1 + dx] for dx, dy in sphere.STEPS])
    for place, direction in enumerate(sphere.STEPS.values()):
        want = around[direction][faces]
        assert np.array_equal(windows[place], np.where(want < 0, faces, want))
    wanted = healpy.get_all_neighbours(nside, np.arange(12 * nside**2), nest=True)
    assert np.array_equal(around, wanted)


def test_the_pixel_window_is_what_averaging_over_pixels_leaves():
    nside, largest = 16, 32
    window = sphere.pixel_window(nside, largest)
    assert window[0] == pytest.approx(1, abs=1e-5)
    assert (np.diff(window) < 0).all()
    np.random.seed(2)  # noqa: NPY002  healpy draws from numpy's old generator
    kept = np.zeros(largest + 1)
    for _ in range(6):
        alm = healpy.synalm(np.ones(largest + 1), largest)
        fine = healpy.reorder(healpy.alm2map(alm, 8 * nside), r2n=True)
        coarse = sphere.ring(fine.reshape(-1, 64).mean(1))
        kept += healpy.anafast(coarse, lmax=largest) / healpy.alm2cl(alm) / 6
    assert np.allclose(np.sqrt(kept)[2:], window[2:], atol=0.004)


def test_children_are_a_reshape():
    nside = 4
    lon, lat = healpy.pix2ang(nside, np.arange(12 * nside**2), nest=True, lonlat=True)
    parent = healpy.ang2pix(nside // 2, lon, lat, nest=True, lonlat=True)
    assert np.array_equal(parent.reshape(-1, 4), np.arange(12 * (nside // 2) ** 2)[:, None].repeat(4, 1))


def test_the_spectrum_is_anafast_s_and_of_a_part_of_the_sky_over_its_share():
    want = healpy.anafast(healpy.remove_monopole(VALUES.astype(float)), lmax=12, iter=1)
    got = sphere.spectrum(sphere.nested(VALUES)[None], 12)
    assert np.allclose(got[0], want, rtol=1e-6, atol=1e-9)
    known = sphere.latitudes(NSIDE) > 0
    white = np.random.default_rng(1).normal(size=(60, PIXELS))
    cut = sphere.spectrum(np.where(known, white, np.nan), 12)
    assert cut[:, 2:].mean() == pytest.approx(4 * np.pi / PIXELS, rel=0.03)
    assert sphere.spectrum(np.zeros((0, PIXELS)), 12).shape == (0, 13)


@pytest.mark.parametrize("order", ["RING", "NESTED", "nest"])
@pytest.mark.parametrize("wide", [1, 32])
def test_a_file_is_one_object_in_nested_order(tmp_path, order, wide):
    source = read(write(tmp_path / "sky.fits", order=order, wide=wide))
    column = source.schema()["T"]
    assert (column.kind, column.shape, column.unit, column.dtype) == ("sphere", (1, PIXELS), "uK_CMB", "float32")
    assert len(source) == 1
    want = healpy.reorder(VALUES, r2n=True) if order == "RING" else VALUES
    assert np.array_equal(values_of(source)[0], want)


def test_what_healpy_writes_is_read_as_healpy_reads_it(tmp_path):
    values = np.stack([VALUES, VALUES**2, 1 - VALUES])
    values[:, 5:9] = UNSEEN
    for name, how in (("whole", {}), ("nested", {"nest": True}), ("partial", {"partial": True})):
        path = tmp_path / f"{name}.fits"
        healpy.write_map(path, values, dtype=np.float32, **how)
        want = healpy.read_map(path, field=None, nest=True, partial=name == "partial")
        source = read(str(path))
        names = [c.name for c in source.schema().of_kind("sphere")]
        assert len(names) == 3
        got = np.stack([values_of(source, one)[0] for one in names])
        assert np.array_equal(np.isnan(got), want == UNSEEN)
        assert np.allclose(np.nan_to_num(got), np.where(want == UNSEEN, 0, want), rtol=1e-6)


def test_a_part_of_the_sky_is_unknown_elsewhere(tmp_path):
    pixel = np.arange(100, 200)
    given = VALUES[pixel].copy()
    given[3] = UNSEEN
    path = write(tmp_path / "part.fits", given, pixel=pixel, order="NESTED", INDXSCHM="EXPLICIT")
    got = values_of(read(path))[0]
    assert np.isfinite(got).sum() == 99
    assert np.isnan(got[[0, 103, 200]]).all()
    assert got[150] == VALUES[150]


def test_maps_become_a_survey_whose_unknown_pixels_the_network_is_told(tmp_path):
    (tmp_path / "maps").mkdir()
    for i in range(3):
        values = VALUES + i
        values[: 10 * i] = UNSEEN
        write(tmp_path / "maps" / f"sky{i}.fits", values, order="NESTED")
    write(tmp_path / "maps" / "sky9.fits", np.zeros(48, np.float32), NSIDE=2)
    source = read(str(tmp_path / "maps"))
    batch = source.rows(np.arange(4), 0)
    reasons = batch.column(QUARANTINE).to_pylist()
    assert reasons[:3] == [None] * 3
    assert "has NSIDE = 2, and the first map" in reasons[3]
    survey = Survey.create(tmp_path / "survey", source)
    assert len(survey) == 3
    inputs = survey.schema.select(["T"])
    assert inputs.tensors == ["T", "T.known"]
    transforms = Transforms(inputs, {"T": "standardise"})
    view = survey.view(np.arange(3))
    transforms.fit(view)
    out = transforms({"T": torch.from_numpy(np.array(view.columns(["T"])["T"])), "row": torch.arange(3)})
    assert (~out["T.known"]).sum((1, 2)).tolist() == [0, 10, 20]
    assert float(out["T"][2, 0, :20].abs().max()) == 0
    assert float(out["T"][out["T.known"]].std()) == pytest.approx(1, abs=0.01)


def refused(path):
    """Read a file; a map that is set aside for a reason raises it."""
    batch = read(path).rows(np.arange(1), 0)
    raise GsnnError(batch.column(QUARANTINE)[0].as_py())


def cut(path):
    return write(path, VALUES[:-12])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: write(p, order=None), "does not say in which order its pixels are; its header needs ORDERING"),
        (lambda p: write(p, order="NUNIQ"), "says ORDERING = 'NUNIQ'; its header needs ORDERING"),
        (lambda p: write(p, NSIDE=12), "says NSIDE = 12, and the nside of a HEALPix map is a power of two"),
        (lambda p: write(p, NSIDE=None), "says NSIDE = None, and the nside"),
        (lambda p: write(p, NSIDE="8"), "says NSIDE = '8', and the nside"),
        (cut, "holds 756 pixels, and a map of NSIDE = 8 has 768; is it cut off"),
        (lambda p: write(p, INDXSCHM="EXPLICIT"), "holds a part of the sky, and no column PIXEL says which"),
        (
            lambda p: write(p, VALUES[:9], pixel=np.arange(760, 769), INDXSCHM="EXPLICIT"),
            "names pixels beyond those of NSIDE = 8",
        ),
    ],
)
def test_a_file_that_is_no_map_is_answered_in_one_sentence(tmp_path, make, words):
    path = make(tmp_path / "sky.fits")
    with pytest.raises(GsnnError, match=words) as told:
        refused(path)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((768,), r"a sphere has the shape \(channel, 12 nside\^2\)"),
        ((1, 767), "767 pixels are no HEALPix map"),
        ((1, 12 * 9), "108 pixels are no HEALPix map"),
        ((1, 0), "needs a shape of positive sizes"),
    ],
)
def test_a_column_that_is_no_sky_is_refused(shape, words):
    with pytest.raises(GsnnError, match=words):
        Column("sky", "sphere", shape=shape)


def test_another_nside_is_named():
    one, other = (Schema.of([Column("sky", "sphere", shape=(1, 12 * n**2))]) for n in (8, 4))
    assert one.difference(other) == "column 'sky' has nside 4, expected 8"
    assert one.difference(one) == ""


def test_without_healpy_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "healpy", None)
    with pytest.raises(GsnnError, match=r"need healpy .* pip install 'gsnn\[sphere\]'"):
        sphere.spectrum(np.zeros((1, PIXELS)), 4)
