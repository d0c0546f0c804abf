"""A training on several hosts: its run folder made ready once, and what is to be typed, or submitted, to start it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .errors import ConfigError, GsnnError, on_disk
from .progress import Progress
from .run import locked, place
from .study import Study


def prepare(
    study: Study, *, data: Any = None, out: str | Path | None = None, seed: int = 0, progress: Progress
) -> Path:
    """The run folder of a training on many processes: study, data and audit are in it, and the layout can be."""
    from .model import Model
    from .spent import Spent
    from .training.layout import facts, require
    from .training.worker import forget
    from .walk import Walk

    folder, _ = place(study, data, out, seed, 1)
    folder = folder.resolve()
    with on_disk(f"make the run {folder} ready", "when that is mended, type the same line again"), locked(folder):
        progress.step(1, study.question)
        walk = Walk(study, folder, seed, 1, progress, Spent(folder))
        try:
            walk.data(data)
            forget(folder)
            progress.step(3, walk._architecture())
            model = Model(walk.one.inputs, walk.one.targets, study.spec, seed=seed, trust=study.trust)
            require(study.train.layout, facts(model, study.train), study.train.layout.processes)
            walk.spent.keep()
        except ConfigError as error:
            raise study.pointed(error) from error
    progress.done()
    return folder


def launch(
    folder: Path, nodes: int, processes: int, first: str = "", *, slurm: bool = False, submit: bool = False,
    time: str = "", options: Sequence[str] = (),
) -> str:  # fmt: skip
    """Write and submit the script of a Slurm job, or else say what to type on each of ``nodes`` hosts."""
    from .training import slurm as jobs
    from .training.launch import join_words, shell, torchrun_words

    if slurm or submit:
        path = jobs.write(folder, jobs.script(folder, folder.name, nodes, processes, time, options))
        if submit:
            return f"submitted as job {jobs.submit(path)}; it writes to {folder}/slurm-*.log"
        return f"wrote {path}; submit it by: sbatch {path}"
    if time or options:
        raise GsnnError("--time and --option are of Slurm: add --slurm")
    host, name = first or "FIRST-HOST", folder.name
    host = host if ":" in host else f"{host}:29400"
    pod = "$FIRST_POD:29400"
    return f"""\
{folder} is ready. All hosts must see it under this path, with the same GSNN. On each of the {nodes} hosts type

  {shell(["gsnn", *join_words(folder, processes, nodes, host, name)])}

or the same by torchrun itself:

  {shell(torchrun_words(folder, processes, nodes, host, name))}

In Kubernetes: a headless service, and an indexed Job of {nodes} completions whose pods run this, where $FIRST_POD is
the name of the pod with index 0 (JOB_NAME-0.SERVICE) and the run folder lies on a volume that all of them mount:

  {shell(torchrun_words(folder, processes, nodes, pod, name))}
"""


def join(folder: Path, nodes: int, processes: int, first: str, name: str) -> None:
    """This host's part of a training. The first host leaves the trained network in the folder, for `gsnn run`."""
    from .progress import Terminal
    from .run import Run
    from .steps.train import train_model
    from .training.agent import endpoint, own_address
    from .training.launch import launch as start

    run = Run(folder, trust=True)
    if nodes * processes != run.study.train.layout.processes:
        raise GsnnError(
            f"{nodes} hosts with {processes} processes are {nodes * processes}, but the run was made ready for "
            f"{run.study.train.layout.processes}: type `gsnn launch` again for another number"
        )
    start(folder, processes, nodes, first, name)
    address, port = endpoint(first) if nodes > 1 else ("", 0)
    if nodes == 1 or (own_address(address, port) == address and os.environ.get("SLURM_NODEID", "0") == "0"):
        train_model(run.study, run.ground, folder / "fits/main", seed=run.resolved["seed"], progress=Terminal())
