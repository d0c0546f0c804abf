"""Curves as principal components: what goes in comes out, whatever of it the components can say."""

import numpy as np
import pytest
import torch

from gsnn.data.pca import PCA
from gsnn.errors import ConfigError, GsnnError


def curves(n=50, steps=40):
    random = np.random.default_rng(0)
    a, b, c = random.normal(size=(3, n, 1))
    x = np.linspace(0, 1, steps)
    positive = np.exp(0.2 * a + 0.1 * b * x + 0.05 * c * x**2)
    signed = a * np.sin(6 * x) + b * x
    return torch.tensor(np.stack([positive, signed], 1))


def fitted(values, components=3):
    made = PCA(values.shape[1], values.shape[2], components=components)
    made.fit(values)
    return made


def test_the_inverse_inverts_what_few_numbers_can_say():
    values = curves()
    made = fitted(values)
    parts = made(values.float())
    assert parts.shape == (50, 2, 3)
    torch.testing.assert_close(made.inverse(parts), values.float(), rtol=1e-4, atol=1e-4)
    assert made.positive.flatten().tolist() == [True, False]
    torch.testing.assert_close(parts[:, 0].std(0), torch.ones(3), rtol=1e-3, atol=1e-3)


def test_gradients_pass_through_several_positive_bands():
    values = curves()
    both = torch.stack([values[:, 0], values[:, 0] ** 2], 1)
    made = fitted(both)
    parts = made(both.float()).requires_grad_()
    told = made.inverse(parts)
    told.sum().backward()
    assert parts.grad.abs().min() > 0
    with torch.no_grad():
        torch.testing.assert_close(made.inverse(parts), told.detach())


def test_components_are_uncorrelated_and_in_order():
    values = curves()
    made = fitted(values)
    parts = made(values.float())[:, 0]
    torch.testing.assert_close(torch.corrcoef(parts.T), torch.eye(3), rtol=0, atol=1e-3)
    assert (made.spread.diff(dim=1) <= 0).all()


def test_fewer_components_lose_the_smallest_share():
    values = curves()
    error = [(fitted(values, k).inverse(fitted(values, k)(values.float())) - values).square().mean() for k in (1, 2, 3)]
    assert error[0] > error[1] > error[2]


def test_statistics_survive_saving():
    values = curves()
    made, empty = fitted(values), PCA(2, 40, components=3)
    empty.load_state_dict(made.state_dict())
    torch.testing.assert_close(empty(values.float()), made(values.float()))


@pytest.mark.parametrize(
    ("change", "told"),
    [(lambda v: v[:3], "3 training curves cannot teach 3 components"), (lambda v: v.log(), "have no gaps")],
)
def test_curves_that_teach_nothing(change, told):
    with pytest.raises(GsnnError, match=told):
        fitted(change(curves()))


def test_a_step_that_never_varies_stays():
    values = curves()
    values[:, 0, 5] = 2.0
    made = fitted(values)
    torch.testing.assert_close(made.inverse(made(values.float()))[:, 0, 5], torch.full((50,), 2.0))


def test_no_components():
    with pytest.raises(ConfigError, match="at least one component"):
        PCA(1, 5, components=0)
