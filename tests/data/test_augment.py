"""What must hold for every augmentation, and what each one does."""

import math

import pytest
import torch

from gsnn.config import PARTS, build
from gsnn.data.augment import BandDropout, Blur, Flip, Noise, Rotate, Shift, augment, sky_sigma
from gsnn.data.schema import Column, Schema
from gsnn.errors import ConfigError, GsnnError
from gsnn.rng import Rng

LIGHT_CURVES = {"dim", "redshift", "drop-observations", "drop-bands", "truncate"}  # in test_augment_light_curves.py
ELSEWHERE = LIGHT_CURVES | {"cube"}  # of boxes: tests/objectives/test_translate.py
EVERY = [{"name": name} for name in PARTS["augment"] if name not in ELSEWHERE] + [
    {"name": "rotate", "continuous": True},
    {"name": "shift", "edge": "zero"},
    {"name": "shift", "fraction": 0.5, "edge": "nearest"},
    {"name": "band-dropout", "probability": 0.7},
]
AT_REST = [
    Rotate(continuous=True, degrees=0.0),
    Flip(probability=0.0),
    Shift(fraction=0.0),
    Noise(amplitude=0.0),
    Noise(columns={"image": 0.0, "mag": 0.0}),
    Blur(fwhm=0.0),
    BandDropout(probability=0.0),
]


def names(specs):
    return [" ".join(str(v) for v in s.values()) if isinstance(s, dict) else type(s).__name__ for s in specs]


def sky(n=12, bands=3, y=16, x=16, dtype=torch.float32, first_row=100):
    shape = (bands, y, x)
    columns = [
        Column("image", "image", shape=shape, bands=tuple("ugrizy"[:bands])),
        Column("mag", "scalar", unit="mag"),
    ]
    generator = torch.Generator().manual_seed(0)
    image = (torch.rand(n, *shape, generator=generator) * 255).to(dtype)
    mag = 20 + torch.rand(n, generator=generator)
    rows = torch.arange(first_row, first_row + n)
    return {"row": rows, "image": image, "mag": mag, "label": torch.arange(n) % 3}, Schema.of(columns)


@pytest.mark.parametrize("spec", EVERY, ids=names(EVERY))
class TestEvery:
    def test_says_its_symmetry(self, spec):
        assert build(spec, "augment").symmetry.endswith((".", ")."))

    @pytest.mark.parametrize(("bands", "y", "x", "dtype"), [(1, 16, 16, torch.uint8), (5, 12, 17, torch.float32)])
    def test_shape_dtype_and_what_is_not_an_input(self, spec, bands, y, x, dtype):
        batch, inputs = sky(bands=bands, y=y, x=x, dtype=dtype)
        before = {name: tensor.clone() for name, tensor in batch.items()}
        after = build(spec, "augment")(batch, Rng(1), inputs)
        assert after["image"].shape == batch["image"].shape
        assert after["image"].dtype == torch.float32
        assert after["image"].isfinite().all()
        for name in ("row", "label", "mag"):
            torch.testing.assert_close(after[name], before[name], rtol=0, atol=0)
        torch.testing.assert_close(batch["image"], before["image"], rtol=0, atol=0)  # the batch given is not written to

    def test_it_does_something_and_something_else_next_epoch(self, spec):
        batch, inputs = sky(n=24)
        change = build(spec, "augment")
        first, second = (change(batch, Rng(1, epoch), inputs)["image"] for epoch in (0, 1))
        assert (first != batch["image"]).any()
        assert (first != second).any()

    def test_an_object_is_changed_alike_in_any_batch(self, spec):
        batch, inputs = sky()
        change = build(spec, "augment")
        whole = change(batch, Rng(1), inputs)["image"]
        some = torch.tensor([7, 2, 11])
        part = change({name: tensor[some] for name, tensor in batch.items()}, Rng(1), inputs)["image"]
        torch.testing.assert_close(part, whole[some], rtol=1e-5, atol=1e-4)

    def test_an_empty_batch(self, spec):
        batch, inputs = sky(n=0)
        assert build(spec, "augment")(batch, Rng(1), inputs)["image"].shape == (0, 3, 16, 16)


@pytest.mark.parametrize("change", AT_REST, ids=names(AT_REST))
def test_no_amplitude_is_no_change(change):
    batch, inputs = sky()
    torch.testing.assert_close(change(batch, Rng(1), inputs), batch, rtol=0, atol=0)


@pytest.mark.parametrize("change", [Rotate(), Flip(), Rotate(continuous=True), Flip(probability=1.0)], ids=str)
def test_a_symmetry_of_the_square_keeps_a_round_object(change):
    batch, inputs = sky(y=17, x=17)
    y, x = torch.meshgrid(torch.arange(17.0) - 8, torch.arange(17.0) - 8, indexing="ij")
    batch["image"] = torch.exp(-(x**2 + y**2) / 18).expand(12, 3, 17, 17).clone()
    after = change(batch, Rng(1), inputs)["image"]
    circle = x**2 + y**2 <= 8**2  # the corners of a turned image come from outside
    torch.testing.assert_close(after[..., circle], batch["image"][..., circle], rtol=0, atol=0.04)


def test_quarter_turns_keep_every_pixel_and_all_occur():
    batch, inputs = sky(n=64)
    after = Rotate()(batch, Rng(3), inputs)["image"]
    found = [sum(torch.equal(a, torch.rot90(b, k, (1, 2))) for a, b in zip(after, batch["image"])) for k in range(4)]
    assert sum(found) == 64
    assert min(found) > 4


def test_an_oblong_image_is_turned_by_half():
    batch, inputs = sky(y=8, x=12)
    after = Rotate()(batch, Rng(3), inputs)["image"]
    assert all(torch.equal(a, b) or torch.equal(a, b.flip((1, 2))) for a, b in zip(after, batch["image"]))


@pytest.mark.parametrize("size", [(9, 9), (9, 15)])
def test_a_continuous_turn_is_a_turn_in_pixels(size):
    """A dot three pixels from the centre, also of an oblong image, stays three pixels from it."""
    from gsnn.data.augment import _turn

    x = torch.zeros(1, 1, *size)
    cy, cx = size[0] // 2, size[1] // 2
    x[0, 0, cy, cx + 3] = 1.0
    quarter = _turn(x, torch.tensor([math.pi / 2]), "zeros")
    expected = torch.zeros_like(x)
    expected[0, 0, cy - 3, cx] = 1.0
    torch.testing.assert_close(quarter, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("edge", ["reflect", "nearest", "zero"])
def test_shift_moves_by_whole_pixels(edge):
    batch, inputs = sky(n=32, y=20, x=20)
    batch["image"] = torch.zeros_like(batch["image"])
    batch["image"][:, :, 10, 10] = 7.0
    after = Shift(fraction=0.1, edge=edge)(batch, Rng(0), inputs)["image"]
    where = after[:, 0].flatten(1).argmax(1)
    y, x = where // 20 - 10, where % 20 - 10
    assert (after.sum((2, 3)) == 7.0).all()
    assert set(y.tolist()) == set(x.tolist()) == {-2, -1, 0, 1, 2}


def test_shift_fills_as_its_edge_says():
    batch, inputs = sky(n=32, y=4, x=4, bands=1)
    batch["image"] = torch.arange(1.0, 5.0).expand(32, 1, 4, 4).clone()
    rows = {}
    for edge in ("reflect", "nearest", "zero"):
        after = Shift(fraction=0.5, edge=edge)(batch, Rng(0), inputs)["image"]
        rows[edge] = {tuple(row.tolist()) for row in after[:, 0].flatten(0, 1)}
    assert (2, 1, 1, 2) in rows["reflect"]
    assert (1, 1, 1, 2) in rows["nearest"]
    assert (0, 0, 1, 2) in rows["zero"]


def test_the_noise_of_the_sky_is_measured_under_a_galaxy():
    torch.manual_seed(0)
    y, x = torch.meshgrid(torch.arange(64.0) - 32, torch.arange(64.0) - 32, indexing="ij")
    galaxy = 500 * torch.exp(-torch.sqrt(x**2 + y**2) / 4)
    sigma = torch.tensor([1.0, 5.0, 20.0])
    image = 100 + galaxy + sigma[:, None, None] * torch.randn(16, 3, 64, 64)
    torch.testing.assert_close(sky_sigma(image).mean(0), sigma, rtol=0.05, atol=0)


def test_noise_has_the_amplitude_asked_for():
    torch.manual_seed(0)
    batch, inputs = sky(n=16, y=64, x=64)
    batch["image"] = 4.0 * torch.randn_like(batch["image"])
    added = Noise(amplitude=0.5)(batch, Rng(0), inputs)["image"] - batch["image"]
    assert added.std().item() == pytest.approx(2.0, rel=0.05)
    added = Noise(columns={"image": 3.0})(batch, Rng(0), inputs)["image"] - batch["image"]
    assert added.std().item() == pytest.approx(3.0, rel=0.02)


def test_noise_on_a_scalar_keeps_what_is_missing():
    batch, inputs = sky(n=400)
    batch["mag"][3] = math.nan
    after = Noise(amplitude=0.0, columns={"mag": 0.02})(batch, Rng(0), inputs)
    difference = after["mag"] - batch["mag"]
    assert difference[3].isnan()
    assert difference[4:].std().item() == pytest.approx(0.02, rel=0.15)


def test_noise_on_an_unknown_column_is_refused():
    batch, inputs = sky()
    with pytest.raises(GsnnError, match=r"mag_g.*mag"):
        Noise(columns={"mag_g": 0.1})(batch, Rng(0), inputs)
    with pytest.raises(GsnnError, match="label"):
        Noise(columns={"label": 0.1})(batch, Rng(0), inputs)


def test_blur_widens_by_a_gaussian_and_keeps_the_flux_and_the_sky():
    batch, inputs = sky(n=40, y=41, x=41)
    batch["image"] = torch.zeros_like(batch["image"])
    batch["image"][:, :, 20, 20] = 1.0
    after = Blur(fwhm=6.0)(batch, Rng(0), inputs)["image"]
    torch.testing.assert_close(after.sum((2, 3)), torch.ones(40, 3))
    offset = torch.arange(41.0) - 20
    fwhm = (after[:, 0].sum(1) * offset**2).sum(1).sqrt() * math.sqrt(8 * math.log(2))
    drawn = 6.0 * Rng(0).uniform("blur", batch["row"])[:, 0]
    wide = drawn > 2  # narrower ones are not resolved by the pixels
    torch.testing.assert_close(fwhm[wide], drawn[wide], rtol=0.01, atol=0)
    assert fwhm.max() <= 6.0
    batch["image"][:] = 3.0
    torch.testing.assert_close(Blur(fwhm=6.0)(batch, Rng(0), inputs)["image"], batch["image"])


def test_band_dropout_leaves_a_band():
    batch, inputs = sky(n=200)
    batch["image"] += 1
    kept = BandDropout(probability=0.5)(batch, Rng(0), inputs)["image"].amax((2, 3)) > 0
    assert kept.any(1).all()
    assert kept.float().mean().item() == pytest.approx(0.5 + 0.125 / 3, abs=0.07)
    assert (BandDropout(probability=1.0)(batch, Rng(0), inputs)["image"].amax((2, 3)) > 0).sum(1).eq(1).all()


def test_images_of_one_object_turn_together():
    batch, inputs = sky(n=32)
    batch["second"] = batch["image"].clone()
    inputs = inputs.with_column(Column("second", "image", shape=(3, 16, 16)))
    after = augment(batch, [Rotate(), Flip(), Shift()], Rng(0), inputs)
    torch.testing.assert_close(after["image"], after["second"], rtol=0, atol=0)


def test_the_same_augmentation_twice_draws_twice():
    batch, inputs = sky(n=64)
    after = augment(batch, [Flip(), Flip()], Rng(0), inputs)["image"]
    assert (after != batch["image"]).flatten(1).any(1).sum() > 16  # the same draw twice would undo itself


def test_a_table_passes_untouched():
    batch, inputs = sky()
    inputs = inputs.select(["mag"])
    changes = [build(name, "augment") for name in PARTS["augment"] if name not in ELSEWHERE]
    torch.testing.assert_close(augment(batch, changes, Rng(0), inputs), batch, rtol=0, atol=0)


@pytest.mark.parametrize(
    "spec",
    [
        {"name": "flip", "probability": 1.5},
        {"name": "shift", "fraction": 0.6},
        {"name": "blur", "fwhm": -1.0},
        {"name": "noise", "columns": {"mag": -0.1}},
        {"name": "rotate", "degrees": 400.0},
        {"name": "rotate", "continuous": True, "edge": "wrap"},
    ],
    ids=str,
)
def test_settings_without_sense_are_refused(spec):
    with pytest.raises((GsnnError, ConfigError)):
        build(spec, "augment")
