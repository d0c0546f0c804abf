"""What must hold for every objective: a loss is a sum and a weight, and predictions are in native units."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gsnn.config import PARTS, build
from gsnn.data.schema import Column, Schema
from gsnn.errors import ConfigError, GsnnError
from gsnn.evaluation.distributions import Categorical, Point, Warped
from gsnn.rng import Rng

INPUTS = Schema.of([Column("g", "scalar"), Column("r", "scalar")])
KIND = Schema.of([Column("kind", "label", classes=("a", "b", "c"), dtype="int64")])
Z = Schema.of([Column("z", "scalar")])
ZM = Schema.of([Column("z", "scalar"), Column("mass", "scalar")])

CASES = {
    "classify": ({"name": "classify"}, KIND),
    "classify balanced": ({"name": "classify", "class_weights": "balanced"}, KIND),
    "classify smoothed": ({"name": "classify", "label_smoothing": 0.2}, KIND),
    "l1": ({"name": "regress", "loss": "l1"}, Z),
    "l2": ({"name": "regress", "loss": "l2"}, Z),
    "gaussian": ({"name": "regress", "loss": "gaussian"}, Z),
    "mixture": ({"name": "regress", "loss": "mixture", "components": 3}, Z),
    "mixture log": ({"name": "regress", "loss": "mixture", "components": 2, "transform": "log"}, Z),
    "gaussian asinh": ({"name": "regress", "loss": "gaussian", "transform": "asinh"}, Z),
    "mixture of two targets": ({"name": "regress", "loss": "mixture", "components": 2}, ZM),
    "l2 of two targets": ({"name": "regress", "loss": "l2"}, ZM),
    "posterior": ({"name": "posterior", "draws": 50, "context": 6, "width": 16}, Z),
    "posterior of two targets": ({"name": "posterior", "draws": 50, "context": 6, "width": 16}, ZM),
    "affine posterior": ({"name": "posterior", "flow": "affine", "draws": 50, "transform": "log", "width": 16}, Z),
}
for name in ("likelihood", "ratio"):
    CASES |= {name: ({"name": name, "draws": 50, "width": 16}, Z)}
    CASES |= {f"{name} of two targets": ({"name": name, "draws": 50, "width": 16}, ZM)}
TRANSFORMS = ["standardise", "log", {"name": "log", "offset": 0.5}, "asinh", {"name": "asinh", "softening": 0.5}]
every = pytest.mark.parametrize(("spec", "targets"), CASES.values(), ids=CASES)


def test_every_objective_takes_part():
    elsewhere = {"next-patch", "masked-patch"}  # tests/objectives/test_patches.py
    elsewhere |= {"map"}  # and test_map.py
    elsewhere |= {"emulate"}  # tests/objectives/test_emulate.py
    elsewhere |= {"classify-early", "next-value", "masked-value", "denoise", "inpaint"}  # and test_sequence_tasks.py
    elsewhere |= {"translate"}  # and test_translate.py
    elsewhere |= {"flow-matching"}  # and test_flow_matching.py
    assert {spec["name"] for spec, _ in CASES.values()} == set(PARTS["objective"]) - elsewhere


class Columns:
    """The part of a view that objectives are fitted on."""

    def __init__(self, values):
        self.values = values

    def columns(self, names):
        return {name: self.values[name] for name in names}


def values(n=60, unknown=False):
    random = np.random.default_rng(3)
    z = np.exp(random.normal(size=n))
    kind = random.choice(3, n, p=[0.6, 0.3, 0.1])
    kind[:3] = range(3)
    if unknown:
        z[::5], kind[::5] = np.nan, -1
    return {"kind": kind, "z": z, "mass": 10 + 2 * random.normal(size=n)}


def batch(n=24, unknown=False, seed=1):
    given = {name: torch.as_tensor(v[:n]) for name, v in values(unknown=unknown).items()}
    random = torch.Generator().manual_seed(seed)
    given |= {name: torch.randn(n, generator=random) for name in INPUTS}
    return {k: v.float() if v.is_floating_point() else v for k, v in given.items()} | {"row": torch.arange(n)}


def objective(spec, targets, fit=True):
    torch.manual_seed(0)

    def make(schema, outputs):
        return build({"name": "mlp", "width": 8, "depth": 2}, "model", schema, outputs)

    made = build(spec, "objective", INPUTS, targets, make)
    if fit:
        made.fit(Columns(values()))
    return made.eval()


def some(given, keep):
    return {name: value[keep] for name, value in given.items()}


@every
def test_a_loss_does_not_depend_on_how_a_batch_is_cut(spec, targets):
    one, given = objective(spec, targets), batch(unknown=True)
    whole = one.terms(one(given), given)
    for cut in ([slice(0, 24)], [slice(0, 1), slice(1, 24)], [slice(i, i + 5) for i in range(0, 24, 5)]):
        parts = [some(given, keep) for keep in cut]
        found = [one.terms(one(part), part) for part in parts]
        for name, (total, weight) in whole.items():
            torch.testing.assert_close(sum(f[name][0] for f in found), total, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(sum(f[name][1] for f in found).float(), weight.float())


@every
def test_an_unknown_target_weighs_nothing(spec, targets):
    one, given = objective(spec, targets), batch(unknown=True)
    known = (given["kind"] >= 0) if "kind" in targets else torch.isfinite(given["z"])
    assert 0 < known.sum() < 24
    if len(targets) == 1:
        kept = some(given, known)
        for name, (total, weight) in one.terms(one(given), given).items():
            expected, expected_weight = one.terms(one(kept), kept)[name]
            torch.testing.assert_close(total, expected)
            torch.testing.assert_close(weight.float(), expected_weight.float())
    nothing = some(given, ~known) | (
        {"mass": torch.full((int((~known).sum()),), torch.nan)} if "mass" in targets else {}
    )
    for total, weight in one.terms(one(nothing), nothing).values():
        assert weight == 0
        assert total == 0
        total.backward()  # a batch without any known target still has a gradient: of zero
    assert all(torch.isfinite(p.grad).all() and not p.grad.any() for p in one.parameters() if p.grad is not None)


@every
def test_the_gradient_reaches_every_parameter_and_descends(spec, targets):
    one, given = objective(spec, targets), batch(unknown=True)
    loss = lambda: sum(s / w for s, w in one.terms(one(one.prepare(given, Rng(0))), given).values())  # noqa: E731
    before = loss()
    before.backward()
    for name, parameter in one.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name
    with torch.no_grad():
        for parameter in one.parameters():
            parameter -= 1e-3 * parameter.grad
    assert loss() < before


@every
def test_a_prediction_answers_for_every_target_and_object(spec, targets):
    one, given = objective(spec, targets), batch()
    with torch.no_grad():
        prediction = one.predict(one(given), given)
    assert list(prediction) == list(targets)
    for name, distribution in prediction.items():
        assert len(distribution) == 24
        assert np.isfinite(np.asarray(distribution.best(), float)).all()
        columns = distribution.to_columns(name)
        assert len(columns["prediction"]) == 24


@every
def test_saved_statistics_come_back(spec, targets):
    one, other, given = objective(spec, targets), objective(spec, targets, fit=False), batch()
    other.load_state_dict(one.state_dict())
    name = next(iter(targets))
    with torch.no_grad():
        a, b = (o.predict(o(given), given)[name] for o in (one, other))
    for x, y in zip(a.to_columns(name).values(), b.to_columns(name).values()):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("name", ["type", "half", "double", "train", "training", "keys", "forward", "_modules"])
def test_a_target_may_be_called_what_torch_calls_a_part_of_a_module(name):
    targets = Schema.of([Column(name, "scalar"), Column("z", "scalar")])
    content = {name: values()["mass"], "z": values()["z"]}

    def make(schema, outputs):
        return build({"name": "mlp", "width": 8, "depth": 2}, "model", schema, outputs)

    one, other = (build("regress", "objective", INPUTS, targets, make) for _ in range(2))
    one.fit(Columns(content))
    other.load_state_dict(one.state_dict())
    given = batch() | {name: torch.as_tensor(content[name][:24]).float()}
    with torch.no_grad():
        for found in (o.predict(o(given), given) for o in (one.eval(), other.eval())):
            assert list(found) == [name, "z"]
            assert np.isfinite(found[name].best()).all()
    assert not any(":" in key for key in one.state_dict() if ".z." in key)  # the names that models on disk have


# ------------------------------------------------------------------ classes


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_class_weights_and_smoothing_are_torchs_own(smoothing):
    one = objective({"name": "classify", "class_weights": "balanced", "label_smoothing": smoothing}, KIND)
    out, truth = torch.randn(24, 3), batch()["kind"]
    total, weight = one.terms(out, {"kind": truth})["cross_entropy"]
    counts = np.bincount(values()["kind"], minlength=3)
    torch.testing.assert_close(one.weight, torch.tensor(len(values()["kind"]) / (3 * counts)).float())
    if smoothing == 0:
        torch.testing.assert_close(total / weight, F.cross_entropy(out, truth, one.weight))
    # with smoothing, each object weighs as its own class does (torch would weigh the smoothed classes)
    each = F.cross_entropy(out, truth, reduction="none", label_smoothing=smoothing)
    torch.testing.assert_close(total, (each * one.weight[truth]).sum())


def test_smoothing_without_weights_is_torchs_own():
    one = objective({"name": "classify", "label_smoothing": 0.3}, KIND)
    out, truth = torch.randn(24, 3), batch()["kind"]
    total, weight = one.terms(out, {"kind": truth})["cross_entropy"]
    torch.testing.assert_close(total / weight, F.cross_entropy(out, truth, label_smoothing=0.3))


def test_a_class_that_training_lacks_has_no_weight_and_no_division_by_zero():
    one = objective({"name": "classify", "class_weights": "balanced"}, KIND, fit=False)
    one.fit(Columns({"kind": np.array([0, 0, 2, 2, 2, -1])}))
    torch.testing.assert_close(one.weight, torch.tensor([5 / 4, 0, 5 / 6]))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_the_temperature_divides_the_logits(temperature):
    one, out = objective({"name": "classify"}, KIND), torch.randn(24, 3)
    one.temperature.fill_(temperature)
    prediction = one.predict(out, {})["kind"]
    assert isinstance(prediction, Categorical)
    np.testing.assert_allclose(prediction.probabilities, torch.softmax(out.double() / temperature, 1).numpy())
    np.testing.assert_array_equal(prediction.best(), out.argmax(1).numpy())


@pytest.mark.parametrize("huge", [1e4, 3e38])
def test_logits_of_any_size_give_probabilities(huge):
    one = objective({"name": "classify"}, KIND)
    probabilities = one.predict(torch.tensor([[huge, 0.0, -huge]]), {})["kind"].probabilities
    np.testing.assert_allclose(probabilities, [[1, 0, 0]])


# ------------------------------------------------------------------ densities


def density(one, out):
    """The density of the first target as torch.distributions has it, in transformed units."""
    raw = out.view(len(out), len(one.names), 3, one.components)[:, 0]
    parts = torch.distributions.Normal(raw[:, 1], F.softplus(raw[:, 2]) + one.sigma_floor)
    return torch.distributions.MixtureSameFamily(torch.distributions.Categorical(logits=raw[:, 0]), parts)


@pytest.mark.parametrize("components", [1, 4])
@pytest.mark.parametrize("transform", TRANSFORMS, ids=str)
def test_the_likelihood_is_that_of_torch(components, transform):
    loss = "gaussian" if components == 1 else "mixture"
    one = objective({"name": "regress", "loss": loss, "components": components, "transform": transform}, Z)
    out, given = 2 * torch.randn(24, 3 * components), batch()
    total, weight = one.terms(out, given)["negative_log_likelihood"]
    y = one.transforms["z"](given["z"][:, None])[:, 0]
    torch.testing.assert_close(total, -density(one, out).log_prob(y).sum(), rtol=1e-4, atol=1e-4)
    assert weight == 24


@pytest.mark.parametrize("components", [1, 3])
@pytest.mark.parametrize("transform", TRANSFORMS, ids=str)
def test_densities_in_native_units_integrate_to_one(components, transform):
    loss = "gaussian" if components == 1 else "mixture"
    one = objective({"name": "regress", "loss": loss, "components": components, "transform": transform}, Z)
    given = batch()
    prediction = one.predict(torch.randn(24, 3 * components), given)["z"]
    levels = np.linspace(1e-4, 1 - 1e-4, 1001)
    grid = prediction.quantile(levels)
    area = np.trapezoid(prediction.pdf(grid), grid, axis=1)
    np.testing.assert_allclose(area, 1 - 2e-4, atol=6e-2)  # of trapezia; a wrong Jacobian is off by factors
    np.testing.assert_allclose(prediction.cdf(grid), np.tile(levels, (24, 1)), atol=1e-6)


def test_the_likelihood_in_native_units_has_the_jacobian():
    one, given = objective({"name": "regress", "loss": "mixture", "transform": "log"}, Z), batch()
    out = torch.randn(24, 15)
    prediction, z = one.predict(out, given)["z"], given["z"].double().numpy()
    assert isinstance(prediction, Warped)
    log_y = density(one, out).log_prob(one.transforms["z"](given["z"][:, None])[:, 0]).double().numpy()
    scale = float(one.transforms["z"].standardise.scale)
    np.testing.assert_allclose(prediction.log_pdf(z), log_y - np.log(scale * z), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("loss", ["l1", "l2"])
def test_a_perfect_point_costs_nothing_and_comes_back_in_native_units(loss):
    one, given = objective({"name": "regress", "loss": loss, "transform": "log"}, Z), batch()
    out = one.transforms["z"](given["z"][:, None])
    total, weight = one.terms(out, given)[loss]
    assert total == 0
    assert weight == 24
    prediction = one.predict(out, given)["z"]
    assert isinstance(prediction, Point)
    np.testing.assert_allclose(prediction.best(), given["z"].numpy(), rtol=1e-5)


def test_two_targets_do_not_mix():
    one, given = objective({"name": "regress", "loss": "gaussian"}, ZM), batch()
    out = torch.zeros(24, 6)
    out[:, 1], out[:, 4] = torch.linspace(-1, 1, 24), torch.linspace(1, -1, 24)
    found = one.predict(out, given)
    assert (np.diff(found["z"].best()) > 0).all()
    assert (np.diff(found["mass"].best()) < 0).all()
    assert 5 < found["mass"].best().mean() < 15


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("spec", "targets", "message"),
    [
        ({"name": "classify"}, Z, "classify needs a label, and 'z' is a scalar"),
        ({"name": "regress"}, KIND, "regress needs a number for each object, and 'kind' is a label"),
        ({"name": "classify"}, Schema.of([Column("k", "label", classes=("a",))]), "one class only"),
        ({"name": "classify", "label_smoothing": 1.0}, KIND, "at least 0 and below 1"),
        ({"name": "classify", "class_weights": "some"}, KIND, "class_weights"),
        ({"name": "regress", "loss": "l3"}, Z, "loss"),
        ({"name": "regress", "components": 0}, Z, "components"),
        ({"name": "regress", "sigma_floor": 0.0}, Z, "sigma_floor"),
        ({"name": "regress", "transform": "lgo"}, Z, "did you mean 'log'"),
        ({"name": "regress", "transform": {"name": "log", "ofset": 1.0}}, Z, "did you mean 'offset'"),
        ({"name": "regress", "transform": "whiten"}, Z, "'whiten' suits no target"),
        ({"name": "classify"}, ZM, "classify learns one label"),
    ],
)
def test_what_cannot_be_learned_is_refused(spec, targets, message):
    with pytest.raises(ConfigError, match=message):
        objective(spec, targets, fit=False)


def test_a_target_that_an_objective_refuses_is_looked_for_where_it_stands():
    with pytest.raises(ConfigError) as caught:
        build("regress", "objective", INPUTS, KIND, lambda schema, outputs: None, path=("objective",))
    assert caught.value.path == ("data", "target")


@pytest.mark.parametrize(
    ("spec", "targets", "content", "message"),
    [
        ({"name": "classify"}, KIND, {"kind": np.array([1, 1, -1])}, "one class of 'kind' only"),
        ({"name": "regress"}, Z, {"z": np.full(9, 2.5)}, "'z' does not vary"),
        ({"name": "regress"}, Z, {"z": np.full(9, np.nan)}, "'z' does not vary"),
        ({"name": "regress", "transform": "log"}, Z, {"z": np.array([1.0, 2.0, -3.0])}, r"log needs x \+ offset > 0"),
    ],
)
def test_what_the_training_part_cannot_teach_is_refused(spec, targets, content, message):
    one = objective(spec, targets, fit=False)
    with pytest.raises(GsnnError, match=message):
        one.fit(Columns(content))
