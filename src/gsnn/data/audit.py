"""Look at the data before any network does: what they are, and what a sceptic would find wrong with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from .checks import CHECKS, LEAKS, finding
from .sample import Sample, class_counts, look, missing
from .split import PARTS, Split
from .survey import Survey


def audit(
    survey: Survey,
    split: Split,
    inputs: Sequence[str],
    targets: Sequence[str],
    *,
    by: Sequence[str] = (),
    limit: int = 20000,
    seed: int = 0,
) -> dict[str, Any]:
    """Look at up to ``limit`` objects. The answer is ready for JSON; ``findings`` holds the sentences of each check."""
    sample = look(survey, split, list(inputs), list(targets), list(by), limit, seed)
    findings = [one for check in CHECKS for one in check(sample)]
    reasons = Counter(row["reason"] for row in survey.quarantined())
    if reasons:
        reason, n = reasons.most_common(1)[0]
        text = f"{sum(reasons.values())} rows could not be used and were set aside, {n} of them because: {reason}"
        findings.append(finding("quarantine", "warn", text))
    leaks = [f for f in findings if f["check"] in LEAKS and f["level"] == "fail"]
    detail = " ".join(f["sentence"] for f in leaks) or (
        f"no column alone gives the answer away, and none of {len(sample.rows):,} objects looked at stands in two parts"
    )
    return {
        "counts": {"objects": len(survey), **{part: len(getattr(split, part)) for part in PARTS}},
        "looked_at": len(sample.rows),
        "findings": findings,
        "missing": {name: round(missing(sample, name), 6) for name in sample.names},
        "classes": {k: v for name in sample.labels for k, v in class_counts(sample, name).items()},
        "columns": [_column(sample, name) for name in sample.names],
        "quarantined": sum(reasons.values()),
        "quarantine_reasons": dict(reasons.most_common(20)),
        "split": split.to_dict(),
        "leakage": {
            "passed": not leaks,
            "detail": detail,
            "checks": list(dict.fromkeys(f["check"] for f in leaks)),
        },
    }


def _column(sample: Sample, name: str) -> dict[str, Any]:
    column = sample.survey.schema[name]
    out: dict[str, Any] = {"name": name, "kind": column.kind, "unit": column.unit}
    stats = (None,) * 4
    if name in sample.dense:
        d = sample.dense[name]
        mean = float(d.mean.mean())
        stats = (
            mean,
            float(np.sqrt((d.std**2 + (d.mean - mean) ** 2).mean())),
            float(d.low.min()),
            float(d.high.max()),
        )
    elif column.kind in ("scalar", "position"):
        x = sample.values[name][np.isfinite(sample.values[name])]
        stats = tuple(float(f(x)) for f in (np.mean, np.std, np.min, np.max)) if len(x) else stats
    return {
        **out,
        **{k: v if v is None or np.isfinite(v) else None for k, v in zip(("mean", "std", "min", "max"), stats)},
    }
