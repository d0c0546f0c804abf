"""How a stream of alerts goes: rate, lag, latency, and whether its answers still look like the test objects'."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from .answers import FLAG

WINDOW = 2000  # answers that drift is judged on
BINS = 10
NAMES = {  # of an event: (metric, kind, help), for Prometheus
    "alerts": ("gsnn_alerts_total", "counter", "Alerts answered since this watch began."),
    "quarantined": ("gsnn_alerts_quarantined_total", "counter", "Alerts that could not be used."),
    "gone": ("gsnn_alerts_gone_total", "counter", "Alerts that the broker threw away before they were read."),
    "alerts_per_s": ("gsnn_alerts_per_second", "gauge", "Alerts answered each second, of late."),
    "lag": ("gsnn_alerts_lag", "gauge", "Alerts that wait at the broker."),
    "latency_p50_s": ("gsnn_alert_latency_p50_seconds", "gauge", "From the broker to the answer, half of them."),
    "latency_p99_s": ("gsnn_alert_latency_p99_seconds", "gauge", "From the broker to the answer, all but one in 100."),
    "own_p50_s": ("gsnn_alert_own_latency_p50_seconds", "gauge", "From receipt to the answer, half of them."),
    "own_p99_s": ("gsnn_alert_own_latency_p99_seconds", "gauge", "From receipt to the answer, all but one in 100."),
    "unlike_training": ("gsnn_alerts_unlike_training_ratio", "gauge", "Share of late alerts unlike training."),
    "psi": ("gsnn_alerts_psi", "gauge", "Population stability index of the answers, the largest of all columns."),
    "ks": ("gsnn_alerts_ks", "gauge", "Kolmogorov-Smirnov distance of the answers, the largest of all columns."),
}


def psi(expected: Float[np.ndarray, " n"], actual: Float[np.ndarray, " m"], bins: int = BINS) -> float:
    """Population stability index: the sum over bins of (a - e) ln(a / e), with e and a the shares of both samples.

    Bins are quantiles of ``expected``; half an object is added to each, so that an empty bin is no infinity. Below 0.1
    nothing has changed, above 0.25 much has (Siddiqi 2006, Credit Risk Scorecards, chapter 9). Two samples of one
    distribution give about (bins - 1) (1/n + 1/m).
    """
    edges = np.unique(np.quantile(expected, np.linspace(0, 1, bins + 1)[1:-1]))
    counts = [
        np.bincount(np.searchsorted(edges, x, side="right"), minlength=len(edges) + 1) for x in (expected, actual)
    ]
    e, a = ((c + 0.5) / (c.sum() + 0.5 * len(c)) for c in counts)
    return float(((a - e) * np.log(a / e)).sum())


def ks(expected: Float[np.ndarray, " n"], actual: Float[np.ndarray, " m"]) -> float:
    """The Kolmogorov-Smirnov distance: the largest difference of the two cumulative distributions."""
    places = np.sort(np.concatenate([expected, actual]))
    shares = [np.searchsorted(np.sort(x), places, side="right") / len(x) for x in (expected, actual)]
    return float(np.abs(shares[0] - shares[1]).max())


def reference(table: pa.Table | None) -> dict[str, np.ndarray]:
    """The numbers among the test predictions of a run that its answers to alerts are compared with."""
    if table is None:
        return {}
    names = [n for n in table.column_names if n.endswith("_p") or n == "prediction"]
    columns = {n: table.column(n) for n in names if pa.types.is_floating(table.column(n).type)}
    found = {n: column.drop_null().to_numpy().astype(float) for n, column in columns.items()}
    return {n: values[np.isfinite(values)] for n, values in found.items() if np.isfinite(values).any()}


class Figures:
    """Counts since the beginning, and rates, latencies and drift of late; :meth:`event` begins a new interval."""

    def __init__(self, expected: dict[str, np.ndarray]):
        self.expected = expected
        self.alerts = self.quarantined = 0
        self._late: dict[str, deque[float]] = {name: deque(maxlen=WINDOW) for name in [*expected, "unlike"]}
        self._latency: list[np.ndarray] = []
        self._own: list[np.ndarray] = []
        self._began, self._counted = time.monotonic(), 0

    def add(self, answers: pa.Table, latency: np.ndarray, own: np.ndarray) -> None:
        """A batch whose answers have been written; latencies [s] from the broker's time and from the receipt."""
        flag = np.array(answers.column(FLAG).to_pylist(), dtype=object)
        bad = np.array([word.startswith("quarantined") for word in flag], bool)
        self.alerts += len(flag)
        self.quarantined += int(bad.sum())
        self._latency.append(latency)
        self._own.append(own)
        self._late["unlike"].extend((flag[~bad] == "unlike training").astype(float))
        for name in self.expected:
            if name in answers.column_names:
                values = answers.column(name).to_numpy(zero_copy_only=False).astype(float)
                self._late[name].extend(values[np.isfinite(values)])

    def event(self, lag: int, gone: int = 0) -> dict[str, Any]:
        """What ``metrics.jsonl`` and Prometheus are told."""
        now = time.monotonic()
        seconds, count = max(now - self._began, 1e-9), self.alerts - self._counted
        out: dict[str, Any] = {
            "time": round(time.time(), 3), "alerts": self.alerts, "quarantined": self.quarantined, "gone": gone,
            "lag": lag, "seconds": round(seconds, 3), "alerts_per_s": count / seconds,
        }  # fmt: skip
        for name, some in (("latency", self._latency), ("own", self._own)):
            if len(values := np.concatenate(some or [np.empty(0)])):
                out |= {f"{name}_p{q}_s": float(np.percentile(values, q)) for q in (50, 99)}
        out |= self.drift()
        self._latency, self._own, self._began, self._counted = [], [], now, self.alerts
        return out

    def drift(self) -> dict[str, float]:
        """Of the last answers: how many are unlike training, and how far their distribution is from the tests'."""
        out = {}
        if self._late["unlike"]:
            out["unlike_training"] = float(np.mean(self._late["unlike"]))
        pairs = [(e, np.array(self._late[n])) for n, e in self.expected.items() if len(self._late[n]) >= 10 * BINS]
        if pairs:
            out |= {"psi": max(psi(*pair) for pair in pairs), "ks": max(ks(*pair) for pair in pairs)}
        return out


def line(event: dict[str, Any]) -> str:
    """An event for a person."""
    words = [f"{event['alerts']:,} alerts", f"{event['alerts_per_s']:,.0f}/s", f"lag {event['lag']:,}"]
    if "latency_p50_s" in event:
        words.append(f"latency {event['latency_p50_s']:.2f} s (p99 {event['latency_p99_s']:.2f} s)")
    if event["quarantined"]:
        words.append(f"{event['quarantined']:,} quarantined")
    if event.get("unlike_training"):
        words.append(f"{event['unlike_training']:.1%} unlike training")
    if "psi" in event:
        words.append(f"PSI {event['psi']:.2f}")
    return " · ".join(words)
