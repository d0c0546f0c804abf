"""From the death of a worker to the next step of its training, and whether the training ends as if nothing had been.

    python benchmarks/restart.py --repeats 50

A small training by two processes of this machine; again and again one of them, by turns, gets SIGKILL in the midst of
its work. Timed is from the signal to the first checkpoint that the new workers have written, which is that of their
first step: the time of a save, with its digests and syncs, is in the figure. At the end the weights are compared, bit
by bit, with those of an undisturbed training.

Start of the workers as it is here (``GSNN_START``: forked from a process that has imported torch already, else "spawn",
which imports it anew).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
AIM_SECONDS = 5.0
STUDY = """
question = "Is it a star or a quasar?"
schema = 1
[data]
source = "files"
inputs = ["g", "r", "i"]
target = "kind"
split = { by = "identity", fractions = [0.6, 0.2, 0.2] }
[model]
name = "mlp"
width = 16
depth = 2
[objective]
name = "classify"
[train]
epochs = 100000
max_steps = {steps}
batch = 32
learning_rate = 0.01
precision = "float32"
checkpoint_seconds = 0.0
layout = { replicate = 2 }
"""


def table(path: Path, n: int = 600) -> None:
    chance = np.random.default_rng(0)
    g, r, i = chance.normal(20, 1, (3, n))
    lines = [f"o{k},{a},{b},{c},{'quasar' if a > b else 'star'}" for k, (a, b, c) in enumerate(zip(g, r, i))]
    path.write_text("id,g,r,i,kind\n" + "\n".join(lines) + "\n")


def start(folder: Path, name: str, log) -> subprocess.Popen:
    words = [sys.executable, "-m", "gsnn.cli", "train", "study.toml", "--data", "stars.csv", "--out", name]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*words, "--nproc", "2"], cwd=folder, stdout=log, stderr=log, env=environment)


def workers(root: int) -> dict[int, int]:
    """rank -> process, of the workers that descend from a process."""
    parents, names = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                name, _, rest = (entry / "stat").read_text().partition("(")[2].rpartition(") ")
            except OSError:
                continue
            state, parent = rest.split()[:2]
            parents[int(entry.name)] = int(parent)
            if name.startswith("gsnn-") and name[5:].isdigit() and state not in "ZX":
                names[int(entry.name)] = int(name[5:])

    def descends(process: int) -> bool:
        while process in parents and process != root:
            process = parents[process]
        return process == root

    return {rank: process for process, rank in names.items() if descends(process)}


def newest(run: Path) -> tuple[int, int]:
    """(step, inode) of the newest checkpoint."""
    found = sorted((run / "fits/main/checkpoints").glob("step-????????"))
    try:
        return int(found[-1].name[5:]), found[-1].stat().st_ino
    except (IndexError, OSError):
        return -1, 0


def wait(what, seconds: float = 300.0):
    """What ``what()`` gives, once it is not None."""
    limit = time.monotonic() + seconds
    while (found := what()) is None:
        if time.monotonic() > limit:
            raise SystemExit("nothing happened for five minutes; what the training said stands in the log")
        time.sleep(0.01)
    return found


def both(root: int, before: set[int]) -> dict[int, int] | None:
    found = workers(root)
    return found if len(found) == 2 and not before & set(found.values()) else None


def one_kill(process: subprocess.Popen, run: Path, rank: int, chance: random.Random) -> dict[str, float]:
    """Kill a worker in the midst of steps. Seconds until there are new workers, and until their first checkpoint."""
    old = wait(lambda: both(process.pid, set()))
    step = newest(run)[0]
    wait(lambda: True if newest(run)[0] > step + 2 else None)  # at work
    time.sleep(chance.random() * 0.1)
    began = time.monotonic()
    os.kill(old[rank], signal.SIGKILL)
    wait(lambda: both(process.pid, set(old.values())))
    started, seen = time.monotonic(), newest(run)  # no old worker is left: what is new from now on is of the new ones
    wait(lambda: True if newest(run) != seen else None)
    return {"workers": started - began, "step": time.monotonic() - began, "at": seen[0]}


def weights(run: Path) -> str:
    folder = max((run / "fits/main/checkpoints").glob("step-????????"))
    files = sorted(folder.glob("tensors-*.safetensors"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--steps-between", type=int, default=10, help="steps of the training for each kill")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/restart.json")
    given = parser.parse_args()
    chance, found = random.Random(0), []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        table(folder / "stars.csv")
        steps = given.steps_between * (given.repeats + 1)
        (folder / "study.toml").write_text(STUDY.replace("{steps}", str(steps)))
        with open(folder / "log", "w") as log:
            killed = start(folder, "killed", log)
            try:
                for repeat in range(given.repeats):
                    found.append(one_kill(killed, folder / "killed", repeat % 2, chance))
                    print(f"{repeat + 1:>3}: {found[-1]['step']:.2f} s, from step {found[-1]['at']}", flush=True)
                status = killed.wait()
            finally:
                killed.terminate()
                if len(found) < given.repeats:
                    killed.wait()
                    print((folder / "log").read_text()[-3000:], file=sys.stderr)
            alone = start(folder, "alone", log).wait()
        if status or alone:
            raise SystemExit((folder / "log").read_text()[-3000:])
        same = weights(folder / "killed") == weights(folder / "alone")
    times = [one["step"] for one in found]
    result = {
        "command": f"python benchmarks/restart.py --repeats {given.repeats}",
        "commit": subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, text=True).strip(),
        "python": platform.python_version(), "cores": os.cpu_count(), "load": os.getloadavg()[0],
        "start": os.environ.get("GSNN_START", "forkserver"),
        "aim_seconds": AIM_SECONDS, "repeats": given.repeats, "within_aim": sum(t <= AIM_SECONDS for t in times),
        "seconds": {"median": statistics.median(times), "least": min(times), "most": max(times)},
        "seconds_to_new_workers": statistics.median(one["workers"] for one in found),
        "bitwise_as_undisturbed": same, "times": [round(t, 3) for t in times],
    }  # fmt: skip
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({k: v for k, v in result.items() if k != "times"}, indent=1))


if __name__ == "__main__":
    main()
