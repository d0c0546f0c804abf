"""Response surfaces: what is known in closed form."""

import numpy as np
import pytest
import torch

from gsnn.data.response import polynomial, response_of_powers


def test_a_polynomial_has_all_products_of_arrays_and_of_tensors():
    theta = np.array([[2.0, 3.0], [5.0, 7.0]])
    np.testing.assert_array_equal(polynomial(theta, 2), [[1, 2, 3, 4, 6, 9], [1, 5, 7, 25, 35, 49]])
    np.testing.assert_array_equal(polynomial(torch.tensor(theta), 2), polynomial(theta, 2))
    np.testing.assert_array_equal(polynomial(theta[:, :0], 2), [[1], [1]])


@pytest.mark.parametrize("modes", [1, 2, 30])
def test_powers_of_few_modes_tell_their_response_and_its_mean_without_a_bias(modes):
    random = np.random.default_rng(modes)
    theta = random.uniform(-1, 1, (4000, 2))
    terms, want = polynomial(theta, 2), np.array([0.3, 1.0, 0.0, 0.0, 0.2, -0.5])[:, None]
    power = np.exp(terms @ want) * random.chisquare(modes, (4000, 1)) / modes
    found = response_of_powers(terms, power)
    assert (power / np.exp(terms @ found)).mean() == pytest.approx(1, abs=1e-6)
    error = np.sqrt(2 / modes * np.diag(np.linalg.inv(terms.T @ terms)))[:, None]
    assert abs((found - want) / error).max() < 4
