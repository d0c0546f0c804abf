import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from gsnn.config import PARTS, build
from gsnn.data.schema import Column, Schema
from gsnn.data.transforms import TargetTransform, Transforms
from gsnn.errors import ConfigError, GsnnError

ELSEWHERE = {"light-curve", "points", "box", "native"}  # test_light_curves.py, test_points.py, and below
NAMES = [name for name in PARTS["transform"] if name not in ELSEWHERE]
IMAGES = [name for name in NAMES if name != "whiten"]
SLOPED = [name for name in NAMES if name != "whiten"]


def values_of(name, n=400, bands=3, seed=0):
    """[object, band]: bands of very different scales; positive where logarithms are taken."""
    x = torch.randn(n, bands, generator=torch.Generator().manual_seed(seed)) * torch.tensor([0.5, 3.0, 40.0])[:bands]
    mixed = x @ torch.tensor([[1.0, 0.5, 0], [0, 1, 0.3], [0, 0, 1]])[:bands, :bands]
    return mixed.exp().clamp(1e-3, 1e3) if name == "log" else mixed + 20


def fitted(name, values):
    transform = build(name, "transform", values.shape[1])
    transform.fit(values)
    return transform


@pytest.mark.parametrize("name", NAMES)
def test_the_inverse_inverts(name):
    values = values_of(name)
    transform = fitted(name, values)
    torch.testing.assert_close(transform.inverse(transform(values)), values, rtol=2e-4, atol=2e-3)
    unseen = values_of(name, seed=1)
    torch.testing.assert_close(transform.inverse(transform(unseen)), unseen, rtol=2e-4, atol=2e-3)


@pytest.mark.parametrize("name", NAMES)
def test_what_comes_out_has_zero_mean_and_unit_variance_in_each_band(name):
    out = fitted(name, values_of(name))(values_of(name))
    torch.testing.assert_close(out.mean(0), torch.zeros(3), rtol=0, atol=2e-3)
    torch.testing.assert_close(out.std(0, correction=0), torch.ones(3), rtol=0, atol=5e-3)


def test_whitened_bands_are_uncorrelated():
    values = values_of("whiten")
    assert abs(float(torch.corrcoef(values.T)[0, 1])) > 0.05
    torch.testing.assert_close(torch.corrcoef(fitted("whiten", values)(values).T), torch.eye(3), rtol=0, atol=5e-3)


@pytest.mark.parametrize("name", SLOPED)
def test_the_slope_is_the_derivative(name):
    transform = fitted(name, values_of(name)).double()
    values = values_of(name, 50).double().requires_grad_()
    (slope,) = torch.autograd.grad(transform(values).sum(), values)
    torch.testing.assert_close(transform.slope(values.detach()), slope, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", SLOPED)
def test_transforms_are_monotone(name):
    transform = fitted(name, values_of(name)[:, :1]).double()
    low, high = (0.01, 100) if name == "log" else (-200, 200)
    out = transform(torch.linspace(low, high, 2000).double()[:, None])
    assert bool((out.diff(dim=0) > 0).all())


def test_a_transform_without_a_slope_says_that_it_cannot_serve_a_target():
    with pytest.raises(GsnnError, match="cannot serve a target"):
        fitted("whiten", values_of("whiten")).slope(torch.ones(2, 3))


@pytest.mark.parametrize("name", NAMES)
def test_saved_equals_loaded(name):
    values = values_of(name)
    transform = fitted(name, values)
    new = build(name, "transform", 3)
    assert not torch.equal(new(values), transform(values))
    new.load_state_dict(load(save({k: v.contiguous() for k, v in transform.state_dict().items()})))
    assert torch.equal(new(values), transform(values))


@pytest.mark.parametrize("name", NAMES)
def test_missing_values_do_not_disturb_the_statistics(name):
    values = values_of(name)
    holed = torch.cat([values, torch.full((50, 3), torch.nan)])
    holed = torch.cat([holed, torch.full((10, 3), torch.inf)]) if name != "log" else holed
    torch.testing.assert_close(fitted(name, holed)(values), fitted(name, values)(values), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_a_constant_band_becomes_a_finite_constant(name):
    values = values_of(name)
    values[:, 1] = 7.25
    out = fitted(name, values)(values)
    assert bool(torch.isfinite(out).all())
    assert float(out[:, 1].std()) < 1e-6


@pytest.mark.parametrize("name", IMAGES)
def test_each_band_of_an_image_has_its_own_statistics(name):
    pixels = values_of(name, 6 * 25).view(6, 25, 3).transpose(1, 2).reshape(6, 3, 5, 5)
    whole = fitted(name, pixels)(pixels)
    for band in range(3):
        alone = fitted(name, pixels[:, band : band + 1])(pixels[:, band : band + 1])
        torch.testing.assert_close(whole[:, band : band + 1], alone, rtol=1e-4, atol=1e-5)


def test_whitening_is_for_tables_and_log_for_positive_numbers():
    with pytest.raises(ConfigError, match="acts on tables of scalars"):
        build("whiten", "transform", 3).fit(torch.rand(4, 3, 5, 5))
    with pytest.raises(GsnnError, match="raise the offset"):
        build("log", "transform", 1).fit(torch.tensor([[1.0], [-0.5]]))
    build({"name": "log", "offset": 1.0}, "transform", 1).fit(torch.tensor([[1.0], [-0.5]]))


def test_asinh_is_linear_in_the_noise_and_logarithmic_in_the_light():
    sky = torch.randn(20_000, 1, generator=torch.Generator().manual_seed(0)) * 0.1
    transform = fitted("asinh", torch.cat([sky, torch.full((50, 1), 500.0)]))
    assert float(transform.width) == pytest.approx(3 * 0.1, rel=0.03)
    step = transform(torch.tensor([[0.0], [0.01], [0.02], [100.0], [1000.0], [10000.0]]))[:, 0].diff()
    assert float(step[1]) == pytest.approx(float(step[0]), rel=1e-2)
    assert float(step[4]) == pytest.approx(float(step[3]), rel=1e-2)


@pytest.mark.parametrize("name", SLOPED)
def test_a_target_goes_there_and_back_in_double_precision(name):
    target = TargetTransform(fitted(name, values_of(name)[:, :1]))
    x = values_of(name, 30)[:, 0].double().numpy().reshape(5, 6)
    np.testing.assert_allclose(target.inverse(target.forward(x)), x, rtol=1e-9)
    step = 1e-5 * np.abs(x)
    numeric = (target.forward(x + step) - target.forward(x - step)) / (2 * step)
    np.testing.assert_allclose(target.derivative(x), numeric, rtol=1e-5)
    assert target.forward(x).shape == (5, 6)


# ------------------------------------------------------------------ all inputs of a network together


def batch_of(survey, names, rows):
    columns = survey.take(np.asarray(rows), names)
    return {name: torch.tensor(value) for name, value in columns.items()}


INPUTS = ["image", "g", "r", "count"]


def test_statistics_come_from_the_training_objects_alone(make, sky):
    survey, other = make(sky(60)), sky(60)
    for column, values in other.items():
        if column.name in ("g", "r", "image"):
            for i in range(40, 60):
                values[i] = values[i] * 1000
    train = np.arange(40)
    states = []
    for one in (survey, make(other)):
        transforms = Transforms(one.schema.select(INPUTS))
        transforms.fit(one.view(train))
        states.append(transforms.state_dict())
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])


@pytest.mark.parametrize(
    "specs", [{}, {"image": "standardise", "scalars": "whiten"}, {"image": {"name": "asinh", "softening": 1.0}}]
)
def test_whatever_is_missing_what_a_network_gets_is_finite_and_of_unit_scale(make, sky, specs):
    content = sky(200)
    for column, values in content.items():
        if column.name == "image":
            values[3, 0], values[5], values[6, 1, 0, 0] = np.nan, np.inf, -np.inf
        elif column.name == "g":
            values[7], values[8], values[9] = None, float("inf"), float("nan")
    survey = make(content)
    transforms = Transforms(survey.schema.select(INPUTS), specs)
    transforms.fit(survey.view())
    batch = batch_of(survey, [*INPUTS, "kind"], range(200))
    out = transforms(batch)
    assert torch.equal(out["kind"], batch["kind"])
    for name in INPUTS:
        assert out[name].dtype == torch.float32
        assert out[name].shape == batch[name].shape
        assert bool(torch.isfinite(out[name]).all())
        assert float(out[name].std()) == pytest.approx(1, abs=0.25)
    assert float(out["image"][5].abs().max()) == 0


def test_all_transforms_are_saved_and_loaded_with_the_network(make, sky):
    survey = make(sky(80))
    transforms = Transforms(survey.schema.select(INPUTS), {"scalars": "whiten"})
    transforms.fit(survey.view())
    new = Transforms(survey.schema.select(INPUTS), {"scalars": "whiten"})
    new.load_state_dict(load(save({k: v.contiguous() for k, v in transforms.state_dict().items()})))
    batch = batch_of(survey, INPUTS, range(80))
    for name, value in transforms(batch).items():
        assert torch.equal(value, new(batch)[name])
    assert isinstance(transforms, nn.Module)


def test_a_transform_for_a_column_that_is_no_input_is_refused():
    inputs = Schema.of([Column("image", "image", shape=(1, 4, 4)), Column("g", "scalar")])
    with pytest.raises(ConfigError, match="use image, scalars"):
        Transforms(inputs, {"g": "log"})
    with pytest.raises(ConfigError, match="did you mean 'asinh'"):
        Transforms(inputs, {"image": "asin"})


@pytest.mark.parametrize("name", ["type", "half", "train", "items"])
def test_an_input_may_be_called_what_torch_calls_a_part_of_a_module(name):
    transforms = Transforms(Schema.of([Column(name, "image", shape=(1, 4, 4))]))
    out = transforms({name: torch.ones(3, 1, 4, 4), "row": torch.arange(3)})
    assert torch.isfinite(out[name]).all()


def test_a_box_makes_a_flat_prior_a_standard_normal_one_and_never_leaves_its_range():
    values = 3 + 4 * torch.rand(4000, 1, generator=torch.Generator().manual_seed(0))
    box = fitted("box", values)
    assert 2.99 < box.low < values.min()
    assert values.max() < box.high < 7.01
    out = box(values)
    assert abs(out.mean()) < 0.05
    assert abs(out.std() - 1) < 0.03
    torch.testing.assert_close(box.inverse(out), values, rtol=0, atol=1e-5)
    wild = box.inverse(torch.tensor([[-40.0], [40.0], [0.0]]))
    torch.testing.assert_close(wild, torch.stack([box.low, box.high, (box.low + box.high) / 2]))
    inner = values[:50].double().requires_grad_()
    (slope,) = torch.autograd.grad(box.double()(inner).sum(), inner)
    torch.testing.assert_close(box.slope(inner.detach()), slope, rtol=1e-9, atol=1e-12)


def test_a_box_takes_the_range_that_it_is_given_and_refuses_an_empty_one():
    box = build({"name": "box", "low": 0.0, "high": 10.0}, "transform", 1)
    box.fit(torch.tensor([[2.0], [3.0]]))
    assert (float(box.low), float(box.high)) == (0, 10)
    with pytest.raises(ConfigError, match="low < high"):
        build({"name": "box", "low": 2.0, "high": 1.0}, "transform", 1)
    with pytest.raises(GsnnError, match="do not vary"):
        build("box", "transform", 1).fit(torch.ones(5, 1))


def test_native_leaves_values_as_they_are():
    values = values_of("standardise")
    transform = fitted("native", values)
    assert torch.equal(transform(values), values)
    assert torch.equal(transform.inverse(values), values)
    assert torch.equal(transform.slope(values), torch.ones_like(values))
