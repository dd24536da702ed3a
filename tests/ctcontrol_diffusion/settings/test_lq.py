from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from ctcontrol import ContinuousPPO, EulerMaruyama, GaussianPolicy, TimeGrid, simulate
from ctcontrol_diffusion import config as c
from ctcontrol_diffusion.build import Experiment, build
from ctcontrol_diffusion.presets import preset
from ctcontrol_diffusion.settings.lq import PIECES, GainSchedule, VectorResidual
from tests.helpers import assert_mean, normal, seeded

PRESET = preset("lq-smoke")
A, B = np.array([[0.0, 1.0], [0.0, 0.0]]), np.array([[0.0], [1.0]])
COST = np.diag([1.0, 0.1])


def quiet(done: int, of: int) -> None:
    pass


def riccati(
    control_cost: float, volatility: float, horizon: float
) -> tuple[float, float, np.ndarray]:
    """J of the optimum, J of no control, and the optimal gain in the middle of every piece."""
    noise = np.diag([0.1, volatility]) ** 2
    second = np.diag([0.25, 0.25]) + np.outer([1.0, 0.0], [1.0, 0.0])

    def rate(t: float, y: np.ndarray, controlled: bool) -> np.ndarray:
        P = y[:4].reshape(2, 2)
        bend = P @ B @ B.T @ P / control_cost if controlled else 0
        down = COST + A.T @ P + P @ A - bend
        return np.append(down.flatten(), np.trace(noise @ P))

    start = np.append(COST.flatten(), 0.0)
    middles = (np.arange(PIECES) + 0.5) * horizon / PIECES

    def solve(controlled: bool) -> tuple[float, np.ndarray]:
        found = solve_ivp(
            rate, (0, horizon), start, args=(controlled,), rtol=1e-11, atol=1e-12, dense_output=True
        )
        y = found.y[:, -1]
        P = found.sol(horizon - middles)[:4].T.reshape(-1, 2, 2)
        return -float(np.trace(y[:4].reshape(2, 2) @ second) + y[4]), B.T @ P / control_cost

    best, gain = solve(True)
    return best, solve(False)[0], gain


@pytest.mark.parametrize("problem", [c.LQ(), c.LQ(volatility=0.9, control_cost=0.2, horizon=1.3)])
def test_the_optimum_solves_the_riccati_equation(problem: c.LQ) -> None:
    setting = build(replace(PRESET, problem=problem)).setting
    best, nothing, gain = riccati(problem.control_cost, problem.volatility, problem.horizon)
    facts = setting.facts(quiet)
    assert facts.numbers["optimum"] == (pytest.approx(best, abs=1e-8), None)
    assert facts.numbers["initial_return"] == (pytest.approx(nothing, abs=1e-8), None)
    assert set(facts.texts) == set(facts.numbers)
    mean = setting.mean
    assert isinstance(mean, GainSchedule)
    (row,) = setting.evaluate(mean, quiet)
    assert row.numbers["expected return"][0] == pytest.approx(nothing, abs=1e-8)
    assert row.numbers["regret/initial"][0] == pytest.approx(1, abs=1e-12)
    with torch.no_grad():
        mean.linear.gain.copy_(torch.tensor(gain))
    (row,) = setting.evaluate(mean, quiet)
    assert 0 < row.numbers["regret/initial"][0] < 0.01  # ten pieces are nearly enough
    value, regret = row.numbers["expected return"][0], row.numbers["regret"][0]
    assert value + regret == pytest.approx(best, abs=1e-8)


def test_simulated_returns_are_the_exact_ones() -> None:
    setting, steps = build(PRESET).setting, 200
    grid = TimeGrid.uniform(setting.problem.horizon, steps)
    best, nothing, gain = riccati(0.5, 0.5, 2.0)
    mean = setting.mean
    assert isinstance(mean, GainSchedule)
    for truth in (nothing, best):
        policy = GaussianPolicy(mean)
        path = simulate(setting.problem, policy, grid, 4000, generator=seeded(1))
        assert_mean(path.returns(), truth, bias=0.02 * abs(truth))
        with torch.no_grad():
            mean.linear.gain.copy_(torch.tensor(gain))


def test_the_preset_finds_the_optimum() -> None:
    experiment = build(PRESET)
    setting = experiment.setting
    assert isinstance(setting.mean, GainSchedule)
    for _, iteration in zip(range(PRESET.iterations), experiment.iterations(), strict=False):
        assert iteration.trajectory.states.dtype == torch.float32
    (row,) = setting.evaluate(setting.mean, quiet)
    assert 0 <= row.numbers["regret/initial"][0] <= 0.02


@pytest.mark.parametrize(
    ("config", "left"),
    [
        (replace(PRESET, algorithm="pathwise"), 0.15),
        (replace(PRESET, algorithm="ddpo"), 0.9),
        (replace(PRESET, update=replace(PRESET.update, advantage="monte-carlo")), 0.75),
        (
            replace(
                PRESET,
                update=replace(PRESET.update, advantage="temporal-difference"),
                critic=replace(PRESET.critic, link="variance", fit="noise-aware"),
            ),
            0.4,
        ),
    ],
    ids=["pathwise", "ddpo", "monte-carlo", "temporal-difference"],
)
def test_other_algorithms_improve_it_too(config: c.Config, left: float) -> None:
    """Twelve iterations; the bounds are far above the spread over seeds, and below 1."""
    experiment = build(replace(config, iterations=12, rollout=replace(PRESET.rollout, batch=128)))
    setting = experiment.setting
    assert isinstance(setting.mean, GainSchedule)
    for _ in zip(range(12), experiment.iterations(), strict=False):
        pass
    (row,) = setting.evaluate(setting.mean, quiet)
    assert 0 <= row.numbers["regret/initial"][0] < left


def test_the_algorithm_is_that_of_the_digits() -> None:
    made: list[Experiment] = [build(preset(name)) for name in ("lq-smoke", "digits")]
    lq, digits = made
    assert type(lq.algorithm) is type(digits.algorithm) is ContinuousPPO
    assert type(lq.updater) is type(digits.updater)
    assert type(lq.value) is type(digits.value)
    assert isinstance(lq.setting.solver, EulerMaruyama)
    assert lq.setting.pictures is None


def test_the_policy_starts_by_doing_nothing_and_is_piecewise_constant() -> None:
    mean = GainSchedule(2.0)
    t, x = torch.linspace(0, 1.999, 40), normal(40, 2, dtype=torch.float32)
    assert torch.equal(mean(t, x, None), torch.zeros(40, 1))
    with torch.no_grad():
        mean.linear.gain[:, 0, 0] = torch.arange(PIECES)
        mean.linear.offset.fill_(0.5)
    pieces = (t / 0.2).floor()
    torch.testing.assert_close(mean(t, x, None), (0.5 - pieces * x[:, 0])[:, None])


def test_the_residual_is_a_quadratic_form_that_starts_at_zero() -> None:
    residual = VectorResidual(2, 2.0, 8)
    t, x = torch.linspace(0, 2, 7), normal(7, 2, dtype=torch.float32)
    assert torch.equal(residual(t, x, None), torch.zeros(7))
    torch.nn.init.normal_(residual.head.weight)
    h = normal(7, 2, seed=1, dtype=torch.float32)
    f = [residual(t, x + k * h, None) for k in range(4)]
    third = f[3] - 3 * f[2] + 3 * f[1] - f[0]
    torch.testing.assert_close(third, torch.zeros(7), rtol=0, atol=1e-3)
    assert bool(((f[2] - 2 * f[1] + f[0]).abs() > 0.01).any())
    assert bool(((residual(2 - t, x, None) - f[0]).abs() > 1e-3).any())
