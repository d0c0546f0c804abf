"""Small stand-ins for the files that the pages name: made here, so that pages run without any real data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from shear_files import survey

N = 260


def write_all(folder: Path) -> None:
    chance = np.random.default_rng(0)
    tables, time = (pulsars, boss, sdss, galaxies, mosaic, catalogue_files), (strain, light_curves)
    for write in (*tables, *time, supernovae, eros, linear, planet_hosts, sunspots, distances, planck):
        write(folder, chance)
    survey(folder / "COSMOS")
    resnet18(folder)


def _csv(path: Path, columns: dict, separator: str = ",") -> None:
    rows = zip(*(np.asarray(values).tolist() for values in columns.values()))
    lines = [separator.join(columns), *(separator.join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n")


def pulsars(folder: Path, chance: np.random.Generator) -> None:
    target = chance.random(N) < 0.3
    statistics = ("Mean", " Standard deviation", " Excess kurtosis", " Skewness")
    names = [f"{s} of the {c}" for c in ("integrated profile", "DM-SNR curve") for s in statistics]
    values = {f" {n.strip()}": (chance.normal(size=N) + 2 * target).round(4) for n in names}
    _csv(folder / "pulsar_stars.csv", {**values, "target_class": target.astype(int)})


def boss(folder: Path, chance: np.random.Generator) -> None:
    for part in (0, 1):
        z = chance.uniform(0.1, 0.8, N)
        columns = {}
        for i, band in enumerate("UGRIZ"):
            columns[f"F:MAG_{band}"] = (21 - 0.5 * i + 3 * z * (i < 2) + chance.normal(0, 0.1, N)).round(4)
            columns[f"F:MAGERR_{band}"] = chance.uniform(0.01, 0.2, N).round(4)
        _csv(folder / f"boss_dr10_{part}.csv", {**columns, "D:Z": z.round(5)}, ";")


def sdss(folder: Path, chance: np.random.Generator) -> None:
    kind = chance.integers(0, 3, N)
    magnitudes = {b: (19 - 0.4 * i * (1 + kind) + chance.normal(0, 0.2, N)).round(4) for i, b in enumerate("ugriz")}
    place = {"ra": chance.uniform(0, 360, N).round(6), "dec": chance.uniform(-10, 60, N).round(6)}
    other = {"plate": chance.integers(300, 9000, N), "redshift": (kind * 0.4).round(2)}
    names = np.array(["STAR", "GALAXY", "QSO"])[kind]
    _csv(folder / "sdss.csv", {"objid": np.full(N, "1.24E+18"), **place, **magnitudes, **other, "class": names})


def _blobs(chance: np.random.Generator, n: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    kind = np.arange(n) % 2
    width = np.where(kind, 2.0, 5.0)[:, None, None] * chance.uniform(0.8, 1.2, (n, 1, 1))
    return np.exp(-(x**2 + y**2) / (2 * width**2)), kind


def galaxies(folder: Path, chance: np.random.Generator) -> None:
    from PIL import Image

    light, kind = _blobs(chance, 120, 40)
    for i, (blob, k) in enumerate(zip(light, kind)):
        path = folder / "galaxies" / ("spirals" if k else "non_spirals") / f"{100000 + i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = 200 * blob[..., None] * [1, 0.9, 0.7] + chance.normal(20, 4, (40, 40, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)
    votes = chance.random(120).round(3)
    _csv(folder / "votes.csv", {"name": 100000 + np.arange(120), "odd_votes": votes})


def mosaic(folder: Path, chance: np.random.Generator) -> None:
    from astropy.io import fits
    from astropy.wcs import WCS

    size, n = 640, 144
    light, kind = _blobs(chance, n, 33)
    sky = chance.normal(0, 0.05, (size, size)).astype(np.float32)
    y, x = (place.ravel() for place in np.mgrid[40 : size - 40 : 12j, 40 : size - 40 : 12j].round().astype(int))
    for blob, i, j in zip(light, y, x):
        sky[i - 16 : i + 17, j - 16 : j + 17] += blob
    wcs = WCS(naxis=2)
    wcs.wcs.crpix, wcs.wcs.crval, wcs.wcs.cdelt = [1, 1], [359.95, 10.0], [-0.2 / 3600, 0.2 / 3600]
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    header = wcs.to_header()
    header["BUNIT"] = "nJy"
    fits.PrimaryHDU(sky, header).writeto(folder / "mosaic.fits")
    ra, dec = wcs.pixel_to_world_values(x, y)
    names = np.array(["extended", "compact"])[kind]
    columns = {"name": [f"J{i:04d}" for i in range(n)], "ra": ra.round(7), "dec": dec.round(7), "kind": names}
    _csv(folder / "catalogue.csv", columns)


def catalogue_files(folder: Path, chance: np.random.Generator) -> None:
    import h5py
    import pyarrow as pa
    import pyarrow.parquet as pq

    g = chance.normal(20, 1, N)
    mass = 10 - 0.5 * (g - 20) + chance.normal(0, 0.1, N)
    table = {"name": [f"s{i}" for i in range(N)], "ra": chance.uniform(0, 360, N), "dec": chance.uniform(-80, 80, N)}
    table |= {"g": g, "r": g - chance.normal(0.6, 0.2, N), "i": g - 0.9, "log_mass": mass}
    table["r"][:3] = np.nan
    pq.write_table(pa.table(table), folder / "sources.parquet")
    light, kind = _blobs(chance, 60, 24)
    with h5py.File(folder / "stamps.h5", "w") as file:
        file["image"], file["kind"] = light[:, None].astype(np.float32), kind
    np.savez(folder / "stamps.npz", image=light[:, None].astype(np.float32), redshift=chance.uniform(0, 1, 60))


def strain(folder: Path, chance: np.random.Generator) -> None:
    """Strain of two detectors in GWOSC's layout, noise alone."""
    import h5py

    rate, seconds, start = 4096, 16, 1126259446
    for name in ("H1", "L1"):
        with h5py.File(folder / f"{name[0]}-{name}_LOSC_4_V2-{start}-32.hdf5", "w") as file:
            data = file.create_dataset("strain/Strain", data=1e-21 * chance.standard_normal(rate * seconds))
            data.attrs["Xspacing"] = 1 / rate
            file["meta/GPSstart"], file["meta/Detector"] = start, name.encode()
            file["quality/simple/DQmask"] = np.full(seconds, 127, np.uint32)
            file["quality/simple/DQShortnames"] = np.array([b"DATA", b"CBC_CAT1", b"CBC_CAT2"])


def resnet18(folder: Path) -> None:
    """Weights in torchvision's layout, drawn at random: a file of the same names and shapes."""
    import torch
    from safetensors.torch import save_file

    tensors = {"conv1.weight": torch.randn(64, 3, 7, 7) * 0.05, **_norm("bn1", 64)}
    before = 64
    for stage in range(4):
        after = 64 * 2**stage
        for block in range(2):
            name = f"layer{stage + 1}.{block}"
            for i, width in ((1, before if block == 0 else after), (2, after)):
                tensors[f"{name}.conv{i}.weight"] = torch.randn(after, width, 3, 3) * 0.02
                tensors |= _norm(f"{name}.bn{i}", after)
            if stage and not block:
                tensors[f"{name}.downsample.0.weight"] = torch.randn(after, before, 1, 1) * 0.05
                tensors |= _norm(f"{name}.downsample.1", after)
        before = after
    save_file(tensors, folder / "resnet18.safetensors")


def _norm(name: str, width: int) -> dict:
    import torch

    values = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}
    return {f"{name}.{key}": torch.full((width,), value) for key, value in values.items()}


def light_curves(folder: Path, chance: np.random.Generator) -> None:
    """Supernovae as two tables, lists, rotation curves, quarters of stars, packets and a series."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from curve_files import kepler, rotation_curve, zipped
    from packets import ZTF, container, ztf_record

    for place, first, n in (("", 1, 120), ("new_supernovae/", 500, 6)):
        number, kinds = np.arange(first, first + n), np.array(["Ia", "II"])
        steps = chance.integers(8, 30, n)
        owner = np.repeat(np.arange(n), steps)
        time = 56200 + chance.uniform(0, 90, len(owner)).round(3) + np.arange(len(owner)) * 1e-6
        width = np.where(number % 2, 8.0, 30.0)[owner]
        flux = 60 * np.exp(-0.5 * ((time - 56240) / width) ** 2) + chance.normal(0, 3, len(owner))
        heads = {"snid": number, "type": kinds[number % 2], "redshift": chance.uniform(0.1, 0.9, n).round(3)}
        rows = {"snid": number[owner], "mjd": time, "flt": np.array(list("griz"))[chance.integers(0, 4, len(owner))]}
        rows |= {"fluxcal": flux.astype("f4"), "fluxcalerr": np.full(len(owner), 3, "f4")}
        (folder / place).mkdir(exist_ok=True)
        pq.write_table(pa.table(heads), folder / place / "sn_heads.parquet")
        pq.write_table(pa.table(rows), folder / place / "sn_observations.parquet")
    lists = {"hmjd": [chance.uniform(1, 20, i % 5 + 1).tolist() for i in range(20)]}
    lists |= {part: [[18.0 + k for k in range(len(one))] for one in lists["hmjd"]] for part in ("mag", "magerr")}
    pq.write_table(
        pa.table({"objectid": 100 + np.arange(20), "filterid": [1, 2] * 10, **lists}), folder / "ztf_lists.parquet"
    )
    curves = {f"NGC{i}_rotmod.dat": rotation_curve(2.0 + i, points=5 + i % 12) for i in range(90)}
    for name in list(curves)[::3]:  # a bulge at the first radius
        curves[name] = curves[name].replace(b"\t0.00\t30", b"\t5.00\t30")
    (folder / "Rotmod_LTG.zip").write_bytes(zipped(curves))
    for name in ("kepler", "packets"):
        (folder / name).mkdir(exist_ok=True)
    for quarter in (1, 2):
        for star in (1, 2):
            content = kepler(quarter, 1000.0 * star, star=f"KIC {star}")
            (folder / "kepler" / f"kplr{star}-{quarter}_llc.fits").write_bytes(content)
    for i in range(6):
        (folder / "packets" / f"alert{i}.avro").write_bytes(container(ZTF, ztf_record(i, i + 1)))
    months = [f"{1749 + i // 12};{i % 12 + 1:02d};{1749 + i / 12:.3f};{100 - i:5.1f};-1.0;  -1;1" for i in range(60)]
    (folder / "sunspots.csv").write_text("\n".join(months) + "\n")


def supernovae(folder: Path, chance: np.random.Generator) -> None:
    """The two tables of the classification challenge: heads and observations."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    place = folder / "spcc"
    place.mkdir()
    types = np.array(["Ia", "II", "IIL", "IIP", "IIn", "Ib", "Ibc", "Ic"])[np.arange(N) % 8]
    spectrum = np.arange(N) % 3 == 0
    z = chance.uniform(0.1, 0.9, N)
    head = {
        "snid": np.arange(17, 17 + N),
        "sntype": np.where(spectrum, np.where(types == "Ia", 1, 22), -9),
        "host_photoz": z,
        "sim_type": types,
        "sim_redshift": z,
    }
    pq.write_table(pa.table(head), place / "spcc_head.parquet")
    rows = {"snid": [], "mjd": [], "flt": [], "fluxcal": [], "fluxcalerr": []}
    for snid, kind in zip(head["snid"].tolist(), types):
        mjd = np.sort(chance.uniform(56200, 56300, 24))
        fall = 15 if kind == "Ia" else 40
        light = 60 * np.exp(-((mjd - 56240) ** 2) / np.where(mjd < 56240, 100, fall**2))
        rows["snid"] += [snid] * 24
        rows["mjd"] += mjd.tolist()
        rows["flt"] += list("griz" * 6)
        rows["fluxcal"] += (light + chance.normal(0, 2, 24)).tolist()
        rows["fluxcalerr"] += [2.0] * 24
    pq.write_table(pa.table(rows), place / "spcc_obs.parquet")


def eros(folder: Path, chance: np.random.Generator) -> None:
    """The stars of EROS-1 and, as lists in a second table, their light curves."""
    import gzip

    kind = np.arange(N) % 4 + 1
    period = np.array([1.5, 5.0, 0.5, 250.0])[kind - 1] * chance.uniform(0.8, 1.2, N)
    names = [f"{100 + i % 60}_{4000 + i}" for i in range(N)]
    columns = {
        "": names, "patch_id": 100.0 + np.arange(N) % 60, "magnitude_b": chance.uniform(17, 19, N).round(3),
        "magnitude_r": chance.uniform(16, 18, N).round(3), "period": period.round(4),
        "asym_b": chance.uniform(0.5, 2, N).round(3), "asym_r": chance.uniform(0.5, 2, N).round(3),
        "log_p_not_variable": -chance.uniform(2, 30, N).round(2), "sigma_flux_b": chance.uniform(20, 90, N).round(2),
        "sigma_flux_r": chance.uniform(20, 90, N).round(2), "type": kind.astype(float), "div_period": kind + 1.0,
    }  # fmt: skip
    _csv(folder / "train.csv", columns)
    lines = [",time_points_b,time_points_r,light_points_b,light_points_r,error_points_b,error_points_r"]
    for name, p, k in zip(names, period, kind):
        time = [np.sort(chance.uniform(300, 700, 14)).round(2) for _ in "br"]
        light = [(18 + 0.1 * k * np.cos(2 * np.pi * t / p) + chance.normal(0, 0.05, 14)).round(2) for t in time]
        cells = [*time, *light, *[np.full(14, 0.05)] * 2]
        lines.append(",".join([name, *(f'"{values.tolist()}"' for values in cells)]))
    with gzip.open(folder / "train_varlength_features.csv.gz", "wt") as file:
        file.write("\n".join(lines) + "\n")


def linear(folder: Path, chance: np.random.Generator) -> None:
    kind = np.arange(N) % 5
    names = ("ra", "dec", "ug", "gi", "iK", "JK", "logP", "Ampl", "skew", "kurt", "magMed", "nObs", "LCtype", "ID")
    place = [chance.uniform(0, 360, N), chance.uniform(-5, 60, N)]
    values = [chance.normal(kind * 0.3, 0.2) for _ in range(9)]
    codes = np.array([1, 2, 4, 5, 6])[kind]
    table = np.stack([*place, *values, np.full(N, 300), codes, 29000 + np.arange(N)], 1)
    header = "# a stand-in\n# " + " ".join(names) + "\n"
    rows = "\n".join(" ".join(f"{v:.6g}" for v in row) for row in table)
    (folder / "LINEARattributesFinalApr2013.dat").write_text(header + rows + "\n")


def sunspots(folder: Path, chance: np.random.Generator) -> None:
    """A hundred and sixty years of months in SILSO's layout."""
    month = np.arange(1920)
    number = (60 + 50 * np.sin(2 * np.pi * month / 132) + chance.normal(0, 8, 1920)).clip(0).round(1)
    lines = [
        f"{1749 + m // 12};{m % 12 + 1:02d};{1749 + (m + 0.5) / 12:.3f};{n};-1.0;-1;1" for m, n in zip(month, number)
    ]
    (folder / "SN_m_tot_V2.0.csv").write_text("\n".join(lines) + "\n")


def planet_hosts(folder: Path, chance: np.random.Generator) -> None:
    """Two stars of Kepler, 20 days each, one of which a planet passes before every 3.1 days."""
    import io

    from astropy.io import fits
    from curve_files import kepler

    (folder / "planet_hosts").mkdir()
    for star, depth in ((7, 0.01), (8, 0.0)):
        time = 131.5 + np.arange(980) * 0.0204336
        inside = np.abs((time + 1.55) % 3.1 - 1.55) < 0.06
        flux = 5000 * (1 - depth * inside + chance.normal(0, 3e-4, 980))
        content = kepler(1, 5000.0, f"KIC {star}", 980, TIME=time, PDCSAP_FLUX=flux.astype(np.float32))
        with fits.open(io.BytesIO(content)) as hdus:
            hdus[0].header["RADIUS"] = 1.1
            hdus.writeto(folder / "planet_hosts" / f"kplr{star}_llc.fits")


def distances(folder: Path, chance: np.random.Generator) -> None:
    """Six nodes of supernovae and four acoustic oscillations in the form of Cobaya's tables."""
    for name in ("Union3", "desi_bao_dr2"):
        (folder / name).mkdir()
    z = np.array([0.05, 0.1, 0.3, 0.5, 0.8, 1.2])
    magnitude = 5 * np.log10((1 + z) * z / (1 + 0.22 * z)) + 43.2
    rows = [f"bin{i} {a} {a} 0.0 {m:.4f} 0.0" for i, (a, m) in enumerate(zip(z, magnitude))]
    (folder / "Union3" / "lcparam_full.txt").write_text("\n".join(["#name zcmb zhel dz mb dmb", *rows]) + "\n")
    covariance = 0.002 * np.eye(6) + 0.001
    text = "\n".join(map(str, covariance.ravel()))
    (folder / "Union3" / "mag_covmat.txt").write_text(f"6\n{text}\n")
    means = ("0.295 7.94 DV_over_rs", "0.51 13.59 DM_over_rs", "0.51 21.86 DH_over_rs", "2.33 38.99 DM_over_rs")
    (folder / "desi_bao_dr2" / "ALL_mean.txt").write_text("\n".join(means) + "\n")
    np.savetxt(folder / "desi_bao_dr2" / "ALL_cov.txt", np.diag([0.006, 0.03, 0.18, 0.3]))


def planck(folder: Path, chance: np.random.Generator) -> None:
    """Band powers of a sky by a formula."""
    from planck_files import band_powers

    band_powers(folder / "planck2018")
