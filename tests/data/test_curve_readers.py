"""Light curves out of files: two tables, lists in cells, a table an object, and the products of missions."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from curve_files import kepler, rotation_curve, snana, tarred, zipped

from gsnn.data.light_curves import LightCurves
from gsnn.data.readers import read
from gsnn.data.source import QUARANTINE
from gsnn.data.survey import Survey
from gsnn.errors import GsnnError

HEADS = {"snid": [7, 8, 9], "ra": [1.0, 2.0, 3.0], "dec": [0.0, 1.0, 2.0], "type": ["Ia", "II", "Ia"]}
OBS = {
    "snid": [8, 7, 7, 8, 7],
    "mjd": [3.0, 2.0, 1.0, 1.0, 5.0],
    "flt": ["z", "r", "g", "g", "g"],
    "fluxcal": [30.0, 20.0, 10.0, 40.0, np.nan],
    "fluxcalerr": [3.0, 2.0, 1.0, 4.0, 1.0],
}


def curves(source, name: str = "light_curve") -> tuple[LightCurves, list[str | None]]:
    """The light curves of a source, and why objects are set aside."""
    batch = source.rows(np.arange(len(source)), 0)
    reasons = batch[QUARANTINE].to_pylist() if QUARANTINE in batch.schema.names else [None] * len(source)
    return LightCurves.from_arrow(batch[name]), reasons


def test_observations_join_their_objects_by_the_columns_names() -> None:
    source = read(HEADS, observations=OBS)
    found, reasons = curves(source)
    column = source.schema()["light_curve"]
    assert column.bands == ("g", "r", "z")  # from blue to red
    assert (column.kind, column.time_unit, column.epoch) == ("light_curve", "d", "MJD 0")
    np.testing.assert_array_equal(found.lengths, [2, 2, 0])  # a flux that is no number is no observation
    np.testing.assert_array_equal(found[0].time, [1.0, 2.0])  # in order of time
    np.testing.assert_array_equal(found[0].flux, [10.0, 20.0])
    np.testing.assert_array_equal(found[0].flux_error, [1.0, 2.0])
    np.testing.assert_array_equal(found[0].band, [0, 1])
    np.testing.assert_array_equal(found[1].band, [0, 2])
    assert reasons == [None, None, "the light curve has no observation"]
    assert source.rows(np.array([1]), 0)["id"].to_pylist() == ["8"]


def test_other_lists_of_the_objects_are_left_out_and_told() -> None:
    heads = pa.table(HEADS).append_column("spectrum", pa.array([[1.0], [1.0, 2.0], [3.0]]))
    source = read(heads, observations=OBS, light_curve={"flux": "fluxcal"})
    assert "spectrum" not in source.schema()
    assert any("unequal lists were left out: spectrum" in note for note in source.notes)
    assert curves(source)[0].lengths.tolist() == [2, 2, 0]


def test_two_tables_are_recognised_as_objects_and_observations(tmp_path: Path) -> None:
    pq.write_table(pa.table(HEADS), tmp_path / "b_heads.parquet")
    pq.write_table(pa.table(OBS), tmp_path / "a_obs.parquet")
    found, _ = curves(read(tmp_path))
    np.testing.assert_array_equal(found.lengths, [2, 2, 0])


def test_the_study_overrules_names() -> None:
    renamed = {"name": OBS["snid"], "when": OBS["mjd"], "f": OBS["flt"], "y": OBS["fluxcal"], "dy": OBS["fluxcalerr"]}
    with pytest.raises(GsnnError, match="name them by light_curve"):
        read(HEADS, observations=renamed, on="name")
    said = {"name": "lc", "time": "when", "flux": "y", "error": "dy", "band": "f", "bands": ["r", "g", "z"]}
    source = read(HEADS, observations=renamed, on="name", light_curve={**said, "unit": "nJy", "epoch": "now"})
    found, _ = curves(source, "lc")
    assert source.schema()["lc"].bands == ("r", "g", "z")
    assert (source.schema()["lc"].unit, source.schema()["lc"].epoch) == ("nJy", "now")
    np.testing.assert_array_equal(found[0].band, [1, 0])


def test_a_band_that_the_study_does_not_have_sets_its_objects_aside() -> None:
    _, reasons = curves(read(HEADS, observations=OBS, light_curve={"bands": ["g", "r"]}))
    assert reasons[:2] == [None, "an observation is in a band that the survey does not have"]


@pytest.mark.parametrize(
    ("light_curve", "sentence"),
    [
        ({"tim": "mjd"}, "no key 'tim'; did you mean 'time'"),
        ({"time": "mdj"}, "no column 'mdj' for time; did you mean 'mjd'"),
        ({"band": "filt"}, "no column 'filt' for band; did you mean 'flt'"),
        ({"repeated": "forget"}, "repeated = 'forget'"),
        ({"to_flux": "yes please"}, "to_flux = 'yes please'"),
        ({"flux": ["fluxcal", "flux2"]}, "no column 'flux2' for flux"),
        ({"time": "flt"}, "holds words"),
    ],
)
def test_a_wrong_setting_is_one_sentence(light_curve: dict, sentence: str) -> None:
    with pytest.raises(GsnnError, match=sentence):
        read(HEADS, observations=OBS, light_curve=light_curve)


def test_observations_of_other_objects_are_refused_or_told() -> None:
    other = OBS | {"snid": [8, 7, 7, 80, 81]}
    assert any("2 observations belong to no object" in note for note in read(HEADS, observations=other).notes)
    with pytest.raises(GsnnError, match="no observation belongs to an object: the objects' keys are like '7'"):
        read(HEADS, observations=OBS | {"snid": [70, 71, 72, 73, 74]})
    with pytest.raises(GsnnError, match="did you mean 'snid'"):
        read(HEADS, observations=OBS, on="snd")


BAD = {
    "snid": [7, 7, 8, 8],
    "mjd": [1.0, 2.0, 1.0, 1.0],
    "flux": [5.0, 6.0, 10.0, 20.0],
    "flux_err": [1.0, 0.0, 1.0, 2.0],
}


def test_bad_errors_and_repeated_times_are_set_aside_or_mended_as_asked() -> None:
    found, reasons = curves(read(HEADS, observations=BAD))
    assert reasons[0] == "an error of the flux is not positive"
    assert reasons[1] == "two observations in one band have the same time"
    mended = {"bad_errors": "drop", "repeated": "combine"}
    found, reasons = curves(read(HEADS, observations=BAD, light_curve=mended))
    assert reasons[:2] == [None, None]
    np.testing.assert_array_equal(found[0].time, [1.0])
    np.testing.assert_allclose(found[1].flux, [(10 + 20 / 4) / (1 + 1 / 4)])  # weights 1/error^2
    np.testing.assert_allclose(found[1].flux_error, [1.25**-0.5])
    negative = BAD | {"flux_err": [1.0, -2.0, 1.0, 2.0]}
    assert curves(read(HEADS, observations=negative))[1][0] == "an error of the flux is not positive"


def test_magnitudes_stay_or_become_fluxes() -> None:
    table = {"snid": [7, 7, 8], "hjd": [1.0, 2.0, 3.0], "mag": [20.0, 99.0, 22.5], "magerr": [0.1, 9.9, 0.2]}
    source = read(HEADS, observations=table)
    assert (source.schema()["light_curve"].unit, source.schema()["light_curve"].epoch) == ("mag", "HJD 0")
    np.testing.assert_allclose(curves(source)[0].flux, [20.0, 22.5])  # 99 stands for no value
    source = read(HEADS, observations=table, light_curve={"to_flux": True})
    assert source.schema()["light_curve"].unit == "uJy"
    found, _ = curves(source)
    np.testing.assert_allclose(found.flux, 10 ** (-0.4 * (np.array([20.0, 22.5]) - 23.9)), rtol=1e-6)
    np.testing.assert_allclose(found.flux_error / found.flux, np.array([0.1, 0.2]) / 1.0857362, rtol=1e-6)


LISTS = pa.table(
    {
        "objectid": [11, 12, 13],
        "filterid": [1, 2, 1],
        "hmjd": pa.array([[2.0, 1.0], [5.0], [1.0, 2.0, 3.0]]),
        "mag": pa.array([[15.0, 16.0], [17.0], [18.0, 19.0]]),
        "magerr": pa.array([[0.1, 0.2], [0.3], [0.1, 0.1, 0.1]]),
        "catflags": pa.array([[0, 0], [0], [0, 0, 0]]),
    }
)


def test_lists_in_the_cells_of_a_table(tmp_path: Path) -> None:
    pq.write_table(LISTS, tmp_path / "ztf.parquet", row_group_size=2)
    for source in (read(LISTS), read(tmp_path / "ztf.parquet")):
        found, reasons = curves(source)
        assert source.schema()["light_curve"].bands == ("g", "r", "i")  # ZTF's numbers
        np.testing.assert_array_equal(found[0].flux, [16.0, 15.0])
        np.testing.assert_array_equal(found.band, [0, 0, 1])
        assert reasons == [None, None, "its lists are of unequal lengths: hmjd 3, mag 2, magerr 3"]
        assert any("catflags" in note for note in source.notes)
        assert "hmjd" not in source.schema()


def test_lists_that_happen_to_have_one_length_are_light_curves_too(tmp_path: Path) -> None:
    pq.write_table(LISTS.slice(1, 1), tmp_path / "one.parquet")
    pq.write_table(LISTS.slice(0, 2), tmp_path / "two.parquet")
    found, _ = curves(read(tmp_path / "one.parquet"))
    np.testing.assert_array_equal(found[0].flux, [17.0])
    found, reasons = curves(read([tmp_path / "one.parquet", tmp_path / "two.parquet"]))
    assert found.lengths.tolist() == [1, 2, 1]
    assert "stands already" in reasons[2]
    spectra = pa.table({"flux": pa.array([[1.0, 2.0], [3.0, 4.0]]), "wave": pa.array([[5.0, 6.0], [5.0, 6.0]])})
    assert read(spectra).schema()["flux"].shape == (2,)


@pytest.mark.parametrize(("quality", "kept"), [(None, [1, 1, 0]), (32768, [1, 1, 0]), (1, [2, 1, 0]), (0, [2, 1, 0])])
def test_flagged_observations_are_dropped(quality: int | None, kept: list[int]) -> None:
    flagged = LISTS.drop_columns(["catflags"])
    flagged = flagged.append_column("catflags", pa.array([[32768, 0], [0], [0, 0, 0]]))
    how = {"flags": "catflags"} | ({} if quality is None else {"quality": quality})
    found, _ = curves(read(flagged, light_curve=how))
    assert found.lengths.tolist() == kept
    rows = OBS | {"photflag": [0, 32768, 0, 0, 0]}
    found, _ = curves(read(HEADS, observations=rows, light_curve=how | {"flags": "photflag"}))
    assert found.lengths.tolist() == [kept[0], 2, 0]
    with pytest.raises(GsnnError, match="no column 'photflags' for flags"):
        read(HEADS, observations=rows, light_curve={"flags": "photflags"})


def test_lists_as_words_for_each_band(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("star,patch_id,type\nx_1,3,1.0\nx_2,4,2.0\nx_3,4,2.0\n")
    lists = [
        ",time_points_b,time_points_r,light_points_b,light_points_r,error_points_b,error_points_r,bkg_points_b",
        'x_1,"[1.5, 2.5]","[1.0]","[19.0, nan]","[18.0]","[0.1, 0.2]","[0.3]","[7, 7]"',
        'x_2,"[3.0]","[4.0, 5.0]","[19.5]","[18.5, 18.6]","[0.1]","[0.2, 0.2]","[7]"',
    ]
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress("\n".join(lists).encode()))
    source = read(tmp_path / "a.csv", labels=tmp_path / "b.csv.gz", on="col1", kinds={"star": "id"})
    found, reasons = curves(source)
    assert source.schema()["light_curve"].bands == ("b", "r")
    np.testing.assert_array_equal(found[0].time, [1.0, 1.5])
    np.testing.assert_array_equal(found[0].band, [1, 0])
    np.testing.assert_array_equal(found[1].flux, np.float32([19.5, 18.5, 18.6]))
    assert reasons == [None, None, "the light curve has no observation"]


def test_lists_without_roles_are_left_out_and_told() -> None:
    table = pa.table({"x": [1.0, 2.0], "pixels": pa.array([[1.0], [1.0, 2.0]])})
    source = read(table)
    assert "pixels" not in source.schema()
    assert any("unequal lists were left out: pixels" in note for note in source.notes)
    with pytest.raises(GsnnError, match="name them by"):
        read(table, light_curve={})
    with pytest.raises(GsnnError, match="no columns that hold light curves"):
        read({"x": np.arange(3.0)}, light_curve={})


@pytest.mark.parametrize("packed", ["zip", "tar", "folder"])
def test_a_table_an_object(packed: str, tmp_path: Path) -> None:
    files = {f"NGC{i}_rotmod.dat": rotation_curve(3.0 + i, points=2 + i) for i in range(3)}
    if packed == "folder":
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)
        source = read(tmp_path, light_curve={})
    else:
        whole = files | {"0README": b"what it is\nand who made it\n"}
        path = tmp_path / "curves"
        path.write_bytes(zipped(whole) if packed == "zip" else tarred(whole))
        source = read(path)
    batch = source.rows(np.arange(3), 0)
    column = source.schema()["light_curve"]
    assert batch["id"].to_pylist() == ["NGC0", "NGC1", "NGC2"]
    assert (column.bands, column.unit, column.time_unit) == (("Vobs", "Vgas", "Vdisk", "Vbul"), "km/s", "kpc")
    found, _ = curves(source)
    np.testing.assert_array_equal(found.lengths, [8, 12, 16])
    np.testing.assert_array_equal(found[0].flux[found[0].band == 0], [5.0, 15.0])
    np.testing.assert_array_equal(found[0].flux_error, np.full(8, 1.5, np.float32))
    assert batch["Distance"].to_pylist() == [3.0, 4.0, 5.0]
    assert source.schema()["Distance"].unit == "Mpc"


def test_tables_without_a_header_are_named_and_constants_become_columns(tmp_path: Path) -> None:
    rows = {i: "".join(f"{10.0 + i} -0.1 {k}.5 1{k}.0 0.1 {k}.6 -99.9 9\n" for k in (2, 1)) for i in range(3)}
    files = {f"t/{i}.dat": text.encode() for i, text in rows.items()} | {"t/3.dat": b"10.0 -0.1 2.5\n"}
    (tmp_path / "t.tar.gz").write_bytes(tarred(files))
    names = ["ra", "dec", "mjd_u", "mag_u", "err_u", "mjd_g", "mag_g", "err_g"]
    source = read(tmp_path / "t.tar.gz", names=names)
    found, reasons = curves(source)
    np.testing.assert_array_equal(found[0].time, [1.5, 2.5])  # -99.9 is no magnitude
    assert source.schema()["light_curve"].bands == ("u", "g")
    assert source.schema()["ra"].kind == "position"
    assert source.rows(np.array([1]), 0)["ra"].to_pylist() == [11.0]
    assert "has 3 columns and `names` has 8" in reasons[3]


def test_an_archive_that_is_no_set_of_light_curves_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(zipped({"a.csv": b"x,y\n1,2\n3,4\n", "b.csv": b"x,y\n1,2\n3,4\n"}))
    with pytest.raises(GsnnError, match=r"name them by light_curve = .*there are x, y"):
        read(path)
    path.write_bytes(zipped({"a.png": b"\x89PNG\r\n\x1a\n\0\0\0"}))
    with pytest.raises(GsnnError, match="without text tables"):
        read(path)
    whole = tarred({"a.dat": rotation_curve(), "b.dat": rotation_curve()})
    path.write_bytes(whole[: len(whole) - 60])
    with pytest.raises(GsnnError, match="damaged or truncated"):
        read(path)


def _write(folder: Path, **files: bytes) -> Path:
    for name, content in files.items():
        (folder / f"{name}.fits").write_bytes(content)
    return folder


def test_the_quarters_of_a_star_are_stitched(tmp_path: Path) -> None:
    flags = np.zeros(60, np.int32)
    flags[10], flags[11] = 4, 1 << 12  # coarse pointing disqualifies a cadence, an Argabrightening flag does not
    folder = _write(tmp_path, q2=kepler(2, 500.0), q1=kepler(1, 1000.0, SAP_QUALITY=flags))
    source = read(folder)
    found, reasons = curves(source)
    assert (len(source), reasons) == (1, [None])
    assert found.lengths.tolist() == [59 + 58]
    assert np.median(found.flux) == 1.0
    assert np.diff(found.time).min() > 0
    dips = found.flux < 0.995
    assert dips.sum() == 2  # one a quarter
    np.testing.assert_allclose(found.flux[dips], 0.99, rtol=1e-6)
    np.testing.assert_allclose(found.flux_error, 1e-3, rtol=1e-6)
    column = source.schema()["light_curve"]
    assert (column.bands, column.time_unit, column.epoch) == (("Kepler",), "d", "BJD 2454833")
    batch = source.rows(np.arange(1), 0)
    assert batch["id"].to_pylist() == ["KIC 11442793"]
    assert (batch["teff"].to_pylist(), batch["parts"].to_pylist()) == ([5970], [2])
    everything = read(folder, light_curve={"quality": 0, "flux": "SAP_FLUX"})
    assert curves(everything)[0].lengths.tolist() == [59 + 59]
    np.testing.assert_allclose(curves(everything)[0].flux_error[0], 1e-3, rtol=1e-6)


def test_quarters_that_cannot_be_used_are_dropped_with_a_reason(tmp_path: Path) -> None:
    nothing = np.full(60, np.nan, np.float32)
    folder = _write(tmp_path, q1=kepler(1), q3=kepler(3, PDCSAP_FLUX=nothing), q4=kepler(4, -50.0))
    _write(tmp_path, other=kepler(1, star="KIC 1", PDCSAP_FLUX=nothing), torn=kepler(1, star="KIC 2")[:4000])
    source = read(folder)
    batch = source.rows(np.arange(len(source)), 0)
    rows = {row["id"]: row for row in batch.select(["id", "left_out", QUARANTINE]).to_pylist()}
    assert rows["KIC 11442793"]["left_out"] == (
        "quarter 3: no flux is a number; quarter 4: its median flux, -50, is not positive"
    )
    assert rows["KIC 11442793"][QUARANTINE] is None
    assert rows["KIC 1"][QUARANTINE] == "no part of the light curve can be used (quarter 1: no flux is a number)"
    assert any("1 of 5 files were left out" in note for note in source.notes)


def test_missions_do_not_mix(tmp_path: Path) -> None:
    folder = _write(tmp_path, a=kepler(1), b=kepler(1, telescope="TESS", star="TIC 5"))
    with pytest.raises(GsnnError, match="Kepler and TESS, whose times differ"):
        read(folder)
    with pytest.raises(GsnnError, match="PDCSAP_FLUX and SAP_FLUX"):
        read(folder / "a.fits", light_curve={"flux": "TIME"})


@pytest.mark.parametrize("packed", [False, True])
def test_snana_heads_find_their_photometry(packed: bool, tmp_path: Path) -> None:
    head, photometry = snana()
    (tmp_path / "SET_HEAD.FITS").write_bytes(head)
    with pytest.raises(GsnnError, match=r"needs the file SET_PHOT.FITS \(or SET_PHOT.FITS.gz\)"):
        read(tmp_path / "SET_HEAD.FITS")
    name, content = ("SET_PHOT.FITS.gz", gzip.compress(photometry)) if packed else ("SET_PHOT.FITS", photometry)
    (tmp_path / name).write_bytes(content)
    for path in (tmp_path / "SET_HEAD.FITS", tmp_path):
        source = read(path)
        found, reasons = curves(source)
        assert source.rows(np.arange(2), 0)["id"].to_pylist() == ["SN1", "SN2"]
        assert source.schema()["light_curve"].bands == ("g", "r", "z")
        np.testing.assert_array_equal(found[0].time, [57001.0, 57002.0, 57003.0])
        np.testing.assert_array_equal(found[0].flux, [11.0, 12.0, 13.0])
        np.testing.assert_array_equal(found[1].band, [2, 1])
        assert reasons == [None, None]
        assert "PTROBS_MIN" not in source.schema()


def test_snana_pointers_that_point_elsewhere_are_set_aside(tmp_path: Path) -> None:
    head, photometry = snana({"SN1": (1, 3), "SN2": (5, 60), "SN3": (2, 6), "SN4": (3, 2)})
    (tmp_path / "SET_HEAD.FITS").write_bytes(head)
    (tmp_path / "SET_PHOT.FITS").write_bytes(photometry)
    _, reasons = curves(read(tmp_path))
    assert reasons[0] is None
    assert reasons[1] == "its rows 5 to 60 are not in SET_PHOT.FITS"
    assert reasons[2] == "its rows 2 to 6 belong to another supernova as well"
    assert reasons[3] == "the light curve has no observation"


def test_light_curves_survive_a_survey_and_its_export(tmp_path: Path) -> None:
    from gsnn.data.export import export

    survey = Survey.create(tmp_path / "survey", read(HEADS, observations=OBS))
    assert [row["reason"] for row in survey.quarantined()] == ["the light curve has no observation"]
    export(survey, tmp_path / "out.parquet")
    source = read(tmp_path / "out.parquet")
    again = Survey.create(tmp_path / "again", source)
    assert again.schema["light_curve"] == survey.schema["light_curve"]
    for name in ("time", "flux", "flux_error", "band", "offsets"):
        one, other = (getattr(s.view().columns(["light_curve"])["light_curve"], name) for s in (survey, again))
        np.testing.assert_array_equal(one, other)


def test_files_of_light_curves_are_one_source_with_all_their_bands(tmp_path: Path) -> None:
    from gsnn.data.export import export

    for name, filters in (("a", ["g", "r", "g", "g", "g"]), ("b", ["z", "g", "z", "z", "z"])):
        heads = HEADS | {"snid": [f"{name}{i}" for i in HEADS["snid"]]}
        table = OBS | {"snid": [f"{name}{i}" for i in OBS["snid"]], "flt": filters}
        survey = Survey.create(tmp_path / f"{name}.survey", read(heads, observations=table))
        export(survey, tmp_path / f"{name}.parquet")
    source = read([tmp_path / "a.parquet", tmp_path / "b.parquet"])
    assert source.schema()["light_curve"].bands == ("g", "r", "z")
    found, reasons = curves(source)
    assert reasons == [None] * 4
    b7 = found[source.rows(np.arange(4), 0)["id"].to_pylist().index("b7")]
    np.testing.assert_array_equal(b7.band, [2, 0])
