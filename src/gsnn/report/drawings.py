"""Which figures a run deserves, section by section of the report."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from markupsafe import Markup

from . import band_powers, curves, generated, posteriors, sky, spectra
from . import figures as draw
from . import maps as sheets
from .objects import Judged
from .parts import Parts
from .story import unit_of
from .theme import Drawing, svg
from .words import plain, slug, title

ROWS = 4000  # rows of data kept with a figure
CORNERS = 2  # posteriors that are drawn
Add = Callable[..., None]  # (name, title, caption, function, *arguments)


def plot(name: str, heading: str, caption: str, drawing: Drawing) -> dict[str, Any]:
    """A drawing as the template shows it: SVG, and its data with every k-th row if it is long."""
    rows = max((len(column) for column in drawing.data.values()), default=0)
    every = -(-rows // ROWS) or 1
    return {
        "name": name,
        "title": heading,
        "caption": caption,
        "note": f"The CSV holds every {every}th of {rows:,} rows." if every > 1 else "",
        "svg": Markup(svg(drawing, name)),
        "data": {key: column[::every] for key, column in drawing.data.items()},
    }


def drawings(parts: Parts, judged: Judged) -> dict[str, list[dict[str, Any]]]:
    """The plots of each section. One that its data forbid is named in ``parts.problems``, and the rest are drawn."""
    sections = {
        "answer": _answer,
        "examples": _values,
        "training": _training,
        "calibration": _calibration,
        "failures": _failures,
        "explanations": _explanations,
        "data": _data,
        "cost": _cost,
    }
    out: dict[str, list[dict[str, Any]]] = {}
    for section, fill in sections.items():
        plots = out[section] = []

        def add(name: str, heading: str, caption: str, function: Callable[..., Drawing], *given: Any, to=plots) -> None:
            try:
                to.append(plot(name, heading, caption, function(*given)))
            except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
                said = f"The figure “{heading}” could not be drawn ({type(error).__name__}: {error})"
                parts.problems.append(said)

        fill(parts, judged, add)
    return out


def _answer(parts: Parts, judged: Judged, add: Add) -> None:
    metrics, baselines = parts.answer.get("metrics") or {}, parts.answer.get("baselines") or {}
    for name in list(metrics)[:2]:
        beside = {b: v[name] for b, v in baselines.items() if name in v}
        if beside:
            entries, unit = {"network": metrics[name], **beside}, unit_of(parts, name)
            caption = "Marks are values, bars 95% intervals."
            add(f"compare-{slug(name)}", title(name), caption, draw.comparison, entries, name, unit)
    _early(parts, add)
    if given := parts.answer.get("spectra"):
        caption = f"Of the {given['of']}, mean of {given['objects']} held-out objects; shades are their scatter."
        add("spectra", "Power and correlation with the truth", caption, spectra.field_spectra, given)
    if given := parts.answer.get("generated"):
        caption = (
            f"Draws of {given['of']} for {given['objects']} held-out objects, one after another beside simulations of "
            "the same universes."
        )
        add("generated", "Draws beside simulations", caption, generated.field_draws, given)


def _early(parts: Parts, add: Add) -> None:
    """The answer against days since the trigger."""
    given = parts.answer.get("early")
    if not given:
        return
    caption = f"{given['objects']:,} held-out objects; day 0 is {given['since']}. Bands are 95% intervals."
    add("early", "How soon it is known", caption, curves.early_answers, given)
    if given.get("roc"):
        name = str((parts.target.get("classes") or ["the first class"])[0])
        add(
            "early-roc",
            "ROC as time goes on",
            f"Of {name}, by the days since the trigger.",
            curves.early_roc,
            given["roc"],
            name,
        )


def _running(parts: Parts, judged: Judged, add: Add) -> None:
    """The light curves of a surest and of a worst answer with what was said as they came in."""
    groups = [str(g) for g in parts.examples.get("group", [])]
    ids = [str(i) for i in parts.examples.get("ids", [])]
    for group, heading in (("best", "A sure answer"), ("worst", "A mistake")):
        identity = next((i for i, g in zip(ids, groups) if g == group and i in judged.curves), None)
        if identity is None:
            continue
        place = judged.position.get(identity)
        truth = "" if place is None or not judged.has_truth else str(judged.table["truth"][place])
        told = (
            ", and the probabilities given what had been seen so far"
            if judged.curves[identity].answers is not None
            else ""
        )
        given = (judged.curves[identity], identity, truth)
        add(f"curve-{group}", f"{heading}: {identity}", f"The observations{told}.", curves.light_curve, *given)


def _values(parts: Parts, judged: Judged, add: Add) -> None:
    _running(parts, judged, add)
    _fitted(parts, add)
    _corners(parts, add)
    _maps(parts, add)
    if parts.classifies or not judged.has_truth or not judged.known.any():
        return
    name, unit = plain(parts.target["name"] or "value"), str(parts.target.get("unit") or "")
    truth, prediction = judged.table["truth"].astype(float), judged.table["prediction"].astype(float)
    caption = "Darker means more objects, on a logarithmic scale. Below, the residuals."
    given = (truth, prediction, name, unit, judged.is_redshift)
    add("truth", "Predicted against true", caption, sky.truth_and_prediction, *given)
    level, quantile = judged.quantiles
    good = np.flatnonzero(np.isfinite(quantile).all(1) & judged.known) if len(level) >= 5 else []
    if len(good):
        some = good[np.linspace(0, len(good) - 1, min(8, len(good))).astype(int)]
        some = some[np.argsort(truth[some])]
        caption = "What the network says of single objects, spread evenly over the test set."
        given = ([judged.ids[i] for i in some], level, quantile[some], truth[some], name, unit)
        add("densities", "Predicted densities", caption, sky.example_densities, *given)


def _fitted(parts: Parts, add: Add) -> None:
    """What was measured, and what the answer predicts of it."""
    if "theory" in parts.fitted:
        caption = "The universe is the mean of the network's posterior. Below each spectrum what is left, in sigma."
        add("spectra", "The measured spectra", caption, band_powers.band_powers, parts.fitted)


def _corners(parts: Parts, add: Add) -> None:
    """The joint posteriors of a few objects: the network's with those of the baselines that have one."""
    given = parts.posteriors
    if not given:
        return
    for i in range(min(CORNERS, len(given["id"]))):
        draws = {name.removeprefix("draws."): v[i] for name, v in given.items() if name.startswith("draws.")}
        box = list(zip(given["low"], given["high"]))
        names = [f"{plain(n)} [{u}]" if u else plain(n) for n, u in zip(given["parameters"], given["units"])]
        caption = "Contours hold 68% and 95% of each posterior."
        real = str(given["id"][i]) == "observed"
        caption += "" if real else " Lines mark the truth."
        if real and parts.answer.get("observed_unlike_training"):
            caption += " The observation is unlike all simulations: do not believe the network's posterior."
        heading = "Posterior of what was observed" if real else f"Posterior of {given['id'][i]}"
        add(f"corner-{i}", heading, caption, posteriors.corner, draws, names, given["truth"][i], box)


def _maps(parts: Parts, add: Add) -> None:
    """What the network and the baselines say of what was observed and of a few test objects, beside the truth."""
    given = parts.maps
    name, unit = str(parts.target["name"] or ""), str(parts.target.get("unit") or "")
    for i, identity in enumerate(given.get("id", ())):
        panels = {"truth": given["truth"][i]} if np.isfinite(given["truth"][i]).any() else {}
        panels |= {plain(key.removeprefix("map.")): v[i] for key, v in given.items() if key.startswith("map.")}
        if "low.network" in given:
            panels["half of the 68% interval"] = (given["high.network"][i] - given["low.network"][i]) / 2
        real = str(identity) == "observed"
        heading = "Map of what was observed" if real else f"Map of {identity}"
        caption = "All on one scale; empty where there are no data."
        if real and parts.answer.get("observed_unlike_training"):
            caption += " The observation is unlike all simulations: do not believe the network's map."
        label = {"label": str(given["label"])} if "label" in given else {"label": plain(name), "unit": unit}
        call = partial(sheets.maps, columns=3, **label)
        add(f"map-{i}", heading, caption, call, panels)


def _training(parts: Parts, judged: Judged, add: Add) -> None:
    if any(e.get("event") in ("step", "epoch") for e in parts.log):
        caption = "Thin: every step; thick: its running mean. The ring marks the best validation loss."
        add("loss", "Loss", caption, draw.loss_curves, parts.log)
    if any(e.get("event") == "step" and "learning_rate" in e for e in parts.log):
        caption = "Learning rate, norm of the gradient before clipping, and speed."
        add("course", "Course of the training", caption, draw.training_course, parts.log)


def _calibration(parts: Parts, judged: Judged, add: Add) -> None:
    given = parts.answer.get("calibration") or {}
    if given.get("reliability"):
        caption = "On the diagonal, a stated 80% is right 80% of the time."
        add("reliability", "Reliability", caption, draw.reliability, given["reliability"], given.get("ece"))
    if given.get("pit"):
        caption = "A hump means too wide, a bowl too narrow, a slope biased."
        add("pit", "PIT histogram", caption, draw.pit, given["pit"], given.get("pit_ks"))
    if given.get("coverage"):
        caption = "How many truths the central intervals really hold."
        add("coverage", "Coverage", caption, draw.coverage, given["coverage"])
    if joint := parts.answer.get("posterior"):
        caption = "Where the truth ranks among the draws; flat = calibrated, band = 95% sampling noise."
        add("ranks", "Simulation-based calibration", caption, posteriors.ranks, joint["network"])
        caption = "All parameters together, by two kinds of regions; below zero = too sure, bands are 95% intervals."
        add("tarp", "Joint coverage", caption, posteriors.coverage, joint)
    if checks := parts.answer.get("observed_checks"):
        caption = "Line: what was observed; grey: what the test gives where nothing is wrong. Small p = do not believe."
        add("observed-checks", "Whether to believe it", caption, posteriors.nulls, checks)


def _failures(parts: Parts, judged: Judged, add: Add) -> None:
    answer, table = parts.answer, judged.table
    if given := answer.get("confusion"):
        caption = "Rows add up to the true class; shade is the share of the row."
        add("confusion", "Confusion", caption, draw.confusion, given["classes"], given["matrix"])
    main = next(iter(answer.get("metrics") or {}), None)
    for covariate, curve in (answer.get("curves") or {}).items():
        first = (curve.get("bins") or [{}])[0]
        metric = (
            main if main in first else next((k for k in first if isinstance(first[k], dict) and k != "baselines"), None)
        )
        if metric:
            heading, given = (
                f"{title(metric)} against {plain(covariate)}",
                (covariate, curve, metric, unit_of(parts, metric)),
            )
            caption = "Bands are 95% intervals; below, the objects in each bin."
            add(f"curve-{slug(covariate)}", heading, caption, draw.metric_curve, *given)
    if judged.has_truth and {"ra", "dec"} <= table.keys():
        ra, dec = table["ra"].astype(float), table["dec"].astype(float)
        if parts.classifies:
            value, name, unit = np.where(judged.known, judged.right.astype(float), np.nan), "share right", "fraction"
        elif judged.is_redshift:
            value, name, unit = judged.error, "mean |Δz| / (1 + z)", ""
        else:
            value, name, unit = judged.error, "mean |error|", str(parts.target.get("unit") or "")
        if (np.isfinite(ra) & np.isfinite(dec) & np.isfinite(value)).any():
            caption = "Held-out objects in cells of the sky; right ascension grows to the left."
            add("sky", "Over the sky", caption, sky.sky_map, ra, dec, value, name, unit)


def _explanations(parts: Parts, judged: Judged, add: Add) -> None:
    for method, arrays in parts.explanations.items():
        if "values" in arrays and "columns" in arrays:
            strength = np.abs(np.asarray(arrays["values"], float)).mean(0)
            order = np.argsort(-strength)[:20]
            names = [str(arrays["columns"][i]) for i in order]
            caption = "Mean size of the attribution over the explained objects."
            given = (names, strength[order].tolist(), "mean |attribution|")
            add(f"explain-{slug(method)}", f"{plain(method)}: weight of each column", caption, draw.bars, *given)


def _data(parts: Parts, judged: Judged, add: Add) -> None:
    if parts.audit.get("classes"):
        add("balance", "Classes", "Objects of each class in each part.", draw.class_balance, parts.audit["classes"])


def _cost(parts: Parts, judged: Judged, add: Add) -> None:
    stages = {plain(k): v for k, v in (parts.answer.get("seconds") or {}).items() if isinstance(v, (int, float))}
    if stages:
        beside = {f"baseline {k}": v for k, v in (parts.answer.get("baseline_seconds") or {}).items()}
        given = ([*stages, *beside], [*stages.values(), *beside.values()], "seconds", len(stages))
        add("seconds", "Time", "Seconds by stage; baselines in the other colour.", draw.bars, *given)
