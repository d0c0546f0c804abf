"""Light curves as they come: out of order, twice, without errors, empty, in other bands. A reason, or one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from curve_files import kepler
from tiny import curve_rows, curves

from gsnn.data.bands import in_bands
from gsnn.data.light_curves import LightCurves
from gsnn.data.readers import read
from gsnn.data.source import QUARANTINE
from gsnn.data.survey import Survey
from gsnn.errors import GsnnError
from gsnn.run import Run, run
from gsnn.study import Study

pytestmark = pytest.mark.usefixtures("no_figures")

BANDS = np.array(["g", "r", "i"])


def tables(folder: Path, objects: int = 60, **changes) -> Path:
    """Objects and their observations as two files; ``changes`` are functions of a column of the observations."""
    light, kinds = curves(objects)
    ids = [f"s{i}" for i in range(objects)]
    observations = {
        "snid": np.array(ids, dtype=object)[light.object],
        "mjd": light.time,
        "flt": BANDS[light.band].astype(object),
        "flux": light.flux,
        "flux_err": light.flux_error,
    }
    for name, change in changes.items():
        observations[name] = change(observations[name])
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table({"snid": ids, "kind": kinds}), folder / "heads.parquet")
    pq.write_table(pa.table(observations), folder / "observations.parquet")
    return folder


def at(place: int, value: object):
    def change(values: np.ndarray) -> np.ndarray:
        values = values.copy()
        values[place] = value
        return values

    return change


def aside(folder: Path, **how) -> dict[str, str]:
    """The objects of a source that are set aside, and why."""
    source = read(folder, **how)
    batch = source.rows(np.arange(len(source)), 0)
    reasons = batch[QUARANTINE].to_pylist() if QUARANTINE in batch.schema.names else [None] * len(source)
    return {name: reason for name, reason in zip(batch["id"].to_pylist(), reasons) if reason}


FAULTS = {
    "negative error": ({"flux_err": at(0, -1.0)}, "an error of the flux is not positive"),
    "zero error": ({"flux_err": at(0, 0.0)}, "an error of the flux is not positive"),
    "no error": ({"flux_err": at(0, np.nan)}, "an error of the flux is not positive"),
    "repeated time": ({"mjd": lambda v: at(0, v[2])(v), "flt": lambda v: at(0, v[2])(v)},
                      "two observations in one band have the same time"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_an_object_that_cannot_be_used_is_set_aside(name: str, tmp_path: Path) -> None:
    changes, reason = FAULTS[name]
    folder = tables(tmp_path / "data", **changes)
    assert aside(folder) == {"s0": reason}
    survey = Survey.create(tmp_path / "survey", read(folder))
    assert survey.quarantined() == [{"id": "s0", "reason": reason}]
    assert len(survey) == 59


def test_observations_out_of_order_are_put_in_order(tmp_path: Path) -> None:
    whole, mixed = tables(tmp_path / "a"), tables(tmp_path / "b")
    table = pq.read_table(mixed / "observations.parquet")
    order = np.random.default_rng(3).permutation(len(table))
    pq.write_table(table.take(pa.array(order)), mixed / "observations.parquet")
    batches = [read(folder).rows(np.arange(60), 0) for folder in (whole, mixed)]
    assert batches[0]["light_curve"].equals(batches[1]["light_curve"])


def test_one_observation_is_a_light_curve_and_none_is_not(tmp_path: Path) -> None:
    folder = tables(tmp_path / "data")
    table = pq.read_table(folder / "observations.parquet").to_pandas()
    table = table[(table.snid != "s1") & ((table.snid != "s0") | ~table.snid.duplicated())]
    pq.write_table(pa.Table.from_pandas(table, preserve_index=False), folder / "observations.parquet")
    assert aside(folder) == {"s1": "the light curve has no observation"}
    curves = LightCurves.from_arrow(read(folder).rows(np.arange(60), 0)["light_curve"])
    assert curves.lengths[0] == 1


def test_nothing_that_can_be_used_is_one_sentence(tmp_path: Path) -> None:
    folder = tables(tmp_path / "data", flux=lambda v: np.full_like(v, np.nan))
    with pytest.raises(GsnnError, match=r"none of the 60 rows can be used; .*no observation"):
        Survey.create(tmp_path / "survey", read(folder))


def test_quarters_without_a_flux_set_the_star_aside(tmp_path: Path) -> None:
    nothing = np.full(60, np.nan, np.float32)
    (tmp_path / "a.fits").write_bytes(kepler(1, star="KIC 1"))
    (tmp_path / "b.fits").write_bytes(kepler(1, star="KIC 2", PDCSAP_FLUX=nothing))
    assert aside(tmp_path) == {"KIC 2": "no part of the light curve can be used (quarter 1: no flux is a number)"}


def test_a_survey_grows_in_its_own_bands(tmp_path: Path) -> None:
    survey = Survey.create(tmp_path / "survey", curve_rows(20))
    more = curve_rows(6, first=20)
    schema = more.schema()
    swapped = in_bands(more, schema.with_column(_with_bands(schema["lc"], ("r", "i", "g"))))
    survey = survey.append(swapped)
    own, new = (s.view().columns(["lc"])["lc"] for s in (Survey.create(tmp_path / "other", more), survey))
    assert len(survey) == 26
    np.testing.assert_array_equal(new.take(np.arange(20, 26)).band, own.band)
    strange = in_bands(curve_rows(3, first=30), schema.with_column(_with_bands(schema["lc"], ("g", "i"))))
    reasons = strange.rows(np.arange(3), 0)[QUARANTINE].to_pylist()
    assert reasons == ["an observation is in the band 'r', not in one of g, i"] * 3


def _with_bands(column, bands):
    from dataclasses import replace

    return replace(column, bands=bands)


@pytest.fixture(scope="module")
def curve_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("curves")
    study = {
        "question": "Is it slow or fast?",
        "schema": 1,
        "data": {"source": str(tables(folder / "data")), "inputs": ["light_curve"], "target": "kind"},
        "model": {"name": "rnn", "width": 8, "layers": 1},
        "objective": {"name": "classify"},
        "train": {"epochs": 1, "batch": 16},
        "evaluate": {"baselines": ["prior"]},
        "explain": {"methods": []},
    }
    return run(Study.from_dict(study, name="curves"), out=folder / "run")


def test_new_data_are_read_in_the_bands_of_the_network(curve_run: Run, tmp_path: Path) -> None:
    """A file without the band g numbers its bands anew, and one with the band i names one that the network lacks."""
    apart = {"flt": lambda v: np.full_like(v, "r"), "mjd": lambda v: v + np.arange(len(v))}
    alone, both = (tables(tmp_path / name, objects=4, **apart) for name in ("alone", "both"))
    table = pq.read_table(both / "observations.parquet").to_pandas()
    table.loc[table.snid == "s3", "flt"] = "g"
    pq.write_table(pa.Table.from_pandas(table, preserve_index=False), both / "observations.parquet")
    found, same = (curve_run.predict(folder).to_pylist() for folder in (alone, both))
    for one, other in zip(found[:3], same[:3]):
        assert one["fast_p"] == pytest.approx(other["fast_p"], abs=1e-6)
    strange = tables(tmp_path / "strange", objects=4, flt=at(0, "i"))
    rows = {row["id"]: row["flag"] for row in curve_run.predict(strange).to_pylist()}
    assert rows["s0"] == "quarantined: an observation is in the band 'i', not in one of g, r"
    assert "quarantined" not in (rows["s1"] or "")


def test_new_data_without_a_light_curve_are_one_sentence(curve_run: Run, tmp_path: Path) -> None:
    tables(tmp_path)
    with pytest.raises(GsnnError, match="column 'light_curve' is missing"):
        curve_run.predict(str(tmp_path / "heads.parquet"))
