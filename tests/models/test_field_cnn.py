"""A network of periodic maps: what it may not see, and what its band powers are."""

import numpy as np
import pytest
import torch

from gsnn.config import build
from gsnn.data.schema import Column, Schema
from gsnn.errors import GsnnError
from gsnn.models.field_cnn import ring_powers

MAP = Schema.of([Column("map", "image", shape=(1, 32, 32))])


def network(**settings):
    torch.manual_seed(0)
    return build({"name": "field-cnn", "width": 4, "hidden": 16, **settings}, "model", MAP, 3).eval()


def test_a_map_has_no_origin():
    """The stride of the stages is 8 pixels: moved by so many round the torus, a map is the same map."""
    net, x = network(), torch.randn(4, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(net(map=x.roll((8, 16), (2, 3))), net(map=x), rtol=1e-4, atol=1e-5)
        assert not torch.allclose(net(map=x[:, :, torch.randperm(32)]), net(map=x), atol=1e-3)


def test_the_last_maps_are_averaged_and_without_any_that_is_said():
    net, seen = network(bands=0), {}
    net.last_conv.register_forward_hook(lambda module, given, out: seen.update(maps=out))
    net.mix.register_forward_pre_hook(lambda module, given: seen.update(mixed=given[0]))
    net(map=torch.randn(2, 1, 32, 32))
    torch.testing.assert_close(seen["maps"].mean((2, 3)), seen["mixed"])
    with pytest.raises(GsnnError, match="no maps to explain"):
        _ = network(depth=0).last_conv


def test_contrast_is_seen():
    net, x = network(), torch.randn(4, 1, 32, 32)
    with torch.no_grad():
        assert (net(map=1.2 * x) - net(map=x)).abs().max() > 1e-3


@pytest.mark.parametrize("bands", [4, 24])
def test_ring_powers_are_those_of_numpy_and_one_number_for_noise(bands):
    x = torch.randn(300, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    found = ring_powers(x, bands)
    assert found.shape == (300, 1, bands)
    assert found.isfinite().all()
    used = (found != 0).any(0)[0]
    assert used.sum() >= bands // 2
    torch.testing.assert_close(ring_powers(2 * x, bands)[..., used], found[..., used] + np.log(4))
    torch.testing.assert_close(ring_powers(x + 5, bands), found, rtol=1e-3, atol=1e-3)  # the mean is not a wave
    steep = found.mean(0)[0, used]
    slope = (steep[-1] - steep[0]) / (used.nonzero()[-1] - used.nonzero()[0])
    assert slope.item() == pytest.approx(1.5 * np.log(np.hypot(16, 16) * 1.001 + 1) / bands, rel=0.25)


def test_either_part_may_be_left_out_but_not_both():
    for settings in ({"bands": 0}, {"depth": 0}):
        assert network(**settings)(map=torch.randn(2, 1, 32, 32)).shape == (2, 3)
    with pytest.raises(GsnnError, match="depth \\+ bands = 0"):
        network(bands=0, depth=0)
