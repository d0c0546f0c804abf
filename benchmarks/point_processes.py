"""Rates of the simulators of points, and what real galaxies and haloes say by the same parts.

    python benchmarks/point_processes.py --data FOLDER [--run runs/galaxy-clustering] [--figure PNG]

FOLDER holds sdss_dr7_vollim and nbody_halos_abacus_mini. Writes results/point_processes.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from gsnn.baselines.two_point import correlation, landy_szalay, power_law
from gsnn.data.points import Points
from gsnn.data.readers import read
from gsnn.data.readers.cubes import SkyCubes, _degrees, _pixels, _unit
from gsnn.data.survey import Survey
from gsnn.models.graph import GraphNet
from gsnn.simulate import haloes
from gsnn.simulate.cosmology import comoving_distance_mpc
from gsnn.simulate.groups import Groups
from gsnn.simulate.point_processes import GalaxyBoxes

OUT = Path(__file__).parent / "results" / "point_processes.json"
EDGES = np.geomspace(2.0, 15.0, 9)  # Mpc/h
REGIONS = 12  # of the sky, left out one at a time


def rates() -> dict[str, float]:
    """Objects a second of CPU time on one thread."""
    torch.set_num_threads(1)
    sources = {
        "groups, at least 5 galaxies": (Groups(), 1000),
        "boxes, 48^3 cells": (GalaxyBoxes(points=(300.0, 600.0)), 100),
        "boxes, 48^3 cells, redshift space": (GalaxyBoxes(points=(300.0, 600.0), redshift_space=True), 100),
    }
    found = {}
    for name, (source, count) in sources.items():
        source.rows(np.arange(2), 0)
        start = time.process_time()
        source.rows(np.arange(count), 1)
        found[f"{name}: objects/s"] = round(count / (time.process_time() - start), 1)
    schema = GalaxyBoxes(periodic=False).schema().select(["galaxies"])
    network = GraphNet(schema, 8, width=32, neighbours=8, length=5.0, shells=12, reach=51.2)
    batch = {"galaxies.position": 128 * torch.rand(8, 500, 3), "galaxies.valid": torch.ones(8, 500, dtype=torch.bool)}
    (network(**batch) ** 2).sum().backward()
    start = time.process_time()
    for _ in range(5):
        (network(**batch) ** 2).sum().backward()
    found["graph network, forward and backward, 500 points: boxes/s"] = round(40 / (time.process_time() - start), 1)
    return found


def sdss(path: Path) -> dict[str, Any]:
    """The two-point function in redshift space, its power law, and the scatter by leaving out regions of the sky."""
    source = read(str(path))
    batch = source.rows(np.arange(len(source)), 0)
    ra, dec, z = (batch[name].to_numpy().astype(float) for name in ("ra", "dec", "z"))
    good = (z > 0.02) & (z < 0.106)
    ra, dec = ra[good], dec[good]
    distance = comoving_distance_mpc(torch.from_numpy(z[good])).numpy() * 0.7
    grid, chance = _pixels(64), np.random.default_rng(0)
    seen = np.zeros(grid.npix, bool)
    seen[grid.lonlat_to_healpix(*_degrees(ra, dec))] = True
    share = chance.random((600_000, 2))
    ra_r, dec_r = 360 * share[:, 0], np.degrees(np.arcsin(2 * share[:, 1] - 1))
    inside = seen[grid.lonlat_to_healpix(*_degrees(ra_r, dec_r))]
    ra_r, dec_r = ra_r[inside], dec_r[inside]
    low, high = distance.min() ** 3, distance.max() ** 3
    away = np.cbrt(low + (high - low) * chance.random(len(ra_r)))
    data, random = distance[:, None] * _unit(ra, dec), away[:, None] * _unit(ra_r, dec_r)
    cuts = np.quantile(ra_r, np.arange(1, REGIONS) / REGIONS)
    mine, theirs = np.searchsorted(cuts, ra), np.searchsorted(cuts, ra_r)
    middle, every = np.sqrt(EDGES[1:] * EDGES[:-1]), slice(None, None, 2)

    def measured(left_out: int) -> tuple[np.ndarray, tuple[float, float]]:
        xi = landy_szalay(data[mine != left_out][every], random[theirs != left_out][every], EDGES)
        return xi, power_law(middle, xi, np.ones(len(xi)))

    xi, (s_0, gamma) = measured(-1)
    others = [measured(region) for region in range(REGIONS)]
    error = lambda values: float(np.std(values, 0) * np.sqrt(REGIONS - 1))  # noqa: E731
    return {
        "galaxies": len(ra),
        "separation, Mpc/h": middle.round(2).tolist(),
        "xi": xi.round(3).tolist(),
        "s_0, Mpc/h": [round(s_0, 2), round(error([o[1][0] for o in others]), 2)],
        "gamma": [round(gamma, 2), round(error([o[1][1] for o in others]), 2)],
    }


def abacus(path: Path) -> dict[str, Any]:
    """Haloes of an N-body simulation beside the mass function and the Jeans equation."""
    table = pq.read_table(path).to_pandas()
    table = table[table["N"] > 0]
    mass, counts = table["mass_hMsun"].to_numpy(), {}
    for least in (1e12, 3e12, 1e13):
        grid = np.geomspace(least / 0.6736, 1e16, 300)
        told = np.trapezoid(haloes.mass_function(grid, 0.3152, 0.808), np.log(grid)) * (32 / 0.6736) ** 3
        counts[f"above {least:.0e} Msun/h: simulated, Sheth & Tormen"] = [int((mass > least).sum()), round(told, 1)]
    heavy = table[mass > 3e12]
    log_mass = np.log10(heavy["mass_hMsun"].to_numpy() / 0.6736)
    told = np.sqrt(3) * haloes.dispersion(np.full(len(heavy), 0.4), log_mass, haloes.concentration(log_mass))
    ratio = heavy["sigmav3d_com"].to_numpy() / told
    spread = {"median": round(float(np.median(ratio)), 3), "scatter, dex": round(float(np.std(np.log10(ratio))), 3)}
    return {**counts, "speeds over the Jeans equation's, above 3e12": spread}


def cubes(path: Path, run: str) -> dict[str, Any]:
    """What the network of a run says of real cubes, and whether they are like its training."""
    from gsnn.run import Run

    source = SkyCubes(path=str(path))
    with tempfile.TemporaryDirectory() as folder:
        survey = Survey.create(Path(folder) / "cubes", source)
        table = Run(run).predict(survey).to_pandas()
    batch, edges = source.rows(np.arange(len(source))), np.geomspace(2.0, 15.0, 5)
    points = Points.from_arrow(batch["galaxies"], 3, 0)
    xi = [correlation(points.take([i]).position.astype(float), edges, source.box, False) for i in range(len(points))]
    names = [name for name in table.columns if name == "flag" or name.endswith(("prediction", "q16", "q84"))]
    return {
        "cubes": len(source),
        "edges, Mpc/h": edges.round(2).tolist(),
        "xi of each": np.round(xi, 2).tolist(),
        "answers": json.loads(table[["id", *names]].to_json(orient="records")),
    }


def figure(path: Path, measured: dict[str, Any], out: Path) -> None:
    """A simulated cube beside one of SDSS, and the two-point functions of both surveys."""
    from gsnn.report.theme import PALETTE, style
    from gsnn.report.theme import figure as empty

    boxes = GalaxyBoxes(redshift_space=True, periodic=False)
    universe = {"omega_m": 0.315, "sigma_8": 0.811, "satellites": 0.15}
    one = boxes.draw(np.random.default_rng(1), bias=1.2, points=1500.0, **universe)
    many = [boxes.draw(np.random.default_rng(i), bias=1.2, points=1500.0, **universe) for i in range(40)]
    source = SkyCubes(path=str(path), points=len(one))
    real = Points.from_arrow(source.rows(np.arange(1))["galaxies"], 3, 0).position
    xi = [correlation(cloud.astype(float), EDGES, 128.0, False) for cloud in many]
    with style():
        page = empty(9.6, 3.4)
        panels = page.subplots(1, 3, width_ratios=(1, 1, 1.15))
        for axes, place, title in zip(panels, (one, real), ("A simulated cube of 128 Mpc/h", "One of SDSS")):
            order = np.argsort(place[:, 1])
            axes.scatter(
                place[order, 0], place[order, 2], c=place[order, 1], s=3.2, cmap="plasma", linewidths=0, rasterized=True
            )
            axes.set(
                xlim=(0, 128), ylim=(0, 128), xticks=[], yticks=[], facecolor="#10131c", title=title, aspect="equal"
            )
            axes.set_xlabel("across the sky")
        panels[0].set_ylabel("along the sight, by redshift")
        middle, axes = np.array(measured["separation, Mpc/h"]), panels[2]
        s_0, gamma = measured["s_0, Mpc/h"][0], measured["gamma"][0]
        axes.loglog(middle, (middle / s_0) ** -gamma, color=PALETTE["soft"], linewidth=1, zorder=0)
        axes.loglog(middle, measured["xi"], "o", color=PALETTE["blue"], markersize=5, label="SDSS, 116,972 galaxies")
        mean, error = np.mean(xi, 0), np.std(xi, 0)
        axes.fill_between(middle, mean - error, mean + error, color=PALETTE["orange"], alpha=0.25, linewidth=0)
        axes.loglog(middle, mean, color=PALETTE["orange"], label="simulated, Planck's universe, bias 1.2")
        axes.set(xlabel="separation, Mpc/h", ylabel="two-point function", xticks=[2, 4, 8, 15], yticks=[0.3, 1, 3])
        axes.set_xticklabels(["2", "4", "8", "15"])
        axes.set_yticklabels(["0.3", "1", "3"])
        axes.minorticks_off()
        axes.legend(frameon=False, fontsize=8, loc="lower left")
        axes.set_title(f"In redshift space; the line is (s / {s_0:.2f})^-{gamma:.2f}")
        page.savefig(out, dpi=115, facecolor="white")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--run")
    parser.add_argument("--figure", type=Path)
    parser.add_argument(
        "--only", help="measure this section anew, and keep the others: rates, sdss, abacus, sdss cubes"
    )
    given = parser.parse_args()
    result: dict[str, Any] = json.loads(OUT.read_text()) if given.only else {}
    sections: dict[str, Callable[[], Any]] = {"rates": rates}
    if given.data:
        galaxies = given.data / "sdss_dr7_vollim" / "vollim_dr7_cbp_102709.fits"
        haloes = given.data / "nbody_halos_abacus_mini" / "abacus_mini_n64_l32_z0_halos.parquet"
        sections |= {"sdss": lambda: sdss(galaxies), "abacus": lambda: abacus(haloes)}
        if given.run:
            sections["sdss cubes"] = lambda: cubes(galaxies, given.run)
    for name in [given.only] if given.only else sections:
        result[name] = sections[name]()
    if given.figure and given.data:
        figure(galaxies, result["sdss"], given.figure)
    OUT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
