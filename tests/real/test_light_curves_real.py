"""Light curves and alert packets as they were published, counted against what their publishers say."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from gsnn.data.light_curves import LightCurves
from gsnn.data.readers import read
from gsnn.data.source import QUARANTINE

pytestmark = pytest.mark.real
if not os.environ.get("GSNN_DATA"):
    pytest.skip("set GSNN_DATA to the folder with the real data", allow_module_level=True)
DATA = Path(os.environ["GSNN_DATA"])

PACKETS = [  # folder, packets, side of a stamp, bands
    ("ztf_alerts/20200202", 12, 63, ("g", "r", "i")),
    ("ztf_alerts/20231012", 24, 63, ("g", "r", "i")),
    ("ztf_official_samples", 2, 63, ("g", "r", "i")),
    ("pgir_alerts", 17, 61, ("J",)),
    ("wntr_alerts", 11, 81, ("Y", "J", "H")),
]


@pytest.mark.parametrize(("folder", "count", "side", "bands"), PACKETS)
def test_alert_packets(folder: str, count: int, side: int, bands: tuple[str, ...]) -> None:
    pytest.importorskip("fastavro")
    source = read(DATA / "alert_packets_avro" / folder)
    batch = source.rows(np.arange(count), 0)
    assert len(source) == count
    assert QUARANTINE not in batch.schema.names
    assert source.schema()["stamps"].shape == (3, side, side)
    assert source.schema()["light_curve"].bands == bands
    curves = LightCurves.from_arrow(batch["light_curve"])
    assert curves.lengths.min() >= 1
    assert 58000 < curves.time.min() < curves.time.max() < 60500
    stamps = np.array(batch["stamps"].flatten()).reshape(count, 3, side, side)
    assert np.isfinite(stamps).mean() > 0.95
    assert np.abs(stamps[:, 0] - stamps[:, 2]).mean() > 0  # science is not the difference


def test_forced_photometry_of_ztf_is_used() -> None:
    """Schema 4.01 has 258 measured forced fluxes in these 24 packets (statuses 0 and 56); older packets have none."""
    fastavro = pytest.importorskip("fastavro")
    status = Counter()
    for path in sorted((DATA / "alert_packets_avro" / "ztf_alerts/20231012").iterdir()):
        with open(path, "rb") as file:
            (record,) = fastavro.reader(file)
        status.update(one["procstatus"] for one in record["fp_hists"] or [])
    assert status == {"0": 242, "56": 16, "61": 153, "55": 5}
    batch = read(DATA / "alert_packets_avro" / "ztf_alerts/20231012").rows(np.arange(24), 0)
    assert len(LightCurves.from_arrow(batch["light_curve"]).flux) >= 258
