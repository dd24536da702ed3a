"""The faces for Gymnasium: its own checks, the project's returns, vectors and seeds."""

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from ctcontrol import ControlProblem, CtcontrolError, GaussianPolicy, TimeGrid, simulate
from ctcontrol.exact import lq
from ctcontrol.gymnasium import ControlEnv, VectorControlEnv
from tests.helpers import seeded
from tests.problems import GaussianDiffusion, regulator
from tests.tables import plant

PROBLEMS: dict[str, tuple[ControlProblem, tuple[int, ...]]] = {
    "regulator": (regulator().problem, (2,)),
    "plant": (plant().problem(torch.float32), (2,)),
    "fine-tuning": (GaussianDiffusion().control(0.5, linear=1.3, square=0.4).problem, (1,)),
}


def _grid(problem: ControlProblem, steps: int = 8) -> TimeGrid:
    return TimeGrid.uniform(problem.horizon, steps)


@pytest.mark.parametrize("name", PROBLEMS)
def test_gymnasium_finds_nothing_to_say(name: str) -> None:
    """But that the state is not bounded, which is so, and that `gymnasium.make` was not used."""
    problem, shape = PROBLEMS[name]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        check_env(ControlEnv(problem, _grid(problem), shape))
    known = ("value is infinity", "value is -infinity", "not having a spec")
    assert [w for w in said if not any(k in str(w.message) for k in known)] == []


def _return(env: ControlEnv, policy: lq.LinearGaussianPolicy, seed: int) -> float:
    observation, info = env.reset(seed=seed)
    total, weight, ended = 0.0, 1.0, False
    while not ended:
        with torch.no_grad():
            t, x = torch.tensor(observation[:1]), torch.tensor(observation[None, 1:])
            action = policy.dist(t, x, None).mean[0].numpy() / 4
        observation, reward, ended, truncated, info = env.step(action.astype(np.float32))
        assert not truncated
        total += weight * reward
        weight *= info["discount_factor"]
    return total


def test_rewards_add_up_to_the_return() -> None:
    """The mean over episodes is J of the chain, in closed form."""
    problem = plant(initial_covariance=0.02, volatility=0.1)
    policy = lq.LinearGaussianPolicy([[0.4, 0.1, 0.0], [0.0, 0.3, -0.2]], dtype=torch.float32)
    grid = _grid(problem.problem(), 5)
    env = ControlEnv(problem.problem(torch.float32), grid, (2,), action_scale=4.0)
    returns = np.array([_return(env, policy, seed) for seed in range(300)])
    exact = problem.chain(grid.times.numpy()).expected_return(policy)
    assert abs(returns.mean() - exact) < 4 * returns.std() / 300**0.5


class TestVector:
    def test_it_is_a_rollout(self) -> None:
        linear = regulator()
        problem, grid = linear.problem, _grid(linear.problem, 4)
        env = VectorControlEnv(problem, grid, 6, (2,))
        observation, _ = env.reset(seed=3)
        assert observation.shape == (6, 3)
        assert env.observation_space.contains(observation)
        policy = GaussianPolicy(linear.mean(linear.zero + 0.3, linear.k0))
        seed = int(np.random.Generator(np.random.PCG64(np.random.SeedSequence(3))).integers(2**63))
        path = simulate(problem, policy, grid, 6, generator=seeded(seed))
        total, weight = np.zeros(6), np.ones(6)
        for k in range(4):
            np.testing.assert_allclose(observation[:, 1:], path.states[k].float(), rtol=1e-6)
            np.testing.assert_allclose(observation[:, 0], float(grid.times[k]), rtol=1e-6)
            step = env.step(path.actions[k].float().numpy())
            observation, rewards, ended, truncated, info = step
            total, weight = total + weight * rewards, weight * info["discount_factor"]
            assert ended.tolist() == [k == 3] * 6
            assert not truncated.any()
        np.testing.assert_allclose(total, path.returns(), rtol=1e-5)

    def test_after_the_end_it_begins_again(self) -> None:
        problem = regulator().problem
        env = VectorControlEnv(problem, _grid(problem, 2), 3, (2,))
        assert env.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
        start, _ = env.reset(seed=1)
        actions = env.action_space.sample()
        for _ in range(2):
            env.step(actions)
        observation, rewards, ended, _, _ = env.step(actions)
        assert not rewards.any()
        assert not ended.any()
        assert (observation[:, 0] == 0).all()
        assert not np.allclose(observation, start)

    def test_the_same_seed_gives_the_same_episodes(self) -> None:
        problem = regulator().problem
        env, other = (VectorControlEnv(problem, _grid(problem, 2), 3, (2,)) for _ in range(2))
        one, two = env.reset(seed=1)[0], other.reset(seed=1)[0]
        assert np.array_equal(one, two)
        assert not np.array_equal(env.reset()[0], one)
        assert not np.array_equal(
            VectorControlEnv(problem, _grid(problem), 3, (2,)).reset()[0], one
        )


class TestDoors:
    def _env(self, **changes: Any) -> ControlEnv:
        problem = changes.pop("problem", regulator().problem)
        return ControlEnv(problem, _grid(problem), (2,), **changes)

    def test_scale(self) -> None:
        with pytest.raises(CtcontrolError, match="action_scale must be a finite number > 0"):
            self._env(action_scale=0.0)

    def test_shape_of_actions(self) -> None:
        env = self._env()
        env.reset(seed=0)
        with pytest.raises(CtcontrolError, match=r"must have the shape \(1, 2\), got \(1, 3\)"):
            env.step(np.zeros(3, dtype=np.float32))

    def test_context(self) -> None:
        linear = regulator()

        def initial(batch: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
            return linear.initial(batch, generator)[0], torch.arange(batch)

        with pytest.raises(CtcontrolError, match="has a context besides; put the context into"):
            self._env(problem=replace(linear.problem, initial=initial))
