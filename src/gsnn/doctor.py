"""What this machine has: devices, versions, optional parts, what is missing and how to get it."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil

OPTIONAL = {
    "tensorboard": ("loss curves in TensorBoard", "pip install 'gsnn[tensorboard]'"),
    "confluent_kafka": ("live alerts from Kafka", "pip install 'gsnn[alerts]'"),
    "fastavro": ("alert packets", "pip install 'gsnn[alerts]'"),
    "emcee": ("posteriors by MCMC", "pip install 'gsnn[mcmc]'"),
    "pandas": ("pandas tables as data", "pip install pandas"),
    "galsim": ("checks of the galaxy simulator", "pip install galsim"),
    "statmorph": ("checks of the morphological statistics", "pip install statmorph"),
}


def lines() -> list[tuple[str, str, str]]:
    """(what, how it is, state) for everything that matters: ``ok``, ``--`` (not there, not needed) or ``!!``."""
    from .run import VERSIONS, versions

    found = versions()
    out = [("python", found.pop("python"), "ok")]
    out += [(n, found[n], "ok") if n in found else (n, f"missing; pip install {n}", "!!") for n in VERSIONS]
    import torch

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    out.append(("cpu", f"{platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB", "ok"))
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            about = torch.cuda.get_device_properties(i)
            out.append((f"cuda:{i}", f"{about.name}, {about.total_memory / 2**30:.0f} GiB", "ok"))
    else:
        out.append(("gpu", "none that torch can use; everything runs on the CPU", "--"))
    free = shutil.disk_usage(".").free / 2**30
    small = "" if free > 5 else "; a survey may not fit"
    out.append(("disk", f"{free:.0f} GiB free here{small}", "!!" if free < 1 else "--" if small else "ok"))
    for name, (what, how) in OPTIONAL.items():
        there = importlib.util.find_spec(name) is not None
        about = f"found ({what})" if there else f"not installed ({what}): {how}"
        out.append((name, about, "ok" if there else "--"))
    return out
