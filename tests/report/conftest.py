"""Synthetic run directories: galaxy images, photometric redshifts, a table, and one that is still training."""
# ruff: noqa: E501, RUF007

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

KINDS = ("images", "photo-z", "table", "unfinished")


def picture(rng, kind, side=48):
    y, x = np.mgrid[:side, :side] - side / 2 + 0.5
    angle = rng.uniform(0, np.pi)
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    flat = {0: 0.9, 1: 0.75, 2: 0.22}[kind]
    r = np.hypot(u, v / flat) / (side / 7)
    light = np.exp(-1.6 * r)
    if kind == 1:
        light *= 1 + 0.9 * np.cos(2 * np.arctan2(v / flat, u) - 3.2 * np.log(r + 0.3))
    colour = np.array([[0.7, 1, 1.35], [1.15, 1, 0.95], [0.8, 1, 1.2]][kind])
    return (colour[:, None, None] * light + 0.012 * rng.standard_normal((3, side, side))).astype(np.float32)


def answer_of(study, question, sentence, **more):
    return {
        "study": study, "question": question, "answer": sentence,
        "controls": {"permuted": {"metric": "accuracy", "value": 0.34, "low": 0.30, "high": 0.38, "chance": 0.333, "passed": True},
                     "leakage": {"passed": True, "detail": "None of the 600 test ids was trained on; the nearest pair across the split is 41 arcsec apart."}},
        "objects": {"train": 2800, "valid": 600, "test": 600},
        "seconds": {"data": 21.0, "train": 340.0, "evaluate": 12.5, "explain": 44.0, "control": 160.0},
        "energy_kwh": 0.0021, "energy_source": "process CPU time at 15 W a core", "co2e_g": 0.99, "grid_g_per_kwh": 473, "grid_source": "world average of 2024, Ember",
        "memory_gb": 1.34, "parameters": 176403, "seed": 0,
        "versions": {"gsnn": "0.1.0", "python": "3.11.2", "torch": "2.13.0", "numpy": "2.4.6", "scipy": "1.17.1", "matplotlib": "3.11.2"},
        **more,
    }  # fmt: skip


def log_lines(rng, steps, per_epoch=88):
    lines = []
    for step in range(1, steps + 1):
        loss = 0.32 + 0.8 * np.exp(-step / 150) + 0.05 * rng.standard_normal()
        lines.append({"event": "step", "step": step, "epoch": (step - 1) // per_epoch, "loss": loss, "learning_rate": 2e-3 * np.cos(1.5 * step / steps),
                      "gradient_norm": 1 / (1 + step / 90) + 0.2 * rng.random(), "samples_per_s": 610 + 25 * rng.standard_normal(), "data_wait": 0.01})  # fmt: skip
        if step % per_epoch == 0:
            lines.append(
                {
                    "event": "epoch",
                    "epoch": step // per_epoch - 1,
                    "step": step,
                    "loss": loss,
                    "valid_loss": 0.39 + 0.75 * np.exp(-step / 140),
                }
            )
    return lines


def audit_of(classes=None):
    audit = {
        "counts": {"train": 2800, "valid": 600, "test": 600},
        "findings": [{"check": "duplicates", "level": "ok", "sentence": "No two objects are alike."},
                     {"check": "missing", "level": "warn", "sentence": "half_light_radius is missing for 2.1% of the objects."},
                     {"check": "units", "level": "ok", "sentence": "Every column has a unit."}],
        "missing": {"half_light_radius": 0.021},
        "columns": [{"name": "magnitude", "kind": "scalar", "unit": "mag", "mean": 17.9, "std": 0.8, "min": 14.2, "max": 19.5},
                    {"name": "half_light_radius", "kind": "scalar", "unit": "arcsec", "mean": 2.1, "std": 0.9, "min": 0.6, "max": 8.8}],
        "quarantined": 3, "quarantine_reasons": {"all pixels are NaN": 3},
        "split": {"by": "sky", "fractions_asked": [0.7, 0.15, 0.15], "fractions_realised": {"train": 0.7, "valid": 0.152, "test": 0.148}},
    }  # fmt: skip
    return audit | (
        {
            "classes": {
                c: {"train": 900 - 200 * i, "valid": 190 - 40 * i, "test": 200 - 44 * i} for i, c in enumerate(classes)
            }
        }
        if classes
        else {}
    )


def curve(unit, edges, metric, start, end, baselines):
    bins = []
    for i, (low, high) in enumerate(zip(edges, edges[1:])):
        at = start + (end - start) * (i / (len(edges) - 2)) ** 1.5
        entry = {
            "low": low,
            "high": high,
            "n": 140 - 12 * i,
            metric: {"value": at, "low": 0.96 * at, "high": 1.04 * at},
            "baselines": {},
        }
        for j, name in enumerate(baselines):
            v = at * (1.16 + 0.03 * i if metric == "sigma_nmad" else 0.9 - 0.06 * j - 0.03 * i)
            entry["baselines"][name] = {metric: {"value": v, "low": 0.95 * v, "high": 1.05 * v}}
        bins.append(entry)
    return {"unit": unit, "bins": bins}


STUDY = """question = "{question}"
schema = 1

[data]
source = {{ name = "{source}" }}
inputs = {inputs}
target = "{target}"
split = {{ by = "sky", fractions = [0.7, 0.15, 0.15] }}

[model]
name = "{model}"

[objective]
name = "{objective}"

[train]
epochs = 8

[evaluate]
baselines = {baselines}

[resolved]
seed = 0
survey = "sha256:4be1f0"
runtime = {{ device = "cpu", dtype = "float32", threads = 2 }}
"""


def classification(run, rng, classes, images, name):
    n, k = 600, len(classes)
    truth = rng.choice(k, n, p=np.array([0.5, 0.3, 0.2])[:k] / sum([0.5, 0.3, 0.2][:k]))
    magnitude = rng.uniform(15, 19.5, n)
    logits = 2.6 * np.eye(k)[truth] * (1.4 - 0.25 * (magnitude - 15))[:, None] + rng.standard_normal((n, k))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    call = p.argmax(1)
    ids = [f"SDSS J{i:06d}+0012" for i in range(n)]
    table = {"id": ids, "row": np.arange(n), "split": ["test"] * n, "truth": [classes[t] for t in truth], "prediction": [classes[c] for c in call],
             **{f"{c}_p": p[:, i] for i, c in enumerate(classes)}, "flag": ["" if i % 97 else "out of distribution" for i in range(n)],
             "magnitude": magnitude, "half_light_radius": rng.gamma(4, 0.6, n), "snr": rng.lognormal(3, 0.6, n),
             "ra": (rng.uniform(-6, 9, n)) % 360, "dec": rng.uniform(-4, 6, n)}  # fmt: skip
    pq.write_table(pa.table(table), run / "predictions.parquet")
    matrix = np.zeros((k, k), int)
    np.add.at(matrix, (truth, call), 1)
    right = float((truth == call).mean())
    edges = np.linspace(0, 1, 11)
    bins = []
    for low, high in zip(edges, edges[1:]):
        inside = (p.max(1) > low) & (p.max(1) <= high)
        if inside.sum() > 3:
            a = float((truth == call)[inside].mean())
            e = 1.96 * np.sqrt(a * (1 - a) / inside.sum())
            bins.append(
                {
                    "confidence": float(p.max(1)[inside].mean()),
                    "accuracy": a,
                    "low": max(0, a - e),
                    "high": min(1, a + e),
                    "n": int(inside.sum()),
                }
            )

    def metric(v, h=0.022):
        return {"value": v, "low": v - h, "high": v + h}

    baselines = {
        "cas-boosting": {
            "accuracy": metric(right - 0.091) | {"difference": metric(0.091, 0.02)},
            "log_loss": metric(0.71) | {"difference": metric(-0.2, 0.04)},
        },
        "prior": {
            "accuracy": metric(0.5) | {"difference": metric(right - 0.5, 0.03)},
            "log_loss": metric(1.03) | {"difference": metric(-0.52, 0.05)},
        },
    }
    answer = answer_of(
        name, f"Is this galaxy {', '.join(classes[:-1])} or {classes[-1]}?" if images else "Is this star a pulsar?",
        f"{' or '.join(classes)}: {right:.1%} ({right - .022:.1%} to {right + .022:.1%}) on 600 held-out galaxies, 9.1 ± 2.0 points above CAS + boosting on the same galaxies.",
        metrics={"accuracy": metric(right) | {"unit": "fraction", "better": "high"}, "log_loss": metric(0.51, 0.04) | {"unit": "nat", "better": "low"}},
        baselines=baselines, baseline_seconds={"cas-boosting": 41.0, "prior": 0.01},
        calibration={"ece": 0.027, "reliability": bins}, confusion={"classes": classes, "matrix": matrix.tolist()},
        curves={"magnitude": curve("mag", list(np.linspace(15, 19.5, 7)), "accuracy", right + .06, right - .2, ["cas-boosting"]),
                "snr": curve("", [2, 5, 12, 30, 75, 190], "accuracy", right - .15, right + .07, ["cas-boosting", "prior"]),
                "half_light_radius": curve("arcsec", [0.5, 1, 2, 3, 5, 8], "accuracy", right - .1, right + .04, ["cas-boosting"])},
        seeds=[{"seed": s, "metrics": {"accuracy": right + d}} for s, d in ((0, 0), (1, 0.006), (2, -0.004))],
        explanations={"grad-cam": {"sanity_correlation": 0.11, "passed": True}, "occlusion": {"sanity_correlation": 0.72, "passed": False}},
        target={"name": "morphology", "kind": "label", "classes": classes, "unit": ""},
    )  # fmt: skip
    (run / "answer.json").write_text(json.dumps(answer))
    (run / "audit.json").write_text(json.dumps(audit_of(classes)))
    (run / "explain").mkdir()
    if images:
        from gsnn.report.images import thumbnail

        error = -np.log(p[np.arange(n), truth])
        chosen = [*np.argsort(-error)[:12], *rng.choice(n, 12, replace=False), *np.argsort(error)[:6]]
        shots = np.stack([thumbnail(picture(rng, truth[i] % 3), ("g", "r", "i")) for i in chosen])
        np.savez(
            run / "examples.npz",
            ids=np.array([ids[i] for i in chosen]),
            images=shots,
            group=np.array(["worst"] * 12 + ["random"] * 12 + ["best"] * 6),
        )
        y, x = np.mgrid[:48, :48] - 24
        maps = np.exp(-(x**2 + y**2) / 90)[None] * rng.normal(1, 0.2, (8, 48, 48)) - 0.4 * np.exp(
            -((x - 12) ** 2 + y**2) / 30
        )
        for method in ("grad-cam", "occlusion"):
            np.savez(
                run / "explain" / f"{method}.npz",
                ids=np.array([ids[i] for i in chosen[12:20]]),
                maps=maps.astype(np.float32),
                images=shots[12:20],
            )
    else:
        np.savez(
            run / "explain" / "saliency.npz",
            values=rng.standard_normal((50, 4)) * [3, 1, 0.4, 2],
            columns=np.array(["profile_mean", "dm_snr", "skew", "kurtosis"]),
        )


def photoz(run, rng):
    from scipy.stats import norm

    n = 4000
    z = rng.gamma(3, 0.16, n)
    sigma = 0.02 * (1 + z) * rng.uniform(0.7, 1.6, n)
    centre = z + sigma * rng.standard_normal(n) + (rng.random(n) < 0.02) * rng.uniform(0.2, 0.7, n)
    levels = np.arange(1, 100) / 100
    q = centre[:, None] + sigma[:, None] * norm.ppf(levels)
    pit = norm.cdf((z - centre) / sigma)
    table = {"id": [f"1237{i:012d}" for i in range(n)], "row": np.arange(n), "split": ["test"] * n, "truth": z, "prediction": centre,
             "redshift_low": centre - sigma, "redshift_high": centre + sigma, **{f"redshift_q{i + 1:02d}": q[:, i] for i in range(99)},
             "magnitude": 16 + 3.5 * z + rng.standard_normal(n), "ra": rng.uniform(110, 260, n), "dec": np.degrees(np.arcsin(rng.uniform(-0.05, 0.9, n)))}  # fmt: skip
    pq.write_table(pa.table(table), run / "predictions.parquet")

    def metric(v, h):
        return {"value": v, "low": v - h, "high": v + h}

    answer = answer_of(
        "photoz-sdss", "How far away is this galaxy, judging by five colours?",
        "Photometric redshifts scatter by 0.0231 (0.0225 to 0.0238, NMAD) on 4,000 held-out galaxies, 14% less than a random forest's on the same galaxies.",
        metrics={"sigma_nmad": metric(0.0231, 0.0007) | {"unit": "", "better": "low"}, "outliers": metric(0.019, 0.004) | {"unit": "fraction", "better": "low"},
                 "crps": metric(0.0157, 0.0004) | {"unit": "", "better": "low"}},
        baselines={"forest": {"sigma_nmad": metric(0.0268, 0.0009) | {"difference": metric(-0.0037, 0.0005)}, "outliers": metric(0.021, 0.004) | {"difference": metric(-0.002, 0.004)},
                              "crps": metric(0.0181, 0.0005) | {"difference": metric(-0.0024, 0.0003)}}},
        baseline_seconds={"forest": 88.0},
        calibration={"pit_ks": 0.021, "pit": np.histogram(pit, 20, (0, 1))[0].tolist(),
                     "coverage": [{"nominal": c, "empirical": float((abs(pit - 0.5) < c / 2).mean())} for c in np.arange(1, 20) / 20]},
        curves={"magnitude": curve("mag", [15, 16, 17, 18, 19, 20], "sigma_nmad", 0.018, 0.034, ["forest"])},
        target={"name": "redshift", "kind": "scalar", "unit": ""},
    )  # fmt: skip
    (run / "answer.json").write_text(json.dumps(answer))
    (run / "audit.json").write_text(json.dumps(audit_of()))


def make_run(kind: str, folder: Path) -> Path:
    rng = np.random.default_rng(5)
    run = folder / "runs" / f"{kind}-1a2b3c4d"
    (run / "fits" / "main").mkdir(parents=True)
    fields = {"question": "Is this galaxy smooth, spiral or edge-on?", "source": "galaxies", "inputs": '["image"]', "target": "morphology",
              "model": "resnet", "objective": "classify", "baselines": '["cas-boosting"]'}  # fmt: skip
    steps = 704
    if kind == "images":
        classification(run, rng, ["smooth", "spiral", "edge-on"], True, "odd-spiral")
    elif kind == "table":
        classification(run, rng, ["pulsar", "noise"], False, "pulsars")
        fields |= {
            "source": "files",
            "inputs": '["profile_mean", "dm_snr"]',
            "model": "mlp",
            "question": "Is this star a pulsar?",
        }
    elif kind == "photo-z":
        photoz(run, rng)
        fields |= {"source": "files", "inputs": '["u", "g", "r", "i", "z"]', "model": "mlp", "objective": "regress", "target": "redshift",
                   "baselines": '["forest"]', "question": "How far away is this galaxy?"}  # fmt: skip
    else:
        steps = 250
        (run / "audit.json").write_text(json.dumps(audit_of(["smooth", "spiral"])))
    (run / "study.toml").write_text(STUDY.format(**fields))
    text = "\n".join(json.dumps(line) for line in log_lines(rng, steps))
    (run / "fits" / "main" / "log.jsonl").write_text(text + ('\n{"event": "st' if kind == "unfinished" else "\n"))
    return run


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    return {kind: make_run(kind, folder) for kind in KINDS}
