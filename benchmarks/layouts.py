"""Every layout beside one process: the loss of each of 100 steps, and the first weights; a figure of all curves.

    python benchmarks/layouts.py --out benchmarks/results/layouts.json --figure docs/images/layouts.png

The trainings are those of the equality suite (tests/training/test_equality.py), which `make test-scale` judges.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "training"))


def name(layout: dict[str, object]) -> str:
    return " x ".join(f"{k} {v}" if k != "attention" else str(v) for k, v in layout.items() if v is not True)


def run(steps: int, most: int) -> list[dict[str, object]]:
    from test_equality import FULL, compare

    cases = {processes: some for processes, some in FULL.items() if processes <= most}
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for (task, layout, settings), got, one in compare(cases, steps, Path(folder)):
            pairs = [*zip(got["losses"], one["losses"]), *zip(got["valid"], one["valid"])]
            found.append(
                {
                    "task": task,
                    "layout": layout,
                    "settings": settings,
                    "largest_relative_difference": max(abs(a - b) / abs(b) for a, b in pairs),
                    "first_weights_equal": got["initial"] == one["initial"],
                    "losses": got["losses"],
                    "one_process": one["losses"],
                }
            )
            print(f"{task:<14} {name(layout):<40} {found[-1]['largest_relative_difference']:.1e}", flush=True)
    return found


def draw(found: list[dict[str, object]], path: Path) -> None:
    """Curves of all layouts over that of one process, and how far each is from it."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    tasks = list(dict.fromkeys(one["task"] for one in found))
    figure, axes = pyplot.subplots(2, len(tasks), figsize=(3.6 * len(tasks), 6.4), sharex=True, layout="constrained")
    for column, task in zip(axes.T, tasks):
        mine = [one for one in found if one["task"] == task]
        for one in mine:
            (line,) = column[0].plot(one["losses"], lw=1, alpha=0.8, label=name(one["layout"]))
            apart = [max(abs(a - b) / abs(b), 1e-9) for a, b in zip(one["losses"], one["one_process"])]
            column[1].semilogy(apart, lw=0.8, alpha=0.8, color=line.get_color())
        column[0].plot(mine[0]["one_process"], "k:", lw=1.6, label="one process")
        column[1].axhline(1e-6, color="k", lw=0.8, ls="--")
        column[0].set_title(task)
        column[0].legend(fontsize=5.5, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.04), ncols=2)
        column[1].set_xlabel("step")
        column[1].set_ylim(1e-9, 1e-5)
    axes[0, 0].set_ylabel("training loss")
    axes[1, 0].set_ylabel("relative difference\nto one process")
    axes[1, 0].text(2, 1.25e-6, "the bar, 1e-6", fontsize=7)
    figure.savefig(path, dpi=110)


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--most", type=int, default=8, help="the largest group of processes")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--draw", type=Path, help="only draw these results again")
    given = parser.parse_args()
    if given.draw:
        draw(json.loads(given.draw.read_text())["layouts"], given.figure)
        return
    started = time.time()
    result = {
        "command": f"python benchmarks/layouts.py --steps {given.steps} --most {given.most}",
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cores": os.cpu_count(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "steps": given.steps,
        "layouts": run(given.steps, given.most),
        "seconds": round(time.time() - started),
    }
    if given.figure:
        draw(result["layouts"], given.figure)
    if given.out:
        for one in result["layouts"]:
            one["losses"], one["one_process"] = ([round(x, 7) for x in one[k]] for k in ("losses", "one_process"))
        given.out.write_text(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
