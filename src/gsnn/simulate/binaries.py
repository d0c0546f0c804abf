"""Black holes that merge, in the noise of two detectors: windows of strain with and without a signal, and the truth."""

from __future__ import annotations

import math
from typing import Annotated, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float64, Int64
from pydantic import Field
from torch import Tensor

from .. import rng
from ..data.schema import Column, Schema
from ..data.source import within
from ..data.strain import at, band, frequencies
from ..errors import ConfigError
from . import noise as gaussian
from .cosmology import redshift_at
from .detectors import antenna, delay, detector
from .recorded import STRETCH, stretches, windows
from .waveforms import SUN_S, Binaries, face_on, polarisations

CLASSES = ("noise", "signal")
PARTS = ("train", "valid", "test")
UNIT = 1e-21  # of strain that is not whitened
START = 1238166018.0, 31536000.0  # GPS second at which O3 began, and the year over which mergers are spread
_BLOCK = 64


class Draws(NamedTuple):
    """The truth of windows: angles in rad, ``merger`` in seconds from the window's start (at the Earth's centre)."""

    binaries: Binaries
    ra: Float64[Tensor, " object"]
    dec: Float64[Tensor, " object"]
    polarisation: Float64[Tensor, " object"]
    inclination: Float64[Tensor, " object"]
    phase: Float64[Tensor, " object"]
    gps: Float64[Tensor, " object"]
    merger: Float64[Tensor, " object"]
    snr: Float64[Tensor, " object"]


class BinaryMergers:
    """Windows of ``seconds`` of strain in ``detectors``, ``signals`` of them (a share) with a merger; a Source.

    Waves are IMRPhenomD with aligned spins uniform within +- ``spin`` and component masses (as seen by the detectors)
    uniform in ``masses``; sky, inclination, polarisation and time are isotropic. The optimal signal-to-noise ratio of
    the network is uniform in ``snr`` and the distance follows from it, so that faint and loud signals are equally many;
    numbers for a population in space are had by weighing with snr^-4. The merger falls into the part ``merger`` of the
    window.

    ``noise`` is ``"gaussian"`` with the density of Advanced LIGO's design, or a file (or several) of recorded strain.
    ``parts`` are the shares of training, validation and test, told in the column ``part``: parts of the record in time.
    Strain is whitened (noise of unit density a sample) between ``low`` Hz and 0.4 ``rate``, or with ``whiten = false``
    only cut to that band, in units of 1e-21. The density that whitened it stands in the provenance.
    """

    def __init__(
        self,
        *,
        objects: Annotated[int, Field(ge=1)] = 4000,
        signals: Annotated[float, Field(ge=0, le=1)] = 0.5,
        noise: str | list[str] = "gaussian",
        detectors: Annotated[tuple[str, ...], Field(min_length=1)] = ("H1", "L1"),
        rate: Annotated[int, Field(ge=256, le=16384)] = 1024,
        seconds: Annotated[float, Field(ge=0.25, le=64)] = 1.0,
        low: Annotated[float, Field(ge=10)] = 30.0,
        masses: tuple[float, float] = (15.0, 60.0),
        spin: Annotated[float, Field(ge=0, lt=1)] = 0.5,
        snr: tuple[float, float] = (5.0, 20.0),
        merger: tuple[float, float] = (0.6, 0.9),
        parts: tuple[float, float, float] = (0.6, 0.2, 0.2),
        whiten: bool = True,
    ):
        def refuse(key: str, sentence: str) -> None:
            raise ConfigError(sentence, (key,))

        for name in detectors:
            detector(name)
        for key, (least, most) in {"masses": masses, "snr": snr, "merger": merger}.items():
            if not 0 < least <= most:
                refuse(key, f"[{least:g}, {most:g}] must be two positive numbers, the smaller one first")
        if merger[1] > 1:
            refuse("merger", f"{merger[1]:g} lies beyond the window: parts of it run from 0 to 1")
        if min(parts) < 0 or not math.isclose(sum(parts), 1, abs_tol=1e-6):
            refuse("parts", f"{list(parts)} must be shares that add up to 1")
        if rate * seconds % 2 or low >= gaussian.high_end(rate) / 2:
            refuse("rate", f"{rate} samples/s give no even number in {seconds:g} s, or no band above {low:g} Hz")
        if isinstance(noise, list) and not noise:
            refuse("noise", 'names no file; give "gaussian" or files of strain')
        self.objects, self.signals, self.noise, self.detectors = objects, signals, noise, tuple(detectors)
        self.rate, self.seconds, self.low, self.masses, self.spin = rate, seconds, low, masses, spin
        self.snr, self.merger, self.parts, self.whiten = snr, merger, parts, whiten
        self.length = round(rate * seconds)
        whole = max(longest(masses[0], low * 2 / 3) + seconds * (1 - merger[0]), seconds) + 0.5
        self.chirp = 1 << math.ceil(math.log2(rate * whole))
        self._recorded = None
        if noise != "gaussian":
            paths = [noise] if isinstance(noise, str) else noise
            used = tuple(share for share in parts if share > 0)
            found = iter(stretches(paths, self.detectors, rate, low, used))
            self._recorded = [next(found) if share > 0 else [] for share in parts]

    def schema(self) -> Schema:
        scalars = [
            ("mass_1", "Msun", "of the heavier black hole, as the detectors see it (redshifted)"),
            ("mass_2", "Msun", "of the lighter one"),
            ("spin_1", "", "of the heavier one, along the orbit's axis"),
            ("spin_2", "", "of the lighter one"),
            ("chirp_mass", "Msun", "redshifted"),
            ("distance", "Mpc", "luminosity distance"),
            ("redshift", "", "at that distance"),
            ("inclination", "deg", "0 is face-on"),
            ("sky_ra", "deg", "right ascension"),
            ("sky_dec", "deg", "declination"),
            ("merger", "s", "of the merger at the Earth's centre, from the start of the window"),
            ("snr", "", "optimal signal-to-noise ratio of the network"),
            *((f"snr_{name}", "", f"in {name}") for name in self.detectors),
        ]
        unit = "" if self.whiten else "1e-21"
        made = {
            "simulator": "gsnn.simulate.binaries",
            "noise": "Gaussian, Advanced LIGO's design" if self.noise == "gaussian" else self.noise,
            "band_hz": [self.low, gaussian.high_end(self.rate)],
            "masses_msun": list(self.masses),
            "spin": self.spin,
            "density_1_hz": self._provenance(),
        }
        strain = Column(
            "strain", "strain", unit=unit, bands=self.detectors, shape=(len(self.detectors), self.length),
            time_unit="s", cadence=1 / self.rate, description="whitened" if self.whiten else "band-passed",
        )  # fmt: skip
        return Schema.of(
            (
                Column("id", "id"),
                strain,
                Column("kind", "label", classes=CLASSES),
                Column("part", "label", classes=PARTS, description="of the split"),
                *(Column(name, "scalar", unit=unit, description=text) for name, unit, text in scalars),
                Column("gps", "scalar", unit="s", dtype="float64", description="GPS second of the merger"),
            ),
            **made,
        )

    def _provenance(self) -> dict[str, list[float]]:
        """The density of the training part's noise, 1/Hz, every Hz from 0 on: what templates are whitened by."""
        known, step = self._densities(next(i for i, share in enumerate(self.parts) if share > 0))
        every = round(1 / step)
        out = {}
        for name, values in zip(self.detectors, known):
            cells = 1 / values[: (len(values) - 1) // every * every].view(-1, every).clamp(min=1e-60)
            out[name] = [float(f"{v:.4g}") for v in (1 / cells.mean(1)).tolist()]
        return out

    def _densities(self, part: int) -> tuple[list[Float64[Tensor, " frequency"]], float]:
        """Of each detector in one part, and their step in Hz."""
        if self._recorded is not None:
            return [one.density for one in self._recorded[part]], 1 / STRETCH
        known = gaussian.design(torch.arange(self.rate // 2 + 1, dtype=torch.float64))
        return [known] * len(self.detectors), 1.0

    def __len__(self) -> int:
        return self.objects

    def rows(self, indices: Int64[np.ndarray, " n"], seed: int) -> pa.RecordBatch:
        """The windows of these indices. Raises IndexError beyond the survey."""
        indices = within(indices, self.objects)
        schema = self.schema().arrow()
        batches = [self._batch(indices[i : i + _BLOCK], seed, schema) for i in range(0, len(indices), _BLOCK)]
        return pa.concat_batches(batches) if batches else pa.RecordBatch.from_pylist([], schema=schema)

    def _batch(self, indices: Int64[np.ndarray, " n"], seed: int, schema: pa.Schema) -> pa.RecordBatch:
        columns = self.columns(torch.from_numpy(indices), seed)
        arrays = []
        for field in schema:
            values = columns[field.name]
            if pa.types.is_fixed_size_list(field.type):
                arrays.append(pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), field.type.list_size))
            else:
                missing = np.isnan(values) if values.dtype.kind == "f" else None
                arrays.append(pa.array(values, field.type, mask=missing))
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def columns(self, rows: Int64[Tensor, " object"], seed: int) -> dict[str, np.ndarray]:
        """The columns of one block of rows."""

        def draw(name: str) -> Float64[Tensor, " object"]:
            return rng.uniform(seed, f"binaries/{name}", rows)[:, 0].double()

        present = draw("signal") < self.signals
        part = torch.searchsorted(torch.tensor(self.parts).cumsum(0)[:-1], draw("part").float(), right=True)
        strain = self.background(rows, seed, part)
        truth = {name: torch.full((len(rows),), torch.nan, dtype=torch.float64) for name in self.schema()}
        for k in part.unique().tolist():
            chosen = ((part == k) & present).nonzero()[:, 0]
            if len(chosen):
                drawn = self.draws(rows[chosen], seed)
                wave, known = self.render(drawn, k)
                strain[chosen] += wave
                for name, values in known.items():
                    truth[name][chosen] = values
        columns = {name: values.numpy() for name, values in truth.items()}
        columns |= {name: columns[name].astype(np.float32) for name in columns if name != "gps"}
        return columns | {
            "id": np.array([f"binaries-{seed}-{row}" for row in rows.tolist()], object),
            "strain": strain.float().numpy(),
            "kind": np.array(CLASSES, object)[present.long().numpy()],
            "part": np.array(PARTS, object)[part.numpy()],
        }

    def draws(self, rows: Int64[Tensor, " object"], seed: int) -> Draws:
        """The parameters of the mergers."""

        def draw(name: str, low: float, high: float) -> Float64[Tensor, " object"]:
            return low + (high - low) * rng.uniform(seed, f"binaries/{name}", rows)[:, 0].double()

        masses = [draw(name, *self.masses) for name in ("mass_1", "mass_2")]
        spins = [draw(name, -self.spin, self.spin) for name in ("spin_1", "spin_2")]
        return Draws(
            Binaries.of(*masses, *spins),
            draw("ra", 0, 2 * math.pi),
            torch.asin(draw("dec", -1, 1)),
            draw("polarisation", 0, math.pi),
            torch.acos(draw("inclination", -1, 1)),
            draw("phase", 0, math.pi),
            START[0] + draw("gps", 0, START[1]),
            self.seconds * draw("merger", *self.merger),
            draw("snr", *self.snr),
        )

    def render(self, d: Draws, part: int) -> tuple[Float64[Tensor, "object detector time"], dict[str, Tensor]]:
        """The signals in the units of the strain, and their truth. The noise is that of one part."""
        length, frequency = self.chirp, frequencies(self.chirp, self.rate)
        shape = band(frequency, self.low, gaussian.high_end(self.rate))
        one = torch.ones(len(d.snr), dtype=torch.float64)
        plus, cross = polarisations(face_on(d.binaries, frequency), d.inclination, one, d.phase)
        begin = length - self.length - self.rate // 4  # of the window in the chirp; what is after it wraps round
        densities, step = self._densities(part)
        waves, squares = [], []
        for name, density in zip(self.detectors, densities):
            f_plus, f_cross = antenna(name, d.ra, d.dec, d.polarisation, d.gps)
            late = begin / self.rate + d.merger + delay(name, d.ra, d.dec, d.gps)
            turn = torch.polar(one[:, None] * shape, -2 * math.pi * late[:, None] * frequency)
            wave = (f_plus[:, None] * plus + f_cross[:, None] * cross) * turn
            noise = at(density, step, frequency)
            squares.append(4 * (wave.abs() ** 2 / noise).sum(1) * self.rate / length)
            white = torch.sqrt(2 * self.rate / noise) if self.whiten else torch.full_like(noise, self.rate / UNIT)
            waves.append(torch.fft.irfft(wave * white, n=length)[:, begin : begin + self.length])
        distance = torch.stack(squares).sum(0).sqrt() / d.snr  # Mpc, since the waves are those at 1 Mpc
        each = {f"snr_{n}": s.sqrt() / distance for n, s in zip(self.detectors, squares)}
        b = d.binaries
        known = {
            "mass_1": b.mass_1, "mass_2": b.mass_2, "spin_1": b.spin_1, "spin_2": b.spin_2, "chirp_mass": b.chirp_mass,
            "distance": distance, "redshift": redshift_at(distance), "inclination": torch.rad2deg(d.inclination),
            "sky_ra": torch.rad2deg(d.ra), "sky_dec": torch.rad2deg(d.dec), "merger": d.merger, "gps": d.gps,
            "snr": d.snr, **each,
        }  # fmt: skip
        return torch.stack(waves, 1) / distance[:, None, None], known

    def background(
        self, rows: Int64[Tensor, " object"], seed: int, part: Int64[Tensor, " object"]
    ) -> Float64[Tensor, "object detector time"]:
        """The noise of each row, in the units of the strain."""
        shape = (len(rows), len(self.detectors), self.length)
        if self._recorded is None:
            white = gaussian.white(seed, "binaries/noise", rows, shape[1], self.length, self.rate, self.low).double()
        else:
            white = torch.empty(shape, dtype=torch.float64)
            for k in part.unique().tolist():
                chosen = (part == k).nonzero()[:, 0]
                found = windows(self._recorded[k], seed, "binaries/noise", rows[chosen], self.length, self.rate)
                white[chosen] = found
        return white if self.whiten else self._coloured(white, part)

    def _coloured(self, white: Tensor, part: Int64[Tensor, " object"]) -> Tensor:
        """White noise given back the colour of its detector, in units of 1e-21."""
        out, frequency = torch.empty_like(white), frequencies(self.length, self.rate)
        for k in part.unique().tolist():
            known, step = self._densities(k)
            colour = torch.stack([at(one, step, frequency) for one in known]).mul(self.rate / 2).sqrt() / UNIT
            chosen = part == k
            out[chosen] = torch.fft.irfft(torch.fft.rfft(white[chosen]) * colour, n=self.length)
        return out


def longest(mass: float, low: float) -> float:
    """Seconds from ``low`` Hz to the merger of two equal masses (Peters 1964; the leading order)."""
    chirp = mass * 0.25**0.6 * 2 * SUN_S
    return 5 / 256 * (math.pi * low) ** (-8 / 3) * chirp ** (-5 / 3)
