"""What is not smooth: spiral arms and bars, dust lanes, tidal tails, neighbours. All of it is knots, round Gaussians.

Places are offsets from the galaxy's centre on the sky, in arcsec. Negative light is dust.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from .population import MERGER, Draw, Galaxies
from .profiles import sersic_mixture


@dataclass(frozen=True)
class Light:
    """Knots of one colour in some objects: places and widths in arcsec, shares of the undisturbed r-band flux."""

    objects: Int64[Tensor, " some"]
    x: Float[Tensor, "some knot"]
    y: Float[Tensor, "some knot"]
    sigma: Float[Tensor, "some knot"]
    share: Float[Tensor, "some knot"]
    young: Float[Tensor, " some"]


def structure(draw: Draw, galaxies: Galaxies) -> list[Light]:
    """What belongs to the galaxies themselves."""
    merging = galaxies.label == MERGER
    return [
        make(draw.at(objects), galaxies.take(objects), objects)
        for make, where in (
            (arms, galaxies.arms > 0),
            (bar, galaxies.bar > 0),
            (dust_lane, galaxies.dust > 0),
            (tides, merging),
            (companion, merging),
        )
        if len(objects := where.nonzero()[:, 0])
    ]


def neighbours(draw: Draw, galaxies: Galaxies) -> list[Light]:
    """What stands in the stamp by chance."""
    return [
        make(draw.at(objects), galaxies.take(objects), objects)
        for make, where in (
            (companion, (galaxies.label != MERGER) & (galaxies.other > 0)),
            (star, galaxies.star > 0),
        )
        if len(objects := where.nonzero()[:, 0])
    ]


def project(
    g: Galaxies, major: Float[Tensor, "object knot"], minor: Float[Tensor, "object knot"]
) -> tuple[Float[Tensor, "object knot"], Float[Tensor, "object knot"]]:
    """Sky (x, y) of points given along and across the major axis of the inclined disc's plane (arcsec)."""
    sin, cos = torch.sin(g.angle)[:, None], torch.cos(g.angle)[:, None]
    minor = minor * g.cos_i[:, None]
    return -sin * major + cos * minor, cos * major + sin * minor


def strata(draw: Draw, name: str, count: int) -> Float[Tensor, "object knot"]:
    """One number in each of ``count`` equal parts of [0, 1): random, but without holes."""
    return (torch.arange(count) + draw.uniform(name, count=count)) / count


def arms(draw: Draw, g: Galaxies, objects: Int64[Tensor, " some"]) -> Light:
    """Logarithmic arms, R = R_0 exp(phi tan(pitch)), lit like the disc along R.

    Pitch angles 9 to 30 degrees and both senses of winding (Kennicutt 1981, AJ 86, 1847). In a barred galaxy
    two arms start at the ends of the bar.
    """
    count = 132
    scale = g.disc_scale[:, None]
    start = torch.where(g.bar[:, None] > 0, g.bar_length[:, None], scale * draw.uniform("arm start", 0.4, 0.9)[:, None])
    along = strata(draw, "arm", count // 12).repeat_interleave(12, 1)  # twelve is a multiple of 2, 3 and 4 arms
    along = (along + draw.uniform("arm jitter", 0, 12 / count, count)).clamp(max=1)
    stretch = torch.log(scale * draw.uniform("arm end", 3.0, 4.5)[:, None] / start)
    radius = start * torch.exp(along * stretch)
    pitch = draw.uniform("pitch", math.radians(9), math.radians(30))[:, None]
    winding = torch.where(draw.chance("winding", 0.5), 1.0, -1.0)[:, None]
    which = torch.arange(count) % g.arms[:, None]
    phase = g.phase[:, None] + winding * along * stretch / torch.tan(pitch)
    phase = phase + which * (2 * math.pi / g.arms[:, None])
    width = draw.uniform("arm width", 0.05, 0.13)[:, None] * (radius + 0.5 * scale)
    scatter, lumps = draw.normal("arm scatter", 2 * count).chunk(2, 1)
    radius = radius + 0.6 * width * scatter
    x, y = project(g, radius * torch.cos(phase), radius * torch.sin(phase))
    lit = radius**2 * torch.exp(-radius / scale + draw.uniform("flocculence", 0.2, 0.9)[:, None] * lumps)
    return Light(
        objects,
        x,
        y,
        sigma=width * torch.sqrt(g.cos_i)[:, None],
        share=((1 - g.bulge) * g.arm_light)[:, None] * lit / lit.sum(1, keepdim=True),
        young=(g.disc_young + 0.35 * (g.disc_young > 0.3)).clamp(max=1),
    )


def bar(draw: Draw, g: Galaxies, objects: Int64[Tensor, " some"]) -> Light:
    """A straight bar of old stars through the nucleus, of semi-length ``bar_length``."""
    place = torch.linspace(-1, 1, 16)
    x = g.bar_length[:, None] * place
    x, y = project(g, x * torch.cos(g.phase)[:, None], x * torch.sin(g.phase)[:, None])
    sigma = (0.14 * g.bar_length * torch.sqrt(g.cos_i))[:, None].expand_as(x)
    share = ((1 - g.bulge) * g.bar)[:, None] * torch.softmax(-1.5 * place**2, 0)
    return Light(objects, x, y, sigma, share, 0.4 * g.disc_young)


def dust_lane(draw: Draw, g: Galaxies, objects: Int64[Tensor, " some"]) -> Light:
    """A thin layer of dust in the mid-plane of a disc seen edge-on, shifted by its tilt to the near side."""
    place = torch.linspace(-1, 1, 48)
    long = g.disc_scale * draw.uniform("lane length", 1.5, 3.0)
    x, y = project(g, long[:, None] * place, (0.25 * g.disc_scale)[:, None].expand(-1, 48))
    sigma = (0.25 * g.disc_height)[:, None].expand_as(x)
    share = -((1 - g.bulge) * g.dust)[:, None] * torch.softmax(-2 * place.abs(), 0)
    return Light(objects, x, y, sigma, share, g.disc_young)


def tides(draw: Draw, g: Galaxies, objects: Int64[Tensor, " some"]) -> Light:
    """Two tidal tails that swing out on opposite sides, one from each nucleus, and clumps along the bridge.

    Shapes after the restricted three-body experiments of Toomre & Toomre 1972 (doi:10.1086/151823).
    """
    tail, bridge = 44, 40
    size, towards = g.radius[:, None], g.other_around[:, None]
    apart = g.other_apart[:, None]
    winding = torch.where(draw.chance("swing", 0.5), 1.0, -1.0)[:, None]
    between, spread = strata(draw, "bridge", bridge), 0.35 * size
    aside_x, aside_y, glow = draw.normal("clumps", 3 * bridge).chunk(3, 1)
    x, y = (
        [apart * torch.cos(towards) * between + spread * aside_x],
        [apart * torch.sin(towards) * between + spread * aside_y],
    )
    sigma, light = [0.4 * spread.expand(-1, bridge)], [0.5 * torch.exp(0.8 * glow - 0.3) / bridge]
    for name, begin, side in (("tail 1", 0.8 * size, math.pi), ("tail 2", apart, 0.0)):
        along = strata(draw, name, tail)
        stretch = torch.log(1 + size / begin * draw.uniform(f"{name} length", 1.2, 3.5)[:, None])
        radius = begin * torch.exp(along * stretch)
        pitch = draw.uniform(f"{name} pitch", math.radians(25), math.radians(60))[:, None]
        phase = towards + side + winding * along * stretch / torch.tan(pitch)
        width = size * (0.1 + 0.12 * along)
        aside_x, aside_y = draw.normal(f"{name} clumps", 2 * tail).chunk(2, 1)
        x.append(radius * torch.cos(phase) + 0.5 * width * aside_x)
        y.append(radius * torch.sin(phase) + 0.5 * width * aside_y)
        sigma.append(width)
        light.append(draw.uniform(f"{name} light", 0.3, 1.0)[:, None] * torch.exp(-1.2 * along) / tail)
    share = torch.cat(light, 1)
    share = g.tides[:, None] * share / share.sum(1, keepdim=True)
    young = (0.3 + g.disc_young).clamp(max=1)
    return Light(objects, torch.cat(x, 1), torch.cat(y, 1), torch.cat(sigma, 1), share, young)


def companion(draw: Draw, g: Galaxies, objects: Int64[Tensor, " some"]) -> Light:
    """Another galaxy: two equal Sersic bodies side by side, which makes it long."""
    weights, sigmas = sersic_mixture(draw.uniform("other n", 1.0, 3.0))
    angle, offset = draw.uniform("other angle", 0, math.pi), g.other_radius * draw.uniform("other shape", 0.0, 0.5)
    sign = torch.tensor([-1.0, 1.0]).repeat_interleave(len(sigmas))
    return Light(
        objects,
        x=(g.other_apart * torch.cos(g.other_around))[:, None] + (offset * torch.cos(angle))[:, None] * sign,
        y=(g.other_apart * torch.sin(g.other_around))[:, None] + (offset * torch.sin(angle))[:, None] * sign,
        sigma=g.other_radius[:, None] * sigmas.repeat(2),
        share=g.other[:, None] * weights.repeat(1, 2) / 2,
        young=g.other_young,
    )


def star(draw: Draw, g: Galaxies, objects: Int64[Tensor, " some"]) -> Light:
    """A star of the Milky Way in front."""
    away, around = 1.2 * g.radius + draw.uniform("star away", 0.5, 9.0), draw.uniform("star around", 0, 2 * math.pi)
    x, y = (away * torch.cos(around))[:, None], (away * torch.sin(around))[:, None]
    return Light(objects, x, y, torch.zeros_like(x), g.star[:, None], draw.uniform("star colour"))
