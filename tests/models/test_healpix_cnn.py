"""The network of the sky: its convolution against sums over neighbours, its symmetries, and pixels that are masked."""

import healpy
import numpy as np
import pytest
import torch

from gsnn.config import build
from gsnn.data import sphere
from gsnn.data.schema import Column, Schema
from gsnn.errors import GsnnError
from gsnn.models.harmonics import BandPowers
from gsnn.models.healpix_cnn import Around, coarser, moments

NSIDE = 16
PIXELS = 12 * NSIDE**2
SKY = Schema.of([Column("sky", "sphere", shape=(1, PIXELS))])


def network(seed=0, **settings):
    torch.manual_seed(seed)
    return build({"name": "healpix-cnn", "width": 8, "depth": 3, "hidden": 32, **settings}, "model", SKY, 4).eval()


def directions():
    return np.stack(healpy.pix2vec(NSIDE, np.arange(PIXELS), nest=True), -1)


def smooth(count=4, seed=5, largest=NSIDE):
    """Maps whose waves are longer than two pixels, as modes and NESTED pixels."""
    np.random.seed(seed)  # noqa: NPY002  healpy draws from numpy's old generator
    spectrum = 1 / (10.0 + np.arange(largest + 1)) ** 2
    spectrum[0] = 0  # the mean of a map does not turn
    return [healpy.synalm(spectrum, largest) for _ in range(count)]


def pixels_of(modes):
    maps = np.array([healpy.alm2map(one, NSIDE) for one in modes])
    return torch.from_numpy(sphere.nested(maps)).float()[:, None]


def answers(net, maps, known=None):
    known = torch.ones_like(maps, dtype=torch.bool) if known is None else known
    with torch.no_grad():
        return net.features(**{"sky": maps, "sky.known": known})


EXACT = {  # what maps HEALPix's pixels onto each other
    "a quarter turn about the pole": lambda v: v @ np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1.0]]),
    "east for west": lambda v: v * [1, -1, 1],
    "north for south": lambda v: v * [1, 1, -1],
    "through the centre": lambda v: -v,
}


@pytest.mark.parametrize("name", EXACT)
def test_where_healpix_has_a_symmetry_the_network_has_it(name):
    place = healpy.vec2pix(NSIDE, *EXACT[name](directions()).T, nest=True)
    assert len(np.unique(place)) == PIXELS
    maps = torch.randn(3, 1, PIXELS)
    known = torch.rand(3, 1, PIXELS) < 0.7
    net = network(bands=12)
    want, got = answers(net, maps, known), answers(net, maps[..., place], known[..., place])
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
    assert (answers(net, maps.roll(7, -1), known.roll(7, -1)) - want).abs().max() > 1e-3  # other maps are told apart


def test_any_rotation_changes_little_beside_what_tells_maps_apart():
    net, modes = network(depth=1, bands=0), smooth(12)
    before = answers(net, pixels_of(modes))
    turned = []
    for i, one in enumerate(modes):
        one = one.copy()
        healpy.rotate_alm(one, 0.7 + i, 0.9 + 0.1 * i, -1.3 * i)
        turned.append(one)
    after = answers(net, pixels_of(turned))
    change, spread = (after - before).square().mean().sqrt(), before.std(0).square().mean().sqrt()
    assert change < 0.2 * spread  # with a weight of its own for each neighbour 0.46 to 0.65


@pytest.mark.parametrize("channels", [1, 5])
def test_the_convolution_is_a_sum_over_neighbours(channels):
    around, order = sphere.neighbours(NSIDE), sphere.faces(NSIDE).ravel()
    around = np.where(around < 0, np.arange(PIXELS), around)
    layer = Around(channels, 3, "relu")
    x = torch.randn(2, channels, PIXELS)
    sides, points = (x[..., around[list(some)]].mean(2) for some in ((0, 2, 4, 6), (1, 3, 5, 7)))
    middle, side, point = layer.weight.unbind(-1)
    want = torch.einsum("oi,nip->nop", middle, x) + torch.einsum("oi,nip->nop", side, sides)
    want = torch.relu(want + torch.einsum("oi,nip->nop", point, points) + layer.bias[:, None])
    torch.testing.assert_close(layer(x[..., order]), want[..., order], rtol=1e-4, atol=1e-5)


def test_the_coarser_map_is_the_mean_of_children():
    x, order = torch.randn(2, 3, PIXELS), sphere.faces(NSIDE).ravel()
    want = x.unflatten(-1, (-1, 4)).mean(-1)[..., sphere.faces(NSIDE // 2).ravel()]
    torch.testing.assert_close(coarser(x[..., order]), want)


def test_masked_pixels_change_nothing_and_the_mask_does():
    net, maps = network(), torch.randn(3, 1, PIXELS)
    known = torch.rand(3, 1, PIXELS) < 0.6
    want = answers(net, maps, known)
    torch.testing.assert_close(answers(net, maps.where(known, 1e6), known), want)
    torch.testing.assert_close(answers(net, maps.where(known, torch.nan), known), want)
    assert (answers(net, maps) - want).abs().max() > 1e-3
    assert torch.isfinite(answers(net, maps, torch.zeros_like(known))).all()


def test_moments_are_of_what_is_weighed():
    x, weight = 3 * torch.randn(2, 4, PIXELS) + 1, torch.rand(2, 1, PIXELS)
    weight[1] = weight[1].round()
    mean, log = moments(x, weight)
    for i in range(2):
        want = np.diag(np.cov(x[i].double().numpy(), ddof=0, aweights=weight[i, 0].double().numpy()))
        assert np.allclose(log[i].exp(), want, rtol=1e-4)
    torch.testing.assert_close(mean[1], x[1][:, weight[1, 0] > 0].mean(1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("nside", [1, 2, 16])
def test_band_powers_are_those_of_healpy(nside):
    largest, part = 3 * nside - 1, BandPowers(nside, 1000)  # so many bands that each is one multipole
    maps, every = torch.randn(3, 2, 12 * nside**2), torch.arange(1, largest + 1)
    got = part(maps, torch.ones_like(maps)).exp() / every
    zeroed = (maps - maps.mean(-1, keepdim=True)).flatten(0, 1).double().numpy()
    want = np.array([healpy.anafast(one, lmax=largest, iter=0) for one in sphere.ring(zeroed)])
    assert np.allclose(got.flatten(0, 1), want[:, 1:], rtol=2e-4)
    known = (torch.rand(maps.shape) < 0.6).float()
    cut = part(maps, known).exp() / every
    mean = (maps * known).sum(-1, keepdim=True) / known.sum(-1, keepdim=True)
    zeroed = ((maps - mean) * known).flatten(0, 1).double().numpy()
    want = np.array([healpy.anafast(one, lmax=largest, iter=0) for one in sphere.ring(zeroed)])
    share = known.mean(-1).flatten()[:, None].numpy()
    assert np.allclose(cut.flatten(0, 1), want[:, 1:] / share, rtol=5e-4, atol=1e-7)


def test_a_network_that_has_started_sees_powers_of_one_size():
    net, maps = network(), torch.randn(64, 1, PIXELS) * torch.rand(64, 1, 1)
    given = {"sky": maps, "sky.known": torch.rand(maps.shape) < 0.7}
    net.start(**given)
    found = net.band_powers(maps.where(given["sky.known"], 0), given["sky.known"].float())[:, 0]
    torch.testing.assert_close(found.mean(0), torch.zeros(found.shape[1]), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.std(0, correction=0), torch.ones(found.shape[1]), atol=1e-4, rtol=0)
    assert {"band_powers.centre", "band_powers.scatter"} <= net.state_dict().keys()  # saved with the network


def test_band_powers_do_not_see_how_the_sky_is_turned():
    modes = smooth(3)
    turned = [one.copy() for one in modes]
    for one in turned:
        healpy.rotate_alm(one, 0.3, 1.1, -2.0)
    part, every = BandPowers(NSIDE, 8), torch.ones(3, 1, PIXELS)
    kept = slice(0, 5)  # bands where these maps have power
    torch.testing.assert_close(
        part(pixels_of(turned), every)[..., kept], part(pixels_of(modes), every)[..., kept], rtol=0, atol=0.02
    )


@pytest.mark.parametrize(
    ("columns", "settings", "words"),
    [
        ([Column("z", "scalar")], {}, "needs a sphere"),
        ([*SKY.columns, Column("low", "sphere", shape=(1, 48))], {}, "differ in nside \\(sky 16, low 2\\)"),
        (SKY.columns, {"depth": 5}, "halves nside 16 too often; give at most 4"),
    ],
)
def test_what_it_cannot_read_is_refused(columns, settings, words):
    with pytest.raises(GsnnError, match=words):
        build({"name": "healpix-cnn", **settings}, "model", Schema.of(columns), 2)
