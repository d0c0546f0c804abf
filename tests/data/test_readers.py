"""Every reader keeps the same promises; what each one decides is checked beside them."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Table as AstropyTable
from PIL import Image

from gsnn.data.readers import Files, read
from gsnn.data.schema import Schema
from gsnn.data.source import QUARANTINE, Source
from gsnn.errors import GsnnError

N = 30
NUMBERS = np.random.default_rng(7)
IDS = np.array([f"g{i:03d}" for i in range(N)])
RA, DEC = NUMBERS.uniform(0, 360, N), NUMBERS.uniform(-90, 90, N)
FLUX = NUMBERS.normal(20, 3, N).astype(np.float32)
COUNT = NUMBERS.integers(0, 50, N)
CLASS = np.array(["STAR", "GALAXY", "QSO"])[NUMBERS.integers(0, 3, N)]
CUBE = NUMBERS.normal(size=(N, 2, 12, 14)).astype(np.float32)
COLOUR = NUMBERS.integers(0, 256, (N, 12, 14, 3)).astype(np.uint8)
TABLE = {"objid": IDS, "ra": RA, "dec": DEC, "flux": FLUX, "count": COUNT, "class": CLASS}


def csv_text(separator: str = ",", header: str = "", rows: slice = slice(None)) -> str:
    lines = [separator.join(str(v[i]) for v in TABLE.values()) for i in range(N)[rows]]
    return "\n".join([header or separator.join(TABLE), *lines]) + "\n"


def fits_table(path: Path) -> None:
    vector = NUMBERS.normal(size=(N, 4)).astype(np.float32)
    columns = [
        fits.Column("objid", "4A", array=IDS),
        fits.Column("RAJ2000", "D", unit="deg", array=RA),
        fits.Column("DEJ2000", "D", unit="deg", array=DEC),
        fits.Column("flux", "E", unit="mJy", array=FLUX),
        fits.Column("count", "J", null=-1, array=np.where(COUNT == 0, -1, COUNT).astype(np.int32)),
        fits.Column("unsigned", "I", bzero=32768, array=(COUNT + 40000).astype(np.uint16)),
        fits.Column("scaled", "I", array=COUNT.astype(np.int16)),
        fits.Column("class", "8A", array=CLASS),
        fits.Column("good", "L", array=COUNT > 20),
        fits.Column("sed", "4E", unit="Jy", array=vector),
    ]
    table = fits.BinTableHDU.from_columns(columns)
    table.header["XSCAL7"], table.header["XZERO7"] = 0.5, 10.0
    table.writeto(path)
    path.write_bytes(path.read_bytes().replace(b"XSCAL7", b"TSCAL7").replace(b"XZERO7", b"TZERO7"))


def write_fits_image(path: Path, shape: tuple[int, ...] = (12, 14), value: float = 0.0) -> None:
    header = fits.Header({"BUNIT": "nJy", "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 0.0, "CRVAL2": 0.0})
    header.update({"CDELT1": -1e-4, "CDELT2": 1e-4, "CRPIX1": 7, "CRPIX2": 6})
    fits.PrimaryHDU(np.arange(np.prod(shape), dtype=np.float32).reshape(shape) + value, header).writeto(path)


def write_pictures(folder: Path, suffix: str = "png", splits: bool = False) -> Path:
    for i in range(6):
        where = folder / ("train" if i < 3 else "test") if splits else folder
        where = where / ("spiral" if i % 2 else "smooth")
        where.mkdir(parents=True, exist_ok=True)
        Image.fromarray(COLOUR[i]).save(where / f"{100 + i}.{suffix}")
    return folder


def galaxy10(path: Path, side: int = 69) -> None:
    with h5py.File(path, "w") as file:
        file["images"] = NUMBERS.integers(0, 256, (N, side, side, 3)).astype(np.uint8)
        file["ans"] = (COUNT % 10).astype(np.uint8)
        file["ra"], file["dec"] = RA, DEC
        file["redshift"] = np.where(COUNT > 40, np.nan, 0.1)
        file["pxscale"] = np.full(N, 0.262)


def _text(folder: Path, text: str, name: str = "table.csv") -> Path:
    (folder / name).write_text(text)
    return folder / name


def _hdf5_groups(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["photometry/mag_g"], file["photometry/mag_r"] = FLUX, FLUX - 0.5
        file["photometry/id"] = np.arange(N) + 10**12
        file["photometry/name"] = IDS.astype("S4")
        file["about/bands"] = np.arange(3)


def _structured() -> np.ndarray:
    out = np.zeros(N, dtype=[("flux", "f4"), ("count", ">i4"), ("class", "U8")])
    out["flux"], out["count"], out["class"] = FLUX, COUNT, CLASS
    return out


def _kepler(folder: Path) -> Path:
    from curve_files import kepler

    for quarter in (1, 2):
        for star in (7, 8):
            (folder / f"{star}-{quarter}.fits").write_bytes(kepler(quarter, star=f"KIC {star}"))
    return folder


def make(name: str, folder: Path) -> object:
    """A source of each kind that ``read`` takes."""
    path = folder / "file"
    if name == "csv":
        return _text(folder, csv_text())
    if name == "csv.gz":
        (folder / "t.csv.gz").write_bytes(gzip.compress(csv_text().encode()))
        return folder / "t.csv.gz"
    if name == "blanks":
        return _text(folder, csv_text(" ", "# " + "  ".join(TABLE)), "table.dat")
    if name == "fits-table":
        fits_table(path)
    if name == "fits-text-table":
        columns = [fits.Column("flux", "F8.3", unit="mag", array=FLUX), fits.Column("class", "A8", array=CLASS)]
        fits.TableHDU.from_columns(columns).writeto(path)
    if name == "fits-image":
        write_fits_image(path)
    if name == "fits-cube":
        write_fits_image(path, (3, 12, 14))
    if name == "fits-compressed":
        fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(COUNT.reshape(5, 6).astype(np.int16))]).writeto(path)
    if name == "fits-folder":
        for i in range(4):
            write_fits_image(folder / f"{i}.fits", value=100.0 * i)
        return folder
    if name == "galaxy10":
        galaxy10(path)
    if name == "hdf5-groups":
        _hdf5_groups(path)
    if name == "parquet":
        images = pa.FixedSizeListArray.from_arrays(pa.array(CUBE.reshape(-1)), 2 * 12 * 14)
        pq.write_table(pa.table({**TABLE, "vector": images}), path, row_group_size=7)
    if name == "npz":
        np.savez(folder / "a.npz", images=CUBE, z=FLUX, label=CLASS)
        return folder / "a.npz"
    if name == "npz-compressed":
        np.savez_compressed(folder / "a.npz", images=CUBE, z=FLUX)
        return folder / "a.npz"
    if name == "npy":
        np.save(folder / "a.npy", COLOUR)
        return folder / "a.npy"
    if name == "npy-structured":
        np.save(folder / "a.npy", _structured())
        return folder / "a.npy"
    if name == "avro":
        packets = pytest.importorskip("packets")
        for i in range(5):
            (folder / f"{i}.avro").write_bytes(packets.container(packets.ZTF, packets.ztf_record(i + 1, i)))
        return folder
    if name == "kepler":
        return _kepler(folder)
    if name == "lists":
        lists = {
            part: pa.array([np.arange(1.0, i + 2).tolist() for i in range(N)]) for part in ("mjd", "mag", "magerr")
        }
        return pa.table({**TABLE, **lists})
    if name in ("png", "jpg", "tif", "gif"):
        return write_pictures(folder, name)
    if name == "pandas":
        return pytest.importorskip("pandas").DataFrame(TABLE)
    if name == "astropy":
        return AstropyTable(TABLE, masked=True)
    if name == "arrow":
        return pa.table(TABLE)
    if name == "dict":
        return {**TABLE, "image": CUBE}
    if name == "array":
        return np.stack([FLUX, COUNT], 1)
    return path


# fmt: off
SOURCES = [
    "csv", "csv.gz", "blanks", "fits-table", "fits-text-table", "fits-image", "fits-cube", "fits-compressed",
    "fits-folder", "galaxy10", "hdf5-groups", "parquet", "npz", "npz-compressed", "npy", "npy-structured", "png",
    "jpg", "tif", "gif", "pandas", "astropy", "arrow", "dict", "array", "avro", "kepler", "lists",
]
# fmt: on


@pytest.mark.parametrize("name", SOURCES)
def test_promises_of_every_reader(name: str, tmp_path: Path) -> None:
    source = read(make(name, tmp_path))
    assert isinstance(source, Source)
    schema, n = source.schema(), len(source)
    assert n > 0
    batch = source.rows(np.arange(n), 0)
    assert QUARANTINE not in batch.schema.names
    # the schema is what the batches have
    assert batch.schema.names == list(schema)
    assert [field.type for field in batch.schema] == [column.arrow_type() for column in schema.columns]
    assert Schema.from_arrow(batch.schema).columns == schema.columns
    # ids stand first and tell all rows apart
    assert schema.columns[0].name == "id"
    assert schema.columns[0].kind == "id"
    assert len(set(batch["id"].to_pylist())) == n
    assert batch["id"].null_count == 0
    # labels are of their classes
    for column in schema.of_kind("label"):
        assert set(batch[column.name].to_pylist()) - {None} <= set(column.classes)
    # rows are a pure function of their index
    order = np.random.default_rng(1).permutation(n)
    assert source.rows(order, 3).equals(batch.take(pa.array(order)))
    assert source.rows(np.array([0, 0, n - 1]), 1).equals(batch.take(pa.array([0, 0, n - 1])))
    assert source.rows(np.array([], dtype=int), 0).num_rows == 0
    with pytest.raises(GsnnError, match="is none"):
        source.rows(np.array([n]), 0)
    # what was read survives Arrow, as a survey keeps it
    again = read(pa.Table.from_batches([batch]))
    assert again.schema().columns == schema.columns
    assert again.rows(order, 0).equals(source.rows(order, 0))


@pytest.mark.parametrize("name", ["csv", "csv.gz", "blanks", "pandas", "astropy", "arrow", "dict", "parquet"])
def test_columns_of_a_table(name: str, tmp_path: Path) -> None:
    source = read(make(name, tmp_path))
    kinds = {column.name: column.kind for column in source.schema().columns}
    wanted = {"id": "id", "ra": "position", "dec": "position", "flux": "scalar", "count": "scalar", "class": "label"}
    assert wanted.items() <= kinds.items()
    batch = source.rows(np.arange(N), 0)
    assert batch["id"].to_pylist() == IDS.tolist()
    assert batch["class"].to_pylist() == CLASS.tolist()
    np.testing.assert_array_equal(batch["ra"].to_numpy(), RA)
    np.testing.assert_allclose(batch["flux"].to_numpy(), FLUX, rtol=1e-6)
    assert batch["count"].to_pylist() == COUNT.tolist()
    assert source.schema()["class"].classes == ("GALAXY", "QSO", "STAR")


def test_fits_table_has_units_scales_and_nulls(tmp_path: Path) -> None:
    source = read(make("fits-table", tmp_path))
    schema, batch = source.schema(), source.rows(np.arange(N), 0)
    assert (schema["flux"].unit, schema["sed"].unit, schema["sed"].shape) == ("mJy", "Jy", (4,))
    assert schema["ra"].kind == "position"
    assert batch["unsigned"].to_pylist() == (COUNT + 40000).tolist()
    np.testing.assert_allclose(batch["scaled"].to_numpy(), COUNT / 2 + 10)
    assert batch["count"].null_count == (COUNT == 0).sum()
    assert batch["good"].to_pylist() == ["true" if c > 20 else "false" for c in COUNT]


def test_fits_image_has_unit_scale_and_pixels(tmp_path: Path) -> None:
    source = read(make("fits-folder", tmp_path))
    column, batch = source.schema()["image"], source.rows(np.arange(4), 0)
    assert (column.unit, column.shape) == ("nJy", (1, 12, 14))
    assert column.pixel_scale == pytest.approx(0.36)
    pixels = batch["image"].flatten().to_numpy().reshape(4, 12, 14)
    np.testing.assert_array_equal(pixels[2], np.arange(168).reshape(12, 14) + 200)
    assert batch["id"].to_pylist() == ["0", "1", "2", "3"]


def test_images_of_another_shape_are_set_aside(tmp_path: Path) -> None:
    folder = make("fits-folder", tmp_path)
    write_fits_image(tmp_path / "odd.fits", (5, 5))
    (tmp_path / "torn.fits").write_bytes((tmp_path / "1.fits").read_bytes()[:2900])
    batch = read(folder).rows(np.arange(6), 0)
    reasons = dict(zip(batch["id"].to_pylist(), batch[QUARANTINE].to_pylist()))
    assert "5 x 5" in reasons["odd"]
    assert "truncated" in reasons["torn"]
    assert [reasons[str(i)] for i in range(4)] == [None] * 4
    assert batch["id"].null_count == 0


def test_galaxy10_has_class_names_and_scale(tmp_path: Path) -> None:
    source = read(make("galaxy10", tmp_path))
    column, labels = source.schema()["images"], source.schema()["ans"]
    assert (column.kind, column.shape, column.bands, column.dtype) == ("image", (3, 69, 69), ("r", "g", "b"), "uint8")
    assert column.pixel_scale == pytest.approx(0.262)
    assert len(labels.classes) == 10
    batch = source.rows(np.arange(N), 0)
    assert batch["ans"].to_pylist() == [labels.classes[c % 10] for c in COUNT]
    with h5py.File(tmp_path / "file") as file:
        first = np.moveaxis(file["images"][5], -1, 0)
    pixels = batch["images"].flatten().to_numpy().reshape(N, 3, 69, 69)
    np.testing.assert_array_equal(pixels[5], first)


def test_pictures_have_class_and_split_folders(tmp_path: Path) -> None:
    source = read(write_pictures(tmp_path, splits=True))
    batch = source.rows(np.arange(6), 0)
    assert source.schema()["image"].shape == (3, 12, 14)
    assert source.schema()["label"].classes == ("smooth", "spiral")
    rows = {r["id"]: (r["label"], r["split"]) for r in batch.select(["id", "label", "split"]).to_pylist()}
    assert rows["101"] == ("spiral", "train")
    assert rows["104"] == ("smooth", "test")
    place = batch["id"].to_pylist().index("103")
    pixels = np.array(batch["image"][place].as_py(), np.uint8).reshape(3, 12, 14)
    np.testing.assert_array_equal(pixels, np.moveaxis(COLOUR[3], -1, 0))


def test_crop_and_size(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path)
    crop = read(folder, crop=8)
    pixels = np.array(crop.rows(np.array([0]), 0)["image"][0].as_py()).reshape(3, 8, 8)
    np.testing.assert_array_equal(pixels, np.moveaxis(COLOUR[0], -1, 0)[:, 2:10, 3:11])
    small = read(folder, crop=8, size=4).rows(np.array([0]), 0)["image"][0].as_py()
    small = np.array(small, float).reshape(3, 4, 4)
    assert abs(small.mean() - pixels.mean()) < 12  # averaged, not picked
    assert small.std() < pixels.std()
    arrays = read({"image": CUBE}, size=6).schema()["image"]
    assert arrays.shape == (2, 6, 6)
    with pytest.raises(GsnnError, match="crop = 13"):
        read(folder, crop=13)


def test_a_picture_that_cannot_be_decoded_is_set_aside(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path)
    damaged = folder / "spiral" / "103.png"
    damaged.write_bytes(damaged.read_bytes()[:200])
    batch = read(folder).rows(np.arange(6), 0)
    bad = [r["id"] for r in batch.select(["id", QUARANTINE]).to_pylist() if r[QUARANTINE]]
    assert bad == ["103"]


def test_labels_are_joined(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "images")
    table = _text(tmp_path, "GalaxyID,votes,kind\n" + "\n".join(f"{100 + i},{i / 10},A" for i in (0, 1, 2, 9)) + "\n")
    source = read(folder, labels=str(table), on="GalaxyID")
    rows = {r["id"]: r["votes"] for r in source.rows(np.arange(6), 0).select(["id", "votes"]).to_pylist()}
    assert rows == {"100": 0.0, "101": 0.1, "102": 0.2, "103": None, "104": None, "105": None}
    assert any("3 of 6" in note for note in source.notes)
    assert any("1 rows" in note for note in source.notes)
    with pytest.raises(GsnnError, match="did you mean 'GalaxyID'"):
        read(folder, labels=str(table), on="GalaxyId")
    with pytest.raises(GsnnError, match="no object has a label"):
        read(folder, labels={"id": ["x", "y"], "votes": [1, 2]})


def test_files_is_a_part_of_a_study(tmp_path: Path) -> None:
    from gsnn.config import build

    path = _text(tmp_path, csv_text())
    spec = {"name": "files", "path": str(path), "columns": ["flux", "count"], "kinds": {"count": "label"}}
    source = build(spec, "source")
    assert isinstance(source, Files)
    assert list(source.schema()) == ["id", "flux", "count"]
    assert source.schema()["count"].classes == tuple(str(c) for c in sorted(set(COUNT.tolist())))
    assert source.rows(np.arange(3), 0)["count"].to_pylist() == [str(c) for c in COUNT[:3]]
    units = read(str(path), units={"flux": "nJy"}).schema()["flux"].unit
    assert units == "nJy"


def test_a_list_of_files_is_one_source(tmp_path: Path) -> None:
    a = _text(tmp_path, csv_text(rows=slice(0, 10)), "a.csv")
    b = _text(tmp_path, csv_text(rows=slice(10, N)), "b.csv")
    for source in (read([a, b]), read(str(tmp_path / "*.csv")), read(tmp_path)):
        order = NUMBERS.permutation(N)
        assert source.rows(order, 0)["id"].to_pylist() == IDS[order].tolist()
    odd = _text(tmp_path, "x,y\n1,2\n", "odd.csv")
    with pytest.raises(GsnnError, match="has no column"):
        read([a, odd])


def test_rows_of_a_large_memory_are_not_read_at_once(tmp_path: Path) -> None:
    """A memory-mapped source answers a few rows of a sparse terabyte file."""
    header = io.BytesIO()
    shape = (10**9, 1, 16, 16)
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    with open(tmp_path / "big.npy", "wb") as file:
        file.write(header.getvalue())
        file.truncate(len(header.getvalue()) + 4 * int(np.prod(shape)))
    source = read(tmp_path / "big.npy")
    assert len(source) == 10**9
    assert source.rows(np.array([0, 10**9 - 1]), 0).num_rows == 2


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int16", "uint8"])
def test_numbers_that_stand_for_no_value_are_missing(dtype: str) -> None:
    values = np.array([1, 99, 3, 20, 99], dtype)
    source = read(
        {"g": values, "r": np.linspace(0, 99, 5), "kind": np.array(["99", "a", "a", "99", "a"])}, missing=[99, -9999.5]
    )
    assert len(read({"g": values}).rows(np.arange(5), 0)["g"].drop_null()) == 5
    batch = source.rows(np.array([4, 0, 1]), 0)
    assert batch["g"].to_pylist() == [None, 1, None]
    assert batch["r"].to_pylist() == [None, 0, 24.75]
    assert batch["kind"].to_pylist() == ["a", "99", "a"]
    assert source.schema()["g"].kind == "scalar"
