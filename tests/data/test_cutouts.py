"""Cut-outs stand where the catalogue says, also across right ascension 0/360 and over the edges of a mosaic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

from gsnn.data.cutouts import cutouts
from gsnn.data.source import QUARANTINE, Source
from gsnn.errors import GsnnError

SCALE = 0.5 / 3600  # degrees


def header(ra: float, dec: float, shape: tuple[int, int], projection: str = "TAN") -> fits.Header:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = [f"RA---{projection}", f"DEC--{projection}"]
    wcs.wcs.crval, wcs.wcs.crpix = [ra, dec], [(shape[1] + 1) / 2, (shape[0] + 1) / 2]
    wcs.wcs.cdelt = [-SCALE, SCALE]
    return wcs.to_header()


def mosaic(
    path: Path, ra: float = 0.0, dec: float = 10.0, shape: tuple[int, int] = (80, 100), projection: str = "TAN"
) -> WCS:
    """A mosaic in which each pixel holds its own number."""
    head = header(ra, dec, shape, projection)
    head["BUNIT"] = "nJy"
    fits.PrimaryHDU(np.arange(np.prod(shape), dtype=np.float32).reshape(shape), head).writeto(path)
    return WCS(head)


def images(source: Source, n: int) -> np.ndarray:
    shape = source.schema()["image"].shape
    return source.rows(np.arange(n), 0)["image"].flatten().to_numpy(zero_copy_only=False).reshape(n, *shape)


@pytest.mark.parametrize("projection", ["TAN", "CAR", "SIN"])
@pytest.mark.parametrize("size", [5, 6])
def test_the_object_lies_at_the_centre_across_the_wrap(size: int, projection: str, tmp_path: Path) -> None:
    dec = 0.0 if projection == "CAR" else 10.0
    wcs = mosaic(tmp_path / "m.fits", dec=dec, projection=projection)
    x, y = np.array([20.0, 50.3, 60.49, 75.0]), np.array([30.0, 40.2, 41.4, 12.0])
    sky = wcs.pixel_to_world(x, y)
    assert sky.ra.deg.min() < 1
    assert sky.ra.deg.max() > 359  # both sides of 0/360
    catalogue = {"id": list("abcd"), "ra": sky.ra.deg, "dec": sky.dec.deg, "z": [0.1, 0.2, 0.3, 0.4]}
    source = cutouts(str(tmp_path / "m.fits"), catalogue, size=size)
    assert isinstance(source, Source)
    column = source.schema()["image"]
    assert (column.shape, column.unit) == ((1, size, size), "nJy")
    assert column.pixel_scale == pytest.approx(0.5, rel=1e-4)
    cut = images(source, 4)[:, 0]
    first_x, first_y = cut[:, 0, 0] % 100, cut[:, 0, 0] // 100
    np.testing.assert_array_less(np.abs(first_x + (size - 1) / 2 - x), 0.5 + 1e-6)
    np.testing.assert_array_less(np.abs(first_y + (size - 1) / 2 - y), 0.5 + 1e-6)
    np.testing.assert_array_equal(cut[:, 1, 0] - cut[:, 0, 0], 100)
    assert source.rows(np.arange(4), 0)["z"].to_pylist() == [0.1, 0.2, 0.3, 0.4]
    order = np.array([2, 0, 3])
    np.testing.assert_array_equal(
        source.rows(order, 0)["image"].flatten().to_numpy().reshape(3, size, size), cut[order]
    )
    assert source.rows(np.array([], int), 0).num_rows == 0
    shifted = cutouts(str(tmp_path / "m.fits"), {**catalogue, "ra": sky.ra.wrap_at(180 * units.deg).deg}, size=size)
    np.testing.assert_array_equal(images(shifted, 4)[:, 0], cut)  # -0.001 is 359.999


def test_objects_at_the_edge_and_off_the_mosaic(tmp_path: Path) -> None:
    wcs = mosaic(tmp_path / "m.fits")
    inside, edge = wcs.pixel_to_world(50, 40), wcs.pixel_to_world(0, 40)
    ra = [inside.ra.deg, edge.ra.deg, 90.0, 180.0, np.nan]
    dec = [inside.dec.deg, edge.dec.deg, 10.0, -10.0, 0.0]  # the fourth is opposite: a gnomonic projection mirrors it
    catalogue = {"ra": ra, "dec": dec}
    source = cutouts(tmp_path / "m.fits", catalogue, size=7)
    reasons = source.rows(np.arange(5), 0)[QUARANTINE].to_pylist()
    assert reasons[:2] == [None, None]
    assert all("off the mosaic" in reason for reason in reasons[2:])
    padded = images(source, 2)[1, 0]
    assert np.isnan(padded[:, :3]).all()
    assert np.isfinite(padded[:, 3:]).all()
    strict = cutouts(tmp_path / "m.fits", catalogue, size=7, edge="quarantine").rows(np.arange(2), 0)
    assert [bool(reason) for reason in strict[QUARANTINE].to_pylist()] == [False, True]


def test_bands_and_tiles(tmp_path: Path) -> None:
    left, right = mosaic(tmp_path / "l.fits", ra=10.0), mosaic(tmp_path / "r.fits", ra=10.02)
    a, b = left.pixel_to_world(50, 40), right.pixel_to_world(50, 40)
    catalogue = {"RAJ2000": [a.ra.deg, b.ra.deg], "DEJ2000": [a.dec.deg, b.dec.deg]}
    tiles = [str(tmp_path / "l.fits"), str(tmp_path / "r.fits")]
    source = cutouts({"g": tiles, "r": tiles}, catalogue, size=3)
    column = source.schema()["image"]
    assert (column.bands, column.shape) == (("g", "r"), (2, 3, 3))
    cut = images(source, 2)
    np.testing.assert_array_equal(cut[0], cut[1])  # each from the tile in which it lies at the centre
    np.testing.assert_array_equal(cut[:, 0], cut[:, 1])
    assert cut[0, 0, 1, 1] == 40 * 100 + 50


def test_what_cannot_be_cut_is_told(tmp_path: Path) -> None:
    mosaic(tmp_path / "m.fits")
    fits.PrimaryHDU(np.zeros((9, 9), np.float32)).writeto(tmp_path / "plain.fits")
    coarse = header(0, 0, (9, 9))
    coarse["CDELT1"], coarse["CDELT2"] = -1.0, 1.0
    fits.PrimaryHDU(np.zeros((9, 9), np.float32), coarse).writeto(tmp_path / "coarse.fits")
    sky = {"ra": [0.0], "dec": [10.0]}
    with pytest.raises(GsnnError, match="no world coordinates"):
        cutouts(tmp_path / "plain.fits", sky, size=3)
    with pytest.raises(GsnnError, match="one pixel scale"):
        cutouts([str(tmp_path / "m.fits"), str(tmp_path / "coarse.fits")], sky, size=3)
    with pytest.raises(GsnnError, match="at least one pixel"):
        cutouts(tmp_path / "m.fits", sky, size=0)
    with pytest.raises(GsnnError, match="no column 'alpha'"):
        cutouts(tmp_path / "m.fits", sky, size=3, ra="alpha")
    with pytest.raises(GsnnError, match="no such file"):
        cutouts(tmp_path / "no.fits", sky, size=3)
    assert SkyCoord(0, 10, unit="deg")
