"""Every metric against an independent one: scikit-learn, scipy, or brute force."""

import warnings

import numpy as np
import pytest
from scipy import integrate, stats
from sklearn import metrics as sk

from gsnn.data.schema import Column
from gsnn.errors import GsnnError
from gsnn.evaluation.distributions import Categorical, Mixture, Point, Quantiles, Samples, Warped
from gsnn.evaluation.draws import Draws
from gsnn.evaluation.intervals import counts
from gsnn.evaluation.metrics import FAMILIES, METRICS, get, metrics_for

N = 120
LABEL = Column("kind", "label", classes=("A", "B", "C"))
VALUE = Column("mass", "scalar", unit="dex")
Z = Column("redshift", "scalar")


def classification(k):
    g = np.random.default_rng(k)
    p = g.dirichlet(np.ones(k), N).round(2) + 1e-4  # rounded: ties between scores
    p = Categorical(p / p.sum(1, keepdims=True), tuple("ABC"[:k]))
    draws = np.array([g.choice(k, p=row) for row in p.probabilities])
    return p, draws


def regression():
    g = np.random.default_rng(5)
    z = g.uniform(0.1, 1.5, N)
    centre = z[:, None] + g.normal(0, 0.1, (N, 3))
    return Mixture(g.dirichlet(np.ones(3), N), centre, g.uniform(0.03, 0.2, (N, 3))), z


def weights():
    return np.concatenate([np.ones((1, N)), counts(N, range(1, 5), 3)])


def one_rest(function):
    def value(p, y, w):
        if p.shape[1] == 2:
            return function(y == 1, p[:, 1], sample_weight=w)
        return np.mean([function(y == i, p[:, i], sample_weight=w) for i in range(p.shape[1])])

    return value


CLASS = {
    "accuracy": lambda p, y, w: sk.accuracy_score(y, p.argmax(1), sample_weight=w),
    "balanced_accuracy": lambda p, y, w: sk.balanced_accuracy_score(y, p.argmax(1), sample_weight=w),
    "f1_macro": lambda p, y, w: sk.f1_score(y, p.argmax(1), average="macro", sample_weight=w),
    "roc_auc": one_rest(sk.roc_auc_score),
    "pr_auc": one_rest(sk.average_precision_score),
    "log_loss": lambda p, y, w: sk.log_loss(y, p, sample_weight=w),
    "precision[A]": lambda p, y, w: sk.precision_score(y == 0, p.argmax(1) == 0, sample_weight=w),
    "recall[B]": lambda p, y, w: sk.recall_score(y == 1, p.argmax(1) == 1, sample_weight=w),
    "f1[A]": lambda p, y, w: sk.f1_score(y == 0, p.argmax(1) == 0, sample_weight=w),
}
DZ = lambda d, z: (d.best() - z) / (1 + z)  # noqa: E731
VALUES = {
    "rmse": lambda d, z: sk.root_mean_squared_error(z, d.best()),
    "mae": lambda d, z: sk.mean_absolute_error(z, d.best()),
    "medae": lambda d, z: sk.median_absolute_error(z, d.best()),
    "r2": lambda d, z: sk.r2_score(z, d.best()),
    "bias": lambda d, z: np.mean(d.best() - z),
    "photoz_bias": lambda d, z: np.mean(DZ(d, z)),
    "sigma_nmad": lambda d, z: 1.4826 * stats.median_abs_deviation(DZ(d, z)),
    "outlier_rate": lambda d, z: np.mean(abs(DZ(d, z)) > 0.15),
    "nll": lambda d, z: -np.mean(np.log(d.pdf(z))),
    "pit_ks": lambda d, z: stats.kstest(d.cdf(z), "uniform").statistic,
    "coverage_68": lambda d, z: np.mean((d.quantile([0.16])[:, 0] <= z) & (z <= d.quantile([0.84])[:, 0])),
    "coverage_90": lambda d, z: np.mean((d.quantile([0.05])[:, 0] <= z) & (z <= d.quantile([0.95])[:, 0])),
}


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("name", CLASS)
def test_class_metrics_agree_with_scikit_learn(name, k):
    p, y = classification(k)
    w = weights()
    expected = [CLASS[name](p.probabilities, y, row) for row in w]
    np.testing.assert_allclose(get(name, p.classes)(p, y, w), expected, rtol=1e-9)


def test_brier_agrees_with_scikit_learn():
    w = weights()
    p, y = classification(2)
    expected = [sk.brier_score_loss(y, p.probabilities[:, 1], sample_weight=row) for row in w]
    np.testing.assert_allclose(METRICS["brier"](p, y, w), expected)
    p, y = classification(3)
    np.testing.assert_allclose(METRICS["brier"](p, y, w)[0], ((p.probabilities - np.eye(3)[y]) ** 2).sum(1).mean())


def test_ece_by_hand():
    p, y = classification(3)
    order = np.argsort(p.probabilities.max(1), kind="stable")
    right, sure = (p.best() == y)[order], p.probabilities.max(1)[order]
    gaps = [abs(right[i : i + 8].mean() - sure[i : i + 8].mean()) for i in range(0, N, 8)]  # 15 bins of 8
    np.testing.assert_allclose(METRICS["ece"](p, y, np.ones((1, N))), np.mean(gaps))


@pytest.mark.parametrize("name", VALUES)
def test_value_metrics_agree_on_resampled_objects(name):
    """A row of counts is the metric of the sample in which each object stands that often."""
    d, z = regression()
    w = weights()
    drawn = [np.repeat(np.arange(N), row.astype(int)) for row in w]
    expected = [VALUES[name](d.take(rows), z[rows]) for rows in drawn]
    np.testing.assert_allclose(METRICS[name](d, z, w), expected, rtol=1e-7, atol=1e-12)


def test_crps_and_cde_loss_of_a_mixture_by_quadrature():
    d, z = regression()
    x = np.linspace(-3, 5, 40001)
    for i in range(5):
        one = d.take([i])
        below, above = np.linspace(-3, z[i], 20001), np.linspace(z[i], 5, 20001)
        crps = integrate.trapezoid(one.cdf(below[None])[0] ** 2, below)
        crps += integrate.trapezoid((one.cdf(above[None])[0] - 1) ** 2, above)
        np.testing.assert_allclose(METRICS["crps"].score(one, z[[i]]), crps, rtol=1e-6)
        cde = integrate.trapezoid(one.pdf(x[None])[0] ** 2, x) - 2 * one.pdf(z[[i]])[0]
        np.testing.assert_allclose(METRICS["cde_loss"].score(one, z[[i]]), cde, rtol=1e-6)


def test_crps_of_a_gaussian_by_its_formula():
    """Gneiting et al. 2005, eq. 5."""
    mean, sigma, y = np.array([1.0, 2.0]), np.array([0.5, 0.1]), np.array([1.2, 1.5])
    u = (y - mean) / sigma
    expected = sigma * (u * (2 * stats.norm.cdf(u) - 1) + 2 * stats.norm.pdf(u) - 1 / np.sqrt(np.pi))
    d = Mixture(np.ones((2, 1)), mean[:, None], sigma[:, None])
    np.testing.assert_allclose(METRICS["crps"].score(d, y), expected)


class Affine:
    def forward(self, x):
        return -(np.asarray(x) - 1) / 2

    def inverse(self, y):
        return 1 - 2 * np.asarray(y)

    def derivative(self, x):
        return np.full_like(np.asarray(x, float), -0.5)


@pytest.mark.parametrize("name", ["crps", "cde_loss", "nll"])
def test_closed_forms_and_quadrature_agree(name):
    d, z = regression()
    score = METRICS[name].score
    fine = Quantiles(np.arange(1, 1000) / 1000, d.quantile(np.arange(1, 1000) / 1000))
    np.testing.assert_allclose(score(fine, z).mean(), score(d, z).mean(), rtol=0.02)
    base = Mixture(d.weight, (1 - d.centre) / 2, d.sigma / 2)  # the same distribution seen through a mirror
    np.testing.assert_allclose(score(Warped(base, Affine()), z), score(d, z), rtol=1e-9)
    same = Samples(d.centre, d.weight, bandwidth=0.1)
    np.testing.assert_allclose(score(same, z), score(Mixture(d.weight, d.centre, np.full((N, 3), 0.1)), z))


def test_crps_of_many_kernels_by_quadrature():
    g = np.random.default_rng(0)
    many = Samples(g.normal(size=(3, 300)), bandwidth=0.2)
    few = Mixture(np.ones((3, 1)), np.zeros((3, 1)), np.full((3, 1), np.sqrt(1.04)))
    y = np.array([0.0, 1.0, -2.0])
    np.testing.assert_allclose(METRICS["crps"].score(many, y), METRICS["crps"].score(few, y), atol=0.05)


def test_proper_scores_prefer_the_truth():
    g = np.random.default_rng(1)
    y = g.normal(size=4000)

    def of(mean, sigma):
        return Mixture(np.ones((4000, 1)), np.full((4000, 1), mean), np.full((4000, 1), sigma))

    for name in ("crps", "cde_loss", "nll"):
        score = METRICS[name].score
        best = score(of(0.0, 1.0), y).mean()
        assert all(best < score(of(*wrong), y).mean() for wrong in ((0.2, 1.0), (0.0, 1.4), (0.0, 0.7)))


def test_which_metrics():
    p, _ = classification(3)
    d, z = regression()
    names = [m.name for m in metrics_for(p, LABEL)]
    assert {"accuracy", "ece", "f1[A]", "recall[C]"} <= set(names)
    assert "rmse" not in names
    photoz = [m.name for m in metrics_for(d, Z)]
    assert photoz[:3] == ["sigma_nmad", "outlier_rate", "photoz_bias"]
    assert "cde_loss" in photoz
    assert not {"sigma_nmad", "photoz_bias"} & {m.name for m in metrics_for(d, VALUE)}
    assert not {"crps", "nll", "pit_ks"} & {m.name for m in metrics_for(Point(z), VALUE)}
    assert {m.name: m.unit for m in metrics_for(d, VALUE)}["crps"] == "dex"
    assert [m.name for m in metrics_for(d, VALUE, ["sigma_nmad", "cde_loss"])] == ["sigma_nmad", "cde_loss"]
    assert metrics_for(d, VALUE, ["cde_loss"])[0].unit == "1/dex"


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda p: metrics_for(p, LABEL, ["acuracy"]), "did you mean 'accuracy'"),
        (lambda p: metrics_for(p, LABEL, ["f1[STAR]"]), "known: A, B, C"),
        (lambda p: metrics_for(p, LABEL, ["rmse"]), "does not suit Categorical"),
        (lambda p: metrics_for(Point(np.zeros(2)), VALUE, ["crps"]), "does not suit Point"),
    ],
)
def test_mistakes_are_told_in_a_sentence(ask, words):
    with pytest.raises(GsnnError, match=words):
        ask(classification(3)[0])


EDGES = {
    "one class": (Categorical([[0.7, 0.3], [0.2, 0.8], [0.5, 0.5]], ("A", "B")), np.zeros(3, int), LABEL),
    "a missing class": (classification(3)[0].take(np.arange(4)), np.array([0, 1, 1, 0]), LABEL),
    "all equal": (Categorical(np.full((6, 2), 0.5), ("A", "B")), np.array([0, 1, 1, 0, 1, 1]), LABEL),
    "two objects": (Categorical([[1.0, 0.0], [0.0, 1.0]], ("A", "B")), np.array([1, 1]), LABEL),
    "certain and wrong": (Categorical(np.eye(2), ("A", "B")), np.array([1, 0]), LABEL),
    "one value": (regression()[0].take(np.arange(3)), np.full(3, 0.4), Z),
    "one object": (regression()[0].take([0]), np.array([0.4]), Z),
    "far away": (regression()[0].take(np.arange(3)), np.array([1e9, -1e9, 0.0]), VALUE),
}


@pytest.mark.parametrize("name", EDGES)
def test_edges_give_numbers_or_nan_without_a_warning(name):
    prediction, truth, target = EDGES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        weight = np.concatenate([np.ones((1, len(truth))), counts(len(truth), range(1, 6), 0)])
        for metric in metrics_for(prediction, target):
            value = metric(prediction, truth, weight)
            assert value.shape == (6,), metric.name
            assert not np.isinf(value).any(), metric.name


def test_every_metric_is_reached_by_a_test():
    assert set(METRICS) == {n for n in (*CLASS, *VALUES) if "[" not in n} | {
        "brier", "ece", "crps", "cde_loss", "posterior_sigma",
        "map_rmse", "map_r", "map_bias", "map_coverage_68", "map_interval_score",  # test_maps.py
        "correlation", "power_error", "voxel_rmse",  # test_fields.py
        "power_off", "bispectrum_off", "peaks_off", "contrast_r",  # test_generated.py
        "cosmic_variance_mean", "cosmic_variance_p99", "curve_coverage_68", "curve_rms", "explained",  # test_vectors.py
    }  # fmt: skip
    assert set(FAMILIES) == {name.split("[")[0] for name in CLASS if "[" in name}


def test_the_width_of_a_posterior_is_asked_of_draws_alone():
    prediction = Draws(np.random.default_rng(0).normal(0, [[1.0], [3.0]], (2, 5000)))
    value = METRICS["posterior_sigma"](prediction, np.zeros(2), np.array([[1.0, 1.0], [0.0, 1.0]]))
    assert value == pytest.approx([2, 3], rel=0.03)
    assert "posterior_sigma" in {m.name for m in metrics_for(prediction, VALUE)}
    assert "posterior_sigma" not in {m.name for m in metrics_for(regression()[0], VALUE)}
