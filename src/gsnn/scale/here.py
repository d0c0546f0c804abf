"""This machine as a device of the planner: the rates of its products and its memory, from steps of transformers."""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from ..data.schema import Column, Schema
from ..memory import keep_memory
from ..models.transformer import Transformer
from ..training import energy
from .devices import Device, device
from .memory import Layout
from .pace import pace
from .shapes import Shape
from .study import shape_of

# (width, blocks, side of the image, images): tokens of 4 x 4 pixels; wide, long and small, so that products and memory
# traffic weigh differently
ON_CPU = ((256, 4, 64, 4), (768, 2, 64, 2), (384, 2, 128, 1), (128, 6, 64, 8))
ON_GPU = ((1024, 8, 256, 4), (2048, 4, 256, 2), (1024, 4, 512, 1), (512, 12, 256, 8))


def trial(width: int, layers: int, side: int, images: int, steps: int = 5) -> tuple[Shape, int, float]:
    """A transformer's shape, its tokens, and the median seconds of a training step of it here, after two to warm up."""
    where = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    column = Column("image", "image", shape=(1, side, side), dtype="float32")
    network = Transformer(
        Schema.of([column]), 16, width=width, layers=layers, heads=width // 64, patch=4, causal=True
    ).to(where)
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    picture = torch.randn(images, 1, side, side, device=where)

    def step() -> None:
        with torch.autocast(where.type, torch.bfloat16, enabled=where.type == "cuda"):
            loss = network.read(network.encode(image=picture)).square().mean()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return shape_of(network), network.tokens, timed(step, steps)


def timed(step: Callable[[], None], steps: int) -> float:
    """Median seconds of a call, after two to warm up."""
    seconds = []
    for _ in range(steps + 2):
        start = time.perf_counter()
        step()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[2:])


def here() -> Device:
    """This machine, measured in a few seconds: one accelerator, or one process with its threads.

    The time of a step is F / rate + M / bandwidth with the planner's own counts of FLOPs and bytes; both rates are by
    least squares from four trials, relative to their times, the first at most that of square products, the ``peak``.
    Nothing is measured between devices: half of the memory's bandwidth within a machine, and the network of
    ``laptop`` between them, are assumed; so are its price and failures, and 700 W of an accelerator.
    """
    from scipy.optimize import lsq_linear

    keep_memory()
    gpu = torch.cuda.is_available()
    width = 2 if gpu else 4
    threads = torch.get_num_threads()
    blank = replace(device("laptop"), name="here", peak=1.0, sustained=1.0, bandwidth=math.inf, bytes_each=width)
    counts, seconds = [], []
    for case in ON_GPU if gpu else ON_CPU:
        shape, tokens, took = trial(*case)
        flops = pace(shape, Layout(), case[3], tokens, blank).seconds
        moved = pace(shape, Layout(), case[3], tokens, replace(blank, peak=math.inf, bandwidth=1.0)).seconds
        counts.append((flops, moved))
        seconds.append(took)
    n = 4096 if gpu else 1536
    one = torch.randn(n, n, device="cuda" if gpu else "cpu", dtype=torch.bfloat16 if gpu else torch.float32)
    peak = 2 * n**3 / timed(lambda: one @ one, 5)
    relative = np.array(counts) / np.array(seconds)[:, None]
    scale = relative.max(0)
    each = lsq_linear(relative / scale, np.ones(len(seconds)), ([scale[0] / peak, 1e-9], np.inf)).x
    rate, bandwidth = scale / each
    if gpu:
        memory, node, watts = torch.cuda.get_device_properties(0).total_memory, torch.cuda.device_count(), 700.0
    else:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        node, watts = max((os.cpu_count() or 1) // threads, 1), energy.WATTS_PER_CORE * threads
        memory //= node
    return replace(
        blank, peak=peak, sustained=float(rate / peak), bandwidth=float(bandwidth), memory=float(memory), node=node,
        intra=bandwidth / 2, watts=watts, host=node,
    )  # fmt: skip
