"""Survey-wide work in one process: cut, interrupted, damaged and gone on with, it gives what one pass gives."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from survey_wide import BAD, OBJECTS, assert_same_predictions, assert_same_survey, recorded, stamps
from tiny import TABLE, change, table, table_rows

from gsnn.data.survey import Survey
from gsnn.errors import GsnnError
from gsnn.run import run as walk
from gsnn.spread import engines, ingest, predict
from gsnn.spread.fragments import workshop
from gsnn.study import Study

FRAGMENT = 1024
FRAGMENTS = OBJECTS // FRAGMENT + 1  # the last one is of what was set aside


@pytest.fixture
def counted(monkeypatch):
    """The numbers of the fragments that are done; ``counted.stop`` is how many may be before it is interrupted."""

    class Counted(list):
        stop = None

    done = Counted()

    def count(module):
        true = module.part

        def part(task):
            if done.stop is not None and len(done) == done.stop:
                raise KeyboardInterrupt
            done.append(task["number"])
            return true(task)

        monkeypatch.setattr(module, "part", part)

    count(predict)
    count(ingest)
    return done


@pytest.mark.parametrize("name", ["found", "found.parquet"])
def test_fragments_give_what_one_pass_gives(table_run, wide, expected, tmp_path, name):
    manifest = predict.predict(table_run, wide, tmp_path / name, fragment=FRAGMENT)
    assert_same_predictions(expected, tmp_path / name)
    assert manifest["objects"] == OBJECTS + len(BAD)
    assert manifest["flagged"] == sum(1 for flag in expected["flag"].to_pylist() if flag)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    if name == "found":
        files = {path.name for path in (tmp_path / name).iterdir()}
        assert files == {"_manifest.json", *(f"part-{k:06d}.parquet" for k in range(FRAGMENTS))}


def test_any_data_that_a_run_takes(table_run, tmp_path):
    import pandas

    values = table(300, first=5000)
    pandas.DataFrame(values).to_csv(tmp_path / "new.csv", index=False)
    for data in (values, tmp_path / "new.csv"):
        predict.predict(table_run, data, tmp_path / "found.parquet", fragment=1)
        assert pq.read_table(tmp_path / "found.parquet").equals(table_run.predict(data))
        (tmp_path / "found.parquet").unlink()


@pytest.mark.parametrize("name", ["found", "found.parquet"])
def test_only_what_is_missing_is_done(table_run, wide, expected, tmp_path, counted, name):
    out, counted.stop = tmp_path / name, 5
    with pytest.raises(KeyboardInterrupt):
        predict.predict(table_run, wide, out, fragment=FRAGMENT)
    assert not out.exists()  # readers see all or nothing
    counted.stop = None
    predict.predict(table_run, wide, out)
    assert counted == list(range(FRAGMENTS))
    assert_same_predictions(expected, out)
    predict.predict(table_run, wide, out)
    assert len(counted) == FRAGMENTS  # it is finished


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "a flipped bit": flip,
    "half a file": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "no file": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("finished", [False, True])
def test_a_damaged_part_is_done_again(table_run, wide, expected, tmp_path, counted, damage, finished):
    out, counted.stop = tmp_path / "found", None if finished else 6
    if finished:
        predict.predict(table_run, wide, out, fragment=FRAGMENT)
    else:
        with pytest.raises(KeyboardInterrupt):
            predict.predict(table_run, wide, out, fragment=FRAGMENT)
    DAMAGES[damage]((out if finished else workshop(out)) / "part-000002.parquet")
    counted.clear()
    counted.stop = None
    predict.predict(table_run, wide, out)
    assert counted == ([2] if finished else [2, *range(6, FRAGMENTS)])
    assert_same_predictions(expected, out)


def test_a_damaged_record_is_a_missing_one(table_run, wide, expected, tmp_path, counted):
    out, counted.stop = tmp_path / "found", 4
    with pytest.raises(KeyboardInterrupt):
        predict.predict(table_run, wide, out, fragment=FRAGMENT)
    (workshop(out) / "000001.json").write_text('{"start": 1024,')
    counted.stop = None
    predict.predict(table_run, wide, out)
    assert counted == [0, 1, 2, 3, 1, *range(4, FRAGMENTS)]
    assert_same_predictions(expected, out)


def test_killed_while_the_parts_become_the_result(table_run, wide, expected, tmp_path, counted, monkeypatch):
    """The manifest is written, the records are gone, and the folder has not got its name yet."""
    out = tmp_path / "found"

    def killed(out, work, manifest):
        whole(out, work, manifest)
        out.rename(work)
        raise KeyboardInterrupt

    whole = predict._folder
    monkeypatch.setattr(predict, "_folder", killed)
    with pytest.raises(KeyboardInterrupt):
        predict.predict(table_run, wide, out, fragment=FRAGMENT)
    assert recorded(workshop(out)) == 0
    monkeypatch.setattr(predict, "_folder", whole)
    predict.predict(table_run, wide, out)
    assert len(counted) == FRAGMENTS
    assert_same_predictions(expected, out)


def test_parts_of_something_else_are_refused(table_run, wide, table_survey, tmp_path, counted):
    study = change(TABLE, train__epochs=1, evaluate__baselines=["prior"], explain__methods=[])
    other = walk(Study.from_dict(study), data=table_survey, out=tmp_path / "other", only_train=True)
    out, counted.stop = tmp_path / "found", 2
    with pytest.raises(KeyboardInterrupt):
        predict.predict(table_run, wide, out, fragment=FRAGMENT)
    counted.stop = None
    for _ in range(2):  # while it is unfinished, and when it is finished
        with pytest.raises(GsnnError, match=r"found.* belongs to another run; choose another --out, or remove "):
            predict.predict(other, wide, out)
        with pytest.raises(GsnnError, match=r"found.* belongs to other data; choose another --out, or remove "):
            predict.predict(table_run, table_survey, out)
        predict.predict(table_run, wide, out)
    predict.predict(table_run, wide, tmp_path / "one.parquet", fragment=FRAGMENT)
    with pytest.raises(GsnnError, match=r"one.parquet belongs to other data"):
        predict.predict(table_run, table_survey, tmp_path / "one.parquet")
    manifest = json.loads((out / "_manifest.json").read_text())
    manifest["belongs"]["version"] = "0.0.1"
    (out / "_manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(GsnnError, match="belongs to another version of GSNN"):
        predict.predict(table_run, wide, out)


def test_another_size_of_fragments_is_refused(table_run, wide, tmp_path, counted):
    counted.stop = 2
    with pytest.raises(KeyboardInterrupt):
        predict.predict(table_run, wide, tmp_path / "found", fragment=FRAGMENT)
    with pytest.raises(GsnnError, match=f"begun with --fragment {FRAGMENT}; leave --fragment out to go on"):
        predict.predict(table_run, wide, tmp_path / "found", fragment=2 * FRAGMENT)
    with pytest.raises(GsnnError, match="--fragment 0 must be at least 1"):
        predict.predict(table_run, wide, tmp_path / "found", fragment=0)


def test_what_stands_there_is_not_overwritten(table_run, wide, image_survey, tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("dear")
    (tmp_path / "file.parquet").write_text("dear")
    for name in ("letters", "letters/dear.txt", "file.parquet"):
        with pytest.raises(GsnnError, match="exists and does not say what it belongs to"):
            predict.predict(table_run, wide, tmp_path / name)
    with pytest.raises(GsnnError, match="do not fit the network"):
        predict.predict(table_run, image_survey, tmp_path / "found")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["dear.txt", "file.parquet", "letters"]


def test_one_process_at_a_time_cuts_the_work(table_run, wide, tmp_path):
    from gsnn.spread.fragments import alone

    work = workshop(tmp_path / "found")
    with (
        alone(work),
        pytest.raises(GsnnError, match=r"another process is working in .*\.found\.parts"),
        alone(work),
    ):
        pass


# ------------------------------------------------------------------ ingest


@pytest.mark.parametrize("codecs", [{}, {"image": "quantise"}, {"image": "lossless"}])
@pytest.mark.parametrize("fragment", [None, 100, 1000])
def test_a_survey_by_fragments_is_that_of_one_pass(tmp_path, codecs, fragment):
    """Rows that are set aside move the numbers of all behind them, and the dither depends on the number."""
    file = stamps(tmp_path)
    whole = Survey.create(tmp_path / "whole", ingest.source_of([str(file)]), codecs=codecs)
    parts = ingest.ingest([str(file)], tmp_path / "parts", codecs=codecs, fragment=fragment)
    assert_same_survey(whole, parts)
    assert whole.digest == parts.digest
    assert len(parts) == 897
    assert len(parts.quarantined()) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parts", "stamps.npz", "whole"]
    data = tmp_path / "parts" / "objects.lance" / "data"
    assert len(list(data.iterdir())) == len(parts.dataset.get_fragments())  # nothing that belongs to nobody


def test_row_numbers_are_set_right_without_reading_the_files_again(tmp_path, monkeypatch):
    read = []
    true = ingest._read
    monkeypatch.setattr(ingest, "_read", lambda *a: read.append(a[2]) or true(*a))
    ingest.ingest([str(stamps(tmp_path))], tmp_path / "parts", fragment=100)
    assert read == list(range(0, 900, 100))


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_interrupted_survey_is_gone_on_with(tmp_path, counted, damage):
    file, out, counted.stop = stamps(tmp_path), tmp_path / "parts", 4
    whole = Survey.create(tmp_path / "whole", ingest.source_of([str(file)]))
    with pytest.raises(KeyboardInterrupt):
        ingest.ingest([str(file)], out, fragment=100)
    assert not out.exists()
    record = json.loads((workshop(out) / "000002.json").read_text())
    DAMAGES[damage](workshop(out) / "survey/objects.lance/data" / record["fragment"]["files"][0]["path"])
    counted.stop = None
    counted.clear()
    parts = ingest.ingest([str(file)], out)
    assert counted[:6] == [2, 4, 5, 6, 7, 8]  # and then those whose numbers the rows set aside have moved
    assert_same_survey(whole, parts)


@pytest.mark.parametrize("step", ["_commit", "_once"])
def test_killed_around_the_commit(tmp_path, counted, monkeypatch, step):
    file, true = stamps(tmp_path), getattr(ingest, step)

    def killed(*arguments):
        true(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(ingest, step, killed)
    with pytest.raises(KeyboardInterrupt):
        ingest.ingest([str(file)], tmp_path / "parts", fragment=300)
    monkeypatch.setattr(ingest, step, true)
    counted.clear()
    parts = ingest.ingest([str(file)], tmp_path / "parts")
    assert counted == []
    assert_same_survey(Survey.create(tmp_path / "whole", ingest.source_of([str(file)])), parts)


def test_files_that_changed_are_other_data(tmp_path, counted):
    file, out, counted.stop = stamps(tmp_path), tmp_path / "parts", 2
    with pytest.raises(KeyboardInterrupt):
        ingest.ingest([str(file)], out, fragment=300)
    with pytest.raises(GsnnError, match=r"belongs to other settings; choose another --out, or remove .*\.parts\.parts"):
        ingest.ingest([str(file)], out, codecs={"image": "lossless"})
    stamps(tmp_path, 950)
    with pytest.raises(GsnnError, match=r"belongs to other data"):
        ingest.ingest([str(file)], out)
    shutil.rmtree(workshop(out))
    counted.stop = None
    assert len(ingest.ingest([str(file)], out)) == 947
    with pytest.raises(GsnnError, match="exists already; choose another --out"):
        ingest.ingest([str(file)], out)


def test_nothing_usable_is_told(tmp_path, monkeypatch):
    rows = table_rows(200, bad={k: f"cloud {k}" for k in range(200)})
    monkeypatch.setattr(ingest, "source_of", lambda *_, **__: rows)
    (tmp_path / "none.csv").touch()
    with pytest.raises(GsnnError, match="none of the 200 rows can be used; the first reason: cloud 0"):
        ingest.ingest([str(tmp_path / "none.csv")], tmp_path / "out", fragment=64)
    assert [one.name for one in tmp_path.iterdir()] == ["none.csv"]


def test_labels_and_cutouts_are_named_by_their_files(tmp_path):
    (tmp_path / "a.csv").write_text("id,x\n" + "".join(f"o{k},{k}\n" for k in range(100)))
    (tmp_path / "b.csv").write_text("id,kind\n" + "".join(f"o{k},{'ab'[k % 2]}\n" for k in range(100)))
    given = {"labels": str(tmp_path / "b.csv"), "on": "id", "missing": [7.0]}
    whole = Survey.create(tmp_path / "whole", ingest.source_of([str(tmp_path / "a.csv")], **given))
    assert_same_survey(whole, ingest.ingest([str(tmp_path / "a.csv")], tmp_path / "parts", fragment=30, **given))
    assert np.isnan(whole.take(np.array([7]), ["x"])["x"]).all()


# ------------------------------------------------------------------ workers and engines


def test_engines_that_cannot_be(monkeypatch):
    with pytest.raises(GsnnError, match="--nproc 0 must be at least 1"):
        engines.engine(nproc=0)
    with pytest.raises(GsnnError, match="exclude each other"):
        engines.engine(2, "tcp://localhost:1")
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with pytest.raises(GsnnError, match=r"install them by: pip install 'gsnn\[dask\]'"):
        list(engines.cluster("tcp://127.0.0.1:9")(len, [{}]))


def test_a_worker_that_does_not_fit_says_so(table_run, wide, tmp_path):
    from gsnn import __version__

    with pytest.raises(GsnnError, match=r"has gsnn .* and you have 0.0.1; install one version everywhere"):
        predict.part({"version": "0.0.1"})
    with pytest.raises(GsnnError, match=r"does not see /nowhere; workers need the run, the data and --out in folders"):
        predict.part({"version": __version__, "work": "/nowhere", "start": 0, "stop": 1})
    with pytest.raises(GsnnError, match="was changed while it predicted"):
        predict._run(str(table_run.path), "another digest", False)


def test_gpus_are_dealt_out(monkeypatch):
    import torch

    from gsnn.training.runtime import Runtime

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    for name, device in (("SpawnProcess-6", "cuda:2"), ("MainProcess", "cuda:0")):
        monkeypatch.setattr(predict.multiprocessing.current_process(), "name", name)
        assert predict._alone_on_its_device(Runtime("cuda", threads=8)) == Runtime(device, threads=1)
    assert predict._alone_on_its_device(Runtime("cpu", threads=8)) == Runtime("cpu", threads=1)
