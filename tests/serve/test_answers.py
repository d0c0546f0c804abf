"""A packet from a broker is answered as the same packet from a file is."""

from __future__ import annotations

import numpy as np
import pytest

from gsnn.data.readers.avro import decode
from gsnn.errors import GsnnError
from gsnn.serve.answers import Answerer
from gsnn.serve.packets import CLASSES, made, packet
from gsnn.serve.workers import answerer


@pytest.mark.parametrize("which", ["curves_run", "stamps_run"])
def test_answers_are_those_that_the_run_gives_of_files(which, sky, request, tmp_path):
    run = request.getfixturevalue(which)
    few = [made(number)[0] for number in range(20)]
    table = answerer(run)(few)
    for number, content in enumerate(few):
        (tmp_path / f"{number:02d}.avro").write_bytes(content)
    told = run.predict(str(tmp_path))
    assert table.column("id").to_pylist() == told.column("id").to_pylist()
    for name in (f"{kind}_p" for kind in CLASSES):
        np.testing.assert_allclose(table.column(name).to_numpy(), told.column(name).to_numpy(), atol=1e-5)
    assert table.column("flag").to_pylist() == told.column("flag").to_pylist()


def test_poison_is_set_aside_in_its_place_and_the_others_are_answered_alike(curves_run, packets):
    answer = answerer(curves_run)
    clean = answer(packets[:8]).to_pylist()
    bad = [b"", None, b"poison", packets[0][:3000], b"\0\0\0\0\7LSST", packets[0][:-40]]
    mixed = [one for pair in zip(bad, packets) for one in pair] + packets[6:8]
    rows = answer(mixed).to_pylist()
    good = [*rows[1:12:2], *rows[12:]]
    assert [row["id"] for row in good] == [row["id"] for row in clean]
    np.testing.assert_allclose([row["supernova_p"] for row in good], [row["supernova_p"] for row in clean], atol=1e-6)
    for row in rows[0:12:2]:
        assert row["flag"].startswith("quarantined: ")
        assert row["prediction"] is None
    assert "schema 7" in rows[8]["flag"]


def test_a_batch_of_poison_alone_has_the_columns_of_any_other(curves_run, packets):
    answer = answerer(curves_run)
    assert answer([b"poison"]).schema == answer(packets[:3]).schema == answer.schema == answer([]).schema


def test_a_missing_number_is_flagged(stamps_run):
    content, _ = made(3)
    alert = decode(content)
    about = ("nobody", alert["ra"], alert["dec"], alert["light_curve"])
    table = answerer(stamps_run)([content, packet(1, *about, alert["stamps"], rb=None), packet(2, *about, rb=0.5)])
    assert table.column("flag").to_pylist()[1:] == ["missing rb", "missing stamps"]


def test_a_light_curve_that_no_network_can_read_is_set_aside(curves_run):
    curve = decode(made(3)[0])["light_curve"]
    broken = curve._replace(flux_error=np.full_like(curve.flux_error, 1e-30))  # a magnitude of no error at all
    flag = answerer(curves_run)([packet(1, "nobody", 1.0, 2.0, broken)]).column("flag").to_pylist()[0]
    assert flag == "quarantined: an error of the flux is not positive" or not flag.startswith("quarantined")


def test_a_network_of_other_data_is_refused_in_a_sentence(curves_run):
    with pytest.raises(GsnnError, match="computes from other columns"):
        Answerer(curves_run.model, curves_run.runtime, ["light_curve"])


def test_alerts_of_another_survey_are_set_aside(curves_run):
    from dataclasses import replace

    model = curves_run.model
    assert set(answerer(curves_run).unfit) == {"lsst", "pgir", "winter"}
    inputs, kept = model.inputs, model.inputs["light_curve"]
    try:
        model.inputs = inputs.with_column(replace(kept, bands=("u", "z")))
        with pytest.raises(GsnnError, match="cannot read alerts"):
            Answerer(model, curves_run.runtime)
    finally:
        model.inputs = inputs
