"""A training under Slurm: the script of a job that starts every host, saves before its time is up, and goes on."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from shlex import quote

from ..errors import GsnnError
from .launch import join_words, shell

SCRIPT = "launch.sbatch"  # in the run folder
WARNING_SECONDS = 120  # before the time limit: to finish a step and to save
TEMPLATE = """\
#!/bin/bash
{options}
# Every host joins at the first one. A job whose time is nearly up gets SIGTERM, saves its state and ends with status
# 130: it is queued again, and goes on from there. After a mistake it is not.
set -u
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 20000))
srun --kill-on-bad-exit=0 {command}
status=$?
if [ $status -eq 130 ]; then
    echo "saved; queued again to go on"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit $status
"""


def script(folder: Path, name: str, nodes: int, processes: int, time: str = "", options: Sequence[str] = ()) -> str:
    """The text of an sbatch script for the run in ``folder``, which all hosts must see under that path.

    ``time`` is the limit of a job, as Slurm writes it ("24:00:00"); ``options`` are further ones of sbatch, each as
    "--partition=gpu".
    """
    for option in options:
        if not re.fullmatch(r"-[-\w]+(=\S.*)?", option):
            raise GsnnError(f"--option {option!r} must be one of sbatch, such as --option=--partition=gpu")
    given = [
        f"--job-name=gsnn-{name}", f"--nodes={nodes}", "--ntasks-per-node=1",
        f"--output={quote(str(folder))}/slurm-%j.log",
        "--open-mode=append", "--requeue", f"--signal=TERM@{WARNING_SECONDS}", *([f"--time={time}"] if time else []),
        *options,
    ]  # fmt: skip
    words = join_words(folder, processes, nodes, "$first:$port", "$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}")
    command = shell([sys.executable, "-m", "gsnn.cli", *words])
    return TEMPLATE.format(options="\n".join(f"#SBATCH {option}" for option in given), command=command)


def write(folder: Path, text: str) -> Path:
    path = folder / SCRIPT
    path.write_text(text)
    path.chmod(0o755)
    return path


def submit(path: Path) -> str:
    """Submit a script. Returns the number of its job."""
    if shutil.which("sbatch") is None:
        raise GsnnError(f"sbatch is not on this host: take {path} to one that submits jobs, and type: sbatch {path}")
    done = subprocess.run(["sbatch", "--parsable", str(path)], capture_output=True, text=True)
    if done.returncode:
        raise GsnnError(f"Slurm refused {path}: {(done.stderr or done.stdout).strip()}")
    return done.stdout.strip().partition(";")[0]
