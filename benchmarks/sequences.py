"""Cost against length for every network of sequences, and what padding wastes on the lengths of real surveys.

    python benchmarks/sequences.py --data FOLDER --figure docs/images/sequences-cost.png
    python benchmarks/sequences.py --data FOLDER --rounds 0 --quality 4000       # every network on some of SPCC
    python benchmarks/sequences.py --rounds 2 --longest 512       # a quick look, without the surveys

A training step is the loss of ``classify`` on a batch of light curves in six bands, forwards and backwards, in float32
on one thread. Rounds go through all networks and lengths in turn. Seconds are of the process's own time on a processor,
so that others on the machine count little. The exponent p of time ~ length^p is the slope over the lengths from 256,
with the 95% interval of a bootstrap over the rounds. FOLDER is that of the real data (spcc, ztf_dr5_lightcurves).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from gsnn.config import build
from gsnn.data.light_curves import LightCurves
from gsnn.data.schema import Column, Schema
from gsnn.data.stream import Stream
from gsnn.data.survey import Survey

ROOT = Path(__file__).parents[1]
BANDS, BATCH, FROM = tuple("ugrizy"), 8, 256
INPUTS = Schema.of([Column("lc", "light_curve", bands=BANDS)])
KIND = Schema.of([Column("kind", "label", classes=("Ia", "II", "Ibc"), dtype="int64")])
NETWORKS = {  # as they come
    "cnn1d": {}, "resnet1d": {}, "wavenet": {}, "rnn": {}, "rnn, gru": {"name": "rnn", "cell": "gru"}, "cnn-rnn": {},
    "echo-state": {}, "seq2seq": {}, "time-transformer": {},
}  # fmt: skip
BATCHES = (32, 64, 128, 256)


def batch(length: int) -> dict[str, torch.Tensor]:
    """Light curves of one length, in network units."""
    generator = torch.Generator().manual_seed(length)
    time_, flux, error, band = (torch.rand(BATCH, length, generator=generator) for _ in range(4))
    parts = {"time": time_.sort(1).values, "flux": 4 * flux - 2, "flux_error": error, "band": (6 * band).long()}
    given = {f"lc.{name}": values for name, values in parts.items()}
    return {**given, "lc.valid": torch.ones(BATCH, length, dtype=torch.bool), "kind": torch.arange(BATCH) % 3}


def objective(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    spec = {"name": name, **NETWORKS[name]}
    return build("classify", "objective", INPUTS, KIND, lambda i, n: build(spec, "model", i, n)).train()


def step(one: torch.nn.Module, given: dict[str, torch.Tensor]) -> float:
    """Seconds on a processor of one training step."""
    start = time.process_time()
    ((total, weight),) = one.terms(one(given), given).values()
    (total / weight).backward()
    return time.process_time() - start


def exponent(lengths: list[int], seconds: np.ndarray, resamples: int = 2000) -> dict[str, float]:
    """The slope of log time over log length, of the medians over the rounds [round, length], and its 95% interval."""
    long_ = np.array(lengths) >= FROM
    x, random = np.log2(np.array(lengths)[long_]), np.random.default_rng(0)
    slope = lambda some: np.polyfit(x, np.log2(np.median(some[:, long_], 0)), 1)[0]  # noqa: E731
    drawn = [slope(seconds[random.integers(0, len(seconds), len(seconds))]) for _ in range(resamples)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {"value": round(slope(seconds), 3), "low": round(low, 3), "high": round(high, 3)}


def cost(rounds: int, longest: int, chosen: list[str]) -> dict[str, dict]:
    lengths = [length for length in (64, 128, 256, 512, 1024, 2048, 4096) if length <= longest]
    given = {length: batch(length) for length in lengths}
    networks = {name: objective(name) for name in chosen}
    seconds: dict[str, list[list[float]]] = {name: [] for name in networks}
    for one in networks.values():
        step(one, given[lengths[0]])  # what is built at the first step
    for k in range(rounds):
        for name, one in networks.items():
            seconds[name].append([step(one, given[length]) for length in lengths])
            print(k, name, " ".join(f"{s * 1e3:.0f}" for s in seconds[name][-1]), "ms", flush=True)
    return {
        name: {
            "parameters": sum(p.numel() for p in networks[name].parameters()),
            "lengths": lengths,
            "seconds_a_step": [round(float(s), 5) for s in np.median(found, 0)],
            "objects_a_second_at_128": round(BATCH / float(np.median(found, 0)[lengths.index(128)])),
            "exponent": exponent(lengths, np.array(found)),
        }
        for name, found in seconds.items()
    }


class Lengths:
    """A source of light curves of given lengths, without any light."""

    def __init__(self, lengths: np.ndarray):
        self.lengths = lengths

    def schema(self) -> Schema:
        return Schema.of([Column("id", "id"), Column("lc", "light_curve", bands=("g",))], origin="a benchmark")

    def __len__(self) -> int:
        return len(self.lengths)

    def rows(self, indices: np.ndarray, seed: int = 0):
        import pyarrow as pa

        curves = [(np.arange(n), np.zeros(n), np.ones(n), np.zeros(n)) for n in self.lengths[indices]]
        names = pa.array([str(i) for i in indices])
        return pa.RecordBatch.from_arrays([names, LightCurves.of(curves).to_arrow()], schema=self.schema().arrow())


def waste(lengths: np.ndarray) -> dict[str, dict]:
    """Steps of padding for each step that is real, of one epoch, with the stream's buckets and without them."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        survey = Survey.create(Path(folder) / "lengths.survey", Lengths(lengths))
        for size in BATCHES:
            with Stream(survey.view(np.arange(len(survey))), ["lc"], batch=size, scratch=Path(folder)) as stream:
                valid = [given["lc.valid"] for given in stream.batches()]
            padded = sum(v.numel() for v in valid)
            order = np.random.default_rng(0).permutation(lengths)
            cut = [order[i : i + size] for i in range(0, len(order), size)]
            mixed = sum(len(some) * some.max() for some in cut)
            found[str(size)] = {
                "bucketed": round(padded / int(lengths.sum()) - 1, 4),
                "unsorted": round(float(mixed / lengths.sum()) - 1, 4),
            }
    return found


def surveys(folder: Path) -> dict[str, np.ndarray]:
    """Observations of each object of real surveys."""
    import pandas

    spcc = pandas.read_parquet(folder / "spcc/spcc_obs.parquet", columns=["snid"]).snid.value_counts()
    ztf = pandas.read_parquet(folder / "ztf_dr5_lightcurves/ztf_000250_zg_c01_q1_dr5.parquet", columns=["nepochs"])
    return {"SPCC": spcc.to_numpy(), "ZTF DR5, g": ztf.nepochs[ztf.nepochs > 0].to_numpy()}


def supernovae(folder: Path, objects: int) -> object:
    """Objects of SPCC chosen evenly, as a source: light curves in four bands, and whether it is a Ia."""
    import pandas
    import pyarrow as pa

    heads = pandas.read_parquet(folder / "spcc/spcc_head.parquet").sort_values("snid")
    heads = heads.iloc[np.linspace(0, len(heads) - 1, objects).astype(int)]
    seen = pandas.read_parquet(folder / "spcc/spcc_obs.parquet")
    groups = seen[seen.snid.isin(heads.snid)].sort_values("mjd").groupby("snid", sort=False)
    bands = {name: i for i, name in enumerate("griz")}
    curves = [
        (g.mjd.to_numpy(), g.fluxcal.to_numpy(), g.fluxcalerr.to_numpy(), g.flt.astype(str).map(bands).to_numpy())
        for g in (groups.get_group(snid) for snid in heads.snid)
    ]
    light, kinds = LightCurves.of(curves), np.where(heads.sim_type.astype(str).str.strip() == "Ia", "Ia", "other")
    columns = (
        Column("id", "id"),
        Column("lc", "light_curve", bands=tuple("griz"), time_unit="d"),
        Column("kind", "label", classes=("Ia", "other"), dtype="int64"),
    )

    class Chosen:
        schema = staticmethod(lambda: Schema.of(columns, origin="SPCC"))
        __len__ = lambda self: len(heads)  # noqa: E731

        def rows(self, indices: np.ndarray, seed: int = 0):
            arrays = [pa.array(heads.snid.astype(str).to_numpy()[indices]), light.take(indices).to_arrow()]
            return pa.RecordBatch.from_arrays([*arrays, pa.array(kinds[indices])], schema=columns_schema)

    columns_schema = Schema.of(columns, origin="SPCC").arrow()
    return Chosen()


def quality(folder: Path, objects: int, epochs: int, seeds: int, networks: list[str]) -> dict[str, dict]:
    """Area under the ROC curve (Ia or not) on half of some of SPCC, every network as it comes, the same training."""
    from sklearn.metrics import roc_auc_score

    from gsnn.predict import predict_view
    from gsnn.steps.data import ground
    from gsnn.steps.train import train_model
    from gsnn.study import Study

    found: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as scratch:
        survey = Survey.create(Path(scratch) / "spcc.survey", supernovae(folder, objects))
        for name in networks:
            spec = {"name": name, **NETWORKS[name]}
            table = {
                "question": "Is it a Ia?",
                "schema": 1,
                "data": {
                    "source": "files", "inputs": ["lc"], "target": "kind",
                    "split": {"by": "identity", "fractions": [0.4, 0.1, 0.5]},
                },
                "model": spec, "objective": {"name": "classify"}, "evaluate": {"baselines": ["prior"]},
                "train": {"epochs": epochs, "batch": 64, "learning_rate": 3e-3, "precision": "float32"},
            }  # fmt: skip
            study, areas, start = Study.from_dict(table, name="spcc"), [], time.process_time()
            one = ground(study, survey)
            truth = one.test.columns(["kind"])["kind"] == 0
            for seed in range(seeds):
                fit = train_model(study, one, Path(scratch) / f"{name}-{seed}", seed=seed)
                said = predict_view(fit.model, one.test, fit.runtime)[0]["kind"]
                areas.append(round(float(roc_auc_score(truth, said.probabilities[:, 0])), 4))
            spent = round((time.process_time() - start) / seeds, 1)
            found[name] = {"auc": areas, "seconds": spent, "training": len(one.train), "test": len(one.test)}
            print(name, json.dumps(found[name]), flush=True)
    return found


def draw(found: dict[str, dict], path: Path) -> None:
    """Time of a training step for one object against length, on logarithmic axes."""
    from gsnn.report.theme import NETWORK, OTHERS, SOFT, figure, style

    with style():
        f = figure(7.6, 4.0)
        ax = f.subplots()
        for k, (name, one) in enumerate(found.items()):
            p = one["exponent"]
            label = f"{name}: {p['value']:.2f} ({p['low']:.2f} to {p['high']:.2f})"
            each = 1e3 * np.array(one["seconds_a_step"]) / BATCH
            colour, mark = [NETWORK, *OTHERS][k % 6], "osD^vPX*<"[k % 9]
            ax.loglog(
                one["lengths"], each, color=colour, marker=mark, ms=4, lw=1.2, ls="-" if k < 6 else "--", label=label
            )
        lengths = np.array(one["lengths"])
        ax.loglog(lengths, 0.25 * lengths / lengths[0], color=SOFT, lw=0.7, ls=":", label="linear")
        ax.set(xlabel="observations", ylabel="a training step for one object (ms)")
        ax.set_xticks(lengths, [str(n) for n in lengths])
        ax.minorticks_off()
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        place = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5), "frameon": False}
        ax.legend(title="network: exponent from\n256 observations (95%)", fontsize=7.5, title_fontsize=8, **place)
        f.savefig(path, dpi=160, facecolor="white")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--longest", type=int, default=2048)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--quality", type=int, default=0, help="objects of SPCC to train every network on (and test)")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="of all but padding")
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / f"{Path(__file__).stem}.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], stdout=subprocess.PIPE, text=True).stdout
    kept = json.loads(arguments.out.read_text()) if arguments.out.is_file() else {}
    result = kept | {
        "what": f"training steps of {BATCH} light curves, seconds on one processor; padding for each real step",
        "commands": {**kept.get("commands", {}), "cost" if arguments.rounds else "quality": " ".join(sys.argv)},
        "commit": commit.strip(),
        "processors": os.cpu_count(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }
    if arguments.data:
        result["padding"] = {}
        for name, lengths in surveys(arguments.data).items():
            about = {"objects": len(lengths), "median": float(np.median(lengths)), "longest": int(lengths.max())}
            result["padding"][name] = about | {"batch": waste(lengths)}
            print(name, json.dumps(result["padding"][name]), flush=True)
        if arguments.quality:
            how = (arguments.quality, arguments.epochs, arguments.seeds, arguments.networks)
            result["quality"] = kept.get("quality", {}) | quality(arguments.data, *how)
    if arguments.rounds:
        found = cost(arguments.rounds, arguments.longest, arguments.networks)
        result["cost"] = {name: found.get(name, kept.get("cost", {}).get(name)) for name in NETWORKS}
    result["load_average"] = os.getloadavg()
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    if arguments.figure and "cost" in result:
        draw(result["cost"], arguments.figure)


if __name__ == "__main__":
    main()
