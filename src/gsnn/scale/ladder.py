"""A ladder of sizes of a study's network, each trained for several budgets, and the scaling law through them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..config import options, resolve
from ..errors import GsnnError
from ..progress import Progress
from ..run import locked
from ..steps.data import Ground, ground, survey_for, write_json
from ..steps.train import train_model
from ..study import Study
from .laws import Law, fit, fit_intervals

RESAMPLES = 100


def scale_study(
    study: Study,
    sizes: Sequence[str],
    steps: Sequence[int],
    *,
    data: Any = None,
    out: str | Path | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train every size for every number of steps and fit L(N, D); go on where it was when typed again.

    N are the network's parameters, D the objects seen (times the tokens of each, for a transformer), repeated ones
    counted again; the loss is the least of the validation part. Each budget is a training of its own, with its own
    schedule (Hoffmann et al. 2022, arXiv:2203.15556, section 3.2). Writes law.json and law.svg into the folder.
    """
    progress = progress or Progress()
    key = size_key(study)
    if len(set(sizes)) < 2 or len(set(steps)) < 2 or len(set(sizes)) * len(set(steps)) < 6:
        raise GsnnError(
            f"a law of five coefficients needs at least two sizes, two budgets and six trainings, not "
            f"{len(set(sizes))} x {len(set(steps))}; name more in --sizes and --steps"
        )
    rungs = {}
    for size in sizes:
        for count in sorted(set(steps)):
            rungs[f"{size}-{count}"] = (size, count, rung(study, key, size, count))
    folder = Path(out) if out is not None else Path("runs") / f"{study.name}-scale"
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        _same(folder / "ladder.json", {"study": study.digest, "seed": seed, "data": str(data)})
        one = ground(study, survey_for(study, folder / "survey", data, seed, progress))
        progress.done()
        points = []
        for name, (size, count, small) in rungs.items():
            points.append(_trained(small, one, folder / "fits" / name, size, count, seed, progress))
            progress.say(f"{key} = {size}, {count:,} steps: loss {points[-1]['loss']:.4f}")
        found = fitted(points, resamples) | {"study": study.name, "key": f"model.{key}", "seed": seed}
        write_json(folder / "law.json", found)
        (folder / "law.svg").write_text(_svg(found))
    return found


def size_key(study: Study) -> str:
    """The key of ``[model]`` that sets the size: ``size``, else ``width``."""
    has = options(resolve(study.model["name"], "model", ("model", "name"), study.trust))
    for key in ("size", "width"):
        if key in has:
            return key
    raise GsnnError(f"the network {study.model['name']!r} has neither 'size' nor 'width': gsnn scale cannot vary it")


def rung(study: Study, key: str, size: str, steps: int) -> Study:
    """The study with another size, so many steps and no early stop."""
    if steps < 1:
        raise GsnnError(f"--steps {steps} must be at least 1")
    epochs = max(study.train.epochs, steps)  # an epoch has at least one step
    value = size if size.lstrip("-").isdigit() else json.dumps(size)
    return study.set(f"model.{key}={value}", f"train.max_steps={steps}", f"train.epochs={epochs}", "train.patience=0")


def _same(path: Path, identity: dict[str, Any]) -> None:
    """Refuse a folder that holds the ladder of another study."""
    if path.is_file():
        try:
            old = json.loads(path.read_text())
        except ValueError as error:
            raise GsnnError(f"{path} is damaged ({error}); remove it, or choose another --out") from error
        changed = [name for name in identity if old.get(name) != identity[name]]
        if changed:
            raise GsnnError(
                f"{path.parent} holds another ladder (it differs in {', '.join(changed)}); choose another --out"
            )
    write_json(path, identity)


def _trained(
    study: Study, one: Ground, folder: Path, size: str, steps: int, seed: int, progress: Progress
) -> dict[str, Any]:
    made = train_model(study, one, folder, seed=seed, progress=progress)
    best = (made.history.get("best") or {}).get("valid_loss")
    if best is None or not math.isfinite(best):
        raise GsnnError(f"the training {folder} has no validation loss; a ladder needs a validation part")
    if best <= 0:
        raise GsnnError(
            f"the validation loss of {folder.name} is {best:.4g}: a power law needs losses above 0; the log density "
            "of a number may be below; scale a classification, or regress with a loss that is an error"
        )
    network = made.model.objective.network
    batch = min(study.train.batch, len(one.train))
    return {
        "size": size,
        "steps": steps,
        "parameters": sum(p.numel() for p in network.parameters()),
        "tokens": steps * batch * getattr(network, "tokens", 1),
        "loss": best,
        "passes": steps * batch / len(one.train),
        "seconds": made.history.get("seconds"),
    }


def fitted(points: list[dict[str, Any]], resamples: int = RESAMPLES) -> dict[str, Any]:
    """The law through trained points with 80% intervals, the exponent of the best size, and what to beware of."""
    columns = [[point[name] for point in points] for name in ("parameters", "tokens", "loss")]
    law, intervals, laws = fit_intervals(*columns, resamples=resamples)
    shares = [one.beta / (one.alpha + one.beta) for one in laws]
    notes = []
    errors = [abs(law.loss(n, d) / y - 1) for n, d, y in zip(*columns)]
    notes.append(f"the law is within {100 * float(np.mean(errors)):.1f}% of the trainings on average")
    if 0.01 * min(columns[2]) > law.E:
        notes.append(
            "no floor is in sight: E is not determined, and neither are far extrapolations; add budgets or sizes"
        )
    if len(points) > 6:
        last = max(range(len(points)), key=lambda i: columns[0][i] * columns[1][i])
        rest = fit(*([value for i, value in enumerate(column) if i != last] for column in columns))
        off = rest.loss(columns[0][last], columns[1][last]) / columns[2][last] - 1
        notes.append(f"the largest training, left out, is foretold to {100 * off:+.1f}%")
    if max(point.get("passes") or 0 for point in points) > 4:
        notes.append("some budgets see the data more than four times: repeated data count for less (arXiv:2305.16264)")
    return {
        "points": [{**point, "law": law.loss(point["parameters"], point["tokens"])} for point in points],
        "law": law.to_dict(),
        "intervals": intervals,
        "level": 0.8,
        "exponent": {
            "value": law.beta / (law.alpha + law.beta),
            "interval": np.quantile(shares, [0.1, 0.9]).tolist(),
        },
        "notes": notes,
    }


def _svg(found: dict[str, Any]) -> str:
    from ..report.theme import svg

    return svg(drawing(found), "law")


def drawing(found: dict[str, Any]) -> Any:
    """Loss against tokens, one colour a size: marks are trainings, lines the law."""
    from ..report.theme import DASHES, NETWORK, OTHERS, Drawing, figure, style

    law, points = Law(**found["law"]), found["points"]
    with style():
        f = figure()
        ax = f.subplots()
        ax.grid(axis="y")
        tokens = np.array([point["tokens"] for point in points], float)
        line = np.geomspace(tokens.min() / 1.3, tokens.max() * 1.3, 60)
        for i, n in enumerate(sorted({point["parameters"] for point in points})):
            here = [point for point in points if point["parameters"] == n]
            colour = [NETWORK, *OTHERS][i % (len(OTHERS) + 1)]
            ax.plot([p["tokens"] for p in here], [p["loss"] for p in here], "o", color=colour, ms=4)
            ax.plot(line, law.loss(n, line), color=colour, lw=1.2, ls=["-", *DASHES][i % 6], label=f"{n:,} parameters")
        ax.set(xscale="log", yscale="log", xlabel="objects or tokens seen", ylabel="validation loss")
        ax.legend(fontsize=7.5)
    data = {name: [point[name] for point in points] for name in ("parameters", "tokens", "loss", "law")}
    return Drawing(f, data, f"Validation loss against what was seen, for {len(set(data['parameters']))} sizes.")
