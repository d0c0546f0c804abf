"""Step 4, the second half: the network, its baselines and its controls judged on objects that none of them has seen."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..config import build, normalise, resolve
from ..data.copies import Copies
from ..data.survey import View
from ..errors import ConfigError, GsnnError, suggest
from ..evaluation.distributions import Distribution
from ..evaluation.draws import together
from ..evaluation.ensembles import mixture
from ..evaluation.fields import Fields, told
from ..evaluation.generated import FieldDraws
from ..evaluation.generated import told as laws
from ..evaluation.judge import judge
from ..evaluation.posteriors import checks
from ..origin import placed
from ..predict import predict_view, table_of
from ..progress import Progress, duration
from ..study import Study
from .data import Ground, augmentations, batch_of
from .observed import said
from .train import Trained

SHOWN = 8  # posteriors of a run that are kept, for the corner plots


def truth_of(view: View, target: str) -> np.ndarray:
    return view.columns([target])[target]


def blocks_of(study: Study, view: View) -> np.ndarray | None:
    """The number of the block of each object, where the study has blocks."""
    name = study.evaluate.blocks
    return np.unique(view.columns([name])[name].astype(str), return_inverse=True)[1] if name else None


def covariates_of(one: Ground, view: View) -> dict[str, np.ndarray]:
    names = [n for n in one.covariates if n not in one.targets]
    return {name: np.asarray(v, float) for name, v in view.columns(names).items()} if names else {}


def predictions_file(
    path: Path, one: Ground, view: View, trained: Trained, progress: Progress
) -> tuple[dict[str, Distribution], np.ndarray]:
    """Predict the view, write predictions.parquet, and return the distributions and the distances from training."""
    found, distance = predict_view(
        trained.model,
        view,
        trained.runtime,
        scratch=path.parent / "fits",
        at=lambda d, t: progress.at("predicting", d, t),
    )
    table = table_of(found, view, trained.model, distance, _context(one, view))
    for name in one.targets:
        truth = truth_of(view, name)
        classes = one.targets[name].classes
        if classes:
            values = [classes[t] if t >= 0 else None for t in truth]
        else:
            values = truth.astype(float) if truth.ndim == 1 else list(truth.reshape(len(truth), -1))
        key = "truth" if len(one.targets) == 1 else f"{name}_truth"
        table = table.add_column(1, key, pa.array(values))
    write_table(path, table)
    return found, distance.numpy()


def _context(one: Ground, view: View) -> dict[str, Any]:
    schema = one.survey.schema
    names = [n for n in (*one.covariates, "ra", "dec") if n in schema and n not in one.targets]
    return {"row": view.rows, "split": np.full(len(view), "test", object), **(view.columns(names) if names else {})}


def write_table(path: Path, table: pa.Table) -> None:
    """A Parquet file, whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        pq.write_table(table, partial)
        partial.rename(path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def read_table(path: Path) -> pa.Table:
    """A Parquet file of a run."""
    try:
        return pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).split(". ")[0].splitlines()[0]
        raise GsnnError(
            f"{path} is missing or damaged ({reason}); run the study again, or copy the run anew"
        ) from error


def check_baselines(study: Study, one: Ground) -> None:
    """Refuse, before anything is trained, baselines that do not fit the inputs or the target."""
    few = one.train.take(np.arange(min(len(one.train), 2)))
    for i, spec in enumerate(study.evaluate.baselines):
        path = ("evaluate", "baselines", i)
        with placed(*path):
            for baseline in built(study, one, spec, path):
                if hasattr(baseline, "matrix"):
                    baseline.matrix(few)


def built(study: Study, one: Ground, spec: Any, path: tuple[Any, ...]) -> Iterator[Any]:
    """One baseline for each target, or a single one that answers all of them together."""
    part = resolve(normalise(spec, path)["name"], "baseline", path, study.trust)
    if getattr(part, "joint", False):
        yield build(spec, "baseline", one.inputs, one.targets, path=path, trust=study.trust)
        return
    for name in one.targets:
        yield build(spec, "baseline", one.inputs, one.targets[name], path=path, trust=study.trust)


@dataclass
class Rivals:
    """The baselines of a run: their answers on the test part and, where something was observed, on that."""

    found: dict[str, dict[str, Distribution]]  # by target and baseline
    seconds: dict[str, float]  # of CPU
    described: dict[str, str]
    observed: dict[str, dict[str, Distribution]]  # by baseline and target
    chains: dict[str, Any]  # how those sampled by MCMC converged

    def by_name(self) -> dict[str, dict[str, Distribution]]:
        """The answers on the test part by baseline and target."""
        return {name: {target: each[name] for target, each in self.found.items()} for name in self.seconds}


def fit_baselines(
    study: Study, one: Ground, view: View, folder: Path, seed: int, progress: Progress, observed: View | None = None
) -> Rivals:
    """Each baseline tuned, fitted and asked about ``view``, and about what was observed."""
    found: dict[str, dict[str, Distribution]] = {name: {} for name in one.targets}
    seen: dict[str, dict[str, Distribution]] = {}
    chains: dict[str, Any] = {}
    seconds: dict[str, float] = {}
    described: dict[str, str] = {}
    train, copies = one.train, study.evaluate.copies
    if copies:
        train = Copies(train, augmentations(study, one.targets), one.inputs, copies, seed)
    for i, spec in enumerate(study.evaluate.baselines):
        name = normalise(spec)["name"]
        for baseline in built(study, one, spec, ("evaluate", "baselines", i)):
            progress.at("baselines", i, len(study.evaluate.baselines), name)
            baseline.fit(train, one.valid, seed)
            if observed is not None:
                seen.setdefault(name, {}).update(baseline.predict(observed))
                if getattr(baseline, "mcmc", False):
                    progress.at("baselines", i, len(study.evaluate.baselines), f"{name}, MCMC")
                    chain = baseline.chain(observed, seed)
                    seen["mcmc"], chains["mcmc"] = chain.draws(), chain.to_dict()
            for target, prediction in baseline.predict(view).items():
                found[target][name] = prediction
                columns = {"id": view.columns(["id"])["id"], **prediction.to_columns(target)}
                suffix = name if len(one.targets) == 1 else f"{name}-{target}"
                write_table(folder / f"{suffix}.parquet", pa.table(columns))
            # after the prediction, in which methods that learn nothing do all of their work
            seconds[name] = round(seconds.get(name, 0) + baseline.seconds, 2)
            described[name] = baseline.describe()
            if copies:
                described[name] += f" Taught by {copies} augmented copies of each object as well."
        progress.done()
        progress.say(f"{name}: {described[name]} ({duration(seconds[name])} of CPU)")
    return Rivals(found, seconds, described, seen, chains)


def check_metrics(study: Study, one: Ground, model: Any) -> None:
    """Refuse metrics and a headline that the model's predictions do not have, before anything is trained."""
    import torch

    from ..evaluation.metrics import metrics_for

    with torch.inference_mode():
        found = model.eval()(batch_of(one.test.take(np.arange(min(len(one.test), 2))), list(one.inputs)))
    asked = list(study.evaluate.metrics) if study.evaluate.metrics else None
    for name, prediction in found.items():
        known = [metric.name for metric in metrics_for(prediction, one.targets[name], asked)]
        headline = study.evaluate.headline
        if headline and headline not in known and name == one.target:
            raise ConfigError(f"{headline!r} is not measured; {suggest(headline, known)}", ("evaluate", "headline"))


def judged(
    study: Study,
    one: Ground,
    view: View,
    found: dict[str, Distribution],
    baselines: dict[str, dict[str, Distribution]],
    seed: int,
    resamples: int | None = None,
) -> dict[str, dict[str, Any]]:
    """The verdict on each target."""
    verdicts = {}
    for name in one.targets:
        verdict = verdicts[name] = judge(
            found[name],
            truth_of(view, name),
            one.targets[name],
            baselines=baselines.get(name, {}),
            covariates=covariates_of(one, view),
            units={name: one.survey.schema[name].unit for name in one.covariates},
            metrics=list(study.evaluate.metrics) if study.evaluate.metrics else None,
            group=blocks_of(study, view),
            seed=seed,
            resamples=resamples or study.evaluate.resamples,
        )
        if (headline := study.evaluate.headline) in verdict["metrics"]:
            verdict["headline_metric"] = headline
            verdict["metrics"] = {headline: verdict["metrics"][headline], **verdict["metrics"]}
    return verdicts


def ensemble(members: Sequence[Mapping[str, Distribution]]) -> dict[str, Distribution]:
    """The mixture of the answers of several networks by target; {} of one network, or of answers without a mixture."""
    if len(members) < 2:
        return {}
    mixed = {name: mixture([one[name] for one in members]) for name in members[0]}
    return {} if any(one is None for one in mixed.values()) else mixed


def ensemble_verdict(
    study: Study,
    one: Ground,
    view: View,
    mixed: dict[str, Distribution],
    network: Mapping[str, Distribution],
    seed: int,
) -> dict[str, Any]:
    """Metrics of the mixture by target, and the differences to the first network on the same objects."""
    rivals = {name: {"network": network[name]} for name in mixed}
    told = judged(study, one, view, mixed, rivals, seed)
    return {name: {"metrics": v["metrics"], "network": v["baselines"]["network"]} for name, v in told.items()}


def posteriors(
    path: Path,
    one: Ground,
    view: View,
    answers: Mapping[str, Mapping[str, Distribution]],
    observed: Mapping[str, Mapping[str, Distribution]],
    seed: int,
) -> dict[str, Any]:
    """The checks of each joint posterior by who gave it, and what each says of the observation.

    Some of the posteriors themselves are written to ``path``, that of the observation first.
    """
    truth, prior = view.columns(list(one.targets)), one.train.columns(list(one.targets))
    told = {who: checks(found, truth, prior, seed) for who, found in answers.items()}
    told = {who: found for who, found in told.items() if found}
    if not told:
        return {}
    some = np.linspace(0, len(view) - 1, min(SHOWN, len(view))).astype(int)
    draws = {who: together({k: v.take(some) for k, v in answers[who].items()}) for who in told}
    ids = np.asarray(view.columns(["id"])["id"]).astype(str)[some]
    true = np.stack([np.asarray(truth[name], float)[some] for name in one.targets], 1)
    seen = {who: drawn for who, found in observed.items() if (drawn := together(found)) is not None}
    if seen:
        draws = {who: np.concatenate([seen[who], value]) for who, value in draws.items()}
        ids = np.r_[["observed"], ids]
        true = np.concatenate([np.full((1, true.shape[1]), np.nan), true])
    np.savez_compressed(
        path,
        id=ids,
        parameters=np.array(list(one.targets)),
        units=np.array([column.unit for column in one.targets.columns]),
        truth=true,
        low=np.array([np.nanmin(prior[name]) for name in one.targets]),
        high=np.array([np.nanmax(prior[name]) for name in one.targets]),
        **{f"draws.{who}": value.astype(np.float32) for who, value in draws.items()},
    )
    return {"posterior": told} | ({"observed": said(seen, list(one.targets))} if seen else {})


def field_spectra(one: Ground, view: View, answers: Mapping[str, Mapping[str, Distribution]]) -> dict[str, Any]:
    """The spectra of fields that were told, and of the truth; nothing where the target is no field."""
    name = one.target
    fields = {who: found[name] for who, found in answers.items() if isinstance(found[name], Fields)}
    return {"spectra": told(fields, truth_of(view, name))} if fields else {}


def generated(
    study: Study, one: Ground, view: View, answers: Mapping[str, Mapping[str, Distribution]], seed: int
) -> dict[str, Any]:
    """What draws of fields have in common with true ones; nothing where none are drawn."""
    name = one.target
    drawn = {who: found[name] for who, found in answers.items() if isinstance(found[name], FieldDraws)}
    if not drawn:
        return {}
    numbers = view.columns(names) if (names := [c.name for c in one.inputs.columns if c.kind == "scalar"]) else {}
    given = np.stack([np.asarray(v, float) for v in numbers.values()], 1) if numbers else np.zeros((len(view), 0))
    return {"generated": laws(drawn, truth_of(view, name), given, blocks_of(study, view), seed)}


def spread(results: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean and standard deviation of each metric over seeds."""
    names = results[0]["metrics"]
    out = {}
    for name in names:
        values = [r["metrics"][name]["value"] for r in results if r["metrics"][name]["value"] is not None]
        if values:
            out[name] = {
                "mean": float(np.mean(values)),
                "std": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0,
            }
    return out
