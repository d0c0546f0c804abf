"""Damage files of every format by the thousand: each must give a source whose rows can be read, or one sentence.

    python benchmarks/fuzz.py --count 10000 --seconds 90        # GSNN_DATA adds small real files
    python benchmarks/fuzz.py --only .h5                         # seeds with this in their name
    python benchmarks/fuzz.py --case 1234 --keep damaged.bin     # one case again, with its traceback

A case is a pure function of (seed, number). Cases run in a process of their own, so that a crash, a hang or an
allocation bomb inside a C library is seen, counted and passed over too.
"""

from __future__ import annotations

import argparse
import gzip
import io
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import numpy as np

HANG_SECONDS = 20
MEMORY = 1 << 30  # bytes that one case may add to the peak
REAL = """
    fits_images/l1448_13co.fits hsc_hst_cutouts/Cut_HST.fits linear_rrlyrae/RRLyrae.fit
    sn_lightcurves_real/des_sn5yr_Foundation/DES-SN5YR_Foundation_PHOT.FITS.gz
    mwa_ssins_rfi/1061313128_99bl_1pol_half_time_SSINS.h5
    nbody_halos_abacus_mini/abacus_mini_n64_l32_z0_halos.parquet
    lensing_cosmos_ktng/ktng_PS_theory.npy lensing_cosmos_ktng/xray.txt sn_distances/JLA/jla_lcparams.txt
    sn_distances/DESY5/DES-SN5YR_HD.csv sunspots_silso/SN_m_tot_V2.0.csv
    kepler_tess_fits/kepler90/kplr011442793-2010009091648_llc.fits sparc_rotmod/Rotmod_LTG.zip
    alert_packets_avro/wntr_alerts/20240311/3608694.avro alert_packets_avro/ztf_official_samples/472263571115115000.avro
    bao/desi_2024_gaussian_bao_ALL_GCcomb_mean.txt galaxyzoo2_spirals/train/spirals
"""  # small real files, seeds beside the synthetic ones
BREAKERS = (  # the numbers that break parsers
    *(b"\xff" * 8, b"\0" * 8, b"\x7f" + b"\xff" * 7, b"\xff\xff\xff\x7f"),
    *(b"99999999999999999999", b"-1", b"1e999"),
)
REAL_LIMIT = 64 << 10  # a real file is cut to so many bytes where its format bears that


def seeds() -> dict[str, bytes]:
    """Small whole files of every format, by name."""
    import h5py
    import pyarrow as pa
    import pyarrow.parquet as pq
    from astropy.io import fits
    from PIL import Image

    rng = np.random.default_rng(0)
    n = 12
    table = {
        "objid": np.array([f"g{i}" for i in range(n)]),
        "ra": rng.uniform(0, 360, n),
        "dec": rng.uniform(-90, 90, n),
        "mag": rng.normal(20, 2, n).astype(np.float32),
        "count": rng.integers(0, 9, n),
        "class": np.array(["STAR", "QSO", "GALAXY"])[rng.integers(0, 3, n)],
    }
    cube = rng.normal(size=(n, 2, 5, 4)).astype(np.float32)
    rows = [[str(v[i]) for v in table.values()] for i in range(n)]
    out: dict[str, bytes] = {}
    for name, separator, start in (("csv", ",", ""), ("semicolon", ";", "#"), ("tab", "\t", ""), ("blank", "  ", "# ")):
        lines = [start + separator.join(table), *(separator.join(row) for row in rows)]
        out[f"{name}.txt"] = ("\n".join(lines) + "\n").encode()
    out["headerless.dat"] = "\n".join(f" {a:.3f}  {b:.4f}" for a, b in zip(table["ra"], table["dec"])).encode()
    out["quoted.csv"] = b'"name","note","x"\n' + b"".join(b'"a%d","one, two","%d"\n' % (i, i) for i in range(n))
    out["table.csv.gz"] = gzip.compress(out["csv.txt"], mtime=0)

    def fits_bytes(*hdus: object) -> bytes:
        buffer = io.BytesIO()
        fits.HDUList(list(hdus)).writeto(buffer)
        return buffer.getvalue()

    columns = [
        fits.Column("objid", "4A", array=table["objid"]),
        fits.Column("RA", "D", unit="deg", array=table["ra"]),
        fits.Column("DEC", "D", unit="deg", array=table["dec"]),
        fits.Column("count", "I", null=3, array=table["count"].astype(np.int16)),
        fits.Column("unsigned", "J", bzero=2**31, array=table["count"].astype(np.uint32)),
        fits.Column("good", "L", array=table["count"] > 4),
        fits.Column("sed", "3E", unit="Jy", array=cube[:, 0, 0, :3]),
        fits.Column("ragged", "PE()", array=np.array([np.ones(i % 3, np.float32) for i in range(n)], dtype=object)),
    ]
    header = fits.Header({"BUNIT": "nJy", "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CDELT1": -1e-4, "CDELT2": 1e-4})
    out["table.fits"] = fits_bytes(fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns))
    out["text.fits"] = fits_bytes(
        fits.PrimaryHDU(), fits.TableHDU.from_columns([fits.Column("mag", "F8.3", array=table["mag"])])
    )
    out["image.fits"] = fits_bytes(fits.PrimaryHDU(cube[0], header))
    out["packed.fits"] = fits_bytes(fits.PrimaryHDU(), fits.CompImageHDU((cube[0, 0] * 100).astype(np.int16)))
    out["line.fits"] = fits_bytes(fits.PrimaryHDU(table["mag"]))
    out["image.fits.gz"] = gzip.compress(out["image.fits"], mtime=0)

    def hdf5_bytes(fill: object) -> bytes:
        buffer = io.BytesIO()
        with h5py.File(buffer, "w") as file:
            fill(file)  # type: ignore[operator]
        return buffer.getvalue()

    def galaxy10(file: h5py.File) -> None:
        file["images"], file["ans"] = rng.integers(0, 256, (n, 6, 6, 3)).astype(np.uint8), table["count"]
        file["ra"], file["dec"], file["pxscale"] = table["ra"], table["dec"], np.full(n, 0.262)

    def groups(file: h5py.File) -> None:
        file.create_dataset("photometry/mag", data=table["mag"], chunks=(4,), compression="gzip", shuffle=True)
        file["photometry/name"] = table["objid"].astype("S4")
        file["photometry/text"] = table["class"].astype(object)
        file["photometry/id"] = np.arange(n)
        file["photometry/mag"].attrs["units"] = "mag"
        file["one"] = 3

    out["galaxy10.h5"], out["groups.h5"] = hdf5_bytes(galaxy10), hdf5_bytes(groups)
    for name, options in (("plain", {"compression": "none"}), ("packed", {"compression": "zstd"})):
        buffer = io.BytesIO()
        vectors = pa.array([[1.0, 2.0]] * n, pa.list_(pa.float32()))
        pq.write_table(pa.table({**table, "vector": vectors}), buffer, row_group_size=5, **options)
        out[f"{name}.parquet"] = buffer.getvalue()
    for name, save in (("a.npz", np.savez), ("b.npz", np.savez_compressed)):
        buffer = io.BytesIO()
        save(buffer, image=cube, z=table["mag"], label=table["class"])
        out[name] = buffer.getvalue()
    for name, values in (("image.npy", cube), ("table.npy", np.zeros(n, [("x", "f4"), ("s", "U3")]))):
        buffer = io.BytesIO()
        np.save(buffer, values)
        out[name] = buffer.getvalue()
    pixels = rng.integers(0, 256, (9, 8, 3)).astype(np.uint8)
    for suffix in ("png", "jpeg", "tiff", "gif"):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, suffix.upper())
        out[f"folder/{suffix}.{suffix}"] = buffer.getvalue()
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 200).save(buffer, "TIFF", compression="tiff_lzw")
    out["deep.tiff"] = buffer.getvalue()
    return out | curve_seeds()


def curve_seeds() -> dict[str, bytes]:
    """Light curves and alert packets. Of a ``pair/`` one file is damaged beside the other."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    import curve_files
    import packets

    n = 4
    lists = [np.arange(1.0, i + 3).tolist() for i in range(n)]
    table = pa.table({"objectid": [f"s{i}" for i in range(n)], "mjd": lists, "mag": lists, "magerr": lists})
    words = [f's{i},"{lists[i]}","{lists[i]}","{lists[i]}"' for i in range(n)]
    heads = pa.table({"snid": np.arange(n), "kind": ["a", "b"] * 2})
    rows = pa.table({"snid": np.arange(3 * n) % n, "mjd": np.arange(3.0 * n), "flux": np.ones(3 * n)})
    rows = rows.append_column("flux_err", pa.array(np.ones(3 * n))).append_column("band", pa.array(["g", "r"] * 6))
    tables = {f"s{i}_rotmod.dat": curve_files.rotation_curve(points=i + 2) for i in range(3)}
    head, photometry = curve_files.snana()

    def parquet(table: pa.Table) -> bytes:
        buffer = io.BytesIO()
        pq.write_table(table, buffer)
        return buffer.getvalue()

    return {
        "lists.parquet": parquet(table),
        "lists.csv": "\n".join(["name,mjd,mag,magerr", *words]).encode(),
        "kepler.fits": curve_files.kepler(),
        "tables.zip": curve_files.zipped(tables),
        "tables.tar.gz": curve_files.tarred(tables),
        "alert-ztf.avro": packets.container(packets.ZTF, packets.ztf_record()),
        "alert-lsst.avro": packets.container(packets.LSST, *map(packets.lsst_record, (1, 3)), codec="deflate"),
        "pair/heads.parquet": parquet(heads),
        "pair/observations.parquet": parquet(rows),
        "pair/SET_HEAD.FITS": head,
        "pair/SET_PHOT.FITS": photometry,
    }


def real_seeds(root: str) -> dict[str, bytes]:
    """Small real files; text is cut to its first lines."""
    out = {}
    for name in REAL.split():
        path = Path(root) / name
        if path.is_dir():
            path = min(path.iterdir())
            out[f"folder/real{path.suffix}"] = path.read_bytes()
        elif path.is_file():
            content = path.read_bytes()
            text = path.suffix in (".txt", ".csv")
            out[f"real-{path.name}"] = content[:REAL_LIMIT].rsplit(b"\n", 1)[0] if text else content
    return out


def damaged(content: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """One to four random injuries: flipped, cut, repeated, spliced, inflated or swapped bytes and lines."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        if not data:
            break
        how = int(rng.integers(0, 10))
        at = int(rng.integers(0, len(data)))
        early = int(rng.integers(0, min(len(data), 4096)))  # headers stand early
        if how == 0:
            data[at] ^= 1 << int(rng.integers(0, 8))
        elif how == 1:
            for i in rng.integers(0, len(data), int(rng.integers(1, 40))):
                data[i] = int(rng.integers(0, 256))
        elif how == 2:
            del data[at:]
        elif how == 3:
            del data[at : at + int(rng.integers(1, 300))]
        elif how == 4:
            data[at:at] = data[early : early + int(rng.integers(1, 300))]
        elif how == 5 and other:
            start = int(rng.integers(0, len(other)))
            data[at : at + 200] = other[start : start + int(rng.integers(1, 400))]
        elif how == 6:
            value = BREAKERS[int(rng.integers(0, len(BREAKERS)))]
            data[early : early + len(value)] = value
        elif how == 7:
            digits = [i for i, byte in enumerate(data[:20000]) if 48 <= byte <= 57]
            if digits:
                i = digits[int(rng.integers(0, len(digits)))]
                data[i : i + 1] = bytes(rng.integers(48, 58, int(rng.integers(1, 12))).astype(np.uint8))
        elif how == 8:
            lines = bytes(data).split(b"\n")
            a, b = rng.integers(0, len(lines), 2)
            lines[a], lines[b] = lines[b] + b"," * int(rng.integers(0, 3)), lines[a][: int(rng.integers(0, 200))]
            data = bytearray(b"\n".join(lines))
        else:
            data[early] = (data[early] + int(rng.integers(1, 256))) % 256
    return bytes(data)


def write_case(number: int, seed: int, files: dict[str, bytes], folder: Path) -> tuple[Path, str]:
    """Write the damaged file of a case; the path to read, and what it was."""
    rng = np.random.default_rng([seed, number])
    names = list(files)
    name = names[number % len(names)]
    content = damaged(files[name], files[names[int(rng.integers(0, len(names)))]], rng)
    if name.startswith("folder/"):  # one damaged picture among good ones
        path = folder / "pictures"
        for kind in ("good", "bad"):
            (path / kind).mkdir(parents=True, exist_ok=True)
        for i in range(2):
            (path / "good" / f"{i}.png").write_bytes(files["folder/png.png"])
        (path / "bad" / "one.png").write_bytes(content)
        return path, name
    if name.startswith("pair/"):
        return pair(name, content, files, folder), name
    path = folder / ("case." + name.rsplit("/", 1)[-1])
    path.write_bytes(content)
    return path, name


def pair(name: str, content: bytes, files: dict[str, bytes], folder: Path) -> Path:
    """A folder with one file of a pair, and the other as it should be."""
    path = folder / "pair"
    path.mkdir(exist_ok=True)
    for old in path.iterdir():
        old.unlink()
    for other, whole in files.items():
        if other.startswith("pair/") and Path(other).suffix == Path(name).suffix:
            (path / other.removeprefix("pair/")).write_bytes(content if other == name else whole)
    return path


def check(path: Path) -> str:
    """Read a damaged file as a survey would; the outcome in a word. Raises where a promise is broken."""
    from gsnn.data.readers import read
    from gsnn.errors import GsnnError

    try:
        source = read(path)
        schema, n = source.schema(), len(source)
        indices = np.unique(np.r_[0, n // 2, n - 1, np.arange(min(n, 40))])
        batch = source.rows(indices, 0)
    except GsnnError as error:
        text = str(error)
        assert text.strip(), "an error without a sentence"
        assert "\n" not in text, f"not one sentence: {text[:200]!r}"
        assert len(text) < 1500, f"a long sentence: {text[:200]!r}"
        return "refused"
    assert n > 0
    assert batch.schema.names[: len(schema)] == list(schema)
    assert [f.type for f in batch.schema][: len(schema)] == [c.arrow_type() for c in schema.columns]
    ids = batch.column("id").to_pylist()
    assert len(set(ids)) == len(ids), "ids do not tell the rows apart"
    assert None not in ids, "a row without an id"
    batch.validate(full=True)
    return "set aside" if "quarantine" in batch.schema.names else "read"


def chosen(only: str) -> dict[str, bytes]:
    """The seeds with ``only`` in their name, real ones too where GSNN_DATA says where they are."""
    root = os.environ.get("GSNN_DATA")
    files = seeds() | (real_seeds(root) if root else {})
    pairs = any(only in name for name in files if name.startswith("pair/"))
    needed = {name for name in files if name == "folder/png.png" or (pairs and name.startswith("pair/"))}
    return {name: content for name, content in files.items() if only in name or name in needed}


def work(first: int, count: int, seed: int, seconds: float, only: str) -> None:
    """Run cases and print a line for each that breaks a promise, and the totals at the end."""
    files = chosen(only)
    started, totals = time.monotonic(), {"read": 0, "set aside": 0, "refused": 0}
    with tempfile.TemporaryDirectory() as folder:
        for name in files:  # also warms up every library
            path, _ = _whole(name, files, Path(folder))
            assert check(path) == "read", f"the undamaged {name} cannot be read"
        for number in range(first, first + count):
            if time.monotonic() - started > seconds:
                break
            print(f"at {number}", flush=True)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            signal.alarm(HANG_SECONDS)  # the default action ends the process, also inside C
            path, name = write_case(number, seed, files, Path(folder))
            try:
                totals[check(path)] += 1
            except BaseException as error:
                where = traceback.extract_tb(error.__traceback__)[-1]
                what = f"{type(error).__name__}: {str(error)[:200]!r} at {where.filename}:{where.lineno}"
                print(f"BROKEN {number} {name}: {what}")
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) * 1024
            if grown > MEMORY:
                print(f"BROKEN {number} {name}: took {grown >> 20} MiB of memory")
            signal.alarm(0)
    print("TOTALS", *totals.values(), flush=True)


def _whole(name: str, files: dict[str, bytes], folder: Path) -> tuple[Path, str]:
    if name.startswith("pair/"):
        return pair(name, files[name], files, folder), name
    path = folder / name.replace("/", "-")
    path.write_bytes(files[name])
    return path, name


def fuzz(count: int, seconds: float, seed: int = 0, first: int = 0, only: str = "") -> tuple[dict[str, int], list[str]]:
    """Totals of each outcome, and the broken cases. A worker that dies is replaced behind the case that killed it."""
    totals, broken, started, end = {"read": 0, "set aside": 0, "refused": 0}, [], time.monotonic(), first + count
    while first < end and time.monotonic() - started < seconds:
        left = seconds - (time.monotonic() - started)
        command = [sys.executable, __file__, "--work", f"{first},{end - first},{seed},{left},{only}"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": ""}
        process = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        at = first
        for line in process.stdout.splitlines():
            if line.startswith("at "):
                at = int(line[3:])
            elif line.startswith("BROKEN"):
                broken.append(line)
            elif line.startswith("TOTALS"):
                for key, value in zip(totals, line.split()[1:]):
                    totals[key] += int(value)
        if process.returncode == 0:
            break
        if "at " not in process.stdout:
            raise RuntimeError(process.stderr[-2000:])
        what = "hangs" if process.returncode == -signal.SIGALRM else f"crashes (exit {process.returncode})"
        broken.append(f"BROKEN {at} {what}: {process.stderr.strip().splitlines()[-1:]}")
        totals["read"] += at - first  # counted roughly: their outcomes died with the process
        first = at + 1
    return totals, broken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=90)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="use the seeds with this in their name")
    parser.add_argument("--case", type=int)
    parser.add_argument("--keep", type=Path, help="where to leave the damaged file of --case")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        first, count, seed, seconds, only = given.work.split(",")
        work(int(first), int(count), int(seed), float(seconds), only)
        return 0
    if given.case is not None:
        files = chosen(given.only)
        with tempfile.TemporaryDirectory() as folder:
            path, name = write_case(given.case, given.seed, files, Path(folder))
            if given.keep and path.is_file():
                given.keep.write_bytes(path.read_bytes())
            print(name, check(path))
        return 0
    started = time.monotonic()
    totals, broken = fuzz(given.count, given.seconds, given.seed, only=given.only)
    print(*broken, sep="\n")
    ran = sum(totals.values()) + len(broken)
    print(f"{ran} damaged files in {time.monotonic() - started:.0f} s: {totals}, {len(broken)} broke a promise")
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
