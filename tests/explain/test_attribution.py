"""Planted signals: a network that looks at one place only must be explained by that place."""

import pytest
import torch
from torch import nn

from gsnn.config import PARTS, build
from gsnn.data.schema import Column, Schema
from gsnn.errors import GsnnError
from gsnn.explain.sanity import randomisation_check, randomised, rank_correlation

IMAGE = Column("image", "image", shape=(3, 24, 24))
TABLE = [Column(name, "scalar") for name in ("u", "g", "r")]
LABEL = Column("kind", "label", classes=("a", "b", "c"))
REDSHIFT = Column("z", "scalar")
EXPLAINERS = sorted(PARTS["explainer"])
TABULAR = [name for name in EXPLAINERS if name != "grad-cam"]


class Corner(nn.Module):
    """Sees the lower left corner of the image and the scalar ``g``, and nothing else."""

    def __init__(self, inputs, outputs=3):
        super().__init__()
        torch.manual_seed(0)
        self.inputs = inputs
        self.last_conv = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.head = nn.Linear(4 + 1, outputs)

    def forward(self, **columns):
        mask = torch.zeros(24, 24)
        mask[16:, :8] = 1
        given = columns["image"] * mask if "image" in columns else torch.zeros(len(columns["g"]), 3, 24, 24)
        maps = self.last_conv(given).relu().mean((2, 3))
        g = columns["g"][:, None] if "g" in columns else maps.new_zeros(len(maps), 1)
        return self.head(torch.cat([maps, g], 1))


class Stand(nn.Module):
    """A stand-in for gsnn.model.Model: native units are ten times those of the network."""

    def __init__(self, network, inputs, target=LABEL):
        super().__init__()
        self.inputs, self.targets = inputs, Schema.of([target])
        self.objective = nn.Module()
        self.objective.network = self.objective.answer = network

    def transform(self, batch):
        return {name: batch[name].float() / 10 if name in self.inputs else x for name, x in batch.items()}


def batch(inputs, n=4):
    generator = torch.Generator().manual_seed(1)
    columns = {c.name: 10 * torch.rand(n, *c.shape, generator=generator) for c in inputs.columns}
    return {"row": torch.arange(n), **columns}


def stand(*columns, **settings):
    inputs = Schema.of(columns)
    return Stand(Corner(inputs), inputs, **settings), batch(inputs)


def inside(maps):
    """The part of a map that lies in the planted corner, or as near as a window reaches."""
    total = maps.abs().sum((1, 2))
    return maps[:, 13:, :11].abs().sum((1, 2)) / total


@pytest.mark.parametrize("name", EXPLAINERS)
class TestImages:
    @pytest.mark.parametrize("target", [LABEL, REDSHIFT], ids=["class", "value"])
    @pytest.mark.parametrize("columns", [(IMAGE,), (IMAGE, *TABLE)], ids=["image", "image and table"])
    def test_it_finds_the_planted_corner(self, name, columns, target):
        model, given = stand(*columns, target=target)
        if (
            target is REDSHIFT
        ):  # make the answer rise with the corner's light, or Grad-CAM has nothing that speaks for it
            model.objective.network.head.weight.data.abs_()
        maps = build(name, "explainer")(model, given)
        assert maps.shape == (4, 24, 24)
        assert maps.isfinite().all()
        lit = maps.flatten(1).abs().amax(1) > 0
        assert lit.any()
        assert inside(maps[lit]).min() > 0.95

    def test_the_model_is_left_as_it_was(self, name):
        model, given = stand(IMAGE)
        before = {n: t.clone() for n, t in given.items()}
        model.train()
        with torch.no_grad():
            maps = build(name, "explainer")(model, given)
        assert model.training
        assert not maps.requires_grad
        assert all(p.grad is None for p in model.parameters())
        assert all(torch.equal(given[n], before[n]) and not given[n].requires_grad for n in given)

    def test_an_object_does_not_depend_on_its_batch(self, name):
        model, given = stand(IMAGE, *TABLE)
        explain = build(name, "explainer")
        alone = explain(model, {n: x[2:3] for n, x in given.items()})
        torch.testing.assert_close(explain(model, given)[2:3], alone, rtol=1e-4, atol=1e-6)

    def test_two_images_are_explained_as_one_stack(self, name):
        inputs = Schema.of([IMAGE, Column("infrared", "image", shape=(1, 24, 24))])
        torch.manual_seed(0)
        net = build({"name": "cnn", "width": 8, "depth": 2}, "model", inputs, 3)
        assert build(name, "explainer")(Stand(net, inputs), batch(inputs)).shape == (4, 24, 24)

    @pytest.mark.parametrize("network", ["cnn", "resnet"])
    def test_it_explains_the_networks_of_images(self, name, network):
        inputs = Schema.of([IMAGE, *TABLE])
        torch.manual_seed(0)
        settings = {"cnn": {"depth": 2}, "resnet": {"blocks": [1, 1]}}[network]
        net = build({"name": network, "width": 8, **settings}, "model", inputs, 3)
        maps = build(name, "explainer")(Stand(net, inputs), batch(inputs))
        assert maps.flatten(1).abs().amax(1).max() > 0


@pytest.mark.parametrize("name", TABULAR)
class TestTables:
    @pytest.mark.parametrize("columns", [TABLE, (IMAGE, *TABLE)], ids=["table", "image and table"])
    def test_it_finds_the_planted_column(self, name, columns):
        model, given = stand(*columns)
        maps = build({"name": name, "scalars": True}, "explainer")(model, given)
        assert maps.shape == (4, 3)
        assert (maps[:, 1].abs() > 0).all()
        assert (maps[:, [0, 2]] == 0).all()


@pytest.mark.parametrize("loss", ["l2", "gaussian", "mixture"])
def test_the_predicted_mean_is_what_is_explained(loss):
    """Saliency by captum equals the gradient of the mean that the objective predicts."""
    inputs, targets = Schema.of([IMAGE]), Schema.of([REDSHIFT])
    objective = build({"name": "regress", "loss": loss}, "objective", inputs, targets, Corner)
    model = Stand(None, inputs, target=REDSHIFT)
    model.objective = objective
    given = batch(inputs)
    x = (given["image"] / 10).requires_grad_()
    out = objective.network(image=x)
    if loss == "l2":
        mean = out[:, 0]
    else:
        log_weight, means, _ = objective.mixture(out)
        mean = (log_weight.softmax(-1) * means).sum(-1)[:, 0]
    mean.sum().backward()
    torch.testing.assert_close(build("saliency", "explainer")(model, given), x.grad.abs().amax(1))
    assert x.grad.abs().max() > 0


def test_grad_cam_of_a_table_is_refused():
    inputs = Schema.of(TABLE)
    model = Stand(build("mlp", "model", inputs, 3), inputs)
    with pytest.raises(GsnnError, match="grad-cam needs a convolutional network"):
        build("grad-cam", "explainer")(model, batch(inputs))


class Dip(nn.Module):
    """Sees steps 5 to 8 of the first sequence only."""

    def __init__(self, inputs):
        super().__init__()
        self.inputs, self.weight = inputs, nn.Parameter(torch.ones(4))

    def forward(self, **columns):
        name = self.inputs.tensors[0]
        seen = columns["lc.flux"] if name == "lc.time" else columns[name].flatten(1)
        return (seen[:, 5:9] * self.weight).sum(1, keepdim=True)


LC = Column("lc", "light_curve", bands=("g", "r"))
LINES = {"light curve": [LC, *TABLE], "series": [Column("flux", "series", shape=(32,))],
         "strain": [Column("strain", "strain", shape=(1, 32))]}  # fmt: skip


def lines(columns):
    inputs = Schema.of(columns)
    given = batch(Schema.of([c for c in columns if c.kind != "light_curve"]))
    if LC in columns:
        time = torch.arange(32.0).expand(4, -1)
        curve = {"time": time, "flux": 10 + time.cos(), "flux_error": time + 1, "band": time.long() % 2}
        given |= {f"lc.{part}": values for part, values in curve.items()}
        given["lc.valid"] = time < torch.tensor([[32], [20], [12], [31]])
    return inputs, given


class Curves(Stand):
    """Light curves are in network units as they are."""

    def transform(self, batch):
        return batch


@pytest.mark.parametrize("name", TABULAR)
@pytest.mark.parametrize("columns", LINES.values(), ids=LINES)
class TestSequences:
    def test_it_finds_the_planted_dip(self, name, columns):
        inputs, given = lines(columns)
        maps = build({"name": name, **({"window": 2} if name == "occlusion" else {})}, "explainer")(
            Curves(Dip(inputs), inputs, target=REDSHIFT), given
        )
        assert maps.shape == (4, 32)
        valid = given.get("lc.valid", torch.ones(4, 32, dtype=torch.bool))
        assert torch.equal(maps.isnan(), ~valid)
        size = maps.nan_to_num(0).abs()
        assert (size[:, 5:9] > 0).all()
        assert size[:, 4:10].sum() > 0.99 * size.sum()

    def test_it_explains_networks_of_sequences_and_passes_its_check(self, name, columns):
        inputs, given = lines(columns)
        torch.manual_seed(0)
        net = build({"name": "rnn", "width": 8, "layers": 1, "pool": "last"}, "model", inputs, 3)
        model = Curves(net, inputs)
        maps = build(name, "explainer")(model, given)
        assert maps[0].isfinite().all()
        assert maps[0].abs().max() > 0
        assert randomisation_check(build(name, "explainer"), model, given).by_object.shape == (4,)


def test_padding_does_not_make_two_maps_alike():
    a, b = torch.tensor([1.0, 2, 3, 4]), torch.tensor([1.0, 4, 2, 3])
    far = torch.full((400,), torch.nan)
    assert rank_correlation(torch.cat([a, far]), torch.cat([b, far])) == pytest.approx(rank_correlation(a, b))


@pytest.mark.parametrize("name", TABULAR)
def test_what_is_neither_image_nor_sequence_nor_table_is_refused(name):
    inputs = Schema.of([Column("field", "field", shape=(9, 9))])
    model = Stand(build("mlp", "model", inputs, 3), inputs)
    with pytest.raises(GsnnError, match=f"{name}.*field"):
        build(name, "explainer")(model, batch(inputs))


def test_the_window_of_occlusion_is_what_is_covered():
    """The corner's drop with one window as large as the image is the whole answer's change to a flat sky."""
    model, given = stand(IMAGE)
    maps = build({"name": "occlusion", "window": 24}, "explainer")(model, given)
    x = given["image"] / 10
    flat = x.flatten(2).median(-1).values[:, :, None, None].expand_as(x)
    out = model.objective.network(image=x)
    chosen = out.argmax(1, keepdim=True)
    drop = (out - model.objective.network(image=flat)).gather(1, chosen)
    torch.testing.assert_close(maps, drop[:, :, None].expand_as(maps), rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------ the randomised network


def test_a_randomised_network_is_noise_of_the_same_size():
    model, _ = stand(IMAGE)
    kept = {name: p.clone() for name, p in model.named_parameters()}
    noise = randomised(model, seed=3)
    for name, p in noise.named_parameters():
        assert not torch.equal(p, kept[name])
        assert 0.3 < p.std() / kept[name].std() < 3
    assert all(torch.equal(p, kept[name]) for name, p in model.named_parameters())
    assert all(torch.equal(p, q) for p, q in zip(noise.parameters(), randomised(model, seed=3).parameters()))


@pytest.mark.parametrize("name", ["saliency", "occlusion"])
def test_an_explanation_of_a_learned_place_passes(name):
    inputs = Schema.of([IMAGE])
    torch.manual_seed(0)
    net = SmallMap(torch.zeros(3, 24, 24))
    net.weight.data[:, 16:, :8] = 1.0
    sanity = randomisation_check(build(name, "explainer"), Stand(net, inputs, target=REDSHIFT), batch(inputs))
    assert sanity.passed
    assert "depends on what was learned" in sanity.verdict
    assert sanity.by_object.shape == (4,)


class SmallMap(nn.Module):
    """A weighted sum of the pixels."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, image):
        return (image * self.weight).sum((1, 2, 3))[:, None]


def test_the_picture_itself_is_no_explanation():
    model, given = stand(IMAGE)
    sanity = randomisation_check(lambda model, batch: batch["image"].mean(1), model, given)
    assert sanity.correlation == pytest.approx(1)
    assert not sanity.passed
    assert "do not trust" in sanity.verdict


def test_flat_maps_cannot_be_compared():
    model, given = stand(IMAGE)
    with pytest.raises(GsnnError, match="flat"):
        randomisation_check(lambda model, batch: torch.zeros(4, 24, 24), model, given)


def test_rank_correlation_is_spearmans_of_the_absolute_values():
    from scipy.stats import spearmanr

    torch.manual_seed(0)
    a, b = torch.randn(2, 8, 8)
    assert rank_correlation(a, b) == pytest.approx(spearmanr(a.abs().flatten(), b.abs().flatten()).statistic)
    assert rank_correlation(a, -a.exp() * a.sign().abs()) != pytest.approx(1)
    assert rank_correlation(a, -2 * a) == pytest.approx(1)
