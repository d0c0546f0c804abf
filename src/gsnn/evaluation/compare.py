"""Two predictions.parquet of the same target, compared on the objects that they share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy import ndarray

from ..data.schema import Column
from ..errors import GsnnError
from .distributions import Categorical, Distribution, from_columns
from .intervals import difference, of_metric, replicates
from .metrics import metrics_for


def compare(
    a: pa.Table, b: pa.Table, *, target: Column | None = None, seed: int = 0, resamples: int = 1000
) -> dict[str, Any]:
    """Every metric of ``a``, of ``b`` and of a minus b, paired on the common objects whose truth is known.

    Those without a truth are "excluded".

    {"target", "n", "only_a", "only_b", "excluded", "metrics": {name: {"a", "b", "difference", "unit", "better"}}}.
    ``target`` is told from the columns where it is not given (its name then shows in z_q01).
    """
    kind_a, kind_b = _describe(a, "first"), _describe(b, "second")
    unnamed = not (kind_a[1] or kind_b[1]) and not (
        kind_a[0] and kind_b[0]
    )  # a table of points does not name its target
    if kind_a != kind_b and not unnamed:
        raise GsnnError(f"these predictions are of different targets: {_say(kind_a)} and {_say(kind_b)}")
    name, classes = kind_a[0] or kind_b[0], kind_a[1]
    if target is None:
        target = Column(name or "value", "label" if classes else "scalar", classes=tuple(sorted(classes)))
    labels = target.classes if classes else ()
    at_a, at_b = _common(a, b)
    truth, other = (_truth(table, labels)[at] for table, at in ((a, at_a), (b, at_b)))
    known = (truth >= 0) & (other >= 0) if classes else np.isfinite(truth) & np.isfinite(other)
    differ = ~np.isclose(truth, other, rtol=1e-5, atol=1e-8) & known
    if differ.any():
        first = a["id"][int(at_a[differ][0])].as_py()
        raise GsnnError(
            f"the truths of {differ.sum()} of {len(known)} common objects differ (first {first!r}); "
            "compare runs that were judged on the same survey"
        )
    truth, at_a, at_b = truth[known], at_a[known], at_b[known]
    both = [_predictions(table, at, labels, name) for table, at in ((a, at_a), (b, at_b))]
    chosen = [m for m in metrics_for(both[0], target) if m.suits(both[1])]
    draws = replicates(chosen, both, truth, resamples=resamples, seed=seed)
    found = {
        m.name: {
            "a": of_metric(m, draws[:, 0, j]),
            "b": of_metric(m, draws[:, 1, j]),
            "difference": difference(m, draws[:, 0, j], draws[:, 1, j]),
            "unit": m.unit,
            "better": m.better,
        }
        for j, m in enumerate(chosen)
    }
    only = {"only_a": len(a) - len(known), "only_b": len(b) - len(known)}
    return {"target": target.name, "n": len(truth), **only, "excluded": int((~known).sum()), "metrics": found}


def _describe(table: pa.Table, which: str) -> tuple[str, frozenset[str]]:
    """The name of a continuous target ("" where a table of points does not tell) and the classes of a label."""
    for column in ("id", "prediction", "truth"):
        if column not in table.column_names:
            raise GsnnError(f"the {which} table has no column {column!r}; give a predictions.parquet with known truths")
    if pa.types.is_string(table["prediction"].type) or pa.types.is_large_string(table["prediction"].type):
        return "", frozenset(c[:-2] for c in table.column_names if c.endswith("_p"))
    return next((c[:-4] for c in table.column_names if c.endswith("_q01")), ""), frozenset()


def _say(kind: tuple[str, frozenset[str]]) -> str:
    return f"the classes {', '.join(sorted(kind[1]))}" if kind[1] else f"values of {kind[0] or 'an unnamed column'}"


def _common(a: pa.Table, b: pa.Table) -> tuple[ndarray, ndarray]:
    """Positions in a and in b of the objects that are in both."""
    ids = [np.asarray(table["id"].to_pylist(), dtype=str) for table in (a, b)]
    for which, each in zip(("first", "second"), ids):
        if len(np.unique(each)) < len(each):
            raise GsnnError(f"an id stands twice in the {which} table of predictions; keep one row an object")
    common, at_a, at_b = np.intersect1d(*ids, assume_unique=True, return_indices=True)
    if not len(common):
        raise GsnnError("these predictions have no object in common; compare runs that share held-out objects")
    return at_a, at_b


def _truth(table: pa.Table, classes: tuple[str, ...]) -> ndarray:
    if not classes:
        return np.array([np.nan if v is None else v for v in table["truth"].to_pylist()], float)
    index = {label: i for i, label in enumerate(classes)}
    return np.array([index.get(v, -1) for v in table["truth"].to_pylist()], int)


def _predictions(table: pa.Table, at: ndarray, classes: tuple[str, ...], name: str) -> Distribution:
    found = from_columns(table.take(pa.array(at)), classes or None, name or None)
    return Categorical(found.probabilities, classes) if isinstance(found, Categorical) else found
