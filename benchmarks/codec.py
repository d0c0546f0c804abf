"""Codecs of noisy float images side by side: bytes, bias, added noise, and speed of one core.

    python benchmarks/codec.py --out benchmarks/results/codec.json
    python benchmarks/codec.py --images 100 --rounds 1       # a quick look

Images of 5 bands x 64 x 64 float32: a faint galaxy on Gaussian noise whose sigma differs from band to band, sky
subtracted. Speeds are MiB of float32 a second of *CPU time* (other work on the machine then hurts little), zstd
included, the median of rounds that alternate between codecs. ``in a survey`` is the size of a Lance file with one such
column and the wall time of reading all of it by ``Survey.take``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pyarrow as pa
import torch

from gsnn.data import codec
from gsnn.data.schema import Column, Schema
from gsnn.data.survey import Survey

SHAPE = (5, 64, 64)
SIGMA = np.array([0.3, 1.0, 2.0, 5.0, 40.0], np.float32)[:, None, None]
ZSTD = pa.Codec("zstd", 3)


def images(count: int) -> np.ndarray:
    """Faint galaxies (a peak of 5 sigma) on noise."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[-32:32, -32:32]
    width = random.uniform(2, 6, (count, 1, 1, 1))
    galaxy = 5 * np.exp(-(x**2 + y**2) / (2 * width**2))
    return ((galaxy + random.normal(size=(count, *SHAPE))) * SIGMA).astype(np.float32)


class Own:
    """A codec of GSNN, as Lance stores it."""

    def __init__(self, how: str):
        self.column = Column("image", "image", shape=SHAPE, codec=how)

    def encode(self, x: np.ndarray) -> list[bytes]:
        return [ZSTD.compress(blob, asbytes=True) for blob in codec.encode(x, self.column, np.arange(len(x)))]

    def decode(self, blobs: list[bytes], sizes: list[int]) -> np.ndarray:
        plain = pa.array([ZSTD.decompress(b, n, asbytes=True) for b, n in zip(blobs, sizes)], pa.large_binary())
        return codec.decode(plain, self.column)

    def sizes(self, x: np.ndarray) -> list[int]:
        return [len(blob) for blob in codec.encode(x, self.column, np.arange(len(x)))]


class Plain:
    """The bytes of a type of float, compressed."""

    def __init__(self, dtype: torch.dtype):
        self.dtype = dtype

    def encode(self, x: np.ndarray) -> list[bytes]:
        rows = torch.from_numpy(x).to(self.dtype).view(torch.uint8).numpy().reshape(len(x), -1)
        return [ZSTD.compress(row.tobytes(), asbytes=True) for row in rows]

    def decode(self, blobs: list[bytes], sizes: list[int]) -> np.ndarray:
        joined = b"".join(ZSTD.decompress(b, n, asbytes=True) for b, n in zip(blobs, sizes))
        values = torch.frombuffer(bytearray(joined), dtype=self.dtype)
        return values.to(torch.float32).numpy().reshape(-1, *SHAPE)

    def sizes(self, x: np.ndarray) -> list[int]:
        return [x[0].size * self.dtype.itemsize] * len(x)


CODECS = {
    "gsnn quantise (sigma/16)": lambda: Own("quantise"),
    "gsnn quantise:8 (sigma/8)": lambda: Own("quantise:8"),
    "gsnn lossless": lambda: Own("lossless"),
    "bfloat16 + zstd": lambda: Plain(torch.bfloat16),
    "float16 + zstd": lambda: Plain(torch.float16),
    "float32 + zstd": lambda: Plain(torch.float32),
}


def accuracy(x: np.ndarray, back: np.ndarray) -> dict[str, float]:
    error = (back.astype(np.float64) - x) / SIGMA
    inner = error[:, :, 24:40, 24:40].sum((2, 3)) / 16  # of the flux in a square of 16 x 16, in its sigma
    return {
        "bias_of_a_pixel_sigma": float(error.mean()),
        "bias_of_a_flux_sigma": float(inner.mean()),
        "bias_of_a_flux_error": float(inner.std() / np.sqrt(inner.size)),
        "added_noise_percent": float(100 * (np.sqrt(1 + error.var()) - 1)),
        "largest_error_sigma": float(np.abs(error).max()),
        "bit_exact": bool(back.tobytes() == x.tobytes()),
    }


def in_a_survey(x: np.ndarray, how: str) -> dict[str, float]:
    class Source:
        def schema(self):
            return Schema.of([Column("id", "id"), Column("image", "image", shape=SHAPE)])

        def __len__(self):
            return len(x)

        def rows(self, indices, seed):
            flat = pa.array(x[indices].reshape(-1))
            arrays = [pa.array([f"o{i}" for i in indices]), pa.FixedSizeListArray.from_arrays(flat, x[0].size)]
            return pa.RecordBatch.from_arrays(arrays, schema=self.schema().arrow())

    folder = Path(tempfile.mkdtemp(prefix="gsnn-benchmark-"))
    try:
        survey = Survey.create(folder / "s", Source(), codecs={"image": how} if how else {})
        size = sum(f.stat().st_size for f in (folder / "s/objects.lance/data").iterdir())
        rows, times = np.arange(len(x)), []
        for _ in range(3):
            start = time.perf_counter()
            survey.take(rows, ["image"])
            times.append(time.perf_counter() - start)
        return {"ratio": x.nbytes / size, "read_mib_per_s": x.nbytes / 2**20 / min(times)}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def rounded(values: dict[str, float]) -> dict[str, float]:
    return {k: v if isinstance(v, bool) else float(f"{v:.4g}") for k, v in values.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    x, found, times = images(given.images), {}, {}
    ready = {name: make() for name, make in CODECS.items()}
    for name, one in ready.items():
        blobs, sizes = one.encode(x), one.sizes(x)
        found[name] = {"ratio": x.nbytes / sum(map(len, blobs)), **accuracy(x, one.decode(blobs, sizes))}
        ready[name] = one, blobs, sizes
        times[name] = {"encode": [], "decode": []}
    for _ in range(given.rounds):
        for name, (one, blobs, sizes) in ready.items():
            for what, call in (("encode", lambda: one.encode(x)), ("decode", lambda: one.decode(blobs, sizes))):  # noqa: B023
                start = time.process_time()
                call()
                times[name][what].append(x.nbytes / 2**20 / (time.process_time() - start))
    for name, rates in times.items():
        found[name] |= {f"{what}_mib_per_cpu_s": statistics.median(rate) for what, rate in rates.items()}
    git = ["git", "rev-parse", "HEAD"]
    result = {
        "command": f"python benchmarks/codec.py --images {given.images} --rounds {given.rounds}",
        "commit": subprocess.run(git, capture_output=True, text=True, cwd=Path(__file__).parent).stdout.strip(),
        "images": [given.images, *SHAPE],
        "codecs": {name: rounded(values) for name, values in found.items()},
        "in a survey": {how or "none": rounded(in_a_survey(x, how)) for how in ("", "lossless", "quantise")},
        "load_average": os.getloadavg()[0],
        "cores": os.cpu_count(),
        "versions": {n: version(n) for n in ("numpy", "pyarrow", "pylance", "torch")},
    }
    print(json.dumps(result, indent=1))
    if given.out:
        given.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
