"""How long the command takes to answer, and what an install weighs.

    python benchmarks/startup.py [--fresh]      # --fresh also makes a new environment and weighs it (minutes)

The times are medians of wall clock over fresh processes, beside a bare ``python -c pass``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULT = Path(__file__).parent / "results" / "startup.json"


def seconds(command: list[str], rounds: int) -> float:
    """Median wall time of a command."""
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return round(statistics.median(times[1:]), 3)


def weigh(python: Path) -> dict[str, float]:
    """Packages and gigabytes of an environment."""
    listed = subprocess.run([python, "-m", "pip", "list", "--format=json"], check=True, capture_output=True, text=True)
    tools = ("pip", "setuptools", "wheel", "gsnn")
    names = [one["name"] for one in json.loads(listed.stdout) if one["name"].lower() not in tools]
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = subprocess.run([python, "-c", where], check=True, capture_output=True, text=True)
    files = (os.path.join(top, name) for top, _, inside in os.walk(site.stdout.strip()) for name in inside)
    return {"packages": len(names), "gigabytes": round(sum(os.lstat(f).st_blocks * 512 for f in files) / 1e9, 2)}


def fresh() -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        python = Path(folder) / "venv/bin/python"
        subprocess.run([sys.executable, "-m", "venv", Path(folder) / "venv"], check=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt"]
        start = time.perf_counter()
        subprocess.run([*pip, "torch"], check=True)
        subprocess.run([*pip, ROOT], check=True)
        return {**weigh(python), "install_seconds": round(time.perf_counter() - start)}


def commit() -> str:
    """The commit that is measured."""
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return found.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--fresh", action="store_true")
    arguments = parser.parse_args()
    python = sys.executable
    command = str(Path(python).parent / "gsnn")
    result = {
        "command": "python benchmarks/startup.py" + (" --fresh" if arguments.fresh else ""),
        "commit": commit(),
        "python": platform.python_version(),
        "seconds": {
            "python -c pass": seconds([python, "-c", "pass"], arguments.rounds),
            "import gsnn": seconds([python, "-c", "import gsnn"], arguments.rounds),
            "gsnn --help": seconds([command, "--help"], arguments.rounds),
            "gsnn studies": seconds([command, "studies"], arguments.rounds),
            "import torch (for scale)": seconds([python, "-c", "import torch"], 3),
        },
    }
    if arguments.fresh:
        result["install"] = fresh()
    elif RESULT.exists():
        result["install"] = json.loads(RESULT.read_text()).get("install")
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
