"""The Ornstein–Uhlenbeck process: eigenfunctions, occupation moments, values."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from ctcontrol import CtcontrolError, TimeGrid, simulate
from ctcontrol.exact.ou import OrnsteinUhlenbeck
from tests.helpers import assert_mean

HERMITE = {1: [0, 1], 2: [-1, 0, 1], 3: [0, -3, 0, 1]}


def eigenfunction(n: int, scale: float) -> list[float]:
    """He_n(x/ℓ) as a polynomial in x."""
    return [c / scale**j for j, c in enumerate(HERMITE[n])]


SCALE = 0.7 / math.sqrt(1.8)
GOLDEN = OrnsteinUhlenbeck(
    rate=0.9, volatility=0.7, discount=0.5, running=eigenfunction(3, SCALE), initial_mean=1.2
)

numbers = st.floats(-2, 2)
processes = st.builds(
    OrnsteinUhlenbeck,
    rate=st.floats(0.2, 3),
    volatility=st.floats(0.2, 2),
    running=st.lists(numbers, min_size=1, max_size=5),
    terminal=st.lists(numbers, min_size=1, max_size=5),
    discount=st.floats(0.1, 2),
    horizon=st.floats(0.3, 3),
    initial_mean=numbers,
    initial_variance=st.floats(0, 1),
)


def test_golden_values() -> None:
    value = GOLDEN.value().at(
        torch.zeros(1, dtype=torch.float64), torch.tensor([[1.2]], dtype=torch.float64), None
    )
    assert abs(float(value) - 1.6457590697) < 1e-10
    assert abs(GOLDEN.expected_return() - 1.6457590697) < 1e-10
    assert abs(GOLDEN.occupation_moment(2) - 0.5260869565) < 1e-10
    assert abs(GOLDEN.occupation_moment(1) - 0.5 * 1.2 / 1.4) < 1e-12
    assert abs(GOLDEN.occupation_moment(0) - 1) < 1e-12
    # η = E_d[r]/ρ, with the normalized law
    moments = [GOLDEN.occupation_moment(j) for j in range(4)]
    assert abs(np.dot(eigenfunction(3, SCALE), moments) / 0.5 - 1.6457590697) < 1e-9


@pytest.mark.parametrize("n", [1, 2, 3])
def test_eigenfunctions_decay_at_their_own_rate(n: int) -> None:
    """V = e^{−(ρ + nk)(T − t)} He_n for a terminal reward, He_n/(ρ + nk) for a running one."""
    h = eigenfunction(n, SCALE)
    kept = {"rate": 0.9, "volatility": 0.7, "discount": 0.5}
    x = torch.tensor([[1.2], [-0.4]], dtype=torch.float64)
    polynomial = torch.tensor(np.polynomial.polynomial.polyval(x[:, 0].numpy(), h))
    t = torch.tensor([0.3, 1.1], dtype=torch.float64)
    end = OrnsteinUhlenbeck(**kept, terminal=h, horizon=2.0).value().at(t, x, None)
    assert torch.allclose(end, torch.exp(-(0.5 + 0.9 * n) * (2 - t)) * polynomial, rtol=1e-12)
    running = OrnsteinUhlenbeck(**kept, running=h).value().at(t, x, None)
    assert torch.allclose(running, polynomial / (0.5 + 0.9 * n), rtol=1e-12)


@given(processes, st.integers(0, 1000))
def test_the_value_solves_its_equation(ou: OrnsteinUhlenbeck, seed: int) -> None:
    """∂V/∂t − kxV′ + ½σ²V″ − ρV + r = 0, V(T) = h, and J = E V(0, X_0)."""
    assert ou.horizon is not None
    rng = torch.Generator().manual_seed(seed)
    t = ou.horizon * torch.rand(6, generator=rng, dtype=torch.float64)
    x = torch.randn(6, 1, generator=rng, dtype=torch.float64)
    problem, value = ou.problem(), ou.value()
    jet = value.jet(t, x, None, hessian=True)
    assert jet.hessian is not None
    slope, bend = jet.gradient[:, 0], jet.hessian[:, 0, 0]
    reward = problem.reward.running(t, x, torch.zeros_like(x), None)
    terms = [
        jet.time,
        -ou.rate * x[:, 0] * slope,
        0.5 * ou.volatility**2 * bend,
        -ou.discount * jet.value,
        reward,
    ]
    size = 1 + torch.stack(terms).abs().max()
    assert float(torch.stack(terms).sum(0).abs().max() / size) < 1e-10
    end = value.at(torch.full_like(t, ou.horizon), x, None)
    scale = 1 + float(end.abs().max())
    assert torch.allclose(end, problem.reward.terminal(x, None), atol=1e-9 * scale)
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    start = torch.tensor(ou.initial_mean + math.sqrt(ou.initial_variance) * nodes)[:, None]
    mean = torch.tensor(weights / weights.sum()) @ value.at(
        torch.zeros(8, dtype=torch.float64), start, None
    )
    assert abs(float(mean) - ou.expected_return()) < 1e-9 * (1 + abs(float(mean)))


@given(processes)
def test_occupation_moments_are_integrals_of_moments(ou: OrnsteinUhlenbeck) -> None:
    def second(t: float) -> float:
        mean, variance = ou.moments(t)
        return ou.discount * math.exp(-ou.discount * t) * (mean**2 + variance)

    expected = quad(second, 0, 100 / ou.discount, epsabs=1e-11, epsrel=1e-11, limit=400)[0]
    assert ou.occupation_moment(2) == pytest.approx(expected, rel=1e-8)


def test_sampled_occupation(generator: torch.Generator) -> None:
    x = GOLDEN.sample_occupation(40_000, generator)
    for power in (1, 2, 3):
        assert_mean(x[:, 0] ** power, GOLDEN.occupation_moment(power))


def test_simulated_returns_without_a_horizon(generator: torch.Generator) -> None:
    """The problem is cut where its own value is paid."""
    ou = OrnsteinUhlenbeck(
        rate=0.9, volatility=0.7, discount=0.5, running=[0.3, 0.2, 1.0], initial_mean=1.2
    )
    steps = 100
    path = simulate(
        ou.problem(1.5), ou.policy(), TimeGrid.uniform(1.5, steps), 8000, generator=generator
    )
    assert_mean(path.returns(), ou.expected_return(), bias=3 * 1.5 / steps)


def test_without_a_discount_only_centered_rewards_have_a_value() -> None:
    facts = {"rate": 1.0, "volatility": 1.0, "horizon": 2.0}
    centered = OrnsteinUhlenbeck(**facts, running=[-0.5, 0.0, 1.0], initial_mean=1.0)
    mean = (1 - math.exp(-4.0)) / 2 * 0.5
    assert centered.expected_return() == pytest.approx(mean, rel=1e-12)
    lifted = OrnsteinUhlenbeck(**facts, running=[0.5, 0.0, 1.0], initial_mean=1.0)
    assert lifted.expected_return() == pytest.approx(mean + 2.0, rel=1e-12)
    with pytest.raises(CtcontrolError, match="adds up linearly in time"):
        lifted.value()


def test_bad_input_is_refused() -> None:
    with pytest.raises(CtcontrolError, match="without a horizon the discount must be > 0"):
        OrnsteinUhlenbeck(rate=1.0, volatility=1.0)
    with pytest.raises(CtcontrolError, match="a terminal reward needs a horizon"):
        OrnsteinUhlenbeck(rate=1.0, volatility=1.0, discount=1.0, terminal=[1.0])
    with pytest.raises(CtcontrolError, match="running must be the coefficients"):
        OrnsteinUhlenbeck(rate=1.0, volatility=1.0, discount=1.0, running=2.0)
    with pytest.raises(CtcontrolError, match="a simulation needs one horizon"):
        GOLDEN.problem()
    with pytest.raises(CtcontrolError, match="occupation law needs a discount > 0"):
        OrnsteinUhlenbeck(rate=1.0, volatility=1.0, horizon=1.0).occupation_moment(2)
