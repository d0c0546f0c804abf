"""The figure of docs/studies/sunspots.md, and its table of horizons, from a finished run.

python benchmarks/sunspots.py runs/sunspots SN_m_tot_V2.0.csv docs/images/sunspots.png
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pyarrow.parquet as pq

HORIZONS = (1, 6, 12, 24, 48, 72)
MINIMUM = 2019.958  # December 2019, from which cycle 25 is counted


def number(found: dict) -> str:
    return f"{found['value']:.1f} ({found['low']:.1f} to {found['high']:.1f})"


def table(answer: dict) -> None:
    """RMSE of each horizon with its interval, and the network less ridge AR."""
    rivals = ("persistence", "lag", "ridge-ar")
    print(f"| months ahead | network | {' | '.join(rivals)} | network - ridge-ar | |\n{'|---' * 7}|")
    for h in HORIZONS:
        beside = answer["targets_beside"][f"ahead_{h}"]
        cells = [number(answer["targets"][f"ahead_{h}"]["rmse"]), *(number(beside[name]["rmse"]) for name in rivals)]
        gap = beside["ridge-ar"]["rmse"]["difference"]
        print(f"| {h} | {' | '.join(cells)} | {number(gap)} | {gap['verdict']} |")


def figure(run: Path, series: str, out: str) -> None:
    predicted = pq.read_table(run / "predictions.parquet").to_pydict()
    date, spots = np.genfromtxt(series, delimiter=";")[:, 2:4].T
    origin = np.array(predicted["id"], float)
    ridge = {h: np.array(pq.read_table(run / f"baselines/ridge-ar-ahead_{h}.parquet")["prediction"]) for h in HORIZONS}
    _, (year, fan) = plt.subplots(2, 1, figsize=(8, 6.4), constrained_layout=True)
    keep = date > origin[0]
    year.plot(date[keep], spots[keep], color="0.7", lw=0.8, label="observed")
    band = (predicted[f"ahead_12_q{q}"] for q in (16, 84))
    year.fill_between(origin + 1, *band, color="C0", alpha=0.3, lw=0, label="network, 68%")
    year.plot(origin + 1, ridge[12], color="C3", lw=0.9, label="ridge AR")
    year.set(xlim=(origin[0], date[-1]), ylim=(None, 330), title="Forecasts of 12 months ahead, each made at its time")
    i = int(np.argmin(abs(origin - MINIMUM)))
    when, start = origin[i] + np.array([0, *HORIZONS]) / 12, spots[np.argmin(abs(date - origin[i]))]

    def quantile(q: int) -> list[float]:
        return [start, *(predicted[f"ahead_{h}_q{q:02d}"][i] for h in HORIZONS)]

    fan.plot(date[date > 2008], spots[date > 2008], color="0.6", lw=0.9, label="observed")
    fan.fill_between(when, quantile(3), quantile(97), color="C0", alpha=0.15, lw=0, label="network, 94%")
    fan.fill_between(when, quantile(16), quantile(84), color="C0", alpha=0.3, lw=0, label="network, 68%")
    fan.plot(when, quantile(50), "o-", color="C0", ms=3)
    fan.plot(when, [start, *(ridge[h][i] for h in HORIZONS)], "s--", color="C3", ms=3, label="ridge AR")
    fan.axvline(origin[i], color="k", lw=0.6)
    fan.axhspan(86, 126, color="0.85", alpha=0.5, zorder=0, label="quoted peak of cycle 25: 106 +- 20 (smoothed)")
    fan.set(xlabel="year", xlim=(2008, 2026.5), ylim=(None, 260), title=f"One forecast, made in {origin[i]:.2f}")
    for panel in (year, fan):
        panel.set_ylabel("monthly sunspot number")
        panel.legend(frameon=False, ncol=3, loc="upper left", fontsize=8)
    plt.savefig(out, dpi=110)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    table(json.loads((folder / "answer.json").read_text()))
    figure(folder, *sys.argv[2:])
