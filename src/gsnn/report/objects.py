"""Single objects for the report: what was predicted for each, how sure, what is true, and the command that shows it."""

from __future__ import annotations

import re
import shlex
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from markupsafe import Markup
from numpy import ndarray

from .curves import Curve, curves_of, small
from .images import data_uri
from .parts import Parts
from .sky import density_from_quantiles
from .words import number

NOT_COVARIATES = {"id", "row", "split", "truth", "prediction", "flag", "ra", "dec"}


class Judged:
    """The held-out objects of a run: positions, errors, distributions, looked up by id."""

    def __init__(self, parts: Parts, command: str):
        table = parts.predictions
        keep = np.ones(len(next(iter(table.values()), [])), bool)
        if "split" in table and (table["split"] == "test").any():
            keep = table["split"] == "test"
        self.table = {name: values[keep] for name, values in table.items()}
        self.parts, self.command = parts, command
        self.ids = [str(i) for i in self.table.get("id", [])]

    @cached_property
    def position(self) -> dict[str, int]:
        return {identity: i for i, identity in enumerate(self.ids)}

    @cached_property
    def curves(self) -> dict[str, Curve]:
        """Light curves and series of the examples, by id."""
        return curves_of(self.parts.examples)

    @property
    def has_truth(self) -> bool:
        return "truth" in self.table and "prediction" in self.table

    @property
    def is_redshift(self) -> bool:
        return "redshift" in self.parts.target["name"].lower() or bool(
            re.fullmatch(r"(spec|photo?)?_?z(_?spec|_?phot)?", self.parts.target["name"].lower())
        )

    @cached_property
    def classes(self) -> list[str]:
        named = self.parts.target.get("classes") or (self.parts.answer.get("confusion") or {}).get("classes") or []
        return [str(c) for c in named if f"{c}_p" in self.table] or sorted(
            n[:-2] for n in self.table if n.endswith("_p")
        )

    @cached_property
    def probabilities(self) -> Float[ndarray, "n class"]:
        return (
            np.stack([self.table[f"{c}_p"] for c in self.classes], 1).astype(float)
            if self.classes
            else np.zeros((len(self.ids), 0))
        )

    @cached_property
    def quantiles(self) -> tuple[Float[ndarray, " q"], Float[ndarray, "n q"]]:
        """Levels and quantiles of the predicted distributions, empty where there are none."""
        found = sorted((int(m[2]), m[0]) for m in (re.fullmatch(r"(.+)_q(\d\d)", name) for name in self.table) if m)
        if not found:
            return np.zeros(0), np.zeros((len(self.ids), 0))
        return np.array([q for q, _ in found]) / 100, np.stack([self.table[name] for _, name in found], 1).astype(float)

    @cached_property
    def interval(self) -> tuple[ndarray, ndarray] | None:
        names = [self.parts.target["name"], "z", *[n[:-4] for n in self.table if n.endswith("_q50")]]
        for name in names:
            if f"{name}_low" in self.table and f"{name}_high" in self.table:
                return self.table[f"{name}_low"].astype(float), self.table[f"{name}_high"].astype(float)
        return None

    @cached_property
    def known(self) -> Bool[ndarray, " n"]:
        truth = self.table["truth"]
        if self.parts.classifies:
            return np.array([t is not None and str(t) != "" for t in truth], bool)
        return np.isfinite(truth.astype(float)) & np.isfinite(self.table["prediction"].astype(float))

    @cached_property
    def right(self) -> Bool[ndarray, " n"]:
        return np.array([str(a) == str(b) for a, b in zip(self.table["truth"], self.table["prediction"])], bool)

    @cached_property
    def error(self) -> Float[ndarray, " n"]:
        """How wrong: -ln p(truth) for classes (0 or 1 without p), |residual| for values; NaN where truth is unknown."""
        if self.parts.classifies:
            index = {c: i for i, c in enumerate(self.classes)}
            column = np.array([index.get(str(t), -1) for t in self.table["truth"]])
            given = self.probabilities[np.arange(len(column)), column] if self.classes else np.zeros(len(column))
            loss = -np.log(np.clip(given, 1e-12, 1)) if self.classes else (~self.right).astype(float)
            return np.where(self.known & ((column >= 0) | (not self.classes)), loss, np.nan)
        truth, prediction = self.table["truth"].astype(float), self.table["prediction"].astype(float)
        return np.abs(prediction - truth) / (1 + truth if self.is_redshift else 1)

    def worst(self, most: int = 12) -> Int[ndarray, " k"]:
        """Positions of the worst mistakes, the worst first; an object that is right is no mistake."""
        wrong = np.isfinite(self.error) & (~self.right if self.parts.classifies else self.error > 0)
        positions = np.flatnonzero(wrong)
        return positions[np.argsort(-self.error[positions], kind="stable")][:most]

    def show(self, identity: str) -> str:
        return f"gsnn show {self.command} --object {shlex.quote(identity)}"

    def card(self, identity: str, picture: ndarray | None = None, largest: int = 256) -> dict[str, Any]:
        """What the page says of one object."""
        card: dict[str, Any] = {"id": identity, "command": self.show(identity), "bars": [], "spark": "", "right": None}
        if picture is not None:
            card |= {"picture": data_uri(picture, largest), "pixelated": max(picture.shape[:2]) < 100}
        elif identity in self.curves:
            card["curve"] = small(self.curves[identity])
        i = self.position.get(identity)
        if i is None:
            return card
        row = {name: values[i] for name, values in self.table.items()}
        card["flag"] = str(row["flag"]) if isinstance(row.get("flag"), str) else ("flagged" if row.get("flag") else "")
        if self.parts.classifies:
            card |= {
                "prediction": str(row.get("prediction", "")),
                "truth": str(row["truth"]) if self.has_truth and self.known[i] else "",
            }
            card["right"] = bool(self.right[i]) if card["truth"] else None
            order = np.argsort(-self.probabilities[i], kind="stable")[:3]
            shown = [self.classes[j] for j in order]
            if card["truth"] in self.classes and card["truth"] not in shown:
                shown = [*shown[:2], card["truth"]]
            card["bars"] = [{"name": c, "p": float(row[f"{c}_p"]), "truth": c == card["truth"]} for c in shown]
        else:
            unit = f" {self.parts.target['unit']}" if self.parts.target.get("unit") else ""
            card["prediction"] = number(float(row.get("prediction", np.nan))) + unit
            if self.interval:
                low, high = self.interval[0][i], self.interval[1][i]
                card["interval"] = f"{number(float(low))} to {number(float(high))}"
            if self.has_truth and self.known[i]:
                card["truth"] = number(float(row["truth"])) + unit
                if self.interval:
                    card["right"] = bool(low <= row["truth"] <= high)
            card["spark"] = self._spark(i)
        card["alt"] = f"{identity}: predicted {card['prediction']}" + (
            f", true {card['truth']}" if card.get("truth") else ""
        )
        return card

    def _spark(self, i: int) -> Markup | str:
        """The predicted density as a line of 120 x 34 units, the truth as a stroke across it."""
        level, quantile = self.quantiles
        if len(level) < 5 or not np.isfinite(quantile[i]).all():
            return ""
        x, density = density_from_quantiles(level, quantile[i], 48)
        truth = float(self.table["truth"][i]) if self.has_truth else np.nan
        low, high = np.nanmin([x[0], truth]), np.nanmax([x[-1], truth])
        pad = 0.04 * (high - low) or 1.0
        place = 120 * (x - low + pad) / (high - low + 2 * pad)
        up = 33 - 29 * density / (density.max() or 1)
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(place, up))
        mark = ""
        if np.isfinite(truth):
            at = 120 * (truth - low + pad) / (high - low + 2 * pad)
            mark = f'<line x1="{at:.1f}" x2="{at:.1f}" y1="1" y2="33" class="truth"/>'
        area = f'<polygon points="{place[0]:.1f},33 {path} {place[-1]:.1f},33"/><polyline points="{path}"/>'
        return Markup(f'<svg class="spark" viewBox="0 0 120 34" aria-hidden="true">{area}{mark}</svg>')

    def covariates(self, position: int, most: int = 4) -> list[tuple[str, str]]:
        """Measured quantities of one object that are not part of its prediction."""
        parts = {f"{c}_p" for c in self.classes}
        out = []
        for name, values in self.table.items():
            own = name in NOT_COVARIATES or name in parts or re.search(r"_(q\d\d|low|high|p)$", name)
            if not own and values.dtype.kind in "fiu" and np.isfinite(values[position]):
                out.append((name, number(float(values[position]))))
        return out[:most]
