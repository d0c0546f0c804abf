"""What must hold for every baseline that the table of parts names, and for the densities that they share."""

from __future__ import annotations

import numpy as np
import pytest

from gsnn.baselines.base import features
from gsnn.baselines.density import LEVELS, Kernel, cde_loss, tune_kernel, weighted_quantiles
from gsnn.config import PARTS, build
from gsnn.data.schema import Column, Schema
from gsnn.errors import GsnnError
from gsnn.evaluation.distributions import Categorical

IMAGES = ("cas-boosting", "cas-forest", "pixel-forest")
ELSEWHERE = (
    "matched-filter",
    "persistence",
    "lag",
    "ridge-ar",
    "bls",
    "tls",
    "power-spectrum",
    "gaussian-field",
    "gaussian-sphere",
    "distance-likelihood",
    "gaussian-maps",
    "lognormal-maps",
    "zeldovich",
    "2lpt",
    "coarse-mesh",
    "planck-likelihood",
    "polynomial",
    "nearest",
    "stellar-mass",
    "group-boosting",
    "virial-mass",
    "kaiser-squires",
    "wiener",
    "two-point",
    "two-point-boosting",
    "two-point-likelihood",
    "ring-finder",
    "ilc",
    "frequency-wiener",
)  # on data of their own: test_matched_filter.py, test_transits.py, test_fields.py, test_points.py, ...
GENERAL = [name for name in PARTS["baseline"] if name not in ELSEWHERE]
SMALL = {
    name: {"trees": 12} if "forest" in name else {"iterations": 12} if "boosting" in name else {}
    for name in PARTS["baseline"]
}
CASES = [
    (name, kind)
    for name in GENERAL
    for kind in ("label", "scalar")
    if (name, kind) not in (("logistic", "scalar"), ("linear", "label"))
]


class FakeView:
    """The contract of gsnn.data.survey.View on columns in memory."""

    def __init__(self, schema: Schema, data: dict[str, np.ndarray], rows: np.ndarray):
        self.schema, self.data, self.rows = schema, data, rows

    def __len__(self) -> int:
        return len(self.rows)

    def columns(self, names):
        return {name: self.data[name][self.rows] for name in names}

    def chunks(self, names, size=2048):
        for start in range(0, len(self), size):
            yield {name: self.data[name][self.rows[start : start + size]] for name in names}

    def take(self, positions):
        return FakeView(self.schema, self.data, self.rows[np.asarray(positions)])


def blobs(width: np.ndarray, seed: int) -> np.ndarray:
    """Images [n, 1, 24, 24] of a Gaussian of the given width (pixels) and unit peak."""
    y, x = np.mgrid[:24, :24] - 11.5
    images = np.exp(-0.5 * (y**2 + x**2) / width[:, None, None] ** 2)
    return (images + 0.02 * np.random.default_rng(seed).standard_normal(images.shape))[:, None].astype(np.float32)


def sky(name: str, kind: str, objects: int = 240, classes: int = 2, columns: int = 3, seed: int = 0):
    """Inputs, target and a whole view in which the target is planted in ``a``, or in the size of a blob."""
    rng = np.random.default_rng(seed)
    signal = rng.uniform(0, 1, objects)
    data = {key: rng.normal(size=objects).astype(np.float32) for key in "abc"[:columns]}
    data["a"] = (10 * signal).astype(np.float32)
    inputs = [Column(key, "scalar") for key in "abc"[:columns]]
    if name in IMAGES:
        data, inputs = (
            {"image": blobs(1 + 2 * signal, seed)},
            [Column("image", "image", bands=("r",), shape=(1, 24, 24))],
        )
    if kind == "label":
        target = Column("t", "label", classes=tuple(f"k{i}" for i in range(classes)))
        data["t"] = np.minimum((signal * classes).astype(np.int64), classes - 1)
    else:
        target = Column("t", "scalar", unit="kpc")
        data["t"] = (3 + 2 * signal + 0.05 * rng.normal(size=objects)).astype(np.float32)
    schema = Schema.of(inputs)
    return schema, target, FakeView(Schema.of([*inputs, target]), data, np.arange(objects))


def fitted(name: str, kind: str, seed: int = 0, change=lambda data: None, objects: int = 240, **how):
    inputs, target, view = sky(name, kind, objects, **how)
    change(view.data)
    baseline = build({"name": name, **SMALL[name]}, "baseline", inputs, target)
    a, b = int(0.6 * objects), int(0.8 * objects)
    baseline.fit(view.take(np.arange(a)), view.take(np.arange(a, b)), seed)
    test = view.take(np.arange(b, objects))
    return baseline, test, baseline.predict(test)["t"]


def loss(prediction, truth: np.ndarray) -> float:
    if isinstance(prediction, Categorical):
        return float(-np.log(prediction.probabilities[np.arange(len(truth)), truth]).mean())
    return float(-prediction.log_pdf(truth).mean())


def check(prediction, target_kind: str, objects: int) -> None:
    assert len(prediction) == objects
    assert prediction.proper
    assert isinstance(prediction, Categorical) == (target_kind == "label")
    if target_kind == "label":
        assert np.allclose(prediction.probabilities.sum(1), 1)
        assert (prediction.probabilities > 0).all()  # nothing is impossible: the log loss stays finite
    else:
        grid = np.linspace(-5, 15, 4001)
        area = prediction.pdf(np.tile(grid, (objects, 1))).sum(1) * (grid[1] - grid[0])
        assert np.allclose(area, 1, atol=0.02)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_learns_a_planted_signal(name, kind):
    baseline, test, prediction = fitted(name, kind)
    truth = test.columns(["t"])["t"]
    check(prediction, kind, len(test))
    prior = fitted("prior", kind)[2]
    if name != "prior":
        assert loss(prediction, truth) < loss(prior, truth) - 0.25
    assert baseline.seconds > 0
    assert baseline.describe().endswith(".")
    assert str(baseline.objects) in baseline.describe()
    empty = baseline.predict(test.take(np.arange(0)))["t"]
    assert len(empty) == 0


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_one_seed_gives_one_answer(name, kind):
    first, again = (fitted(name, kind, seed=3, objects=120)[2].to_columns("t") for _ in range(2))
    for key in first:
        assert np.array_equal(first[key], again[key]), key


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_survives_missing_values_and_unknown_targets(name, kind):
    def spoil(data):
        for key, values in data.items():
            if key == "t":
                values[::9] = -1 if kind == "label" else np.nan
            else:
                values.reshape(len(values), -1)[::7] = np.nan
                values.reshape(len(values), -1)[3::7, 0] = np.inf
        if "b" in data:
            data["b"][:] = np.nan

    _, test, prediction = fitted(name, kind, change=spoil, objects=120)
    check(prediction, kind, len(test))


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_tiny_views_and_a_single_feature(name, kind):
    _, test, prediction = fitted(name, kind, objects=20, columns=1)
    check(prediction, kind, len(test))


@pytest.mark.parametrize("name", [name for name, kind in CASES if kind == "label"])
def test_many_classes_of_which_one_is_absent_in_training(name):
    def hide(data):
        data["t"][:72][data["t"][:72] == 4] = -1

    _, test, prediction = fitted(name, "label", classes=7, change=hide, objects=120)
    check(prediction, "label", len(test))
    assert prediction.probabilities.shape[1] == 7
    assert prediction.probabilities[:, 4].max() < 0.5


@pytest.mark.parametrize("name", GENERAL)
def test_says_what_it_cannot_do(name):
    kind = "scalar" if name == "linear" else "label"
    inputs, target, view = sky(name, kind)
    unknown = -1 if kind == "label" else np.nan

    def with_targets(value):
        return FakeView(view.schema, view.data | {"t": np.full_like(view.data["t"], value)}, view.rows)

    def make(schema=inputs, column=target):
        return build({"name": name, **SMALL[name]}, "baseline", schema, column)

    with pytest.raises(GsnnError, match="training split has a known"):
        make().fit(with_targets(unknown), view, 0)
    with pytest.raises(GsnnError, match="validation split has a known"):
        make().fit(view, with_targets(unknown), 0)
    with pytest.raises(GsnnError, match="fitted before"):
        make().predict(view)
    with pytest.raises(GsnnError, match="is a spectrum"):
        make(column=Column("t", "spectrum", shape=(5,)))
    if kind == "label":
        with pytest.raises(GsnnError, match="at least two classes"):
            make().fit(with_targets(1), view, 0)
    if name in IMAGES:
        with pytest.raises(GsnnError, match="is an image"):
            make(schema=Schema.of([Column("a", "scalar")]))
    elif name != "prior":
        with pytest.raises(GsnnError, match="no usable inputs"):
            make(schema=Schema.of([Column("who", "text")])).fit(view, view, 0)


def test_features_are_named_and_magnitudes_give_colours():
    columns = [Column(name, "scalar", "mag") for name in ("g", "g_err", "r")]
    columns += [Column("spectrum", "spectrum", shape=(200,)), Column("kind", "label", classes=("a", "b"))]
    data = {name: np.arange(3, dtype=np.float32) + i for i, name in enumerate(("g", "g_err", "r"))}
    data["spectrum"] = np.tile(np.r_[np.full(100, 1.0), np.full(100, np.nan)].astype(np.float32), (3, 1))
    data["kind"] = np.array([0, 1, -1])
    schema = Schema.of(columns)
    matrix, names = features(FakeView(schema, data, np.arange(3)), schema)
    assert matrix.shape == (3, len(names))
    assert np.allclose(matrix[:, names.index("g - r")], -2)
    assert not any("err -" in name or "- g_err" in name for name in names)
    assert sum(name.startswith("spectrum") for name in names) == 64
    assert np.isnan(matrix[2, names.index("kind")])
    half = matrix[:, [name.startswith("spectrum") for name in names]]
    assert np.isnan(half[:, -20:]).all()
    assert np.allclose(half[:, :20], 1)


def test_boosting_learns_a_width_that_changes():
    def widen(data):
        noise = np.random.default_rng(5).normal(size=len(data["t"]))
        data["t"][:] = data["a"] + noise * np.where(data["a"] > 5, 1.0, 0.05)

    _, test, prediction = fitted("boosting", "scalar", objects=3000, change=widen)
    low, high = prediction.quantile(np.array([0.16, 0.84])).T
    a = test.columns(["a"])["a"]
    assert np.median((high - low)[a > 5.5]) > 3 * np.median((high - low)[a < 4.5])


def test_quantile_forest_has_the_coverage_it_claims():
    def widen(data):
        noise = np.random.default_rng(6).normal(size=len(data["t"]))
        data["t"][:] = data["a"] + noise

    _, test, prediction = fitted("forest", "scalar", objects=2000, change=widen)
    inside = (prediction.cdf(test.columns(["t"])["t"]) - 0.5).__abs__() < 0.34
    assert 0.6 < inside.mean() < 0.8


def test_cde_loss_is_exact_for_a_gaussian():
    sigma, truth = 0.7, np.array([0.3, -1.0])
    expected = 1 / (2 * np.sqrt(np.pi) * sigma) - 2 * np.exp(-0.5 * (truth / sigma) ** 2) / (np.sqrt(2 * np.pi) * sigma)
    assert np.isclose(cde_loss(np.zeros((2, 1)), np.full(2, sigma), truth), expected.mean())


def test_weighted_quantiles_invert_a_weighted_cdf():
    value, weight = np.array([[3.0, 1.0, 2.0], [5.0, 4.0, 9.0]]), np.array([[1.0, 1.0, 2.0], [0.0, 1.0, 0.0]])
    found = weighted_quantiles(value, weight)
    assert [int((found[0] == v).sum()) for v in (1, 2, 3)] == [16, 32, 16]
    assert (found[1] == 4).all()


def test_tuned_kernel_recovers_the_scatter_that_samples_lack():
    truth = np.random.default_rng(0).normal(size=400)
    _, kernel = tune_kernel(np.zeros((400, len(LEVELS))), truth)
    assert 0.6 < kernel.sigma(np.zeros((1, 64)))[0] < 1.1  # a standard normal around zero
    density = Kernel(0.0, 0.5, rare=0.1, centre=0.0, width=3.0).density(np.zeros((1, 4)))
    assert np.isclose(density.pdf(np.zeros(1))[0], (0.9 / 0.5 + 0.1 / 3) / np.sqrt(2 * np.pi))
