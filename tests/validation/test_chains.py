"""Exact means of the scheme of Euler and Maruyama, each found in another way."""

import numpy as np
import pytest

from validation._chains import advantage, backward, gaussian, nodes
from validation._gradients import expectation
from validation._log_mean import log_of_mean
from validation._problems import correction, gaussian_tilt, two_state_law, two_states


def test_nodes_have_the_moments_of_the_library() -> None:
    lq, law = two_states(), two_state_law(0.4)
    means, covariances = lq.chain(np.linspace(0, 1, 13)).moments(law)
    chain = nodes(lq, law, 12)
    np.testing.assert_allclose(chain.means, means, atol=1e-14)
    np.testing.assert_allclose(chain.covariances, covariances, atol=1e-14)


def test_two_nodes_are_correlated_through_the_flow() -> None:
    chain = nodes(two_states(), two_state_law(0.4), 5)
    np.testing.assert_allclose(chain.between(2, 2), chain.covariances[2])
    expected = chain.flows[3] @ chain.flows[2] @ chain.covariances[2]
    np.testing.assert_allclose(chain.between(2, 4), expected)


def test_backward_induction_agrees_with_the_moments() -> None:
    """Of the chain of a reverse diffusion, whose coefficients move with time."""
    tilt, law, steps = gaussian_tilt(), correction(0.3, -0.2), 20
    chain = nodes(tilt, law, steps)

    def drift(t: float, x: np.ndarray) -> np.ndarray:
        now = tilt.coefficients(t)
        return (now.A[0, 0] - 0.2 * now.B[0, 0]) * x + now.f[0] + 0.3 * now.B[0, 0]

    def spread(t: float) -> float:
        return float(tilt.coefficients(t).diffusion[0, 0]) ** 0.5

    start = gaussian(float(chain.means[0, 0]), float(chain.covariances[0, 0, 0]), 40)
    found = backward(start, lambda x: x**2, drift, spread, lambda t, x: x, 1.0, steps)
    end = chain.covariances[-1, 0, 0] + chain.means[-1, 0] ** 2
    assert found == pytest.approx(end - chain.step * chain.means[:-1, 0].sum(), abs=1e-6)


def test_an_advantage_along_its_own_policy_is_zero() -> None:
    lq, law = two_states(), two_state_law(0.4)
    assert advantage(lq.advantage_rate(law), lq, law, 10) == pytest.approx(0, abs=1e-12)


def test_the_gradient_on_a_grid_tends_to_the_gradient() -> None:
    limit = float(two_states().gradient(two_state_law(0.1)).offset[0])
    coarse, fine = (expectation(0.1, n) for n in (200, 400))
    assert 2 * fine - coarse == pytest.approx(limit, abs=1e-5)


def test_the_logarithm_of_a_mean_of_two() -> None:
    values, odds = np.array([1.0, 3.0]), np.array([0.25, 0.75])
    pairs = np.log((values[:, None] + values) / 2)
    expected = odds @ pairs @ odds - np.log(odds @ values)
    assert log_of_mean(values, odds, 2) == pytest.approx(expected, abs=1e-10)
