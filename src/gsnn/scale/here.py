"""This machine as a device of the planner: the rates of its products, its memory and its links, measured."""

from __future__ import annotations

import math
import os
from dataclasses import replace

import numpy as np
import torch

from ..training import energy
from . import trials
from .devices import Device, device
from .memory import Layout
from .pace import pace
from .shapes import Shape


def here(processes: int = 1) -> Device:
    """This machine, measured in a few seconds: one accelerator, or one of ``processes`` that share its cores.

    The time of a step is F / rate + M / bandwidth + W / stream with the planner's own counts of FLOPs, of bytes of
    activations and of bytes of weights' updates; the last rate is measured by itself, and both others are by least
    squares from four trials, relative to their times, the first at most that of square products, the ``peak``.
    Several processes (as many as accelerators or cores at most) are measured at work together, with the rate of each
    kind of collective between them and, on a CPU, what a block costs more in each dimension of a layout; there nothing
    hides behind compute, which needs the same cores. With one process, half of the memory's bandwidth is assumed
    between devices. The network of ``laptop`` between machines is assumed, and so are price and failures, and 700 W of
    an accelerator.
    """
    from scipy.optimize import lsq_linear

    gpu = torch.cuda.is_available()
    cores = os.cpu_count() or 1
    processes = min(processes, torch.cuda.device_count() if gpu else cores)
    threads = torch.get_num_threads() if processes == 1 else cores // processes
    found = trials.measured() if processes == 1 else trials.measured_together(processes, threads)
    blank = replace(
        device("laptop"), name="here", peak=1.0, sustained=1.0, bandwidth=math.inf, bytes_each=2 if gpu else 4
    )
    stream = found["stream"]
    counts, seconds, known = [], [], []
    for shape, tokens, images, took in found["trials"]:
        step = (Shape(**shape), Layout(), images, tokens)
        flops = pace(*step, blank).seconds
        moved = pace(*step, replace(blank, peak=math.inf, bandwidth=1.0, stream=math.inf)).seconds
        counts.append((flops, moved))
        known.append(pace(*step, replace(blank, peak=math.inf, stream=stream)).seconds / took)
        seconds.append(took)
    flops, took = found["product"]
    peak = flops / took
    relative = np.array(counts) / np.array(seconds)[:, None]
    scale = relative.max(0)
    each = lsq_linear(relative / scale, 1 - np.array(known), ([scale[0] / peak, 1e-9], np.inf)).x
    rate, bandwidth = scale / each
    if gpu:
        memory, node, watts = torch.cuda.get_device_properties(0).total_memory, torch.cuda.device_count(), 700.0
    else:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        node, watts = max(cores // threads, 1), energy.WATTS_PER_CORE * threads
        memory //= node
    return replace(
        blank, peak=peak, sustained=float(rate / peak), bandwidth=float(bandwidth), memory=float(memory), node=node,
        intra=bandwidth / 2, watts=watts, host=node, overlap=gpu,
        links=found["links"], overheads=found["overheads"], stream=stream,
    )  # fmt: skip
