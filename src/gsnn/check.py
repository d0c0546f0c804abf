"""One batch through every step in seconds, so that a mistake is found before hours are spent."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .config import build, normalise
from .errors import ConfigError, GsnnError
from .progress import STEPS
from .rng import Rng
from .steps.data import Ground, augmentations, batch_of, ground, source_for
from .study import Study

MOST, FEWEST, ENOUGH = 512, 24, 200  # rows of a source
SECONDS = 30.0  # for which a check waits for rows, unless they are fewer than the fewest


def check_study(
    study: Study, *, data: Any = None, overfit: int = 0, seed: int = 0, say: Callable[[str], None] = lambda line: None
) -> list[str]:
    """Lines of what worked; a GsnnError that begins with the step that failed.

    ``overfit`` > 0 also fits that many objects until their loss is small: a network that cannot do that learns nothing.
    """
    lines: list[str] = []
    folder = Path(tempfile.mkdtemp(prefix="gsnn-check-"))
    at = 2

    def note(text: str) -> None:
        lines.append(f"{at} {STEPS[at - 1]}: {text}")
        say(lines[-1])

    try:
        one = _small_ground(study, folder, data, seed)
        note(f"inputs {', '.join(one.inputs)}, target {one.target}, {one.told(study.unit)}")
        at = 3
        from .steps.evaluate import check_baselines, check_metrics
        from .steps.explain import check_methods
        from .steps.train import new_model

        model = new_model(study, one, one.train, seed)
        note(f"{study.model['name']} of {model.parameter_count:,} parameters")
        at = 4
        batch = batch_of(one.train.take(np.arange(min(len(one.train), study.train.batch))), one.names)
        note(f"loss {_step(study, one, model, batch, seed):.4f} on one batch, gradient reaches every parameter")
        if overfit:
            note(_overfit(study, one, model, overfit, seed))
        model.eval()
        with torch.inference_mode():
            prediction = model(batch)[one.target]
        check_metrics(study, one, model)
        note(f"prediction {type(prediction).__name__} of {len(prediction)} objects")
        check_baselines(study, one)
        note(f"baselines {', '.join(normalise(s)['name'] for s in study.evaluate.baselines) or 'none'}")
        at = 5
        some = {name: value[:2] for name, value in batch.items()}
        check_methods(study, model)
        for i, spec in enumerate(study.explain.methods):
            explainer = build(spec, "explainer", path=("explain", "methods", i), trust=study.trust)
            note(f"{normalise(spec)['name']} of shape {tuple(explainer(model, some).shape)}")
    except GsnnError as error:
        error = study.pointed(error) if isinstance(error, ConfigError) else error
        raise GsnnError(f"step {at} ({STEPS[at - 1]}) fails: {error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return lines


def _small_ground(study: Study, folder: Path, data: Any, seed: int) -> Ground:
    """Rows of the source, spread over it: 512, or as many as it makes in half a minute.

    Where these are few the parts of the split are made large enough to hold any of them.
    """
    from .data.stores import is_survey
    from .data.survey import Survey

    source = data if data is not None else study.data.source
    if isinstance(source, Survey):
        return ground(study, source)
    if is_survey(source):
        return ground(study, Survey.open(source))
    source = source_for(study, data)
    some = Some(source, affordable(source, seed))
    if len(some) < ENOUGH and study.data.split.by in ("auto", "sky", "group", "identity"):
        study = study.set("data.split.fractions=[0.4, 0.3, 0.3]")
    return ground(study, Survey.create(folder / "survey", some, seed=seed))


def affordable(source: Any, seed: int) -> int:
    """How many rows of a source a check can wait for."""
    start = time.perf_counter()
    source.rows(np.arange(min(len(source), 1)), seed)
    return int(np.clip(SECONDS / max(time.perf_counter() - start, 1e-6), FEWEST, MOST))


class Some:
    """A few rows of a source, evenly spread."""

    def __init__(self, source: Any, count: int):
        self.source, total = source, len(source)
        self.indices = np.unique(np.linspace(0, max(total - 1, 0), min(count, total)).astype(int))

    def schema(self) -> Any:
        return self.source.schema()

    def __len__(self) -> int:
        return len(self.indices)

    def rows(self, indices: np.ndarray, seed: int) -> Any:
        return self.source.rows(self.indices[indices], seed)


def _step(study: Study, one: Ground, model: Any, batch: dict[str, torch.Tensor], seed: int) -> float:
    from .data.augment import augment

    changes = augmentations(study, one.targets)
    terms = model.train().terms(augment(batch, changes, Rng(seed), one.inputs), Rng(seed))
    loss = sum((s / w for s, w in terms.values()), torch.zeros(()))
    if not torch.isfinite(loss):
        raise GsnnError("the loss of the first batch is not finite; look at the values by `gsnn survey`")
    loss.backward()
    idle = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    if idle:
        raise GsnnError(f"no gradient reaches {idle[0]}; the network does not use it")
    model.zero_grad(set_to_none=True)
    return float(loss.detach())


def _overfit(study: Study, one: Ground, model: Any, objects: int, seed: int) -> str:
    """Fit a handful of objects by heart."""
    batch = batch_of(one.train.take(np.arange(min(objects, len(one.train)))), one.names)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=study.train.learning_rate)
    first = last = float("nan")
    for step in range(200):
        loss = sum((s / w for s, w in model.train().terms(batch, Rng(seed)).values()), torch.zeros(()))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        last = float(loss.detach())
        first = last if step == 0 else first
        if last < first - 0.95 * abs(first):
            break
    if not last < first - 0.5 * abs(first):
        raise GsnnError(
            f"the network cannot learn {objects} objects by heart (loss {first:.3f} -> {last:.3f} in 200 steps); "
            "look at the labels, the learning rate and the size of the network"
        )
    return f"{len(batch['row'])} objects learned by heart: loss {first:.3f} -> {last:.3f} in {step + 1} steps"
