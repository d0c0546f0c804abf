"""Sequential rounds: simulate, learn, keep of the prior what the observation leaves open, and simulate there.

Truncated sequential neural posterior estimation (Deistler, Goncalves & Macke 2022, arXiv:2210.04815) with boxes, as
truncated marginal ratio estimation has them (Miller et al. 2021, arXiv:2107.01214): within the box the prior stays as
it was, so that the same objective learns the same posterior and nothing has to be corrected. Only the last round is
judged; its simulations are those of the narrow prior.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from .config import normalise, options, resolve
from .errors import ConfigError
from .evaluation.draws import together
from .origin import is_path
from .progress import Progress
from .steps.data import source_for, write_json
from .study import Study

MARGIN = 0.125  # of the range of the draws, on either side: 1,000 draws of a Gaussian reach 3.2 widths, the box 4
EDGE = 0.02  # of a box: draws so near to it lean on it
APART = 104_729  # between the seeds of the simulations of two rounds

Box = dict[str, tuple[float, float]]


def check_rounds(study: Study, data: Any) -> None:
    """Refuse rounds of a source that has not observed anything, or whose prior cannot be truncated."""
    path = ("data", "rounds")
    if study.data.rounds > 1:
        source = study.data.source
        if is_path(source):
            raise ConfigError("rounds need a simulator, which can simulate again", path)
        spec = normalise(source)
        part = resolve(spec["name"], "source", ("data", "source"), study.trust)
        if not hasattr(part, "observed"):
            raise ConfigError(f"rounds need an observation, and {spec['name']!r} knows none (no `observed`)", path)
        missing = [name for name in study.targets if name not in options(part)]
        if missing:
            raise ConfigError(f"rounds narrow the range of {missing[0]!r}, which {spec['name']!r} does not take", path)
        if source_for(study, data).observed() is None:
            raise ConfigError("rounds need an observation, and the source of these simulations was given none", path)


def narrowed(study: Study, folder: Path, data: Any, seed: int, progress: Progress) -> tuple[Study, list[dict]]:
    """The study of the last round, and what the rounds before it found: each is a run in ``folder/rounds``."""
    from .run import run

    check_rounds(study, data)
    asked, found = study.data.rounds, []
    for number in range(1, asked):
        progress.say(f"round {number} of {asked}")
        place, single = folder / "rounds" / str(number), study.set("data.rounds=1")
        kept = place / "round.json"
        if not kept.is_file():
            one = run(single, data=data, out=place, seed=seed + APART * number, only_train=True, progress=progress)
            write_json(kept, _observed(one, single, data))
        told = json.loads(kept.read_text())
        if told["unlike_training"]:
            progress.say("what was observed is unlike all simulations: the prior is not narrowed any further")
            found.append(told)
            break
        found.append(told)
        box = {name: tuple(side) for name, side in told["box"].items()}
        study = study.set(*(f"data.source.{name}=[{low!r}, {high!r}]" for name, (low, high) in box.items()))
        sides = ", ".join(f"{name} {low:.4g} to {high:.4g}" for name, (low, high) in box.items())
        progress.say(f"the observation leaves open {sides}: {100 * told['volume']:.3g}% of the prior")
    return study, found


def _observed(one: Any, study: Study, data: Any) -> dict[str, Any]:
    """What a round says of the observation, and the box that it leaves."""
    from .predict import predict_view
    from .steps.observed import observed_view

    found, distance = predict_view(
        one.model, observed_view(study, one.ground, data, one.path / "observed"), one.runtime
    )
    draws = together(found)
    if draws is None:
        raise ConfigError("rounds need a posterior: posterior, likelihood or ratio", ("objective", "name"))
    prior = ranges(study)
    box = box_of(draws[0], prior)
    shares = [(box[n][1] - box[n][0]) / (prior[n][1] - prior[n][0]) for n in prior]
    return {
        "prior": prior,
        "box": box,
        "volume": float(np.prod(shares)),
        "sigma": dict(zip(prior, draws[0].std(0, ddof=1).tolist())),
        "simulations": len(one.ground.survey),
        "unlike_training": bool(distance[0] > one.model.outliers.threshold),
    }


def ranges(study: Study) -> Box:
    """The range of the prior of each target, as the source has it."""
    spec = normalise(study.data.source)
    default = options(resolve(spec["name"], "source", trust=study.trust))
    return {name: tuple(spec.get(name, default[name])) for name in study.targets}


def box_of(draws: Float[ndarray, "draw parameter"], prior: Box) -> Box:
    """The box of the draws with a margin, within the prior."""
    low, high = draws.min(0), draws.max(0)
    margin = MARGIN * (high - low)
    return {
        name: (max(float(low[i] - margin[i]), prior[name][0]), min(float(high[i] + margin[i]), prior[name][1]))
        for i, name in enumerate(prior)
    }


def leaning(draws: Float[ndarray, "draw parameter"], box: Box, whole: Box) -> list[str]:
    """Parameters whose posterior leans on an edge of the last box that an earlier round has cut: more than 1% of it."""
    out = []
    for i, (name, (low, high)) in enumerate(box.items()):
        near = EDGE * (high - low)
        below = low > whole[name][0] and (draws[:, i] < low + near).mean() > 0.01
        above = high < whole[name][1] and (draws[:, i] > high - near).mean() > 0.01
        if below or above:
            out.append(name)
    return out
