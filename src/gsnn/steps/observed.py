"""What was really observed, where the source of the simulations knows it: its posterior, and whether to believe it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float

from ..config import normalise, options, resolve
from ..data.schema import DENSE, Schema
from ..data.stores import is_survey
from ..data.survey import Survey, View
from ..evaluation.distributions import Distribution
from ..evaluation.draws import together
from ..evaluation.observed import among, local, predictive
from ..study import Study
from .data import Ground, shaped, source_for
from .train import Trained, features

SIMULATED = 300  # at draws of the posterior of the observation
FEW = 64  # numbers of an object that are compared themselves, and not by what the network makes of them


def observed_view(study: Study, one: Ground, data: Any, folder: Path) -> View | None:
    """What was really measured, where the source of the simulations knows it (its ``observed``)."""
    if isinstance(data, Survey) or is_survey(data if data is not None else study.data.source):
        return None
    source = source_for(study, data)
    if not hasattr(source, "observed"):
        return None
    if folder.exists():
        survey = Survey.open(folder)
    elif (measured := source.observed()) is None:  # nothing but simulations
        return None
    else:
        survey = Survey.create(folder, measured)
    return shaped(study, survey, target=False).view()


def fitted_file(study: Study, data: Any, path: Path, found: Mapping[str, Distribution]) -> None:
    """What was measured beside what the mean of the posterior predicts, where the source can tell (``fitted``)."""
    source, draws = source_for(study, data), together(found)
    if draws is not None and hasattr(source, "fitted"):
        np.savez_compressed(path, **source.fitted(draws[0].mean(0)))


def said(seen: Mapping[str, np.ndarray], names: Sequence[str]) -> dict[str, Any]:
    """Median, 68% interval, mean and width of each parameter by who says it, and how far the network is from others.

    ``apart`` is the difference of the means over the width of the other posterior.
    """
    out: dict[str, Any] = {}
    for who, draws in seen.items():
        low, middle, high = np.quantile(draws[0], [0.16, 0.5, 0.84], axis=0)
        mean, sigma = draws[0].mean(0), draws[0].std(0, ddof=1)
        rows = zip(middle, low, high, mean, sigma)
        out[who] = {n: dict(zip(("value", "low", "high", "mean", "sigma"), map(float, r))) for n, r in zip(names, rows)}
    for who in set(out) - {"network"}:
        out[who] = {
            name: one | {"apart": (out["network"][name]["mean"] - one["mean"]) / one["sigma"]}
            for name, one in out[who].items()
        }
    return out


class At:
    """A source of one simulation at each point ``theta`` [row, parameter]: one whose prior is next to nothing wide."""

    def __init__(self, study: Study, data: Any, theta: Float[np.ndarray, "row parameter"], prior: np.ndarray):
        self.study, self.data, self.theta, self.prior = study, data, theta, prior

    def at(self, row: int) -> Any:
        low, high = self.prior
        tiny = 1e-6 * (high - low)
        first = np.clip(self.theta[row], low, high - 2 * tiny)
        spec = normalise(self.study.data.source)
        spec |= {name: [float(a), float(a + b)] for name, a, b in zip(self.study.targets, first, tiny)}
        there = self.study.data.model_copy(update={"source": spec})
        return source_for(self.study.model_copy(update={"data": there}), self.data)

    def schema(self) -> Schema:
        return self.at(0).schema()

    def __len__(self) -> int:
        return len(self.theta)

    def rows(self, indices: np.ndarray, seed: int) -> pa.RecordBatch:
        sources = [(self.at(int(row)), row) for row in indices]
        made = [source.rows(np.array([row % len(source)]), seed) for source, row in sources]
        return pa.concat_batches(made) if made else self.at(0).rows(np.array([], np.int64), seed)


def check_observed(
    study: Study,
    one: Ground,
    data: Any,
    view: View,
    trained: Trained,
    distance: Mapping[str, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    draws: Float[np.ndarray, "draw parameter"],
    folder: Path,
    seed: int,
) -> dict[str, Any]:
    """Three tests of the network's posterior at the observation ``view``, each a value, its p and its null.

    "misspecification": the distance of its features from those of the simulations (``distance`` "seen"), beside those
    of the held-out simulations ("test"), as Schmitt et al. 2023 (arXiv:2112.08866) do by another distance; "local":
    L-C2ST, from the draws and truths of ``test``; "predictive": whether simulations at ``draws`` look like it, where
    the source takes the range of each parameter.
    """
    told = {"misspecification": among(float(distance["seen"][0]), distance["test"]), "local": local(*test, draws, seed)}
    spec = normalise(study.data.source)
    known = options(resolve(spec["name"], "source", trust=study.trust))
    if all(name in known for name in study.targets):
        prior = one.train.columns(list(one.targets))
        ends = np.array([[end(prior[name]) for name in one.targets] for end in (np.nanmin, np.nanmax)])
        some = np.linspace(0, len(draws) - 1, min(SIMULATED, len(draws))).astype(int)
        if not folder.exists():
            Survey.create(folder, At(study, data, draws[some], ends), seed=seed + 1)
        simulated = shaped(study, Survey.open(folder), target=False).view()
        both = [_compared(each, one, trained) for each in (simulated, view)]
        told["predictive"] = predictive(both[0], both[1][0])
    return told


def _compared(view: View, one: Ground, trained: Trained) -> Float[np.ndarray, "object value"]:
    """The inputs themselves where they are few numbers, else the features that the network makes of them."""
    columns = one.inputs.columns
    if all(c.kind in (*DENSE, "scalar") for c in columns) and sum(c.size for c in columns) <= FEW:
        given = view.columns(list(one.inputs))
        flat = np.concatenate([np.asarray(given[name], float).reshape(len(view), -1) for name in one.inputs], 1)
        return np.nan_to_num(flat)
    with torch.no_grad():
        return features(trained.model, view, trained.runtime).double().numpy()
