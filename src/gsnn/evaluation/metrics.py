"""Which metrics judge a prediction: the registry, by name and by kind of target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..data.schema import Column
from ..errors import GsnnError, suggest
from . import classes as _classes  # noqa: F401  (importing them registers their metrics)
from . import field_metrics as _field_metrics  # noqa: F401
from . import generated_metrics as _generated_metrics  # noqa: F401
from . import map_metrics as _map_metrics  # noqa: F401
from . import values as _values  # noqa: F401
from . import vector_metrics as _vector_metrics  # noqa: F401
from .distributions import Categorical, Distribution
from .metric import FAMILIES, METRICS, Metric, mean_metric, metric

__all__ = ["FAMILIES", "METRICS", "Metric", "get", "is_redshift", "mean_metric", "metric", "metrics_for"]

REDSHIFTS = {"z", "redshift", "zspec", "z_spec", "specz", "spec_z", "photoz", "photo_z", "zphot", "z_true", "z_best"}


def get(name: str, classes: Sequence[str] = ()) -> Metric:
    """The metric of that name; ``f1[STAR]`` is the member of a family for one class."""
    if name in METRICS:
        return METRICS[name]
    family, _, label = name.removesuffix("]").partition("[")
    if family not in FAMILIES:
        raise GsnnError(f"no metric is called {name!r}; {suggest(name, [*METRICS, *FAMILIES])}")
    if label not in classes:
        raise GsnnError(f"the metric {family!r} is of one class, as in '{family}[CLASS]'; {suggest(label, classes)}")
    return FAMILIES[family](list(classes).index(label), label)


def metrics_for(prediction: Distribution, target: Column, names: Sequence[str] | None = None) -> list[Metric]:
    """The metrics of a target in the order a report shows them, or those of ``names``, with their units filled in.

    Redshifts (a column named z, redshift, zspec, ..., or described as one) get the metrics of photometric redshifts.
    """
    classes = prediction.classes if isinstance(prediction, Categorical) else ()
    if names is not None:
        chosen = [get(name, classes) for name in names]
        for found in chosen:
            if not found.suits(prediction):
                raise GsnnError(f"the metric {found.name!r} does not suit {type(prediction).__name__} predictions")
    else:
        every = [m for m in METRICS.values() if m.suits(prediction) and (is_redshift(target) or not m.redshift)]
        every.sort(key=lambda m: not m.redshift)  # stable: a redshift is judged as one first
        chosen = every + [family(i, label) for i, label in enumerate(classes) for family in FAMILIES.values()]
    units = {"target": target.unit, "1/target": f"1/{target.unit}" if target.unit else ""}
    return [replace(m, unit=units.get(m.unit, m.unit)) for m in chosen]


def is_redshift(target: Column) -> bool:
    return target.kind == "scalar" and target.name.lower() in REDSHIFTS
