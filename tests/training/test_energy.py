import time

import pytest

from gsnn.errors import GsnnError
from gsnn.training import energy


def package(folder, joules, name="intel-rapl:0", wrap=1000.0):
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "energy_uj").write_text(f"{int(joules * 1e6)}\n")
    (folder / name / "max_energy_range_uj").write_text(f"{int(wrap * 1e6)}\n")


def test_the_processors_counter_is_read_and_may_wrap_around(tmp_path):
    package(tmp_path, 900)
    package(tmp_path, 100, "intel-rapl:1")
    package(tmp_path, 5, "intel-rapl:0:0")  # the cores of package 0: already in it
    meter = energy.Meter(tmp_path)
    package(tmp_path, 950)
    package(tmp_path, 5000, "intel-rapl:0:0")
    assert meter.kwh == pytest.approx(50 / 3.6e6)
    package(tmp_path, 30)
    package(tmp_path, 160, "intel-rapl:1")
    assert meter.kwh == pytest.approx((50 + 80 + 60) / 3.6e6)
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()
    assert meter.kwh == pytest.approx(190 / 3.6e6)
    assert "RAPL" in meter.source


def test_without_a_counter_it_is_a_labelled_estimate(tmp_path):
    meter = energy.Meter(tmp_path)
    assert "estimate" in meter.source
    assert "Lannelongue" in meter.source
    start = time.process_time()
    while time.process_time() - start < 0.2:
        pass
    cpu = 0.2 * energy.WATTS_PER_CORE / 3.6e6
    assert cpu <= meter.kwh < 5 * cpu


def test_measure():
    with energy.measure() as meter:
        sum(range(100_000))
    assert 0 < meter.kwh < 1e-3


def test_the_grid(monkeypatch):
    monkeypatch.delenv("GSNN_GRID_G_PER_KWH", raising=False)
    kilograms, source = energy.co2e_kg(2.0)
    assert kilograms == pytest.approx(2 * energy.GRID_G_PER_KWH / 1000)
    assert "Ember" in source
    monkeypatch.setenv("GSNN_GRID_G_PER_KWH", "56")
    assert energy.co2e_kg(2.0) == (pytest.approx(0.112), "56 g/kWh (GSNN_GRID_G_PER_KWH)")
    for wrong in ("much", "-1", "nan"):
        monkeypatch.setenv("GSNN_GRID_G_PER_KWH", wrong)
        with pytest.raises(GsnnError, match="GSNN_GRID_G_PER_KWH"):
            energy.co2e_kg(1.0)


def test_errors_are_those_of_what_was_read(tmp_path):
    assert energy.Meter(tmp_path, local_rank=3).error > 0  # each process estimates its own
    package(tmp_path, 900)
    meter, other = energy.Meter(tmp_path, local_rank=0), energy.Meter(tmp_path, local_rank=1)
    package(tmp_path, 950)
    assert meter.error == pytest.approx(0.05 * meter.kwh)
    assert meter.kwh == pytest.approx(50 / 3.6e6)
    assert other.kwh == 0  # the counter is of the whole machine
