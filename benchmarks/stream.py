"""Readers of shuffled cut-outs side by side, in one run on one machine, and the bars of the data plane.

    python benchmarks/stream.py --out benchmarks/results/stream.json
    python benchmarks/stream.py --samples 5000 --rounds 1       # a quick look

Every reader gets the same 64 x 64 x 3 uint8 images and gives shuffled batches of torch tensors; every one runs in a
process of its own, with 0 and with 2 workers where it has workers, the best kept. Peers live in virtual environments of
their own (``--peers DIR``, made if absent), each used as its documentation says. Rounds alternate between readers;
medians are reported.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SHAPE, BATCH = (3, 64, 64), 256
ENVIRONMENTS = {
    "main": ["torch==2.13.0", "webdataset", "litdata", "datasets", "h5py"],
    "mds": ["torch==2.13.0", "mosaicml-streaming", "numpy==2.1.3"],
}
READERS = {  # name -> (environment, workers tried)
    "memory map by batch": ("own", [0]),
    "gsnn hot": ("own", [0]),
    "gsnn first epoch": ("own", [0]),
    "webdataset": ("main", [0, 2]),
    "litdata": ("main", [0, 2]),
    "mds": ("mds", [0, 2]),
    "huggingface torch": ("main", [0, 2]),
    "huggingface numpy by batch": ("main", [0, 2]),
    "h5py contiguous by batch": ("main", [0, 2]),
}
PACKAGES = ["torch", "numpy", "gsnn", "pylance", "webdataset", "litdata", "datasets", "h5py", "mosaicml-streaming"]


# ------------------------------------------------------------------ readers: prepare(folder), then epoch(k)


def images(folder: Path):
    import numpy as np

    return np.load(folder / "images.npy", mmap_mode="r")


class MemoryMap:
    """The ceiling: a permutation in memory, rows of a mapped array gathered by batch."""

    def __init__(self, folder, workers):
        import torch

        self.pixels = torch.from_numpy(images(folder))
        self.touched = int(self.pixels.long().sum())

    def epoch(self, k):
        import torch

        order = torch.randperm(len(self.pixels), generator=torch.Generator().manual_seed(k))
        for start in range(0, len(order), BATCH):
            yield self.pixels.index_select(0, order[start : start + BATCH])


class Gsnn:
    """GSNN's stream over a survey in Lance; ``warm`` fills the scratch before the clock starts."""

    warm = True

    @staticmethod
    def prepare(folder):
        import numpy as np
        import pyarrow as pa

        from gsnn.data.schema import Column, Schema
        from gsnn.data.survey import Survey

        pixels = images(folder)

        class Cutouts:
            def schema(self):
                return Schema.of([Column("id", "id"), Column("image", "image", shape=SHAPE, dtype="uint8")])

            def __len__(self):
                return len(pixels)

            def rows(self, indices, seed):
                flat = pa.array(np.ascontiguousarray(pixels[indices]).reshape(-1))
                arrays = [
                    pa.array([f"o{i}" for i in indices]),
                    pa.FixedSizeListArray.from_arrays(flat, int(np.prod(SHAPE))),
                ]
                return pa.RecordBatch.from_arrays(arrays, schema=self.schema().arrow())

        Survey.create(folder / "gsnn", Cutouts())

    def __init__(self, folder, workers):
        from gsnn.data.stream import Stream
        from gsnn.data.survey import Survey

        self.make = lambda: Stream(Survey.open(folder / "gsnn").view(), ["image"], batch=BATCH, scratch=folder)
        self.stream = self.make()
        if self.warm:
            next(self.stream.batches(0, 1))

    def epoch(self, k):
        if not self.warm and k:
            self.stream.close()
            self.stream = self.make()
        n = len(self.stream)
        for batch in self.stream.batches(k * n, (k + 1) * n):
            yield batch["image"]


class GsnnFirst(Gsnn):
    """The same with an empty scratch: the first epoch, decoding from Lance included; its survey is the one above."""

    warm, prepare = False, None


class WebDataset:
    """Tar shards of raw bytes, shuffled by shard and in a buffer of 5,000."""

    @staticmethod
    def prepare(folder):
        import webdataset as wds

        (folder / "wds").mkdir()
        with wds.ShardWriter(str(folder / "wds" / "%05d.tar"), maxcount=2500, verbose=0) as sink:
            for i, image in enumerate(images(folder)):
                sink.write({"__key__": f"{i:08d}", "bin": image.tobytes()})

    def __init__(self, folder, workers):
        import numpy as np
        import torch
        import webdataset as wds

        shards = sorted(str(path) for path in (folder / "wds").glob("*.tar"))

        def decode(sample):
            return torch.from_numpy(np.frombuffer(sample["bin"], np.uint8).reshape(SHAPE).copy())

        data = (
            wds.WebDataset(shards, shardshuffle=100, empty_check=False)
            .shuffle(5000)
            .map(decode)
            .batched(BATCH, collation_fn=torch.stack)
        )
        self.loader = wds.WebLoader(data, batch_size=None, num_workers=workers, persistent_workers=workers > 0)

    def epoch(self, k):
        return self.loader


class LitData:
    """litdata's optimised chunks and its own loader."""

    @staticmethod
    def prepare(folder):
        import litdata

        litdata.optimize(
            fn=_lit_sample,
            inputs=[(str(folder), i) for i in range(len(images(folder)))],
            output_dir=str(folder / "lit"),
            chunk_bytes="64MB",
            num_workers=1,
        )

    def __init__(self, folder, workers):
        import litdata

        data = litdata.StreamingDataset(str(folder / "lit"), shuffle=True, drop_last=False)
        self.loader = litdata.StreamingDataLoader(
            data, batch_size=BATCH, num_workers=workers, persistent_workers=workers > 0
        )

    def epoch(self, k):
        return (batch["image"] for batch in self.loader)


def _lit_sample(place):
    import numpy as np

    folder, i = place
    return {"image": np.array(images(Path(folder))[i])}


class Mds:
    """MosaicML's shards and its StreamingDataset, which shuffles by py1e."""

    @staticmethod
    def stub():
        import torch

        library = torch.library.Library("torchvision", "DEF")  # its CPU wheel defines operators that this torch lacks
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        globals()["_library"] = library

    @staticmethod
    def prepare(folder):
        Mds.stub()
        from streaming import MDSWriter

        with MDSWriter(
            out=str(folder / "mds"), columns={"image": f"ndarray:uint8:{','.join(map(str, SHAPE))}"}
        ) as sink:
            for image in images(folder):
                sink.write({"image": image})

    def __init__(self, folder, workers):
        Mds.stub()
        from streaming import StreamingDataLoader, StreamingDataset

        data = StreamingDataset(local=str(folder / "mds"), shuffle=True, batch_size=BATCH, num_canonical_nodes=1)
        self.loader = StreamingDataLoader(data, batch_size=BATCH, num_workers=workers, persistent_workers=workers > 0)

    def epoch(self, k):
        return (batch["image"] for batch in self.loader)


class HuggingFace:
    """datasets in its usual torch format, a shuffled DataLoader over it."""

    @staticmethod
    def prepare(folder):
        import datasets

        pixels = images(folder)
        features = datasets.Features({"image": datasets.Array3D(SHAPE, "uint8")})
        made = datasets.Dataset.from_generator(
            lambda: ({"image": image} for image in pixels), features=features, cache_dir=str(folder / "hf-cache")
        )
        made.save_to_disk(str(folder / "hf"))

    def __init__(self, folder, workers):
        import datasets
        import torch

        self.data = datasets.load_from_disk(str(folder / "hf")).with_format("torch", dtype=torch.uint8)
        self.loader = torch.utils.data.DataLoader(
            self.data, batch_size=BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0
        )

    def epoch(self, k):
        return (batch["image"] for batch in self.loader)


class HuggingFaceTuned:
    """datasets at its best: raw bytes in Arrow's binary column, numpy format, a whole batch of indices at once."""

    @staticmethod
    def prepare(folder):
        import datasets

        pixels = images(folder)
        features = datasets.Features({"image": datasets.Value("large_binary")})
        made = datasets.Dataset.from_generator(
            lambda: ({"image": i.tobytes()} for i in pixels), features=features, cache_dir=str(folder / "hf-raw-cache")
        )
        made.save_to_disk(str(folder / "hf-raw"))

    def __init__(self, folder, workers):
        import datasets
        import numpy as np
        import torch

        data = datasets.load_from_disk(str(folder / "hf-raw")).with_format("arrow")

        class Batches(torch.utils.data.Dataset):
            def __len__(self):
                return len(data)

            def __getitem__(self, indices):
                joined = b"".join(value.as_buffer() for value in data[indices]["image"])
                return torch.from_numpy(np.frombuffer(bytearray(joined), np.uint8).reshape(-1, *SHAPE))

        self.loader = _by_batch(Batches(), workers)

    def epoch(self, k):
        return self.loader


class H5py:
    """One contiguous HDF5 array; each batch reads its sorted rows at once and puts them in order."""

    @staticmethod
    def prepare(folder):
        import h5py

        with h5py.File(folder / "images.h5", "w") as file:
            file.create_dataset("image", data=images(folder))

    def __init__(self, folder, workers):
        import h5py
        import numpy as np
        import torch

        class Batches(torch.utils.data.Dataset):
            file = None

            def __len__(self):
                with h5py.File(folder / "images.h5") as file:
                    return len(file["image"])

            def __getitem__(self, indices):
                self.file = self.file or h5py.File(folder / "images.h5")
                if not hasattr(self, "array"):
                    self.array = self.file["image"]
                out = np.empty((len(indices), *SHAPE), np.uint8)
                for place, i in enumerate(indices):
                    self.array.read_direct(out, np.s_[i], np.s_[place])
                return torch.from_numpy(out)

        self.loader = _by_batch(Batches(), workers)

    def epoch(self, k):
        return self.loader


def _by_batch(data, workers):
    from torch.utils.data import BatchSampler, DataLoader, RandomSampler

    sampler = BatchSampler(RandomSampler(data), BATCH, drop_last=False)
    return DataLoader(data, sampler=sampler, batch_size=None, num_workers=workers, persistent_workers=workers > 0)


CLASSES = {
    "memory map by batch": MemoryMap,
    "gsnn hot": Gsnn,
    "gsnn first epoch": GsnnFirst,
    "webdataset": WebDataset,
    "litdata": LitData,
    "mds": Mds,
    "huggingface torch": HuggingFace,
    "huggingface numpy by batch": HuggingFaceTuned,
    "h5py contiguous by batch": H5py,
}


def prepare(name: str, folder: Path) -> None:
    if getattr(CLASSES[name], "prepare", None):
        CLASSES[name].prepare(folder)


def measure(name: str, folder: Path, workers: int, rounds: int) -> dict[str, object]:
    """Samples a second of each epoch (the first of hot readers warms up and is left out), and a check of what came."""
    import torch

    torch.set_num_threads(1)
    reader = CLASSES[name](folder, workers)
    rates, total = [], len(images(folder))
    for k in range(rounds + (name != "gsnn first epoch")):
        start, count, checksum, first = time.perf_counter(), 0, 0, None
        for batch in reader.epoch(k):
            count += len(batch)
            checksum += int(batch[0, 0, 0, 0])  # touch what came
            first = batch if first is None else first
        rates.append(count / (time.perf_counter() - start))
        if count != total or tuple(first.shape[1:]) != SHAPE or first.dtype != torch.uint8:
            raise SystemExit(f"{name} gave {count} of {total} samples, {first.dtype} {tuple(first.shape)}")
    return {"rates": rates if name == "gsnn first epoch" else rates[1:], "versions": versions()}


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


# ------------------------------------------------------------------ the bars that are about memory and time


def anonymous_bytes() -> int:
    """Resident anonymous memory of this process: mapped pages do not count."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    raise SystemExit("this kernel does not tell RssAnon")


def memory(folder: Path, rows: int) -> dict[str, int]:
    """Anonymous memory after a split, a stream and 50 batches of ``rows`` tabular rows."""
    import gc

    from gsnn.data.split import SplitSettings, split
    from gsnn.data.stream import Stream
    from gsnn.data.survey import Survey

    survey = Survey.open(folder / f"table-{rows}")
    parts = split(survey, SplitSettings(by="identity"))
    with Stream(survey.view(parts.train), ["x"], batch=BATCH, scratch=folder) as stream:
        for _ in stream.batches(0, 50):
            pass
        state = len(json.dumps({**stream.state(), "step": 10**12}))
    gc.collect()
    return {"anonymous": anonymous_bytes(), "state_bytes": state}


def make_table(folder: Path, rows: int) -> None:
    import numpy as np
    import pyarrow as pa

    from gsnn.data.schema import Column, Schema
    from gsnn.data.survey import Survey

    class Table:
        def schema(self):
            return Schema.of([Column("id", "id"), Column("x", "scalar")])

        def __len__(self):
            return rows

        def rows(self, indices, seed):
            arrays = [pa.array(np.char.mod("o%d", indices)), pa.array((indices % 997).astype(np.float32))]
            return pa.RecordBatch.from_arrays(arrays, schema=self.schema().arrow())

    Survey.create(folder / f"table-{rows}", Table())


def seek_ms() -> float:
    """Median time to find one sample of 10**12."""
    import random

    from gsnn.data.order import Order

    order, times = Order(10**12, 1, 0, 64, 5000), []
    for place in [random.Random(0).randrange(10**12) for _ in range(200)]:
        start = time.perf_counter()
        order(place, place + 1)
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


# ------------------------------------------------------------------ the run


def environment(peers: Path, name: str) -> str:
    """The python of an environment, made if it is not there."""
    if name == "own":
        return sys.executable
    python = peers / name / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(peers / name)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *ENVIRONMENTS[name]], check=True)
    return str(python)


def call(python: str, *arguments: object) -> dict[str, object]:
    """This file in a process of its own; its last line is the answer."""
    quiet = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "LANCE_LOG": "error"}
    done = subprocess.run(
        [python, __file__, *map(str, arguments)], capture_output=True, text=True, env=quiet, timeout=1800
    )
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1][:300]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def run(samples: int, rounds: int, table: int, peers: Path, folder: Path) -> dict[str, object]:
    import numpy as np

    np.save(folder / "images.npy", np.random.default_rng(0).integers(0, 256, (samples, *SHAPE), dtype=np.uint8))
    rates: dict[str, dict[int, list[float]]] = {name: {} for name in READERS}
    found, errors = {}, {}
    for name, (where, _) in READERS.items():
        if "error" in (said := call(environment(peers, where), "--prepare", name, "--folder", folder)):
            errors[name] = said["error"]
    for turn in range(rounds):  # rounds alternate, so that a busy minute hurts everyone
        for name, (where, workers) in READERS.items():
            for count in workers if name not in errors else ():
                said = call(environment(peers, where), "--reader", name, "--workers", count, "--folder", folder)
                if "error" in said:
                    errors[f"{name}, {count} workers"] = said["error"]
                    continue
                rates[name].setdefault(count, []).extend(said["rates"])
                found[where] = said["versions"]
                print(
                    f"round {turn + 1}: {name}, {count} workers: {statistics.median(said['rates']):,.0f}/s", flush=True
                )
    best = {name: max((statistics.median(r), w) for w, r in tried.items()) for name, tried in rates.items() if tried}
    rate = {name: round(value) for name, (value, _) in best.items()}
    slow = [rate[n] for n in ("webdataset", "litdata", "mds") if n in rate]
    fast = [
        rate[n] for n in ("huggingface torch", "huggingface numpy by batch", "h5py contiguous by batch") if n in rate
    ]
    small, large = min(100_000, table), table
    memories = {}
    for rows in (small, large):
        call(sys.executable, "--make-table", rows, "--folder", folder)
        memories[rows] = call(sys.executable, "--memory", rows, "--folder", folder)
    ratios = {"gsnn hot / memory map": rate["gsnn hot"] / rate["memory map by batch"]}
    if slow and fast:
        ratios |= {
            "gsnn hot / best of webdataset, litdata, mds": rate["gsnn hot"] / max(slow),
            "gsnn hot / best of huggingface, h5py": rate["gsnn hot"] / max(fast),
            "gsnn first epoch / best of webdataset, litdata, mds": rate["gsnn first epoch"] / max(slow),
        }
    answered = all("error" not in m for m in memories.values())
    return {
        "samples": samples,
        "sample_bytes": int(np.prod(SHAPE)),
        "batch": BATCH,
        "rounds": rounds,
        "samples_per_second": rate,
        "workers_of_the_best": {name: w for name, (_, w) in best.items()},
        "all_rates": {name: {str(w): [round(x) for x in r] for w, r in tried.items()} for name, tried in rates.items()},
        "ratios": {name: round(value, 3) for name, value in ratios.items()},
        "seek_in_1e12_ms": round(seek_ms(), 4),
        "state_bytes": memories[large]["state_bytes"] if answered else None,
        "anonymous_memory_mib": {str(n): round(m["anonymous"] / 2**20, 2) for n, m in memories.items()}
        if answered
        else memories,
        "anonymous_growth_mib": round((memories[large]["anonymous"] - memories[small]["anonymous"]) / 2**20, 2)
        if answered
        else None,
        "errors": errors,
        "versions": found,
    }


def about() -> dict[str, object]:
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], capture_output=True, text=True, cwd=Path(__file__).parent).stdout.strip()

    return {
        "command": " ".join(["python", *sys.argv]),
        "commit": git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--", "../src") else ""),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "load_at_start": round(os.getloadavg()[0], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--table", type=int, default=10_000_000, help="rows of the larger table of the memory bar")
    parser.add_argument("--peers", type=Path, default=Path(tempfile.gettempdir()) / "gsnn-peers")
    parser.add_argument("--out", type=Path)
    for name in ("--prepare", "--reader", "--folder"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    for name in ("--workers", "--memory", "--make-table"):
        parser.add_argument(name, type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.prepare:
        prepare(given.prepare, Path(given.folder))
        print(json.dumps({}))
    elif given.reader:
        print(json.dumps(measure(given.reader, Path(given.folder), given.workers, 2)), flush=True)
        os._exit(0)  # some readers' workers outlive their loader
    elif given.make_table:
        make_table(Path(given.folder), given.make_table)
        print(json.dumps({}))
    elif given.memory:
        print(json.dumps(memory(Path(given.folder), given.memory)))
    else:
        folder, started = Path(tempfile.mkdtemp(prefix="gsnn-benchmark-")), about()
        try:
            result = {**started, **run(given.samples, given.rounds, given.table, given.peers, folder)}
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        print(json.dumps(result, indent=2))
        if given.out:
            given.out.parent.mkdir(parents=True, exist_ok=True)
            given.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
