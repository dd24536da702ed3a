"""An action that moves by an SDE of its own: it joins the state, and its drift is the control."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ctcontrol._checks import CtcontrolError, check_nonnegative, check_positive
from ctcontrol._policy import Policy
from ctcontrol._problem import ControlProblem
from ctcontrol._reward import Reward
from ctcontrol._sde import ActionAffineSDE, ControlledSDE
from ctcontrol._tensor import fill, inner
from ctcontrol._typing import Action, Context, InitialLaw, Noise, Scalar, State, Time
from ctcontrol._volatility import ScalarVolatility, Volatility


def action_as_state(
    problem: ControlProblem,
    start: Policy,
    *,
    states: int,
    action_volatility: float,
    control_cost: float,
) -> ControlProblem:
    """The problem with state z = (x, a), da = Ψ dt + σ_a dW^a, control Ψ and reward r − ½λ|Ψ|².

    Here Q(t, x, a) = V(t, z) is a value function, and the best drift against it is Ψ′ = ∂_a Q/λ
    (2510.17122; docs/theory, actions as states). That is what `ProximalRegression` regresses on,
    and where `PathwisePolicyGradient` comes to rest; the problem needs no algorithm of its own.
    Volatility that depends on the action is welcome: in the new problem it depends on the state.

    Args:
        problem: vector states and actions, without a regularizer.
        start: draws the first action a_0 at (0, X_0).
        states: number of coordinates of x; the first ones of z.
        action_volatility: σ_a ≥ 0, per square root of a unit of time.
        control_cost: λ > 0, reward per unit of |Ψ|²/2 and of time.

    Raises:
        CtcontrolError: a number out of its range, or a problem with a regularizer, which would
            speak of the law of an action that is a state now.
    """
    if problem.regularizer is not None:
        raise CtcontrolError(
            f"the action becomes a state, so {problem.regularizer} has nothing to measure; leave "
            "the regularizer out and choose control_cost"
        )
    sde = ActionAsStateSDE(
        problem.sde, states, check_nonnegative("action_volatility", action_volatility)
    )
    reward = ActionAsStateReward(
        problem.reward, states, check_positive("control_cost", control_cost)
    )
    return ControlProblem(sde, reward, _started(problem, start), problem.horizon, problem.discount)


def _started(problem: ControlProblem, start: Policy) -> InitialLaw:
    @torch.no_grad()
    def initial(batch: int, generator: torch.Generator) -> tuple[Tensor, Context]:
        x, context = problem.initial(batch, generator)
        return torch.cat([x, start.dist(fill(0.0, x), x, context).sample(generator)], 1), context

    return initial


@dataclass(frozen=True, eq=False)
class ActionAsStateSDE(ActionAffineSDE):
    """d(x, a) = (b(t, x, a), Ψ) dt + (σ(t, x, a) dW, σ_a dW^a).

    Attributes:
        inner: the SDE of x.
        states: coordinates of x.
        action_volatility: σ_a.
    """

    inner: ControlledSDE
    states: int
    action_volatility: float

    def free_drift(self, t: Time, x: State, context: Context) -> State:
        plant, action = x[:, : self.states], x[:, self.states :]
        drift = self.inner.drift(t, plant, action, context)
        return torch.cat([drift, torch.zeros_like(action)], 1)

    def action_drift(self, t: Time, a: Action) -> State:
        return torch.cat([a.new_zeros(len(a), self.states), a], 1)

    def volatility(self, t: Time, x: State, a: Action | None = None) -> Volatility:
        plant, action = x[:, : self.states], x[:, self.states :]
        first = self.inner.volatility(t, plant, action)
        noises = first.noise_like(plant).shape[1]
        return BlockVolatility(
            first, ScalarVolatility(fill(self.action_volatility, x)), self.states, noises
        )


@dataclass(frozen=True, eq=False)
class ActionAsStateReward(Reward):
    """r(t, x, a) − ½λ|Ψ|² and h(x), on z = (x, a).

    Attributes:
        inner: r and h.
        states: coordinates of x.
        control_cost: λ.
    """

    inner: Reward
    states: int
    control_cost: float

    def running(self, t: Time, x: State, a: Action, context: Context) -> Scalar:
        plant, action = x[:, : self.states], x[:, self.states :]
        effort = 0.5 * self.control_cost * inner(a, a)
        return self.inner.running(t, plant, action, context) - effort

    def terminal(self, x: State, context: Context) -> Scalar:
        return self.inner.terminal(x[:, : self.states], context)


@dataclass(frozen=True, eq=False)
class BlockVolatility(Volatility):
    """diag(first, second): two independent noises for the two parts of a vector state.

    Attributes:
        first: of the first `states` coordinates, with `noises` noises.
        second: of the others.
        states: coordinates of the first part.
        noises: noises of the first part.
    """

    first: Volatility
    second: Volatility
    states: int
    noises: int

    def mul(self, noise: Noise) -> State:
        parts = noise[:, : self.noises], noise[:, self.noises :]
        return torch.cat([self.first.mul(parts[0]), self.second.mul(parts[1])], 1)

    def whiten(self, v: State) -> Noise:
        parts = v[:, : self.states], v[:, self.states :]
        return torch.cat([self.first.whiten(parts[0]), self.second.whiten(parts[1])], 1)

    def trace(self, hessian: Float[Tensor, "batch d d"]) -> Scalar:
        d = self.states
        return self.first.trace(hessian[:, :d, :d]) + self.second.trace(hessian[:, d:, d:])

    def noise_like(self, x: State) -> Noise:
        rest = self.second.noise_like(x[:, self.states :])
        return x.new_empty(len(x), self.noises + rest.shape[1])
