import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import gsnn
from gsnn.data import hats
from gsnn.data.export import to_hats, to_parquet
from gsnn.data.schema import Column
from gsnn.data.survey import Survey
from gsnn.errors import GsnnError


@pytest.fixture
def survey(make, sky):
    return make(sky(300, size=8), codecs={"image": "lossless"})


def by_id(survey):
    columns = survey.view().columns(list(survey.schema))
    order = np.argsort(columns["id"])
    return {name: values[order] for name, values in columns.items()}


def same(a, b):
    assert list(a) == list(b)
    for name in a:
        assert a[name].shape == b[name].shape
        if a[name].dtype == object:
            assert a[name].tolist() == b[name].tolist()
        else:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_a_catalogue_comes_back_as_the_survey_that_it_was(survey, tmp_path):
    assert to_hats(survey, tmp_path / "sky", most=40) == 300
    back = Survey.create(tmp_path / "back", gsnn.read(tmp_path / "sky"))
    assert not survey.schema.difference(back.schema)
    assert not back.schema.difference(survey.schema)
    assert back.schema["image"].codec == ""
    same(by_id(survey), by_id(back))


def test_the_layout_is_that_of_hats(survey, tmp_path):
    to_hats(survey, tmp_path / "sky", most=40)
    root = tmp_path / "sky"
    about = hats._properties(root / "hats.properties")
    assert about == hats._properties(root / "properties")
    required = {"obs_collection": "sky", "dataproduct_type": "object", "hats_col_ra": "ra", "hats_col_dec": "dec"}
    assert required.items() <= about.items()
    assert about["hats_nrows"] == "300"
    assert about["hats_col_healpix"] == "_healpix_29"
    assert about["hats_col_healpix_order"] == "29"
    listed = [tuple(map(int, line.split(","))) for line in (root / "partition_info.csv").read_text().split()[1:]]
    files = {p.relative_to(root / "dataset").as_posix() for p in (root / "dataset").rglob("Npix=*")}
    assert files == {f"Norder={k}/Dir={n // 10000 * 10000}/Npix={n}.parquet" for k, n in listed}
    metadata, total = pq.read_metadata(root / "dataset/_metadata"), 0
    assert metadata.num_rows == 300
    assert {metadata.row_group(i).column(0).file_path for i in range(metadata.num_row_groups)} == files
    assert pq.read_schema(root / "dataset/_common_metadata").names[0] == "_healpix_29"
    for order, pixel in listed:
        table = pq.ParquetFile(root / "dataset" / hats.place_of(order, pixel)).read()
        index = table.column("_healpix_29").to_numpy()
        assert (np.diff(index) >= 0).all()
        assert (index >> 2 * (29 - order) == pixel).all()
        np.testing.assert_array_equal(index, hats.pixels_29(table["ra"].to_numpy(), table["dec"].to_numpy()))
        assert table.num_rows <= 40
        total += table.num_rows
    assert total == 300
    assert int(about["hats_order"]) == max(k for k, _ in listed)
    children = {(k - 1, n >> 2) for k, n in listed if k}
    assert not children & set(listed), "a pixel and a part of it are not both partitions"


@pytest.mark.parametrize("most", [1, 10, 10**6])
def test_partitions_cover_every_row_once(most):
    pixels = np.sort(np.random.default_rng(0).integers(0, 12 << 58, 200))
    pixels[20:30] = pixels[20]  # ten objects at one place cannot be parted
    pixels = np.sort(pixels)
    parts = hats.divided(pixels, most, deepest=6)
    rows = np.concatenate([np.arange(first, last) for *_, first, last in parts])
    np.testing.assert_array_equal(np.sort(rows), np.arange(200))
    assert all(last - first <= most or order == 6 for order, _, first, last in parts)


def other(tmp_path, pixels, columns=None, about=None, place="dataset/Norder=1/Dir=0/Npix={}.parquet"):
    """A catalogue as others write it: no GSNN schema, names of its own."""
    root = tmp_path / "gaia"
    for pixel in pixels:
        file = root / place.format(pixel)
        file.parent.mkdir(parents=True, exist_ok=True)
        table = {
            "_healpix_29": pa.array([1, 2]),
            "alpha": [10.0 + pixel, 11.0],
            "delta": [5.0, 6.0],
            "mag": [20.5, 21.0],
        }
        pq.write_table(pa.table({**table, **(columns or {})}), file)
    given = {"obs_collection": "gaia", "dataproduct_type": "object", "hats_col_ra": "alpha", "hats_col_dec": "delta"}
    lines = [f"{k} = {v}" for k, v in {**given, **(about or {})}.items()]
    (root / "hats.properties").write_text("#HATS catalog\n! a comment\n\n" + "\n".join(lines) + "\n")
    (root / "partition_info.csv").write_text("Norder,Npix\n" + "".join(f"1,{p}\n" for p in pixels))
    return root


@pytest.mark.parametrize(
    "place",
    [
        "dataset/Norder=1/Dir=0/Npix={}.parquet",
        "dataset/Norder=1/Dir=0/Npix={}/part0.parquet",
        "dataset/Norder=1/Dir=0/Npix={}.snappy.parquet",
        "Norder=1/Dir=0/Npix={}.parquet",
    ],
)
def test_catalogues_of_others_are_read(tmp_path, place):
    root = other(tmp_path, [47, 3], place=place)
    pq.write_table(pa.table({"x": [1]}), root / "data_thumbnail.parquet")
    source = gsnn.read(root)
    names = [column.name for column in source.schema().columns]
    assert set(names) == {"id", "ra", "dec", "mag"}
    survey = Survey.create(tmp_path / "s", source)
    got = survey.view().columns(["ra", "dec", "mag"])
    assert got["ra"].tolist() == [13.0, 11.0, 57.0, 11.0], "in the order of the sky"
    assert survey.schema["ra"].kind == "position"
    assert source.schema().provenance["format"] == "hats"


def test_a_collection_is_read_by_its_main_catalogue(tmp_path):
    root = other(tmp_path / "all", [3])
    (tmp_path / "all/collection.properties").write_text("obs_collection=all\nhats_primary_table_url=gaia\n")
    assert len(gsnn.read(tmp_path / "all")) == 2
    shutil.rmtree(root)
    with pytest.raises(GsnnError, match="names the catalogue 'gaia', which is not in it"):
        gsnn.read(tmp_path / "all")


def test_damaged_catalogues_are_told(tmp_path):
    root = other(tmp_path, [3, 4])
    (root / "dataset/Norder=1/Dir=0/Npix=4.parquet").unlink()
    with pytest.raises(GsnnError, match="lacks 1 of its partitions, such as Norder=1, Npix=4"):
        gsnn.read(root)
    (root / "partition_info.csv").write_text("a,b\n1,2\n")
    with pytest.raises(GsnnError, match="must list Norder and Npix"):
        gsnn.read(root)
    (root / "partition_info.csv").unlink()
    assert len(gsnn.read(root)) == 2
    shutil.rmtree(root / "dataset")
    with pytest.raises(GsnnError, match="no partitions"):
        gsnn.read(root)
    with pytest.raises(GsnnError, match="the type 'margin'"):
        gsnn.read(other(tmp_path / "m", [3], about={"dataproduct_type": "margin"}))
    with pytest.raises(GsnnError, match="its ra is the column 'nothing'"):
        gsnn.read(other(tmp_path / "n", [3], about={"hats_col_ra": "nothing"}))


def test_a_parquet_file_comes_back_as_the_survey_that_it_was(survey, tmp_path):
    rows = survey.where("g < 20")
    assert to_parquet(survey, tmp_path / "some.parquet", rows) == len(rows)
    back = Survey.create(tmp_path / "back", gsnn.read(tmp_path / "some.parquet"))
    assert not survey.schema.difference(back.schema)
    columns = list(survey.schema)
    same(survey.view(rows).columns(columns), back.view().columns(columns))


def test_what_cannot_be_exported_is_refused(make, sky, survey, tmp_path):
    survey.to_parquet(tmp_path / "x.parquet")
    with pytest.raises(GsnnError, match="exists already"):
        survey.to_parquet(tmp_path / "x.parquet")
    with pytest.raises(GsnnError, match="exists already"):
        survey.to_hats(tmp_path)
    with pytest.raises(GsnnError, match=r"no positions ra and dec.*ends in \.parquet"):
        make({Column("id", "id"): ["a"]}).to_hats(tmp_path / "h")
    with pytest.raises(GsnnError, match="copy it to the store"):
        survey.to_hats("s3://sky/h")
    with pytest.raises(GsnnError, match="cannot write"):
        survey.to_parquet("/proc/no/x.parquet")
    nowhere = {c: ([np.nan] * 5 if c.name == "ra" else v) for c, v in sky(5).items()}
    with pytest.raises(GsnnError, match="no object has a position"):
        make(nowhere).to_hats(tmp_path / "h")
    assert not (tmp_path / "h").exists()
    assert not list(tmp_path.glob(".*partial*"))


def test_the_command_exports(survey, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from gsnn.cli import app

    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["survey", survey.path, "--to", "sky", "--where", "g < 20"])
    assert done.exit_code == 0, done.output
    kept = len(survey.where("g < 20"))
    assert f"{kept} of 300 objects in sky" in done.output
    assert CliRunner().invoke(app, ["ingest", "sky", "--out", "again"]).exit_code == 0
    assert len(Survey.open("again")) == kept
    assert CliRunner().invoke(app, ["survey", survey.path, "--to", "sky.parquet"]).exit_code == 0
    assert Path("sky.parquet").is_file()
