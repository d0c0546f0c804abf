"""The answer in a sentence, and the badges that say how far to believe it."""

from __future__ import annotations

import math
from typing import Any

from .parts import Parts
from .words import duration, measured, number, plain

ECE_LIMIT = 0.05  # a calibration error that a reader would notice: five points of probability
PIT_LIMIT = 0.05


def headline(parts: Parts) -> dict[str, Any]:
    """The sentence at the top: the answer, or how far the run has come."""
    answer = parts.answer
    if answer.get("answer"):
        return {"sentence": str(answer["answer"]), "finished": True, "progress": None}
    last = next((e for e in reversed(parts.log) if isinstance(e.get("step"), int)), None)
    if last is None:
        sentence = "The data are checked; the training has not begun." if parts.audit else "Nothing has been done yet."
        return {"sentence": sentence, "finished": False, "progress": None}
    total, epochs = _budget(parts)
    sentence = f"Still training: at step {last['step']:,}" + (f" of {total:,}" if total else "")
    epoch = next((e["epoch"] for e in reversed(parts.log) if isinstance(e.get("epoch"), (int, float))), None)
    if epoch is not None:
        sentence += f", epoch {int(epoch) + 1}" + (f" of {epochs}" if epochs else "")
    loss = next((e["loss"] for e in reversed(parts.log) if isinstance(e.get("loss"), (int, float))), None)
    valid = next((e["valid_loss"] for e in reversed(parts.log) if isinstance(e.get("valid_loss"), (int, float))), None)
    if loss is not None:
        sentence += f"; loss {number(float(loss))}" + (
            f", on validation {number(float(valid))}" if valid is not None else ""
        )
    sentence += ". The answer will stand here once the held-out objects are judged."
    return {"sentence": sentence, "finished": False, "progress": last["step"] / total if total else None}


def _budget(parts: Parts) -> tuple[int | None, int | None]:
    tables = [parts.resolved, parts.resolved.get("train") or {}, parts.study.get("train") or {}]
    steps, epochs = (
        next((t[key] for t in tables if isinstance(t, dict) and isinstance(t.get(key), int)), None)
        for key in ("steps", "epochs")
    )
    each = next(
        (t["steps_per_epoch"] for t in tables if isinstance(t, dict) and isinstance(t.get("steps_per_epoch"), int)),
        None,
    )
    ends = [e for e in parts.log if e.get("event") == "epoch" and isinstance(e.get("step"), int)]
    if steps is None and epochs and (each or ends):
        steps = epochs * (each or round(ends[-1]["step"] / len(ends)))
    return steps, epochs


def badges(parts: Parts) -> list[dict[str, str]]:
    """The four checks a sceptic asks for, each with ``level`` ok, warn, fail or none (not run) and one sentence."""
    return [_control(parts.answer), _leakage(parts), _calibration(parts.answer), _seeds(parts.answer)]


def _badge(name: str, level: str, sentence: str) -> dict[str, str]:
    return {"name": name, "level": level, "sentence": sentence}


def _control(answer: dict[str, Any]) -> dict[str, str]:
    control = (answer.get("controls") or {}).get("permuted")
    if not control:
        return _badge("Control", "none", "No network was trained on shuffled labels.")
    unit = str(control.get("unit") or _unit(answer, control.get("metric")))
    reached = f"{plain(control.get('metric', 'score'))} {measured(control, unit)}"
    sentence = f"Taught and judged on shuffled labels it reaches {reached}"
    sentence += f", chance is {measured(control['chance'], unit)}." if control.get("chance") is not None else "."
    if control.get("passed") and control.get("constant"):
        always = "It gives every object the same answer"
        return _badge(
            "Control", "warn", f"{sentence} {always}, so it could not have shown a small leak: weak evidence."
        )
    if control.get("passed"):
        return _badge("Control", "ok", sentence + " So the score comes from the data.")
    return _badge("Control", "fail", sentence + " Above chance on shuffled labels: something leaks.")


def _leakage(parts: Parts) -> dict[str, str]:
    leakage = (parts.answer.get("controls") or {}).get("leakage")
    if not leakage:
        return _badge("Leakage", "none", "Not checked whether test objects were trained on.")
    sentence = str(
        leakage.get("detail") or ("No test object was trained on." if leakage.get("passed") else "Test objects leaked.")
    )
    return _badge("Leakage", "ok" if leakage.get("passed") else "fail", sentence)


def _calibration(answer: dict[str, Any]) -> dict[str, str]:
    calibration = answer.get("calibration") or {}
    ece, ks = calibration.get("ece"), calibration.get("pit_ks")
    if isinstance(ece, (int, float)):
        ok = calibration.get("passed", ece <= ECE_LIMIT)
        sentence = f"Stated probabilities are off by {100 * ece:.1f} points on average "
        sentence += f"(ECE; up to {100 * ECE_LIMIT:.0f} is fine)."
        return _badge("Calibration", "ok" if ok else "warn", sentence)
    if isinstance(ks, (int, float)):
        n = (answer.get("objects") or {}).get("test") or sum(calibration.get("pit") or []) or 0
        limit = (
            max(PIT_LIMIT, 1.36 / math.sqrt(n)) if n else PIT_LIMIT
        )  # 1.36 / sqrt(n): the 5% point of the KS statistic
        ok = calibration.get("passed", ks <= limit)
        sentence = f"The distributions depart from uniform PIT by {number(float(ks))} "
        sentence += f"(Kolmogorov–Smirnov; up to {number(limit, 2)} is fine)."
        return _badge("Calibration", "ok" if ok else "warn", sentence)
    return _badge("Calibration", "none", "No probabilities were judged.")


def _seeds(answer: dict[str, Any]) -> dict[str, str]:
    seeds, metrics = answer.get("seeds") or [], answer.get("metrics") or {}
    name = next(iter(metrics), None)
    values = [s.get("metrics", {}).get(name) for s in seeds]
    values = [v.get("value") if isinstance(v, dict) else v for v in values]
    values = [float(v) for v in values if isinstance(v, (int, float))]
    if len(values) < 2:
        return _badge("Seeds", "none", "One training only: its luck is not known.")
    unit = _unit(answer, name)
    spread, main = max(values) - min(values), metrics[name]
    low, high = main.get("low"), main.get("high")
    steady = low is None or high is None or spread <= high - low
    sentence = f"{len(values)} trainings from different seeds: {plain(name)} "
    sentence += f"{measured(min(values), unit)} to {measured(max(values), unit)}"
    mixed = next(iter((answer.get("ensemble") or {}).values()), {}).get("metrics", {}).get(name, {}).get("value")
    if mixed is not None:
        sentence += f" (their mixture {measured(mixed, unit)})"
    return _badge(
        "Seeds",
        "ok" if steady else "warn",
        sentence
        + (
            ", within the interval."
            if steady
            else ", wider than the interval: the luck of the start outweighs the sample."
        ),
    )


def _unit(answer: dict[str, Any], metric: Any) -> str:
    return str(((answer.get("metrics") or {}).get(metric) or {}).get("unit") or "")


def unit_of(parts: Parts, metric: Any) -> str:
    """The unit of a metric; "target" stands for the target's own."""
    unit = _unit(parts.answer, metric)
    return str(parts.target.get("unit") or "") if unit == "target" else unit


def comparison_rows(parts: Parts) -> list[dict[str, Any]]:
    """One row a metric: the network's value, and each baseline's with the paired difference and its verdict."""
    rows = []
    for name, entry in (parts.answer.get("metrics") or {}).items():
        unit, better = unit_of(parts, name), entry.get("better")
        others = []
        for baseline, values in (parts.answer.get("baselines") or {}).items():
            value = values.get(name) or {}
            difference = value.get("difference") or {}
            others.append(
                {
                    "name": baseline,
                    "value": measured(value, unit),
                    "difference": measured(difference, unit, sign=True) if difference else "–",
                    "verdict": _verdict(difference, better),
                }
            )
        rows.append({"name": plain(name), "value": measured(entry, unit), "better": better, "baselines": others})
    return rows


def _verdict(difference: dict[str, Any], better: str | None) -> str:
    low, high = difference.get("low"), difference.get("high")
    if low is None or high is None or better not in ("low", "high"):
        return ""
    if low <= 0 <= high:
        return "even"
    return "ahead" if (low > 0) == (better == "high") else "behind"


def facts(parts: Parts) -> list[tuple[str, str]]:
    """The small line of facts under the answer."""
    answer, out = parts.answer, []
    objects = answer.get("objects") or {}
    if objects:
        out.append(("objects", " · ".join(f"{n:,} {split}" for split, n in objects.items() if isinstance(n, int))))
    if isinstance(answer.get("parameters"), int):
        out.append(("parameters", f"{answer['parameters']:,}"))
    seconds = [s for s in (answer.get("seconds") or {}).values() if isinstance(s, (int, float))]
    if seconds:
        out.append(("time", duration(sum(seconds))))
    if isinstance(answer.get("co2e_g"), (int, float)):
        out.append(("CO₂e", f"{number(float(answer['co2e_g']))} g"))
    if answer.get("seed") is not None:
        out.append(("seed", str(answer["seed"])))
    return out
