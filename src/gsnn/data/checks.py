"""The questions a sceptic asks of the data before any network sees them. Each is one function and answers in sentences.

``ok``: the check found nothing; ``warn``: a reader should know; ``fail``: the answer cannot be trusted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import torch

from . import duplicates
from .sample import MANY, SNR, Sample, class_counts, missing, some
from .schema import DENSE
from .split import PARTS
from .survey import View

Finding = dict[str, str]
_SENTINELS = (-99999, -9999, -999, -99.99, -99.9, -99, -9.99, -9, 99, 99.9, 99.99, 999, 9999, 99999)
_BETRAYS = re.compile(r"koi_(score|fpflag.*|p?disposition)", re.I)
_SUSPECT = re.compile(
    r"(.*_)?(label|truth|class|classification|disposition|predicted|prediction|prob|probability)(_.*)?", re.I
)


def finding(check: str, level: str, sentence: str) -> Finding:
    return {"check": check, "level": level, "sentence": sentence[0].upper() + sentence[1:].rstrip(".") + "."}


def _listed(items: Sequence[str], most: int = 4) -> str:
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more


def missing_values(s: Sample) -> list[Finding]:
    found = {name: missing(s, name) for name in s.names if s.survey.schema[name].kind != "sphere"}
    masked = [name for name in s.names if name not in found and missing(s, name) > 0]
    told = [finding("masked sky", "ok", f"masked: {_listed([f'{missing(s, n):.1%} of {n}' for n in masked])}")]
    return [*(told if masked else []), *_missing(found)]


def _missing(found: dict[str, float]) -> list[Finding]:
    some = sorted((name for name in found if found[name] > 0), key=lambda name: -found[name])
    if not some:
        return [finding("missing values", "ok", "no value is missing or infinite")]
    listed = _listed(
        [f"{found[name]:.2g} of {name}" if found[name] < 1e-3 else f"{found[name]:.1%} of {name}" for name in some]
    )
    return [finding("missing values", "fail" if found[some[0]] > 0.5 else "warn", f"missing or infinite: {listed}")]


def constant_columns(s: Sample) -> list[Finding]:
    constant = [n for n in s.scalars(s.inputs) if len(np.unique(s.values[n][np.isfinite(s.values[n])])) < 2]
    blank = []
    for name, d in s.dense.items():
        empty = int((d.std.max(1) == 0).sum())
        if empty == len(d.std):
            constant.append(name)
        elif empty:
            blank.append(f"{empty} of {len(d.std)} objects have a constant {name}")
        elif (dead := (d.std == 0).all(0)).any():
            constant.append(f"band {int(np.flatnonzero(dead)[0]) + 1} of {name}")
    out = (
        [finding("constant columns", "warn", f"constant, so without information: {_listed(constant)}")]
        if constant
        else []
    )
    out += [finding("blank images", "warn", _listed(blank))] if blank else []
    return out or [finding("constant columns", "ok", "every input varies")]


def class_balance(s: Sample) -> list[Finding]:
    out = []
    for name in s.labels:
        counts = class_counts(s, name)
        total = sum(sum(c.values()) for c in counts.values())
        known = [(label, c) for label, c in counts.items() if sum(c.values())]
        for part, level in (("train", "fail"), ("test", "warn")):
            absent = [label for label, c in known if not c[part]]
            if absent:
                out.append(
                    finding("class balance", level, f"no object of class {_listed(absent)} stands in the {part} part")
                )
        rare = [
            f"{label} ({sum(c.values())})"
            for label, c in known
            if c["train"] and sum(c.values()) < max(0.01 * total, 20)
        ]
        if rare:
            out.append(
                finding(
                    "class balance", "warn", f"rare classes of {name}: {_listed(rare)}; their scores will be uncertain"
                )
            )
        if len(known) < 2:
            out.append(
                finding(
                    "class balance",
                    "fail",
                    f"the target {name} has fewer than two classes, so there is nothing to learn",
                )
            )
    return out or (
        [finding("class balance", "ok", "every class stands in every part, and none is rare")] if s.labels else []
    )


def low_signal(s: Sample) -> list[Finding]:
    named = [name for name in s.values if SNR.fullmatch(name)]
    source, where = (s.values[named[0]], f"the column {named[0]}") if named else (None, "")
    for name, d in s.dense.items() if not named else ():
        source, where = (d.snr, f"the pixels of {name}") if d.thumbs is not None else (source, where)
    if source is None:
        return []
    low = float((source < 5).mean())
    return [
        finding(
            "signal to noise", "warn" if low > 0.25 else "ok", f"{low:.1%} of the objects have S/N below 5, by {where}"
        )
    ]


def exact_duplicates(s: Sample) -> list[Finding]:
    _, group, count = np.unique(s.digests, return_inverse=True, return_counts=True)
    twice = count[group] > 1
    if not twice.any():
        return [finding("exact duplicates", "ok", "no two objects have the same inputs")]
    trained = np.bincount(group[s.part == 0], minlength=len(count)) > 0
    across = int((trained[group] & (s.part > 0)).sum())
    if across:
        enough = any(s.survey.schema[n].kind in DENSE for n in s.inputs) or len(s.inputs) >= 3
        text = f"{across} objects of the validation and test parts have exactly the inputs of a training object"
        return [finding("exact duplicates", "fail" if enough else "warn", text)]
    return [
        finding(
            "exact duplicates", "warn", f"{int(twice.sum())} objects share their inputs with another of the same part"
        )
    ]


def near_duplicates(s: Sample) -> list[Finding]:
    out = []
    for name, d in s.dense.items():
        if d.thumbs is None or bool((d.thumbs == d.thumbs[:1]).all()):  # what all share, as a survey's mask, tells none
            continue
        held, trained = np.flatnonzero(s.part > 0), np.flatnonzero(s.part == 0)
        shape = s.survey.schema[name].shape
        pairs = duplicates.candidates(d.thumbs[held], d.thumbs[trained], square=shape[-1] == shape[-2])
        i, j = held[pairs[:, 0]], trained[pairs[:, 1]]
        new = s.digests[i] != s.digests[j]
        if new.any():
            first, second = (
                torch.tensor(s.survey.take(s.rows[k[new]], [name])[name], dtype=torch.float32) for k in (i, j)
            )
            first, second = first.nan_to_num(0, 0, 0), second.nan_to_num(0, 0, 0)
            seen = np.unique(i[new][duplicates.same(first, second, pairs[new, 2])])
            if len(seen):
                text = f"{len(seen)} held-out {name}s look like a training {name}, turned, mirrored or rescaled at most"
                shown = s.survey.take(s.rows[seen[:3]], ["id"])["id"]
                out.append(finding("near duplicates", "fail", f"{text} (such as {', '.join(map(str, shown))})"))
    if not out and any(d.thumbs is not None for d in s.dense.values()):
        out.append(
            finding("near duplicates", "ok", "no held-out image looks like a training image, in any orientation")
        )
    return out


def repeated_ids(s: Sample) -> list[Finding]:
    rows, part = some(s.split, len(s.rows) * MANY, 0)
    ids = np.concatenate([chunk["id"] for chunk in View(s.survey, rows).chunks(["id"], 1 << 16)])
    first: dict[str, int] = {}
    across = [str(one) for one, code in zip(ids, part.tolist()) if first.setdefault(one, code) != code]
    if across:
        text = f"{len(across)} objects stand in two parts under the same id, such as {across[0]}"
        return [finding("repeated ids", "fail", text)]
    if len(first) < len(ids):
        return [finding("repeated ids", "warn", f"{len(ids) - len(first)} ids stand more than once, within one part")]
    return [finding("repeated ids", "ok", "every id stands once")]


def leaking_columns(s: Sample) -> list[Finding]:
    """One input alone predicts the target nearly perfectly, far better than the others."""
    out = []
    for target in s.targets:
        if target in s.inputs:
            out.append(finding("label leakage", "fail", f"the target {target} is one of the inputs"))
            continue
        shown = _listed([f"{name} ({score})" for name, score in giveaways(s, target).items()])
        copy = s.survey.schema[target].kind == "scalar"
        text = f"nearly a copy of {target}" if copy else f"alone, and unlike the other inputs, it predicts {target}"
        out += [finding("label leakage", "fail", f"{text}: {shown}")] if shown else []
    return out or [finding("label leakage", "ok", "no input alone gives the target away")]


def giveaways(s: Sample, target: str) -> dict[str, str]:
    """The inputs that alone predict ``target`` nearly perfectly, each with how well it does."""
    columns = s.scalars(s.inputs) + [n for n in s.inputs if s.survey.schema[n].kind == "label"]
    kind = s.survey.schema[target].kind
    if kind == "label":
        score = {name: _tree_accuracy(s, name, target) for name in columns}
        perfect = [name for name in columns if score[name] > 0.97]
        others = [score[name] for name in columns if name not in perfect]
        if len(s.inputs) > len(perfect) and max(others, default=0) < 0.9:
            return {name: f"balanced accuracy {score[name]:.3f}" for name in perfect}
    elif kind == "scalar":
        score = {name: _rank_correlation(s.values[name], s.values[target]) for name in columns}
        return {name: f"rank correlation {score[name]:.4f}" for name in columns if abs(score[name]) > 0.995}
    return {}


def betrays(name: str) -> bool:
    """Whether a column of that name is known to be derived from the verdict itself."""
    return _BETRAYS.fullmatch(name) is not None


def leaking_names(s: Sample) -> list[Finding]:
    betraying = [name for name in s.inputs if betrays(name)]
    suspect = [n for n in s.inputs if _SUSPECT.fullmatch(n) or any(len(t) > 3 and t in n and t != n for t in s.targets)]
    out = []
    if betraying:
        named, them = ", ".join(betraying), "them" if len(betraying) > 1 else "it"
        out.append(finding("leaking names", "fail", f"derived from the verdict itself: {named}; leave {them} out"))
    suspect = [name for name in suspect if name not in betraying and name not in s.targets]
    if suspect:
        out.append(finding("leaking names", "warn", f"may be derived from the target, by its name: {_listed(suspect)}"))
    return out or [finding("leaking names", "ok", "no input is named after an answer")]


def drift(s: Sample) -> list[Finding]:
    """Two-sample Kolmogorov-Smirnov test of train against test, Bonferroni corrected; distances below 0.1 may pass."""
    from scipy.stats import ks_2samp

    series = {name: s.values[name] for name in s.scalars(s.names)}
    for name, d in s.dense.items():
        bands = s.survey.schema[name].bands or range(1, d.mean.shape[1] + 1)
        for k, band in enumerate(bands[: d.mean.shape[1]]):
            series[f"mean of {name} in {band}"], series[f"scatter of {name} in {band}"] = d.mean[:, k], d.std[:, k]
    moved = []
    for name, x in series.items():
        a, b = (x[(s.part == k) & np.isfinite(x)] for k in (0, 2))
        if len(a) > 10 and len(b) > 10:
            found = ks_2samp(a, b, method="asymp")
            if found.statistic > 0.1 and found.pvalue * len(series) < 0.01:
                moved.append((float(found.statistic), name))
    if not moved:
        return [
            finding("drift", "ok", "training and test objects are drawn from the same distributions, column by column")
        ]
    listed = _listed([f"{name} (KS distance {distance:.2f})" for distance, name in sorted(moved, reverse=True)])
    return [finding("drift", "warn", f"distributed otherwise in training than in test: {listed}")]


def sentinels(s: Sample) -> list[Finding]:
    found, numbers = [], []
    for name in s.scalars(s.names):
        far = disguised(s.values[name])
        if len(far):
            found.append(f"{len(far)} values {far[0]:g} of {name}")
            numbers += [value for value in np.unique(far).tolist() if value not in numbers]
    if not found:
        return [finding("sentinel values", "ok", "no number stands for a missing value")]
    text = (
        f"far outside the rest, so perhaps missing values in disguise: {_listed(found)}; if they are, read them so, by "
    )
    numbers = ", ".join(f"{value:g}" for value in numbers[:4])
    return [finding("sentinel values", "warn", f"{text}missing = [{numbers}] in the source, or gsnn ingest --missing")]


def disguised(x: np.ndarray) -> np.ndarray:
    """The values that may stand for "none": of a kind that surveys use so, and far outside the others."""
    x = x[np.isfinite(x)].astype(float)
    odd = np.isin(np.round(x, 4), _SENTINELS) | (np.abs(x) > 1e20)
    rest = x[~odd]
    if not odd.any() or len(rest) < 2:
        return x[:0]
    low, high = rest.min(), rest.max()
    return x[odd & ((x < low - 2 * (high - low)) | (x > high + 2 * (high - low)))]


def split_fractions(s: Sample) -> list[Finding]:
    got = s.split.realised
    text = f"split by {s.split.by}: " + ", ".join(f"{g:.1%} {part}" for g, part in zip(got, PARTS))
    text += f", {s.split.dropped} dropped at borders" if s.split.dropped else ""
    off = [p for p, g, want in zip(PARTS, got, s.split.asked) if want and abs(g - want) > 0.25 * want]
    if off and s.split.by != "column":
        return [finding("split", "warn", f"{text}; asked were " + ", ".join(f"{want:.0%}" for want in s.split.asked))]
    return [finding("split", "ok", text)]


def _tree_accuracy(s: Sample, name: str, target: str) -> float:
    """Balanced accuracy on held-out objects of a tree of depth 3 that sees one column."""
    from sklearn.metrics import recall_score
    from sklearn.tree import DecisionTreeClassifier

    x, y = s.values[name].astype(np.float32)[:, None], s.values[target]
    x[~np.isfinite(x)] = np.nan
    fit, held = (s.part == 0) & (y >= 0), (s.part > 0) & (y >= 0)
    if len(np.unique(y[fit])) < 2 or held.sum() < 10 or np.isnan(x[fit]).all():
        return 0.0
    tree = DecisionTreeClassifier(max_depth=3, min_samples_leaf=5, class_weight="balanced", random_state=0)
    predicted = tree.fit(x[fit], y[fit]).predict(x[held])
    return float(recall_score(y[held], predicted, average="macro", zero_division=0, labels=np.unique(y[held])))


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    from scipy.stats import rankdata

    good = np.isfinite(a) & np.isfinite(b)
    if good.sum() < 10 or np.ptp(a[good]) == 0 or np.ptp(b[good]) == 0:
        return 0.0
    return float(np.corrcoef(rankdata(a[good]), rankdata(b[good]))[0, 1])


CHECKS = (
    missing_values,
    constant_columns,
    class_balance,
    low_signal,
    exact_duplicates,
    near_duplicates,
    repeated_ids,
    leaking_columns,
    leaking_names,
    drift,
    sentinels,
    split_fractions,
)
LEAKS = ("exact duplicates", "near duplicates", "repeated ids", "label leakage", "leaking names")
