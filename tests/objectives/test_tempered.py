"""Sequential Monte Carlo against posteriors that are known: many objects at once, each by itself."""

import math

import numpy as np
import pytest
import torch

from gsnn.objectives.tempered import sample

CPU = torch.device("cpu")
ROWS = torch.arange(40)


def gaussian(centre, width):
    """log L of N(centre, width) for each object."""

    def log_likelihood(theta, places):
        return -0.5 * (((theta - centre[places][:, None]) / width) ** 2).sum(2)

    return log_likelihood


@pytest.mark.parametrize("width", [0.01, 0.3, 3.0])
def test_a_gaussian_likelihood_gets_its_posterior(width):
    """Mean c / (1 + w^2), variance w^2 / (1 + w^2) under a standard normal prior."""
    centre = torch.linspace(-1.5, 1.5, 40)[:, None].expand(40, 2)
    found = sample(gaussian(centre, width), ROWS, 800, 2, CPU).numpy()
    sigma = width / math.sqrt(1 + width**2)
    pulls = (found.mean(1) - centre.numpy() / (1 + width**2)) / sigma
    assert abs(pulls.mean()) < 0.05
    assert pulls.std() < 0.12  # 1 / sqrt(800) were the draws independent
    assert found.std(1).mean() / sigma == pytest.approx(1, abs=0.04)
    assert abs(np.corrcoef(found[0].T)[0, 1]) < 0.2


def test_two_modes_keep_their_weights():
    """Equal islands at -1 and 1 in a thousand widths' distance, the second three times as probable."""

    def log_likelihood(theta, places):
        one, other = (-0.5 * ((theta[..., 0] - c) / 2e-3) ** 2 for c in (-1, 1))
        return torch.logaddexp(one, other + math.log(3))

    found = sample(log_likelihood, ROWS, 1000, 1, CPU)[..., 0]
    assert (found > 0).float().mean() == pytest.approx(0.75, abs=0.05)
    assert found[found > 0].std() == pytest.approx(2e-3, rel=0.1)


def test_the_prior_comes_back_where_nothing_is_known():
    found = sample(lambda theta, places: torch.zeros(theta.shape[:2]), ROWS, 1000, 3, CPU)
    assert found.std() == pytest.approx(1, abs=0.02)
    assert found.mean() == pytest.approx(0, abs=0.02)


def test_an_object_does_not_depend_on_those_beside_it():
    centre = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    width = torch.logspace(-2, 0.5, 40)

    def log_likelihood(of):
        return lambda theta, places: gaussian(centre[of], 1.0)(theta, places) / width[of][places][:, None] ** 2

    whole = sample(log_likelihood(ROWS), ROWS, 100, 2, CPU)
    some = torch.tensor([31, 4])
    torch.testing.assert_close(sample(log_likelihood(some), some, 100, 2, CPU), whole[some], rtol=1e-3, atol=1e-3)
    assert sample(log_likelihood(some[:0]), some[:0], 100, 2, CPU).shape == (0, 100, 2)
