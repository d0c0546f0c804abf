"""What gravity costs: the particle mesh by size, beside JaxPM on the same particles, and an emulator beside both.

One evaluation of the forces with a mesh as fine as the lattice is what both codes do alike (clouds in cells, the same
kernels), and their forces are compared too. JaxPM has a Python of its own. Seconds are CPU time of one thread, so that
a busy machine counts less; each number is the median of the rounds.

    python benchmarks/nbody.py --peer jaxpm/bin/python
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

RESULT = Path(__file__).parent / "results" / "nbody.json"
SIDES = (16, 32, 64, 128)
SPACING = 2.0  # Mpc/h between the particles


def median(function: Callable[[], Any], rounds: int) -> float:
    """Seconds of CPU time of one call, after one that warms up."""
    function()
    times = []
    for _ in range(rounds):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return statistics.median(times)


def peer(folder: Path, rounds: int) -> None:
    """JaxPM on the places in ``folder``: seconds to seconds.json, forces to forces-SIDE.npy."""
    import jax
    from jaxpm.pm import pm_forces

    seconds = {}
    for path in sorted(folder.glob("places-*.npy")):
        side = int(path.stem.split("-")[1])
        places = jax.numpy.asarray(np.load(path))
        force = jax.jit(lambda x, side=side: pm_forces(x, mesh_shape=(side,) * 3))
        seconds[side] = median(lambda: force(places).block_until_ready(), rounds)  # noqa: B023
        np.save(folder / f"forces-{side}.npy", np.asarray(force(places)))
    versions = {"jax": jax.__version__, "jaxpm": __import__("importlib.metadata").metadata.version("jaxpm")}
    (folder / "seconds.json").write_text(json.dumps({"seconds": seconds, "versions": versions}))


def beside(python: Path, displaced: dict[int, Any], rounds: int) -> dict[str, Any]:
    """What JaxPM takes for the forces, and how far they are from ours, in units of their spread."""
    from gsnn.simulate.mesh import lattice
    from gsnn.simulate.particle_mesh import force

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for side, moved in displaced.items():
            places = (lattice(side, SPACING * side) + moved[0]) / SPACING  # in cells, particles last but one
            np.save(folder / f"places-{side}.npy", places.movedim(0, -1).contiguous().numpy())
        one = {"OMP_NUM_THREADS": "1", "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false", "JAX_PLATFORMS": "cpu"}
        command = [str(python), __file__, "--as-peer", str(folder), "--rounds", str(rounds)]
        subprocess.run(command, check=True, env={**os.environ, **one, "PYTHONPATH": ""})
        told = json.loads((folder / "seconds.json").read_text())
        apart = {}
        for side, moved in displaced.items():
            ours = force(moved, SPACING * side, side)[0].movedim(0, -1).numpy() / SPACING
            theirs = np.load(folder / f"forces-{side}.npy").reshape(ours.shape)
            apart[side] = float(abs(ours - theirs).max() / theirs.std())
    return {**told, "forces_apart": apart}


def emulator(rounds: int) -> dict[str, Any]:
    """The parts of an emulated box of the study nbody-emulator, and the simulation that it stands for.

    The network has the weights that it begins with: its speed is that of any others.
    """
    import torch

    from gsnn.config import build
    from gsnn.model import Model
    from gsnn.simulate.lpt import displacements, linear_density
    from gsnn.simulate.particle_mesh import evolve, start_from, times
    from gsnn.study import Study

    study = Study.load("nbody-emulator")
    nbody = build(study.data.source, "source")
    schema = nbody.schema()
    model = Model(schema.select(study.data.inputs), schema.select(study.targets), study.spec).eval()
    row, omega, sigma = torch.tensor([0]), *(torch.tensor([one[0]]) for one in nbody.ranges.values())
    linear = linear_density(row, 0, omega, sigma, nbody.side, nbody.box)
    s1, _ = displacements(linear, nbody.box)
    batch = {"row": row, **dict.fromkeys(study.data.inputs, s1)}

    def network(dtype: torch.dtype) -> None:
        with torch.inference_mode(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            model(batch)

    def simulate(steps: int, refine: int) -> None:
        begin = start_from(*displacements(linear, nbody.box), omega, nbody.start)
        evolve(*begin, omega, nbody.box, times(nbody.start, steps), refine=refine)

    seconds = {
        "2lpt": median(lambda: displacements(linear, nbody.box), rounds),
        "coarse mesh": median(lambda: simulate(nbody.coarse, 1), rounds),
        "network, float32": median(lambda: network(torch.float32), rounds),
        "network, bfloat16": median(lambda: network(torch.bfloat16), rounds),
        "simulation": median(lambda: simulate(nbody.steps, nbody.refine), max(1, rounds // 2)),
    }
    emulated = {first: seconds[first] + seconds["network, bfloat16"] for first in ("2lpt", "coarse mesh")}
    return {
        "particles": nbody.side**3,
        "steps": nbody.steps,
        "coarse_steps": nbody.coarse,
        "seconds": seconds,
        "times_faster": {first: seconds["simulation"] / value for first, value in emulated.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", type=Path, help="a Python that has JaxPM")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--as-peer", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.as_peer:
        peer(given.as_peer, given.rounds)
        return
    import torch

    from gsnn.simulate.lpt import displacements, linear_density
    from gsnn.simulate.particle_mesh import force

    torch.set_num_threads(1)
    universe = torch.tensor([0.3153]), torch.tensor([0.8111])
    displaced, table = {}, {}
    for side in SIDES:
        linear = linear_density(torch.tensor([0]), 0, *universe, side, SPACING * side)
        moved = displaced[side] = displacements(linear, SPACING * side)[0]
        rounds = given.rounds if side < 128 else max(1, given.rounds // 2)
        table[side] = {
            "2lpt": median(lambda: displacements(linear, SPACING * side), rounds),  # noqa: B023
            "forces": median(lambda: force(moved, SPACING * side, side), rounds),  # noqa: B023
            "forces, mesh twice as fine": median(lambda: force(moved, SPACING * side, 2 * side), rounds),  # noqa: B023
        }
        print(side, table[side], flush=True)
    result: dict[str, Any] = {
        "what": "seconds of CPU time of one thread; medians",
        "command": f"python benchmarks/nbody.py --peer jaxpm/bin/python --rounds {given.rounds}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "rounds": given.rounds,
        "gsnn": table,
        "emulator": emulator(given.rounds),
    }
    if given.peer:
        result["jaxpm"] = beside(given.peer, displaced, given.rounds)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
