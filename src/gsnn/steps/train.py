"""Steps 3 and 4: build the network, fit it, and keep what its use needs (temperature, outliers, seen objects)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from ..data.augment import augment
from ..data.stream import Batch, Stream
from ..data.survey import View
from ..errors import GsnnError
from ..model import Model, load_weights
from ..objectives.base import Objective
from ..predict import batch_for, predict_view
from ..progress import Progress
from ..rng import Rng
from ..study import Study
from ..training.layout import Facts, facts
from ..training.parallel import Parallel
from ..training.runtime import Runtime, resolve
from ..training.step import probe
from ..training.trainer import History, fit
from .control import permuted
from .data import Ground, augmentations, batch_of, write_json


def expected(study: Study, one: Ground, seed: int, networks: int = 1, control: bool = False) -> tuple[float, float]:
    """Seconds of all training by the pace of a first step in float32, and bytes of scratch."""
    batch = batch_of(one.train.take(np.arange(min(len(one.train), study.train.batch))), one.names)
    model = Model(one.inputs, one.targets, study.spec, seed=seed, trust=study.trust).train()
    paces = []
    for _ in range(2):  # the first one also warms up
        start = time.perf_counter()
        sum(s / w.clamp(min=1) for s, w in model.terms(batch, Rng(seed)).values()).backward()
        paces.append(time.perf_counter() - start)
    bytes_each = sum(value[0].numel() * value.element_size() for value in batch.values())
    objects = len(one.train) + len(one.valid)
    scratch = min(bytes_each * objects, study.data.scratch_gb * 2**30)
    epochs = study.train.epochs * networks
    if control:
        epochs += min(study.train.epochs, study.evaluate.control_epochs or study.train.epochs)
    passes = len(one.train) + len(one.valid) / 3  # validation goes forward only
    return min(paces) * epochs * passes / len(batch["row"]), scratch


@dataclass
class Trained:
    model: Model
    runtime: Runtime
    history: dict[str, Any]


def new_model(study: Study, one: Ground, train: View, seed: int) -> Model:
    """The network before training: built, its transforms fitted, warm-started if the study says so."""
    model = Model(one.inputs, one.targets, study.spec, seed=seed, trust=study.trust)
    model.fit(train)
    if weights := study.model.get("weights"):
        warm_start(model, Path(weights))
    return model


def warm_start(model: Model, weights: Path) -> None:
    """Start from a run, a model folder or a safetensors file: tensors of the same name and shape are taken over."""
    for candidate in (weights / "fits/main/model/model.safetensors", weights / "model.safetensors", weights):
        if candidate.is_file():
            break
    else:
        raise GsnnError(
            f"[model] weights = {str(weights)!r} is neither a run, nor a model folder, nor a safetensors file"
        )
    if candidate.parent.joinpath("model.toml").exists():
        load_weights(model, candidate, partly=True)
    else:
        from ..models.resnet import ResNet, load_imagenet

        if not isinstance(model.objective.network, ResNet):
            raise GsnnError(f"{weights} holds foreign weights, which only a resnet can start from")
        load_imagenet(model.objective.network, candidate)


def streams(
    study: Study,
    one: Ground,
    train: View,
    valid: View,
    seed: int,
    scratch: Path,
    progress: Progress,
    parallel: Parallel,
):
    """The training and the validation stream: of each batch the share of this process."""
    batch, limit = study.train.batch, int(study.data.scratch_gb * 2**30)
    share = max(int(limit * len(train) / max(len(train) + len(valid), 1)), 1 << 20)
    at = lambda done, total: progress.at("decoding", done, total)  # noqa: E731
    common = {"scratch": scratch, "rank": parallel.data_rank, "ranks": parallel.data_ranks}
    return (
        Stream(train, one.names, batch=batch, seed=seed, scratch_bytes=share, progress=at, **common),
        Stream(
            valid,
            one.names,
            batch=max(batch, batch_for(one.inputs)),
            shuffle=False,
            scratch_bytes=limit - share,
            **common,
        ),
    )


def train_model(
    study: Study,
    one: Ground,
    folder: Path,
    *,
    seed: int,
    runtime: Runtime | None = None,
    progress: Progress | None = None,
    control: bool = False,
    refresh: Callable[[], None] = lambda: None,
) -> Trained:
    """Fit the study's network into ``folder``, or go on where it was.

    ``control`` learns permuted labels; ``refresh`` is called after every epoch.
    """
    progress = progress or Progress()
    done = folder / "model" / "model.toml"
    if done.exists():
        model = Model.load(folder / "model", trust=study.trust)
        return Trained(model, Runtime(**model.notes["runtime"]), model.notes["history"])
    made = fit_network(
        study, one, folder, seed=seed, runtime=runtime, progress=progress, control=control, refresh=refresh
    )
    progress.done()
    made.runtime.place(made.model)
    _answer(made.model, permuted(one, seed)[0] if control else one.train, made.runtime)
    if not control:
        _finish(study, one, made.model, made.runtime, folder)
    made.model.save(folder / "model", runtime=made.runtime.to_dict(), history=made.history)
    return made


def fit_network(
    study: Study,
    one: Ground,
    folder: Path,
    *,
    seed: int,
    runtime: Runtime | None = None,
    progress: Progress,
    control: bool = False,
    refresh: Callable[[], None] = lambda: None,
    parallel: Parallel | None = None,
    allow: Callable[[Facts], None] = lambda facts: None,
) -> Trained:
    """The training alone, by one process or by many: what it leaves in ``folder`` are checkpoints and a log.

    ``allow`` raises where the layout does not suit the network.
    """
    train, valid = one.train, one.valid
    settings = study.train
    parallel = parallel or Parallel(settings.layout.alone)
    if control:
        train, valid, _ = permuted(one, seed)
        if study.evaluate.control_epochs:
            settings = settings.model_copy(update={"epochs": min(settings.epochs, study.evaluate.control_epochs)})
    folder.mkdir(parents=True, exist_ok=True)
    model = new_model(study, one, train, seed)
    allow(facts(model, settings))
    changes = augmentations(study, one.targets)

    def change(batch: Batch, rng: Rng) -> Batch:
        return augment(batch, changes, rng, one.inputs)

    read, check = streams(study, one, train, valid, seed, folder / "scratch", progress, parallel)

    def told(event: dict[str, Any]) -> None:
        progress.training(event)
        if event["event"] == "epoch":
            refresh()

    with read, check:
        if runtime is None:
            told_by = (
                parallel.main
                and resolved_runtime(folder / "runtime.json", study, model, read, change if changes else None).to_dict()
            )
            runtime = Runtime(**(parallel).from_main(told_by))
        history = fit(
            model, read, check, settings, folder, runtime=runtime, seed=seed,
            augment=change if changes else None, report=told, parallel=parallel,
        )  # fmt: skip
    return Trained(model, runtime, _brief(history))


def resolved_runtime(path: Path, study: Study, model: Model, stream: Stream, change: Any) -> Runtime:
    """The runtime of an interrupted training, or a new one by a probe; kept, so that going on repeats exactly."""
    if path.is_file():
        kept = Runtime(**json.loads(path.read_text()))
        if kept.available():
            return kept
    images = any(column.kind == "image" for column in model.inputs.columns)
    small = stream.objects * study.train.epochs < 20_000 and not images  # a table is trained before a probe would end
    runtime = resolve(study.train, None if small else probe(model, stream, study.train, change), channels_last=images)
    write_json(path, runtime.to_dict())
    return runtime


def _answer(model: Model, train: View, runtime: Runtime) -> None:
    """Let an objective that learned without targets fit its answer to the features of at most 20,000 objects."""
    if type(model.objective).finish is not Objective.finish:
        some = train.take(np.linspace(0, len(train) - 1, min(len(train), 20_000)).astype(int))
        model.objective.finish(features(model, some, runtime), some.columns(list(model.targets)))


def _finish(study: Study, one: Ground, model: Model, runtime: Runtime, folder: Path) -> None:
    """Temperature and outliers from the validation part, and the ids that were trained on."""
    from ..evaluation import calibration

    some = one.train.take(np.linspace(0, len(one.train) - 1, min(len(one.train), 4096)).astype(int))
    model.outliers.fit(features(model, some, runtime), features(model, one.valid, runtime))
    if study.evaluate.temperature and hasattr(model.objective, "temperature"):
        (prediction,) = predict_view(model, one.valid, runtime)[0].values()
        truth = one.valid.columns([one.target])[one.target]
        model.objective.temperature.fill_(calibration.temperature(prediction, truth))
    if hasattr(model.objective, "measure"):
        names = list(model.targets)
        model.objective.measure(predict_view(model, one.valid, runtime)[0], one.valid.columns(names))
    ids = np.concatenate([c["id"] for v in (one.train, one.valid) for c in v.chunks(["id"], 1 << 17)])
    pq.write_table(pa.table({"id": pa.array(ids.tolist(), pa.string())}), folder / "seen.parquet")


def features(model: Model, view: View, runtime: Runtime) -> torch.Tensor:
    """What the network makes of each object before its head, [object, feature]."""
    with (
        Stream(view, list(model.inputs), batch=batch_for(model.inputs), shuffle=False) as stream,
        torch.inference_mode(),
    ):
        model.eval()
        out = []
        for batch in stream.batches():
            with runtime.autocast():
                out.append(model.features(runtime.place_batch(batch)).float().cpu())
    return torch.cat(out)


def _brief(history: History) -> dict[str, Any]:
    brief = asdict(history)
    brief.pop("runtime", None)
    return brief
