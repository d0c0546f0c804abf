"""Learning from patches: what a target is, sums over any slices, masks by address, and the answer of the probe."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny import IMAGES, change

from gsnn.config import build
from gsnn.data.schema import Column, Schema
from gsnn.errors import ConfigError, GsnnError
from gsnn.evaluation.distributions import Categorical, Mixture
from gsnn.model import Model
from gsnn.objectives.masked_patch import MASK
from gsnn.objectives.probe import Probe
from gsnn.rng import Rng
from gsnn.run import run
from gsnn.steps.data import ground
from gsnn.steps.train import new_model, train_model
from gsnn.study import Study

INPUTS = Schema.of([Column("image", "image", shape=(2, 8, 8)), Column("spectrum", "spectrum", shape=(13,))])
SHAPE = Schema.of([Column("shape", "label", classes=("a", "b", "c"), dtype="int64")])
SIZE = Schema.of([Column("size", "scalar")])
CASES = {
    "next": {"name": "next-patch"},
    "next l2": {"name": "next-patch", "loss": "l2"},
    "next by patch": {"name": "next-patch", "normalise": "patch"},
    "masked": {"name": "masked-patch"},
    "masked by patch": {"name": "masked-patch", "ratio": 0.75, "normalise": "patch"},
}
every = pytest.mark.parametrize("spec", CASES.values(), ids=CASES)


def objective(spec, targets=SHAPE, inputs=INPUTS, **settings):
    torch.manual_seed(0)
    table = {"name": "transformer", "width": 16, "layers": 2, "heads": 2, "patch": 4, "segment": 4}
    table |= {"causal": spec["name"] == "next-patch", **settings}
    return build(spec, "objective", inputs, targets, lambda i, n: build(table, "model", i, n))


def batch(n=6, seed=0, inputs=INPUTS):
    generator = torch.Generator().manual_seed(seed)
    given = {c.name: torch.randn(n, *c.shape, generator=generator) for c in inputs.columns}
    return given | {"row": torch.arange(n) * 7, "shape": torch.arange(n) % 3, "size": torch.arange(n).float()}


def some(given, keep):
    return {name: value[keep] for name, value in given.items()}


def loss(one, given, rng=Rng(0)):  # noqa: B008
    given = one.prepare(given, rng)
    ((total, weight),) = one.terms(one(given), given).values()
    return total, weight


@every
def test_a_loss_does_not_depend_on_how_a_batch_is_cut(spec):
    one, given = objective(spec), batch()
    whole = loss(one, given)
    for cut in ([slice(0, 1), slice(1, 6)], [[5, 0, 3], [1, 4, 2]]):
        parts = [loss(one, some(given, keep)) for keep in cut]
        torch.testing.assert_close(tuple(map(sum, zip(*parts))), whole, rtol=1e-5, atol=1e-5)


@every
def test_the_gradient_reaches_every_parameter(spec):
    one = objective(spec)
    loss(one, batch())[0].backward()
    for name, parameter in one.named_parameters():
        assert parameter.grad.abs().max() > 0, name


def pieces(one, given):
    """The patches as the network cuts them: four squares of the image, four segments of the spectrum."""
    image = given["image"].unflatten(3, (2, 4)).unflatten(2, (2, 4)).permute(0, 2, 4, 1, 3, 5).reshape(-1, 4, 32)
    spectrum = F.pad(given["spectrum"], (0, 3)).reshape(-1, 4, 4)
    return [*image.unbind(1), *(spectrum[:, i, : 1 if i == 3 else 4] for i in range(4))]


@every
def test_the_loss_is_that_of_the_right_patches(spec):
    one, given = objective(spec).eval(), batch()
    given = one.prepare(given, Rng(3, 1))
    out, total, weight = one(given).detach(), 0.0, 0
    for i, truth in enumerate(pieces(one, given)):
        asked = i - 1 if spec["name"] == "next-patch" else i
        if asked < 0:
            continue
        if spec.get("normalise") == "patch" and truth.shape[1] > 1:
            truth = (truth - truth.mean(1, keepdim=True)) / (truth.std(1, keepdim=True, correction=0) + 1e-3)
        guess = out[:, asked, : truth.shape[1]]
        each = F.mse_loss if spec.get("loss") == "l2" else F.huber_loss
        counts = given[MASK][:, i] if MASK in given else torch.ones(6, dtype=torch.bool)
        total += float((each(guess, truth, reduction="none").mean(1) * counts).sum())
        weight += int(counts.sum())
    ((found, found_weight),) = one.terms(out, given).values()
    assert float(found) == pytest.approx(total, rel=1e-5)
    assert int(found_weight) == weight == (42 if MASK not in given else 6 * one.masked)


@every
@pytest.mark.parametrize("count", [2, 4, 8])
def test_slices_of_the_tokens_give_the_sums_of_the_whole(spec, count):
    one, given = objective(spec).eval(), batch()
    given = one.prepare(given, Rng(0))
    out = one(given)
    ((total, weight),) = one.terms(out, given).values()
    parts = []
    for i in range(count):
        one.network.part = (i, count)
        parts += one.terms(out.chunk(count, 1)[i], given).values()
        assert one.embed(given).shape[1] == 8 // count
    torch.testing.assert_close(tuple(map(sum, zip(*parts))), (total, weight))
    assert (parts[-1][1] == parts[0][1] - 6) == (spec["name"] == "next-patch") or MASK in given


def test_what_comes_later_is_not_seen():
    one, given = objective({"name": "next-patch"}).eval(), batch()
    given["image"][:, :, 4:, 4:] += 100
    before = one(given)
    given["image"][:, :, 4:, 4:] -= 100
    moved = (one(given) - before).abs().amax((0, 2)) > 1e-5
    assert moved.tolist() == [False] * 3 + [True] * 5


# ------------------------------------------------------------------ masks


def test_a_mask_belongs_to_row_and_epoch():
    one, given = objective({"name": "masked-patch", "ratio": 0.4}), batch()
    mask = one.prepare(given, Rng(5, 2))[MASK]
    assert (mask.sum(1) == 3).all()  # of eight
    order = torch.tensor([4, 1, 5, 0])
    assert torch.equal(one.prepare(some(given, order), Rng(5, 2))[MASK], mask[order])
    assert torch.equal(one.prepare(batch(seed=9), Rng(5, 2))[MASK], mask)
    for other in (Rng(5, 3), Rng(6, 2)):
        assert not torch.equal(one.prepare(given, other)[MASK], mask)
    many = one.prepare({"row": torch.arange(4000)}, Rng(0))[MASK].float().mean(0)
    torch.testing.assert_close(many, torch.full((8,), 3 / 8), rtol=0, atol=0.04)


def test_validation_has_the_same_mask_every_time():
    one, given = objective({"name": "masked-patch"}).eval(), batch()
    assert torch.equal(one.mask(given), one.mask(given))
    assert torch.equal(one.terms(one(given), given)["huber"][0], one.terms(one(given), given)["huber"][0])


def test_what_is_masked_is_not_seen():
    one, given = objective({"name": "masked-patch"}).eval(), batch()
    given = one.prepare(given, Rng(0))
    hidden = given[MASK][:, :4].unflatten(1, (2, 2)).repeat_interleave(4, 1).repeat_interleave(4, 2)[:, None]
    assert hidden.any()
    out = one(given)
    torch.testing.assert_close(one({**given, "image": given["image"] + 9.0 * hidden}), out)
    assert (one({**given, "image": given["image"] + 9.0 * ~hidden}) - out).abs().max() > 1e-3


@pytest.mark.parametrize(("ratio", "masked"), [(1e-6, 1), (0.5, 4), (0.999, 7)])
def test_some_tokens_are_masked_and_some_seen(ratio, masked):
    assert objective({"name": "masked-patch", "ratio": ratio}).masked == masked


# ------------------------------------------------------------------ learning


@every
def test_a_few_objects_are_learned_by_heart(spec):
    one, given = objective(spec, width=32, kv_heads=1).train(), batch(3)
    optimizer = torch.optim.AdamW(one.parameters(), lr=1e-2, weight_decay=0)
    losses = []
    for _ in range(150):
        total, weight = loss(one, given)
        optimizer.zero_grad()
        (total / weight).backward()
        optimizer.step()
        losses.append(float((total / weight).detach()))
    assert losses[-1] < 0.1 * losses[0]


# ------------------------------------------------------------------ the probe


def test_a_linear_question_is_answered():
    random = np.random.default_rng(0)
    x = random.normal(size=(500, 6)) * 10.0 ** np.arange(-3, 3) + 5
    z = (x - 5) / 10.0 ** np.arange(-3, 3)
    label, number = z[:, :3].argmax(1), 3 * z[:, 0] - z[:, 5] + 40 + 0.2 * random.normal(size=500)
    features = torch.tensor(x)
    probe = Probe(SHAPE["shape"], 6)
    probe.fit(features[:400], np.where(np.arange(400) % 7, label[:400], -1))
    answer = probe.predict(probe(features[400:]))
    assert isinstance(answer, Categorical)
    assert (answer.best() == label[400:]).mean() > 0.93
    probe = Probe(SIZE["size"], 6)
    probe.fit(features[:400], np.where(np.arange(400) % 7, number[:400], np.nan))
    answer = probe.predict(probe(features[400:]))
    assert isinstance(answer, Mixture)
    assert np.std(answer.best() - number[400:]) < 0.25
    assert float(probe.sigma) == pytest.approx(0.2, rel=0.3)


@pytest.mark.parametrize("absent", [0, 1, 2])
def test_a_class_that_training_lacks_is_hardly_probable(absent):
    probe, x = Probe(SHAPE["shape"], 4), torch.randn(60, 4)
    present = np.array([c for c in range(3) if c != absent])
    y = present[(x[:, 0] > 0).long().numpy()]
    probe.fit(x, y)
    found = probe.predict(probe(x))
    assert (found.best() == y).mean() > 0.9
    assert found.probabilities[:, absent].max() < 1e-3


def test_features_that_do_not_vary_say_nothing():
    probe, x = Probe(SIZE["size"], 3), torch.full((30, 3), 7.0)
    probe.fit(x, np.arange(30.0))
    np.testing.assert_allclose(probe.predict(probe(x)).best(), 14.5, rtol=1e-3)


@pytest.mark.parametrize(
    ("spec", "targets", "settings", "message"),
    [
        ({"name": "next-patch"}, SHAPE, {"causal": False}, "causal: next-patch needs .* set it True"),
        ({"name": "masked-patch"}, SHAPE, {"causal": True}, "causal: masked-patch needs .* set it False"),
        ({"name": "next-patch"}, Schema.of([INPUTS["spectrum"]]), {}, "'spectrum' is a spectrum"),
        ({"name": "masked-patch", "ratio": 1.0}, SHAPE, {}, "ratio"),
        ({"name": "next-patch", "normalise": "none"}, SHAPE, {}, "normalise"),
    ],
)
def test_what_cannot_be_learned_is_refused(spec, targets, settings, message):
    with pytest.raises(ConfigError, match=message):
        objective(spec, targets, **settings)


def test_other_networks_and_single_tokens_are_refused():
    inputs = INPUTS.select(["image"])
    with pytest.raises(ConfigError, match="next-patch needs a network of tokens: set name = 'transformer'"):
        build({"name": "next-patch"}, "objective", inputs, SHAPE, lambda i, n: build("cnn", "model", i, n))
    with pytest.raises(ConfigError, match="at least 2 tokens"):
        objective({"name": "next-patch"}, inputs=inputs, patch=8)


# ------------------------------------------------------------------ whole runs

TRANSFORMER = {"name": "transformer", "width": 16, "layers": 1, "heads": 2, "patch": 4}
NEXT = change(
    IMAGES, objective={"name": "next-patch"}, model={**TRANSFORMER, "causal": True}, train__epochs=2,
    explain={"methods": ["saliency", "occlusion"], "objects": 4},
)  # fmt: skip
MASKED = change(NEXT, objective={"name": "masked-patch"}, model={**TRANSFORMER, "causal": False})


def test_a_run_answers_a_question_that_it_was_not_taught(image_survey, tmp_path, no_figures):
    found = run(Study.from_dict(change(NEXT, evaluate__control=True), name="tiny"), data=image_survey, out=tmp_path)
    accuracy = found.answer["metrics"]["accuracy"]
    assert accuracy["value"] > 0.6  # chance is 0.5; without a probe it would be 0.5 exactly
    assert found.answer["explanations"]


@pytest.mark.parametrize(("table", "target"), [(NEXT, "shape"), (MASKED, "shape"), (MASKED, "size")])
def test_saved_equals_loaded(image_survey, tmp_path, table, target):
    study = Study.from_dict(change(table, data__target=target, train__epochs=1))
    one = ground(study, image_survey)
    model = train_model(study, one, tmp_path, seed=0).model.eval()
    kept = Model.load(tmp_path / "model")
    given = {c.name: torch.randn(4, *c.shape) for c in one.inputs.columns} | {"row": torch.arange(4)}
    with torch.inference_mode():
        assert torch.equal(model.features(given), kept.features(given))
        a, b = (m(given)[target].to_columns(target) for m in (model, kept))
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])
    assert any(probe.weight.any() for probe in kept.objective.probes)


def test_a_model_has_the_weights_of_its_seed_whatever_was_drawn_before(image_survey):
    study = Study.from_dict(MASKED)
    one = ground(study, image_survey)
    torch.manual_seed(1)
    a = new_model(study, one, one.train, 4).state_dict()
    torch.manual_seed(2)
    b, c = (new_model(study, one, one.train, seed).state_dict() for seed in (4, 5))
    assert all(torch.equal(value, b[name]) for name, value in a.items())
    assert not torch.equal(a["objective.network.head.weight"], c["objective.network.head.weight"])


def test_a_target_that_does_not_vary_is_told_before_training(image_survey):
    study = Study.from_dict(change(NEXT, data__where="shape = 'round'"))
    one = ground(study, image_survey)
    with pytest.raises(GsnnError, match="'shape' does not vary in the training part"):
        new_model(study, one, one.train, 0)
