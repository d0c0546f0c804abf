"""A small shear survey in the files of the COSMOS catalogue: galaxies, noise map, a convergence map, X-ray groups."""

from pathlib import Path

import numpy as np

from gsnn.data.readers.shear_catalogue import places


def survey(folder: Path, side: int = 32, each: int = 4, border: int = 0) -> dict[str, np.ndarray]:
    """Writes the files of ``side`` pixels of 0.29 arcmin with ``each`` galaxies a pixel, and returns their values."""
    from astropy.io import fits

    random, half = np.random.default_rng(0), side * 0.29 / 120
    inner = np.arange(side**2).reshape(side, side)[border : side - border, border : side - border].ravel()
    row, column = (np.repeat(v, each) for v in np.divmod(inner, side))
    place = [(v + random.uniform(0.2, 0.8, len(v))) / side * 2 * half - half for v in (row, column)]
    dec, ra = (v - np.median(v) + middle for v, middle in zip(place, (2.0, 150.0)))
    values = {"ra": ra, "dec": dec, "e1": random.normal(0, 0.3, len(ra)), "e2": random.normal(0, 0.3, len(ra))}
    at = np.stack(places(ra, dec, (np.median(ra), np.median(dec)), side))
    good = ((at >= 0) & (at < side)).all(0)
    count = np.zeros((side, side))
    np.add.at(count, tuple(at[:, good]), 1)
    values["std1"] = np.where(count > 0, values["e1"].std() / np.sqrt(np.maximum(count, 1)), 0)
    values["ktng_kappa360v2"] = random.normal(0, 0.02, (side, side))
    folder.mkdir(exist_ok=True)
    for name, value in values.items():
        fits.writeto(folder / f"{name}.fits", value)
    rows = [
        f"{i}\t{150 + 0.01 * i}\t{2 - 0.01 * i}\t1.0\t0.7\t0.1\t0.{i + 1}\t0.7\t0.1\t2.2\t0.5\t0.6\t0.1\t1"
        for i in range(3)
    ]
    (folder / "xray.txt").write_text("# ID RA DEC\n" + "\n".join(rows) + "\n")
    return values | {"at": at, "count": count}
