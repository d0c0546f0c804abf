"""Invariants that every distribution of predictions obeys."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from gsnn.errors import GsnnError
from gsnn.evaluation.distributions import (
    LEVELS,
    Categorical,
    Mixture,
    Point,
    Quantiles,
    Samples,
    Warped,
    concatenate,
    from_columns,
)

N = 7


@dataclass
class Log:
    scale: float = 1.0

    def forward(self, x):
        return self.scale * np.log(x)

    def inverse(self, y):
        return np.exp(y / self.scale)

    def derivative(self, x):
        return self.scale / np.asarray(x)


def mixture(k=3):
    g = np.random.default_rng(k)
    return Mixture(g.dirichlet(np.ones(k), N), g.normal(1, 1, (N, k)), g.uniform(0.05, 0.5, (N, k)))


def samples():
    g = np.random.default_rng(4)
    return Samples(g.normal(0.5, 0.1, (N, 30)), g.exponential(size=(N, 30)))


CONTINUOUS = {
    "gaussian": lambda: mixture(1),
    "mixture": lambda: mixture(3),
    "padded": lambda: concatenate([mixture(3).take(slice(0, 3)), mixture(5).take(slice(3, N))]),
    "samples": samples,
    "bandwidth": lambda: Samples(samples().value, bandwidth=0.02),
    "quantiles": lambda: Quantiles(LEVELS, mixture(3).quantile(LEVELS)),
    "few quantiles": lambda: Quantiles([0.1, 0.5, 0.6], np.sort(np.random.default_rng(1).normal(size=(N, 3)))),
    "warped": lambda: Warped(mixture(2), Log(2.0)),
    "falling": lambda: Warped(mixture(2), Log(-0.7)),
}
EVERY = CONTINUOUS | {
    "point": lambda: Point(np.linspace(0, 1, N)),
    "warped point": lambda: Warped(Point(np.linspace(0, 1, N)), Log()),
    "classes": lambda: Categorical(np.random.default_rng(0).dirichlet(np.ones(3), N), ("A", "B", "C c")),
}


@pytest.fixture(params=CONTINUOUS)
def continuous(request):
    return CONTINUOUS[request.param]()


@pytest.fixture(params=EVERY)
def any_kind(request):
    return EVERY[request.param]()


def grid(d, points=4001):
    ends = d.quantile(np.array([1e-7, 1 - 1e-7]))
    return np.linspace(ends[:, 0], ends[:, 1], points, axis=1)


def test_cdf_rises_from_0_to_1(continuous):
    values = continuous.cdf(grid(continuous))
    assert (np.diff(values, axis=1) >= -1e-12).all()
    np.testing.assert_allclose(values[:, 0], 0, atol=1e-6)
    np.testing.assert_allclose(values[:, -1], 1, atol=1e-6)


def test_pdf_is_the_derivative_of_the_cdf_and_integrates_to_1(continuous):
    q = np.linspace(1e-4, 1 - 1e-4, 3000)  # a grid of quantiles follows the distribution however it is stretched
    x = continuous.quantile(q)
    middle, step = (x[:, 1:] + x[:, :-1]) / 2, np.diff(x, axis=1)
    mass = continuous.pdf(middle) * step
    np.testing.assert_allclose(mass.sum(1), 1 - 2e-4, atol=2e-3)
    np.testing.assert_allclose(mass.cumsum(1)[:, ::100], continuous.cdf(x[:, 1:])[:, ::100] - 1e-4, atol=2e-3)
    np.testing.assert_allclose(continuous.log_pdf(middle), np.log(continuous.pdf(middle)), rtol=1e-6, atol=1e-9)


def test_quantile_inverts_cdf(continuous):
    q = np.array([1e-4, 0.02, 0.16, 0.5, 0.777, 0.99, 0.9999])
    np.testing.assert_allclose(continuous.cdf(continuous.quantile(q)), np.broadcast_to(q, (N, 7)), atol=1e-9)
    x = grid(continuous, 50)[:, 5:-5]
    for i, level in enumerate(continuous.cdf(x)):
        # where there is no density between two modes, x cannot be told from the probability
        inner = (level > 1e-4) & (level < 1 - 1e-4) & (continuous.pdf(x)[i] > 1e-3)
        np.testing.assert_allclose(continuous.take([i]).quantile(level[inner])[0], x[i, inner], rtol=1e-5, atol=1e-5)


def test_shapes_of_x(continuous):
    x = grid(continuous, 5)
    for function in (continuous.pdf, continuous.cdf, continuous.log_pdf):
        np.testing.assert_allclose(function(x[:, 2]), function(x)[:, 2], rtol=1e-12)
        with pytest.raises(GsnnError, match="shape"):
            function(np.zeros(N + 1))


def test_mean_is_the_integral_of_x(continuous):
    x = continuous.quantile((np.arange(20000) + 0.5) / 20000)
    np.testing.assert_allclose(continuous.mean(), x.mean(1), rtol=5e-3, atol=2e-3)


def test_take_and_concatenate(any_kind):
    again = concatenate([any_kind.take(np.arange(3)), any_kind.take(np.arange(3, N))])
    back = any_kind.take(np.array([5, 0]))
    assert (len(again), len(back)) == (N, 2)
    a, b, c = (d.to_columns("z") for d in (any_kind, again, back))
    for name in a:
        if a[name].dtype == object:
            assert list(a[name]) == list(b[name])
            assert list(a[name][[5, 0]]) == list(c[name])
        else:
            np.testing.assert_allclose(a[name], b[name], rtol=1e-7)
            np.testing.assert_allclose(a[name][[5, 0]], c[name], rtol=1e-7)


def test_columns_come_back(any_kind):
    columns = any_kind.to_columns("z")
    again = from_columns(pa.table(columns))
    assert len(again) == N
    for name, values in again.to_columns("z").items():
        if values.dtype == object:
            assert list(values) == list(columns[name])
        else:
            np.testing.assert_allclose(values, columns[name], rtol=1e-9)


def test_columns_of_a_redshift():
    columns = mixture().to_columns("z")
    assert list(columns)[:4] == ["prediction", "z_low", "z_high", "z_q01"]
    assert len(columns) == 102
    np.testing.assert_allclose(mixture().cdf(columns["z_high"]), 0.84)
    np.testing.assert_allclose(columns["prediction"], columns["z_q50"])


def test_gaussian_agrees_with_scipy():
    d = mixture(1)
    x, there = np.linspace(-2, 3, N), stats.norm(d.centre[:, 0], d.sigma[:, 0])
    np.testing.assert_allclose(d.pdf(x), there.pdf(x))
    np.testing.assert_allclose(d.log_pdf(x + 90), there.logpdf(x + 90))  # far in the tail, where the pdf is 0
    np.testing.assert_allclose(d.cdf(x), there.cdf(x))


def test_samples_agree_with_scipy():
    d = samples()
    for i in range(N):
        factor = d.bandwidth[i] / np.sqrt(np.cov(d.value[i], aweights=d.weight[i]))
        there = stats.gaussian_kde(d.value[i], bw_method=factor, weights=d.weight[i])
        x = np.linspace(0, 1, 9)
        np.testing.assert_allclose(d.pdf(np.tile(x, (N, 1)))[i], there(x), rtol=1e-10)


def test_silverman_agrees_with_the_rule():
    x = np.random.default_rng(0).normal(size=(1, 4000))
    iqr = np.subtract(*np.percentile(x, [75, 25]))
    np.testing.assert_allclose(Samples(x).bandwidth, 0.9 * min(x.std(), iqr / 1.34) * 4000**-0.2, rtol=1e-3)
    assert (Samples(np.ones((2, 1))).bandwidth > 0).all()


def test_samples_of_weight_0_are_dropped():
    d = Samples(np.tile(np.arange(50.0), (2, 1)), np.eye(50)[[3, 7]], bandwidth=0.1)
    assert d.value.shape == (2, 1)
    np.testing.assert_allclose(d.best(), [3, 7])


def test_warped_agrees_with_the_lognormal():
    d = Warped(Mixture(np.ones((1, 1)), [[0.3]], [[0.2]]), Log())
    there = stats.lognorm(0.2, scale=np.exp(0.3))
    x = np.linspace(0.5, 3, 20)
    np.testing.assert_allclose(d.pdf(x[None])[0], there.pdf(x))
    np.testing.assert_allclose(d.cdf(x[None])[0], there.cdf(x))
    np.testing.assert_allclose(d.mean(), there.mean(), rtol=1e-10)


def test_ties_between_quantiles():
    d = Quantiles([0.25, 0.5, 0.75], np.array([[1.0, 1.0, 1.0], [0.0, 1.0, 1.0]]))
    assert np.isfinite(d.log_pdf(np.array([1.0, 0.5]))).all()
    np.testing.assert_allclose(d.quantile(np.array([0.3, 0.6]))[0], 1)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Categorical([[0.5, 0.6]], ("a", "b")), "add up to 1"),
        (lambda: Categorical([[0.5, 0.5]], ("a",)), "2 columns of probabilities for 1"),
        (lambda: Categorical([[np.nan, 1]], ("a", "b")), "not finite for 1 objects"),
        (lambda: Point([[1.0]]), "1 dimension"),
        (lambda: Point([np.inf, 1.0]), "not finite for 1 objects"),
        (lambda: Mixture([[1.0]], [[1.0, 2.0]], [[1.0]]), "one shape"),
        (lambda: Mixture([[1.0]], [[1.0]], [[0.0]]), "sigma must be positive"),
        (lambda: Mixture([[0.4]], [[1.0]], [[1.0]]), "add up to 1"),
        (lambda: Samples([[1.0]], [[-1.0]]), "non-negative"),
        (lambda: Samples([[1.0]], bandwidth=0), "bandwidth"),
        (lambda: Quantiles([0.5, 0.2], [[0.0, 1.0]]), "increase"),
        (lambda: Quantiles([0.2, 0.5], [[1.0, 0.0]]), "not decrease"),
        (lambda: mixture().quantile([0.0]), "between 0 and 1"),
        (lambda: Point([1.0]).pdf([1.0]), "no density"),
        (lambda: concatenate([]), "no predictions"),
        (lambda: concatenate([Point([1.0]), mixture()]), "different types"),
        (lambda: concatenate([Warped(mixture(), Log(1)), Warped(mixture(), Log(2))]), "changes of variable"),
        (lambda: from_columns({"id": ["a"]}), "hold no prediction"),
        (lambda: from_columns({"prediction": ["a"]}, ("a",)), "no column 'a_p'"),
    ],
)
def test_mistakes_are_told_in_a_sentence(make, words):
    with pytest.raises(GsnnError, match=words):
        make()
