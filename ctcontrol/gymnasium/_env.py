"""`gymnasium.Env` and `gymnasium.vector.VectorEnv` over the same batch of paths."""

import math
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from ctcontrol._checks import CtcontrolError, check_kind, check_positive
from ctcontrol._episodes import Episodes
from ctcontrol._problem import ControlProblem
from ctcontrol._time_grid import TimeGrid
from ctcontrol.solvers import Scheme

Observation = NDArray[np.float32]
"""(t, x) as one vector, x flattened; (envs, …) in the vector environment."""


class _Faces:
    """What both environments have in common: spaces, numpy in and out, seeds."""

    def __init__(
        self,
        problem: ControlProblem,
        grid: TimeGrid,
        batch: int,
        action_shape: tuple[int, ...],
        action_scale: float,
        solver: Scheme | None,
        device: torch.device | str,
    ) -> None:
        self.scale = check_positive("action_scale", action_scale)
        check_kind("action_shape", action_shape, tuple, "one action of m coordinates is (m,)")
        generator = torch.Generator(device=device)
        self.seeded = False
        self.episodes = Episodes(problem, grid, batch, generator=generator, solver=solver)
        if self.episodes.context is not None:
            raise CtcontrolError(
                "an observation is (t, x), but this problem has a context besides; put the "
                "context into the state, or use Episodes, which shows it"
            )
        self.action_shape = action_shape
        size = 1 + math.prod(self.episodes.state.shape[1:])
        self.observations = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.actions = gymnasium.spaces.Box(-1.0, 1.0, action_shape, np.float32)

    def reset(self, reseed: bool, randomness: np.random.Generator) -> Observation:
        """Begin again; with `reseed`, and at first, with noise that follows from `randomness`."""
        if reseed or not self.seeded:
            self.episodes.generator.manual_seed(int(randomness.integers(2**63)))
            self.seeded = True
        self.episodes.reset()
        return self.observe()

    def observe(self) -> Observation:
        """(batch, 1 + states)."""
        x = self.episodes.state.flatten(1)
        time = torch.full_like(x[:, :1], self.episodes.time)
        return torch.cat([time, x], 1).float().cpu().numpy()

    def step(self, actions: NDArray[Any]) -> NDArray[np.float64]:
        """R_k of every path, (batch,)."""
        if not self.seeded:
            raise CtcontrolError("nothing has begun yet; call reset() first")
        shape = (self.episodes.batch, *self.action_shape)
        given = torch.as_tensor(np.asarray(actions)).to(self.episodes.state)
        if given.shape != shape:
            raise CtcontrolError(f"actions must have the shape {shape}, got {tuple(given.shape)}")
        return self.episodes.step(self.scale * given).double().cpu().numpy()


class ControlEnv(gymnasium.Env[Observation, NDArray[np.float32]]):
    """One path of a control problem; a step is one interval of the grid (see `Episodes`).

    Observations are (t, x) in float32, x flattened. An episode is terminated at the horizon, never
    truncated. `info` has the discount factor e^{−ρΔ} under which the rewards of an episode add up
    to the return that `simulate` gives; on a uniform grid it is the learner's gamma.

    Args:
        problem: without context and without `Entropy`.
        grid: decision times, spanning the problem's horizon.
        action_shape: of one action.
        action_scale: what 1 means: the action of the problem is this times the one given. The
            space is announced as [−1, 1]; nothing is clipped.
        solver: the scheme; Euler–Maruyama by default.
        device: where the problem's states live.

    Raises:
        CtcontrolError: a problem with context or entropy, a scale that is not positive, a grid
            that does not span the horizon.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 (Gymnasium's own declaration)

    def __init__(
        self,
        problem: ControlProblem,
        grid: TimeGrid,
        action_shape: tuple[int, ...],
        *,
        action_scale: float = 1.0,
        solver: Scheme | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self._faces = _Faces(problem, grid, 1, action_shape, action_scale, solver, device)
        self.observation_space = self._faces.observations
        self.action_space = self._faces.actions
        self.render_mode = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Draw a new initial state; the same `seed` gives the same episode."""
        super().reset(seed=seed)
        return self._faces.reset(seed is not None, self.np_random)[0], self._info()

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Hold the action over one interval."""
        info = self._info()
        reward = float(self._faces.step(np.asarray(action)[None])[0])
        return self._faces.observe()[0], reward, self._faces.episodes.ended, False, info

    def _info(self) -> dict[str, Any]:
        return {"discount_factor": self._faces.episodes.discount_factor}


class VectorControlEnv(VectorEnv[Observation, NDArray[np.float32], NDArray[Any]]):
    """Many paths of a control problem at once, as one tensor: no processes, no Python loop.

    All paths reach the horizon together. The step after that begins new ones, whatever its
    actions (Gymnasium's NEXT_STEP). Arguments, rewards and errors are those of `ControlEnv`.

    Args:
        problem: without context and without `Entropy`.
        grid: decision times, spanning the problem's horizon.
        num_envs: number of paths.
        action_shape: of one action.
        action_scale: what 1 means: the action of the problem is this times the one given. The
            space is announced as [−1, 1]; nothing is clipped.
        solver: the scheme; Euler–Maruyama by default.
        device: where the problem's states live.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 (Gymnasium's own declaration)
        "render_modes": [],
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        problem: ControlProblem,
        grid: TimeGrid,
        num_envs: int,
        action_shape: tuple[int, ...],
        *,
        action_scale: float = 1.0,
        solver: Scheme | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self._faces = _Faces(problem, grid, num_envs, action_shape, action_scale, solver, device)
        self.num_envs = num_envs
        self.single_observation_space = self._faces.observations
        self.single_action_space = self._faces.actions
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.render_mode = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Draw new initial states; the same `seed` gives the same episodes."""
        super().reset(seed=seed)
        return self._faces.reset(seed is not None, self.np_random), self._info()

    def step(
        self, actions: NDArray[np.float32]
    ) -> tuple[Observation, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Hold the actions over one interval, or begin again if the last step was the last."""
        never = np.zeros(self.num_envs, dtype=np.bool_)
        if self._faces.episodes.ended:
            observation = self._faces.reset(False, self.np_random)
            return observation, np.zeros(self.num_envs), never, never, self._info()
        info = self._info()
        rewards = self._faces.step(actions)
        ended = np.full(self.num_envs, self._faces.episodes.ended)
        return self._faces.observe(), rewards, ended, never, info

    def _info(self) -> dict[str, Any]:
        factor = np.full(self.num_envs, self._faces.episodes.discount_factor)
        return {"discount_factor": factor, "_discount_factor": np.ones(self.num_envs, np.bool_)}
