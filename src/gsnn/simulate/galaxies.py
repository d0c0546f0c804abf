"""Cutouts of galaxies as a ground-based survey sees them, with their truth: smooth, spiral, edge-on or merging."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from .. import rng
from ..data.schema import Column, Schema
from ..data.source import within
from ..errors import ConfigError, suggest
from . import profiles, psf, sed
from .population import CLASSES, MERGER, SKY, Draw, apparent, arcsin, draw_galaxies, exp10, positions
from .population import Galaxies as Population
from .structure import Light, neighbours, structure

ZERO_POINT = 22.5  # AB magnitude of one nanomaggie
READ_NOISE = 6.0  # electrons a pixel
_BLOCK = 64  # objects rendered together: enough to hide the calls, few enough to stay in the cache


@dataclass(frozen=True)
class Scene:
    """What light falls on the detector (noise-free), and the variance it brings, in nmgy a pixel."""

    image: Float[Tensor, "object band y x"]
    variance: Float[Tensor, "object band y x"]
    snr: Float[Tensor, " object"]
    truth: dict[str, np.ndarray] = field(default_factory=dict)  # further columns


class Galaxies:
    """Galaxies of four classes in an SDSS-like imaging survey; a Source.

    Every galaxy is a Sersic bulge and a thick inclined exponential disc with knots on top (arms, bar, dust, tides), all
    of them closed forms in Fourier space, so that the point-spread function and the pixel are products and no steep
    core is undersampled. Colours follow from old and young stars at the galaxy's redshift.

    ``image`` is background-subtracted flux in nmgy a pixel (AB zero point 22.5), x to the west and y to the north. Its
    noise is that of sky, source and read-out in one SDSS exposure (53.9 s) times ``exposure``: the number of electrons
    has the mean, variance and skewness of a Poisson count plus Gaussian read noise (Cornish-Fisher to second order,
    good beyond 25 electrons a pixel, which the sky always gives).

    ``snr`` is that of the r-band image (made even where ``bands`` lack r) in the matched filter of its own true shape,
    sqrt(sum f^2 / variance) over the stamp, f without chance neighbours. ``magnitude`` is the total r of the galaxy,
    with its companion if it merges. ``half_light_radius`` is the semi-major one of bulge + disc before seeing.

    Magnitude, redshift, radius and position have one distribution for all classes, by design. The other scalars are
    truth to judge an answer by, not inputs of a fair test: ``snr`` at a given magnitude and radius, for one, tells how
    concentrated the light is.

    ``seeing`` is the median FWHM in r in arcsec (20% scatter), ``magnitudes`` the bright and the faint limit in r,
    ``fractions`` the shares of smooth, spiral, edge-on and merging, ``crowding`` the chance of an unrelated galaxy, and
    again of a star, in the stamp. Raises ConfigError for settings that cannot be drawn.
    """

    sky_name = "galaxies"

    def __init__(
        self,
        *,
        objects: int = 4000,
        size: int = 64,
        bands: tuple[str, ...] = ("g", "r", "i"),
        pixel_scale: float = 0.4,
        seeing: float = 1.2,
        exposure: float = 1.0,
        magnitudes: tuple[float, float] = (15.0, 21.5),
        fractions: tuple[float, float, float, float] = (0.3, 0.3, 0.2, 0.2),
        crowding: float = 0.25,
    ):
        def refuse(key: str, sentence: str) -> None:
            raise ConfigError(sentence, (key,))

        if objects < 1:
            refuse("objects", f"a survey needs at least one galaxy, not {objects}")
        if not 16 <= size <= 512 or size % 2:
            refuse("size", f"a stamp has an even number of pixels from 16 to 512 a side, not {size}")
        for band in bands:
            if band not in sed.BANDS:
                refuse("bands", f"no band {band!r}; {suggest(band, sed.BANDS)}")
        if not bands or len(set(bands)) < len(bands):
            refuse("bands", f"name at least one band, each once, not {list(bands)}")
        if not 0 < pixel_scale <= seeing / 2:
            refuse(
                "pixel_scale",
                f"pixels of {pixel_scale} arcsec cannot sample seeing of {seeing} arcsec; use at most half of it",
            )
        if size * pixel_scale < 10 * seeing:
            refuse(
                "size",
                f"a stamp of {size * pixel_scale:g} arcsec is too small for galaxies in seeing of {seeing} arcsec; "
                "make it at least ten times as wide",
            )
        if not 0 < exposure <= 1e4:
            refuse("exposure", f"a multiple of 53.9 s above 0 and up to 10000, not {exposure}")
        if not 10 <= magnitudes[0] < magnitudes[1] <= 26:
            refuse(
                "magnitudes",
                f"the bright limit comes before the faint one, both between 10 and 26, not {list(magnitudes)}",
            )
        if min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
            refuse("fractions", f"four shares of {', '.join(CLASSES)} that add up to 1, not {list(fractions)}")
        if not 0 <= crowding <= 1:
            refuse("crowding", f"a probability from 0 to 1, not {crowding}")
        self.objects, self.size, self.bands, self.pixel_scale = objects, size, tuple(bands), pixel_scale
        self.seeing, self.exposure, self.magnitudes = seeing, exposure, magnitudes
        self.fractions, self.crowding = tuple(fractions), crowding
        self.drawn = self.bands if "r" in self.bands else (*self.bands, "r")  # r for the signal to noise
        cameras = [sed.BANDS[band] for band in self.drawn]
        self.electrons = torch.tensor([camera.electrons * exposure for camera in cameras])  # a nanomaggie
        sky = torch.tensor([10 ** (-0.4 * (camera.sky - ZERO_POINT)) for camera in cameras])
        self.sky = sky * pixel_scale**2  # nmgy a pixel
        if (self.sky * self.electrons).min() < 25:
            refuse(
                "exposure", "the sky gives fewer than 25 electrons a pixel in a band; expose longer or use wider pixels"
            )

    def schema(self) -> Schema:
        scalars = (
            ("redshift", "", "true redshift"),
            ("magnitude", "mag", "true total AB magnitude in r"),
            ("half_light_radius", "arcsec", "true semi-major half-light radius of bulge and disc before seeing"),
            ("ellipticity", "", "true 1 - b/a of the disc, or of the elliptical"),
            ("position_angle", "deg", "true, from north (+y) towards east (-x)"),
            ("snr", "", "matched-filter signal to noise of the r-band image"),
            ("bulge_fraction", "", "true bulge / (bulge + disc) in r"),
            ("inclination", "deg", "true, 0 is face-on"),
            ("bar", "", "true share of the disc's light in a bar, 0 for none"),
            ("arms", "", "true number of spiral arms"),
            ("seeing", "arcsec", "FWHM of the point-spread function in r"),
        )
        return Schema.of(
            (
                Column("id", "id"),
                Column(
                    "image",
                    "image",
                    unit="nmgy",
                    bands=self.bands,
                    shape=(len(self.bands), self.size, self.size),
                    pixel_scale=self.pixel_scale,
                    description="background-subtracted flux a pixel, AB zero point 22.5",
                ),
                Column("morphology", "label", classes=CLASSES, description="true class"),
                *(Column(name, "scalar", unit=unit, description=text) for name, unit, text in scalars),
                Column("ra", "position", unit="deg", dtype="float64"),
                Column("dec", "position", unit="deg", dtype="float64"),
            ),
            simulator="gsnn.simulate.galaxies",
            exposure_s=53.9 * self.exposure,
            electrons_per_nmgy=dict(zip(self.bands, self.electrons.tolist())),
            sky_nmgy_per_pixel=dict(zip(self.bands, self.sky.tolist())),
            read_noise_electrons=READ_NOISE,
            seeing_arcsec=self.seeing,
            patch_deg=list(SKY),
        )

    def __len__(self) -> int:
        return self.objects

    def rows(self, indices: Int64[np.ndarray, " n"], seed: int) -> pa.RecordBatch:
        """The galaxies of these indices. Raises IndexError beyond the survey."""
        indices = within(indices, self.objects)
        blocks = [indices[i : i + _BLOCK] for i in range(0, max(len(indices), 1), _BLOCK)]
        threads = torch.get_num_threads()
        if threads == 1 or len(blocks) == 1:
            return pa.concat_batches([self._batch(block, seed) for block in blocks])
        # a block is small: cores that each draw one are twice as fast as cores that share one
        torch.set_num_threads(1)
        try:
            with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                return pa.concat_batches(list(pool.map(lambda block: self._batch(block, seed), blocks)))
        finally:
            torch.set_num_threads(threads)

    def _batch(self, indices: Int64[np.ndarray, " n"], seed: int) -> pa.RecordBatch:
        schema = self.schema().arrow()
        if not len(indices):
            return pa.RecordBatch.from_pylist([], schema=schema)
        columns = self.columns(torch.from_numpy(indices), seed)
        arrays = [
            pa.FixedSizeListArray.from_arrays(pa.array(columns[field.name].reshape(-1)), field.type.list_size)
            if pa.types.is_fixed_size_list(field.type)
            else pa.array(columns[field.name], field.type)
            for field in schema
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def columns(self, rows: Int64[Tensor, " object"], seed: int) -> dict[str, np.ndarray]:
        """The columns of one block of rows."""
        draw = Draw(seed, rows)
        galaxies = self.population(rows, seed)
        scene = self.scene(rows, seed, galaxies)
        ra, dec = positions(draw)
        image = scene.image + self.noise(rows, seed, scene)
        values = {
            "image": image,
            "redshift": galaxies.redshift,
            "magnitude": galaxies.magnitude,
            "half_light_radius": galaxies.radius,
            "ellipticity": 1 - galaxies.q,
            "position_angle": torch.rad2deg(galaxies.angle),
            "snr": scene.snr,
            "bulge_fraction": galaxies.bulge,
            "inclination": 90 - torch.rad2deg(arcsin(galaxies.cos_i)),
            "bar": galaxies.bar,
            "arms": galaxies.arms,
            "seeing": self.fwhm(draw)[:, self.drawn.index("r")],
            "ra": ra,
            "dec": dec,
        }
        return {
            "id": np.array([f"{self.sky_name}-{seed}-{row}" for row in rows.tolist()], dtype=object),
            "morphology": np.array(CLASSES, dtype=object)[galaxies.label.numpy()],
            **{name: value.numpy() for name, value in values.items()},
            **scene.truth,
        }

    def population(self, rows: Int64[Tensor, " object"], seed: int) -> Population:
        """The parameters of the galaxies."""
        draw = Draw(seed, rows)
        return draw_galaxies(draw, apparent(draw, *self.magnitudes, *self.radii), self.fractions, self.crowding)

    @property
    def radii(self) -> tuple[float, float]:
        """The smallest and the largest in arcsec: 0.9 of the seeing, a sixth of the stamp."""
        return 0.9 * self.seeing, self.size * self.pixel_scale / 6

    def centre(self, draw: Draw) -> Float[Tensor, "object 2"]:
        """x and y of the galaxies in arcsec from the first pixel of the stamp."""
        return ((self.size - 1) / 2 + draw.uniform("dither", -0.5, 0.5, 2)) * self.pixel_scale

    def fwhm(self, draw: Draw) -> Float[Tensor, "object band"]:
        """Seeing of each exposure, sharper to the red as wavelength^-0.2 (Kolmogorov)."""
        wavelength = torch.tensor([(sed.BANDS[b].blue + sed.BANDS[b].red) / 2 for b in self.drawn])
        night = self.seeing * torch.exp(0.2 * draw.normal("seeing").clamp(-1, 2.5))
        return night[:, None] * (wavelength / 6220) ** -0.2

    def scene(self, rows: Int64[Tensor, " object"], seed: int, g: Population) -> Scene:
        """The light of the galaxies without noise. Frames are drawn half as wide again, against wrapping round."""
        draw = Draw(seed, rows)
        frame = -(-3 * self.size // 4) * 2
        ky, kx = profiles.wavenumbers(frame, self.pixel_scale)
        total = 1 - (1 - g.bulge) * g.dust + g.tides + (g.label == MERGER) * g.other
        unit = exp10(-0.4 * (g.magnitude - ZERO_POINT)) / total  # nmgy of the undisturbed galaxy in r
        centre = self.centre(draw)
        filters = psf.transfer(ky, kx, self.fwhm(draw), self.pixel_scale).mul_(unit[:, None, None, None])

        light = self._smooth(ky, kx, centre, g)
        self._add(light, ky, kx, centre, g, structure(draw, g), self.drawn)
        chance = neighbours(draw, g)
        self._add(light, ky, kx, centre, g, chance, self.drawn)
        image = self._image(light, filters)

        r = self.drawn.index("r")
        beside = torch.zeros_like(light[:, :1])
        self._add(beside, ky, kx, centre, g, chance, ("r",))
        alone = image[:, r] - self._image(beside, filters[:, r : r + 1])[:, 0]
        variance = self.variance(image)
        snr = torch.sqrt((alone**2 / variance[:, r]).flatten(1).sum(1))
        return Scene(image[:, : len(self.bands)], variance[:, : len(self.bands)], snr)

    def _smooth(self, ky: Tensor, kx: Tensor, centre: Tensor, g: Population) -> Float[Tensor, "object band y 2 kx"]:
        """Bulges and discs at the centre of the stamp: the Fourier image as real and imaginary part."""
        major, minor = profiles.rotate(ky, kx, g.angle)
        bulge = profiles.sersic(major, minor, g.bulge_n, g.bulge_radius, g.bulge_q, len(ky) * self.pixel_scale)
        disc = profiles.disc(major, minor, g.disc_scale, g.disc_height, g.cos_i)
        colour = sed.colours(g.redshift, torch.stack([g.bulge_young, g.disc_young], 1), self.drawn)
        share = torch.stack([g.bulge, (1 - g.bulge) * (1 - g.arm_light - g.bar)], 1)
        weight = (share[..., None] * colour)[..., None, None]
        turn = centre[:, 0, None, None] * kx + centre[:, 1, None, None] * ky
        cos, sin = torch.cos(turn), turn.sin_().neg_()
        light = torch.empty(len(turn), len(self.drawn), *turn.shape[1:2], 2, turn.shape[2])
        for band in range(len(self.drawn)):
            real = (bulge * weight[:, 0, band]).add_(disc * weight[:, 1, band])
            torch.mul(real, cos, out=light[:, band, :, 0])
            torch.mul(real, sin, out=light[:, band, :, 1])
        return light

    def _add(
        self,
        light: Tensor,
        ky: Tensor,
        kx: Tensor,
        centre: Tensor,
        g: Population,
        parts: list[Light],
        bands: tuple[str, ...],
    ) -> None:
        """Knots added to a Fourier image in place. Dust (negative light) takes by the extinction law."""
        law = torch.tensor([sed.BANDS[band].extinction for band in bands])
        for part in parts:
            x, y = part.x + centre[part.objects, :1], part.y + centre[part.objects, 1:]
            made = profiles.knots(ky, kx, x, y, part.sigma, part.share)
            colour = sed.colours(g.redshift[part.objects], part.young[:, None], bands)[:, 0]
            colour = torch.where(part.share[:, :1] < 0, colour * law, colour)
            light.index_add_(0, part.objects, made[:, None] * colour[..., None, None, None])

    def _image(self, light: Tensor, filters: Tensor) -> Float[Tensor, "object band y x"]:
        """The stamp that a Fourier image gives behind ``filters``."""
        light = torch.mul(light, filters[..., None, :], out=light)
        waves = torch.complex(light[..., 0, :], light[..., 1, :])
        strips = torch.fft.ifft(waves, dim=-2)[..., : self.size, :]
        return torch.fft.irfft(strips, n=waves.shape[-2], dim=-1)[..., : self.size]

    def variance(self, image: Float[Tensor, "object band y x"]) -> Float[Tensor, "object band y x"]:
        """Of a pixel, in nmgy^2: sky and source as Poisson counts, and read noise."""
        electrons, sky = self.electrons[:, None, None], self.sky[:, None, None]
        return (image.clamp(min=0) + sky) / electrons + (READ_NOISE / electrons) ** 2

    def noise(self, rows: Int64[Tensor, " object"], seed: int, scene: Scene) -> Float[Tensor, "object band y x"]:
        """One draw of it, in nmgy."""
        electrons = self.electrons[: len(self.bands), None, None]
        z = rng.normal(seed, "galaxies/noise", rows, scene.image[0].numel()).view_as(scene.image)
        counts = scene.variance - (READ_NOISE / electrons) ** 2
        skew = counts / scene.variance / electrons / 6  # third cumulant / variance / 6
        return scene.variance.sqrt() * z + skew * (z**2 - 1)
