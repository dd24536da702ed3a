from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ctcontrol import CtcontrolError
from ctcontrol.exact.lq import (
    Array,
    LinearGaussianLaw,
    LQProblem,
    Piecewise,
    StationaryLQ,
)
from tests.ctcontrol.exact.lq.systems import random_law, random_system
from tests.ctcontrol.exact.lq.test_functionals import moved, slope


@dataclass
class Case:
    """A problem and two policies with a finite return."""

    stationary: StationaryLQ
    law: LinearGaussianLaw
    other: LinearGaussianLaw

    @property
    def lq(self) -> LQProblem:
        return self.stationary.lq


@st.composite
def cases(draw: st.DrawFn) -> Case:
    d, m, seed = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(0, 10_000))
    temperature = draw(st.sampled_from([0.0, 0.4]))
    lq = random_system(seed, d, m, discount=draw(st.floats(0.3, 2)), temperature=temperature)
    stationary = StationaryLQ(lq)
    best = stationary.optimal_policy().gain(0.0)

    def near(seed: int) -> LinearGaussianLaw:
        law = random_law(seed, lq)
        push, by = law.gain(0.0), 1.0
        while True:  # back off until the return is finite with room to spare
            growth = np.linalg.eigvals(lq.A - lq.B @ (best + by * push)).real.max()
            if growth < 0.5 * lq.discount - 0.1 * abs(
                np.linalg.eigvals(lq.A - lq.B @ best).real.max() - 0.5 * lq.discount
            ):
                return LinearGaussianLaw(best + by * push, law.offset, law.covariance)
            by /= 2

    return Case(stationary, near(draw(st.integers(0, 1000))), near(draw(st.integers(0, 1000))))


def size_of(case: Case, law: LinearGaussianLaw) -> float:
    value = case.stationary.value(law)
    return max(1.0, *(float(np.abs(x).max()) for x in (value.P, value.p, value.c)))


@given(cases())
def test_the_value_solves_its_equation(case: Case) -> None:
    """b·∇V + ½tr(Ξ∇²V) + r + λ·entropy = ρV at the policy, at random states."""
    lq, law, value = case.lq, case.law, case.stationary.value(case.law)
    K, k, spread = law.at(0.0)
    for x in np.random.default_rng(0).normal(size=(4, lq.states)):
        u = k - K @ x
        cost = x @ lq.Q @ x + 2 * x @ lq.S @ u + u @ lq.R @ u + (lq.R * spread).sum()
        drift = (lq.A @ x + lq.B @ u) @ value.gradient(x)
        residual = drift - (lq.diffusion * value.P).sum() - cost + lq.entropy_rate(spread)
        assert abs(residual - lq.discount * value(x)) < 1e-9 * size_of(case, law)


@given(cases())
def test_long_horizons_have_the_same_value(case: Case) -> None:
    lq, law = case.lq, case.law
    decay = lq.discount - 2 * np.linalg.eigvals(lq.A - lq.B @ law.gain(0.0)).real.max()
    horizon = 40 / min(decay, lq.discount)
    assume(horizon < 300)  # else too long to integrate in a test
    fields = {n: getattr(lq, n) for n in ("A", "B", "Q", "R", "S", "volatility")}
    start = {"initial_mean": lq.initial_mean, "initial_covariance": lq.initial_covariance}
    long = LQProblem(
        **fields,
        **start,
        G=0 * lq.G,
        horizon=float(horizon),
        discount=lq.discount,
        temperature=lq.temperature,
    )
    gap = long.expected_return(law) - case.stationary.expected_return(law)
    assert abs(gap) < 1e-7 * size_of(case, law)


@given(cases())
def test_the_return_is_the_reward_under_the_occupation_law(case: Case) -> None:
    lq, law = case.lq, case.law
    K, k, spread = law.at(0.0)
    mean, xx = case.stationary.occupation(law)
    uu = K @ xx @ K.T - np.outer(K @ mean, k) - np.outer(k, K @ mean) + np.outer(k, k) + spread
    xu = np.outer(mean, k) - xx @ K.T
    cost = (lq.Q * xx).sum() + 2 * (lq.S * xu).sum() + (lq.R * uu).sum()
    identity = (lq.entropy_rate(spread) - cost) / lq.discount
    assert abs(identity - case.stationary.expected_return(law)) < 1e-9 * size_of(case, law)


@given(cases(), st.integers(0, 100))
def test_the_gradient_is_that_of_the_return(case: Case, seed: int) -> None:
    gradient = case.stationary.gradient(case.law)

    def shifted(name: str, direction: Array, by: float) -> float:
        law = moved(case.law, name, direction, by)
        arrays = (schedule(0.0) for schedule in law.schedules)
        return case.stationary.expected_return(LinearGaussianLaw(*arrays))

    for name in ("gain", "offset", "covariance"):
        exact = getattr(gradient, name)
        direction = np.random.default_rng(seed).normal(size=exact.shape)
        if name == "covariance":
            direction = direction + direction.T
        direction *= 0.02 / np.abs(direction).max()
        found = slope(lambda by, n=name, v=direction: shifted(n, v, by), 1e-3)
        reach = float(np.abs(exact).sum() * np.abs(direction).max()) + 1e-3 * size_of(
            case, case.law
        )
        assert abs(found - (exact * direction).sum()) < 1e-6 * reach, name


@given(cases())
def test_performance_difference_identity(case: Case) -> None:
    stationary = case.stationary
    before, after = (stationary.expected_return(law) for law in (case.law, case.other))
    identity = stationary.performance_difference(case.law, case.other)
    scale = max(size_of(case, case.law), size_of(case, case.other))
    assert abs(after - before - identity) < 1e-9 * scale


@given(cases())
def test_no_policy_beats_the_optimum(case: Case) -> None:
    best = case.stationary.optimal_policy()
    top = case.stationary.expected_return(best)
    assert top >= case.stationary.expected_return(case.law)
    gradient = case.stationary.gradient(best)
    assert np.abs(gradient.gain).max() < 1e-8 * size_of(case, best)
    assert np.abs(gradient.offset).max() < 1e-8 * size_of(case, best)
    lq = case.lq
    value = case.stationary.value(best)
    U = value.P @ lq.B + lq.S
    residual = lq.Q + lq.A.T @ value.P + value.P @ lq.A - lq.discount * value.P
    residual -= U @ np.linalg.solve(lq.R, U.T)
    assert np.abs(residual).max() < 1e-9 * size_of(case, best)
    if lq.temperature > 0:
        # ρp = tr(ΞP) − λ/2 [m log(πλ) − log det R] with the optimal spread λ/2 R⁻¹.
        bonus = lq.actions * np.log(np.pi * lq.temperature) - np.linalg.slogdet(lq.R)[1]
        constant = (lq.diffusion * value.P).sum() - 0.5 * lq.temperature * bonus
        assert abs(lq.discount * value.c - constant) < 1e-9 * size_of(case, best)
        cost = lq.temperature * lq.actions / 2  # what exploring costs, a unit of time
        assert abs((lq.R * best.covariance(0.0)).sum() - cost) < 1e-12


def test_occupation_of_an_ornstein_uhlenbeck_process() -> None:
    lq = LQProblem(
        A=[[-0.9]],
        B=[[1.0]],
        Q=[[1.0]],
        R=[[1.0]],
        G=[[0.0]],
        volatility=0.7,
        horizon=1.0,
        discount=0.5,
        initial_mean=[1.2],
    )
    mean, second = StationaryLQ(lq).occupation(LinearGaussianLaw([[0.0]]))
    assert abs(second[0, 0] - 0.5260869565) < 1e-10
    assert abs(mean[0] - 0.5 * 1.2 / 1.4) < 1e-12


def test_what_has_no_finite_return_is_refused() -> None:
    unstable = random_system(1, 2, 1, A=np.diag([0.5, -1.0]), discount=0.4, temperature=0.0)
    with pytest.raises(CtcontrolError, match=r"grows like e\^\{0\.5 t\}.* half the discount, 0\.2"):
        StationaryLQ(unstable).value(LinearGaussianLaw(np.zeros((1, 2))))
    beyond = random_system(
        1, 2, 1, A=np.diag([0.5, -1.0]), B=[[0.0], [1.0]], discount=0.4, temperature=0.0
    )
    with pytest.raises(CtcontrolError, match="no policy has a finite return"):
        StationaryLQ(beyond).optimal_policy()
    with pytest.raises(CtcontrolError, match="discount must be > 0, got 0"):
        StationaryLQ(random_system(1, 1, 1, discount=0.0))
    changing = LinearGaussianLaw(Piecewise(np.array([0.0, 1.0]), np.ones((1, 1, 2))))
    with pytest.raises(CtcontrolError, match="constant in time"):
        StationaryLQ(unstable).value(changing)


def test_holding_the_action_costs_in_proportion_to_how_long() -> None:
    """The best held action in a scalar problem, by quadrature over one interval."""
    a, sigma, R, rho = 0.3, 0.7, 0.5, 0.4
    lq = LQProblem(
        A=[[a]],
        B=[[1.0]],
        Q=[[1.0]],
        R=[[R]],
        G=[[0.0]],
        volatility=sigma,
        horizon=1.0,
        discount=rho,
        initial_mean=[1.0],
    )
    stationary = StationaryLQ(lq)
    best = stationary.expected_return(stationary.optimal_policy())

    def held(dt: float) -> float:
        s, w = np.polynomial.legendre.leggauss(20)
        s, w = dt * (s + 1) / 2, dt * w / 2 * np.exp(-rho * dt * (s + 1) / 2)
        E, H = np.exp(a * s), np.expm1(a * s) / a  # X_s = E x + H u + noise
        xx, xu, uu = w @ E**2, w @ (E * H), w @ H**2 + R * w.sum()
        last, push, decay = np.exp(a * dt), np.expm1(a * dt) / a, np.exp(-rho * dt)
        p = 1.0
        for _ in range(4000):
            cross = xu + decay * last * push * p
            p = xx + decay * last**2 * p - cross**2 / (uu + decay * push**2 * p)
        variance = lambda t: sigma**2 * np.expm1(2 * a * t) / (2 * a)
        return -p - (w @ variance(s) + decay * p * variance(dt)) / (1 - decay)

    steps, golden = (0.2, 0.1, 0.05, 0.025), (-0.1494, -0.0726, -0.0358, -0.0178)
    for dt, expected in zip(steps, golden, strict=True):
        assert abs(held(dt) - best - expected) < 5e-5
