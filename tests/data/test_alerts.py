"""Alert packets: what of a packet becomes which column, and what of a damaged one becomes a sentence."""

from __future__ import annotations

import gzip
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastavro")

from packets import LSST, LSST_JSON, ZTF, container, lsst_record, numbered, stamp, ztf_record

from gsnn.data.light_curves import LightCurves
from gsnn.data.readers import read
from gsnn.data.readers.alerts import SKIES
from gsnn.data.readers.avro import decode
from gsnn.data.source import QUARANTINE
from gsnn.errors import GsnnError


def ztf(**changes: object) -> bytes:
    return container(ZTF, ztf_record(**changes))


def test_a_ztf_packet_has_its_light_curve_stamps_and_numbers() -> None:
    alert = decode(ztf(number=7))
    assert (alert["survey"], alert["id"], alert["object_id"]) == ("ztf", "7", "ZTF26000007")
    assert (alert["ra"], alert["dec"], alert["drb"], alert["ndethist"]) == (17.0, -5.0, 0.99, 2.0)
    assert np.isnan(alert["ssdistnr"])  # -999 stands for no value
    assert "candid" not in alert
    curve = alert["light_curve"]  # exposures 0, 2 and 3; of exposure 1 there is a limit alone
    np.testing.assert_array_equal(curve.time, [60000.0, 60002.0, 60003.0])
    np.testing.assert_array_equal(curve.band, [0, 0, 1])
    magnitude = np.array([20.0, 19.8, 19.7])
    np.testing.assert_allclose(curve.flux, 10 ** (-0.4 * (magnitude - 23.9)), rtol=1e-6)
    np.testing.assert_allclose(curve.flux_error, curve.flux * 0.1 / 1.0857362, rtol=1e-6)
    assert LightCurves.of([curve]).faults(len(SKIES["ztf"].bands)) == [None]
    assert alert["stamps"].shape == (3, 63, 63)
    np.testing.assert_array_equal(alert["stamps"][1], np.arange(63 * 63).reshape(63, 63) + 7)
    assert "stamps" not in decode(ztf(), stamps=False)


def test_a_fainter_source_has_a_negative_flux() -> None:
    bright, faint = (decode(ztf(candidate={"isdiffpos": sign}))["light_curve"] for sign in ("t", "f"))
    assert faint.flux[-1] == -bright.flux[-1] < 0
    assert faint.flux_error[-1] == bright.flux_error[-1] > 0


def test_forced_photometry_stands_where_it_was_measured() -> None:
    def forced(day: int, flux: float) -> dict[str, object]:
        jd, zero = 2460000.5 + day, 26.4
        return {"jd": jd, "fid": 1, "magzpsci": zero, "forcediffimflux": flux, "forcediffimfluxunc": 20.0}

    curve = decode(ztf(fp_hists=[forced(-3, 12.0), forced(0, 500.0), forced(2, -99999.0)]))["light_curve"]
    np.testing.assert_array_equal(curve.time, [59997.0, 60000.0, 60002.0, 60003.0])
    unit = 10 ** (-0.4 * (26.4 - 23.9))
    np.testing.assert_allclose(curve.flux[:2], [12 * unit, 500 * unit], rtol=1e-6)  # once, not twice
    np.testing.assert_allclose(curve.flux[2], 10 ** (-0.4 * (19.8 - 23.9)), rtol=1e-6)  # forced photometry failed


@pytest.mark.parametrize("corner", ["near", "far"])
def test_a_stamp_cut_by_the_edge_keeps_its_object_at_the_centre(corner: str) -> None:
    cut = {"fileName": "", "stampData": stamp(shape=(63, 40))}
    place = {"xpos": 9.0 if corner == "near" else 3060.0}
    plane = decode(ztf(cutoutScience=cut, candidate=place))["stamps"][0]
    empty = np.isnan(plane).all(0)
    assert empty.sum() == 23
    assert empty[:23].all() == (corner == "near")
    assert empty[40:].all() == (corner == "far")


def test_fill_values_of_a_stamp_are_missing() -> None:
    cut = {"fileName": "", "stampData": stamp(fill=True)}
    plane = decode(ztf(cutoutScience=cut))["stamps"][0]
    assert np.isnan(plane[-1, -1])
    assert np.isnan(plane).sum() == 1


def test_a_packet_without_stamps_is_a_packet() -> None:
    none = dict.fromkeys(("cutoutScience", "cutoutTemplate", "cutoutDifference"))
    assert decode(ztf(**none))["stamps"] is None
    one = decode(ztf(cutoutTemplate=None))["stamps"]
    assert np.isnan(one[1]).all()
    assert np.isfinite(one[[0, 2]]).all()


@pytest.mark.parametrize("framed", ["container", "registry"])
def test_an_lsst_packet(framed: str) -> None:
    if framed == "container":
        alert = decode(container(LSST, lsst_record(9), codec="deflate"))
    else:
        alert = decode(numbered(LSST, lsst_record(9), 1000), {1000: LSST_JSON})
    assert (alert["survey"], alert["id"], alert["object_id"], alert["ra"]) == ("lsst", "9", "77", 150.0)
    curve = alert["light_curve"]
    np.testing.assert_array_equal(curve.time, [61000.0, 61001.0, 61002.0])
    np.testing.assert_allclose(curve.flux, [0.02, 0.5, 1.0], rtol=1e-6)  # microjansky
    assert [SKIES["lsst"].bands[k] for k in curve.band] == ["i", "r", "r"]
    assert alert["reliability"] == 0.8
    assert np.isnan(alert["snr"])
    assert "visit" not in alert
    assert alert["stamps"].shape == (3, 31, 31)


def test_the_packet_that_names_an_unknown_schema_says_which() -> None:
    packet = numbered(LSST, lsst_record(), 1001)
    with pytest.raises(GsnnError, match=r"schema 1001, which is not at hand \(known: 1000\)"):
        decode(packet, {1000: LSST_JSON})
    with pytest.raises(GsnnError, match="known: none"):
        decode(packet)


def test_every_truncated_packet_is_one_sentence() -> None:
    packet = ztf(number=3, previous=1)
    numbers = numbered(LSST, lsst_record(), 1)
    for whole, schemas in ((packet, None), (numbers, {1: LSST_JSON})):
        for end in (*range(0, 400, 7), *range(400, len(whole), 97), len(whole) - 1):
            with pytest.raises(GsnnError) as caught:
                decode(whole[:end], schemas)
            assert "\n" not in str(caught.value)


def _bomb() -> bytes:
    return gzip.compress(bytes(200 << 20), 9)


def _with_schema(old: str, new: str) -> bytes:
    """A packet whose schema says something else of the same bytes (the length of the text stays)."""
    assert len(old) == len(new)
    return ztf().replace(old.encode(), new.encode(), 1)


@pytest.mark.parametrize(
    ("packet", "sentence"),
    [
        (lambda: b"", "no Avro alert packet"),
        (lambda: b'{"candid": 1}', "no Avro alert packet"),
        (lambda: ztf(candidate={"fid": 9}), "band 9, which the survey does not have"),
        (lambda: container(ZTF, ztf_record(), ztf_record()), "holds 2 records"),
        (lambda: container({"type": "record", "name": "user", "fields": []} , {}), "damaged"),
        (lambda: container({"type": "record", "name": "user", "fields": [{"name": "x", "type": "int"}]}, {"x": 1}),
         "'user', not an alert of ztf"),
        (lambda: container(ZTF | {"name": "lsst.alert"}, ztf_record()), "has no 'diaSource'"),
        (lambda: ztf(cutoutScience={"fileName": "", "stampData": _bomb()}), "unpacks to more than 1024 KiB"),
        (lambda: ztf(cutoutScience={"fileName": "", "stampData": b"PNG"}), "no FITS image"),
        (lambda: ztf(cutoutScience={"fileName": "", "stampData": stamp(packed=False)[:9000]}), "truncated"),
        (lambda: ztf(cutoutScience={"fileName": "", "stampData": stamp()[:900]}), "ends early"),
        (lambda: _with_schema('"double"', '"string"'), "damaged or truncated"),
        (lambda: ztf().replace(b"null", b"zstd", 1), "compressed with 'zstd'"),
    ],
)  # fmt: skip
def test_what_is_no_alert_is_one_sentence(packet, sentence: str) -> None:
    with pytest.raises(GsnnError, match=sentence):
        decode(packet())


def test_a_block_that_unpacks_without_end_is_refused() -> None:
    whole = container(ZTF, ztf_record(), codec="deflate")
    engine = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = engine.compress(bytes(300 << 20)) + engine.flush()
    mark = bytes(range(16))
    head = whole[: whole.index(mark) + 16]

    def zigzag(value: int) -> bytes:
        value, out = value << 1, b""
        while value > 127:
            value, out = value >> 7, out + bytes([value & 127 | 128])
        return out + bytes([value])

    with pytest.raises(GsnnError, match="unpacks to more than"):
        decode(head + zigzag(1) + zigzag(len(body)) + body + mark)


def test_a_list_of_nothing_cannot_fill_the_memory() -> None:
    """An array of nulls may announce 2^60 items and take no byte."""
    schema = {
        "type": "record",
        "name": "ztf.alert",
        "fields": [{"name": "x", "type": {"type": "array", "items": "null"}}],
    }
    with pytest.raises(GsnnError, match="lists of nothing"):
        decode(container(schema, {"x": [None]}))


def _folder(path: Path, count: int = 4) -> Path:
    path.mkdir(exist_ok=True)
    for i in range(count):
        (path / f"packet{i}.avro").write_bytes(ztf(number=100 + i))
    return path


def test_a_folder_of_packets_is_a_survey_with_the_bad_ones_set_aside(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "night")
    whole = ztf(number=200)
    (folder / "torn.avro").write_bytes(whole[:-3000])
    (folder / "other.avro").write_bytes(container(LSST, lsst_record(5)))
    (folder / "twice.avro").write_bytes(ztf(number=100))
    (folder / "unseen.avro").write_bytes(ztf(number=300, previous=0, candidate={"magpsf": None}))
    (folder / "flat.avro").write_bytes(ztf(number=301, candidate={"sigmapsf": 0.0}))
    source = read(folder)
    batch = source.rows(np.arange(len(source)), 0)
    rows = dict(zip(batch["id"].to_pylist(), batch[QUARANTINE].to_pylist()))
    assert {name for name, reason in rows.items() if reason is None} == {"100", "101", "102", "103"}
    assert "truncated" in rows["torn"]
    assert rows["other"] == "an alert of lsst among those of ztf"
    assert "stands already" in next(reason for name, reason in rows.items() if name.startswith("100#"))
    assert rows["300"] == "the light curve has no observation"
    assert rows["301"] == "an error of the flux is not positive"
    schema = source.schema()
    curve = schema["light_curve"]
    assert (curve.kind, curve.unit, curve.bands) == ("light_curve", "uJy", ("g", "r", "i"))
    assert (curve.time_unit, curve.epoch) == ("d", "MJD 0")
    assert (schema["stamps"].kind, schema["stamps"].shape, schema["stamps"].pixel_scale) == (
        "image",
        (3, 63, 63),
        1.012,
    )
    assert schema["drb"].kind == "scalar"
    assert any("2 of 9" in note for note in source.notes)


def test_packets_become_a_survey(tmp_path: Path) -> None:
    from gsnn.data.survey import Survey

    source = read(_folder(tmp_path / "night"))
    survey = Survey.create(tmp_path / "survey", source)
    values = survey.view().columns(["light_curve", "stamps", "drb"])
    alert = decode(ztf(number=101))
    np.testing.assert_array_equal(values["light_curve"][1].flux, alert["light_curve"].flux)
    np.testing.assert_array_equal(values["stamps"][1], alert["stamps"])
    assert survey.verify() == []


def test_several_packets_in_a_file_are_as_many_rows(tmp_path: Path) -> None:
    path = tmp_path / "night.avro"
    path.write_bytes(container(ZTF, *(ztf_record(i) for i in range(1, 6)), codec="deflate"))
    source = read(path)
    batch = source.rows(np.array([3, 0]), 0)
    assert batch["id"].to_pylist() == ["4", "1"]
    stamps = np.array(batch["stamps"].to_pylist()).reshape(2, 3, 63, 63)
    assert stamps[:, 0, 0, 0].tolist() == [4.0, 1.0]


def test_a_file_of_other_records_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "users.avro"
    schema = {"type": "record", "name": "user", "fields": [{"name": "x", "type": "int"}]}
    path.write_bytes(container(schema, {"x": 1}))
    with pytest.raises(GsnnError, match="'user', not an alert"):
        read(path)


def test_without_fastavro_the_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    packet = ztf()
    monkeypatch.setitem(sys.modules, "fastavro", None)
    with pytest.raises(GsnnError, match=r"pip install 'gsnn\[alerts\]'"):
        decode(packet)
