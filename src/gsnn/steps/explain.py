"""Step 5: pictures of what was got right and wrong, and of what the network looks at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..config import build, normalise
from ..data.schema import SEQUENCES
from ..data.survey import View
from ..errors import GsnnError
from ..evaluation.distributions import Categorical, Distribution
from ..origin import placed
from ..progress import Progress
from ..report.images import thumbnail
from ..rng import uniform
from ..study import Study
from . import curves
from .data import Ground, batch_of
from .train import Trained


def thumbnails(one: Ground, view: View) -> np.ndarray | None:
    """Pictures [object, y, x, 3] of the first image, sphere or graph among the inputs, if there is one."""
    if skies := one.inputs.of_kind("sphere"):
        from ..report import spheres

        return spheres.pictures(view.columns([skies[0].name])[skies[0].name])
    if clouds := one.inputs.of_kind("graph"):
        from ..report.clouds import pictures

        return pictures(view.columns([clouds[0].name])[clouds[0].name], clouds[0])
    image = next((c for c in one.inputs.columns if c.kind == "image"), None)
    if image is None or len(image.shape) != 3:
        return None
    return np.stack([thumbnail(picture, image.bands) for picture in view.columns([image.name])[image.name]])


def chosen(prediction: Distribution, truth: np.ndarray, seed: int, each: int = 12) -> dict[str, np.ndarray]:
    """Positions of the surest right answers, the worst mistakes, and a random draw."""
    if isinstance(prediction, Categorical):
        known = truth >= 0
        p_truth = np.where(known, prediction.probabilities[np.arange(len(truth)), np.maximum(truth, 0)], np.nan)
        error = 1 - p_truth
    else:
        error = np.abs(prediction.best() - truth).reshape(len(truth), -1).mean(1)
    order = np.argsort(np.where(np.isfinite(error), error, -1), kind="stable")
    order = order[np.isfinite(error[order])]
    draw = np.argsort(uniform(seed, "examples", torch.arange(len(truth)))[:, 0].numpy())
    return {"random": draw[:each], "best": order[:each], "worst": order[::-1][:each]}


def examples_file(
    path: Path, one: Ground, view: View, prediction: Distribution, truth: np.ndarray, seed: int, model: Any = None
) -> None:
    """examples.npz: ids, groups, thumbnails and light curves of objects worth showing."""
    groups = chosen(prediction, truth, seed)
    where = np.concatenate(list(groups.values()))
    some = view.take(where)
    arrays: dict[str, Any] = {
        "ids": some.columns(["id"])["id"].astype(str),
        "group": np.concatenate([[name] * len(p) for name, p in groups.items()]).astype(str),
    }
    images = thumbnails(one, some)
    if images is not None:
        arrays["images"] = images
    np.savez_compressed(path, **arrays, **curves.arrays(one, some, model))


def check_methods(study: Study, model: Any) -> None:
    """Refuse, before anything is trained, explanations that the network does not allow."""
    for i, spec in enumerate(study.explain.methods):
        explainer = build(spec, "explainer", path=("explain", "methods", i), trust=study.trust)
        if hasattr(explainer, "fits"):
            with placed("explain", "methods", i):
                explainer.fits(model)


def explain(
    study: Study, one: Ground, trained: Trained, view: View, folder: Path, seed: int, progress: Progress
) -> dict[str, Any]:
    """Attribution maps of the objects in ``view`` by each method, each with the randomised-network check."""
    from ..explain.attribution import explained
    from ..explain.sanity import randomisation_check

    verdicts: dict[str, Any] = {}
    folder.mkdir(parents=True, exist_ok=True)
    model = trained.model.cpu().eval()
    batch = batch_of(view, list(one.inputs))
    ids = view.columns(["id"])["id"].astype(str)
    images = thumbnails(one, view)
    for i, spec in enumerate(study.explain.methods):
        name = normalise(spec)["name"]
        progress.at("explaining", i, len(study.explain.methods), name)
        explainer = build(spec, "explainer", path=("explain", "methods", i), trust=study.trust)
        try:
            maps = explainer(model, batch).float().cpu().numpy()
        except GsnnError as error:
            progress.say(f"{name}: {error}")
            verdicts[name] = {"skipped": str(error)}
            continue
        check = randomisation_check(explainer, model, batch, seed=seed)
        verdicts[name] = {"sanity_correlation": check.correlation, "passed": check.passed, "verdict": check.verdict}
        arrays: dict[str, Any] = {"ids": ids}
        if maps.ndim == 3:
            arrays |= {"maps": maps} | ({"images": images} if images is not None else {})
        elif explained(model, getattr(explainer, "scalars", False), name)[0].kind in SEQUENCES:
            arrays |= {"steps": maps} | curves.arrays(one, view)
        else:
            scalars = [c.name for c in one.inputs.columns if c.kind == "scalar"]
            arrays |= {"values": maps, "columns": np.array(scalars)}
        np.savez_compressed(folder / f"{name}.npz", **arrays)
    progress.done()
    return verdicts


def picture(study: Study, one: Ground, model: Any, view: View, about: dict[str, Any], path: Path) -> bool:
    """One object and what each method says of it, side by side; False where there is nothing to draw.

    A light curve or series is drawn with the running answer of the network.
    """
    images = thumbnails(one, view)
    if images is None:
        return _curve_picture(one, model, view, about, path)
    from matplotlib.figure import Figure

    from ..report.images import overlay

    batch, panels = batch_of(view, list(one.inputs)), [("", images[0])]
    model = model.cpu().eval()
    for i, spec in enumerate(study.explain.methods):
        explainer = build(spec, "explainer", path=("explain", "methods", i), trust=study.trust)
        panels.append(
            (normalise(spec)["name"], overlay(images[0], explainer(model, batch)[0].detach().float().numpy()))
        )
    drawn = one.inputs.of_kind("sphere", "graph")  # pictures whose first row is the top
    figure = Figure(figsize=(3.2 * len(panels), 3.9), layout="constrained")
    for axis, (title, shown) in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels):
        axis.imshow(shown, origin="upper" if drawn else "lower", interpolation="nearest")
        axis.set(xticks=[], yticks=[], title=title)
    figure.suptitle(f"{about['id']}: {about.get('prediction', '')} (truth {about.get('truth', 'unknown')})")
    figure.savefig(path, dpi=110)
    return True


def _curve_picture(one: Ground, model: Any, view: View, about: dict[str, Any], path: Path) -> bool:
    from ..report.curves import curves_of, light_curve, style

    found = curves.arrays(one, view, model)
    if not found:
        return False
    (curve,) = curves_of({**found, "ids": np.array([about["id"]])}).values()
    truth = about.get("truth", "unknown")
    heading = f"{about['id']}: {about.get('prediction', '')} (truth {truth})"
    with style():
        light_curve(curve, heading, str(truth)).figure.savefig(path, dpi=150, facecolor="white")
    return True
