"""Linear dynamics, quadratic rewards, and the recursion that solves their chain."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ctcontrol import (
    Action,
    AdditiveNoiseSDE,
    Context,
    ControlProblem,
    ElementwiseActionSDE,
    Entropy,
    GaussianPolicy,
    PathKL,
    Regularizer,
    Reward,
    Scalar,
    ScalarVolatility,
    State,
    Time,
    TimeGrid,
    Volatility,
    inner,
    like,
)

OfTime = Callable[[Tensor], Tensor]
Scheme = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


def constant(value: float) -> OfTime:
    """t ↦ value."""
    return lambda t: torch.full_like(t, value)


@dataclass(frozen=True, eq=False)
class Isotropic(ElementwiseActionSDE, AdditiveNoiseSDE):
    """dX = (pull(t) X + gain(t) a) dt + spread(t) dW."""

    pull: OfTime
    gain: OfTime
    spread: OfTime

    def free_drift(self, t: Time, x: State, context: Context) -> State:
        return like(self.pull(t), x) * x

    def action_gain(self, t: Time) -> Scalar:
        return self.gain(t)

    def volatility(self, t: Time, x: State, a: Action | None = None) -> Volatility:
        return ScalarVolatility(self.spread(t))


@dataclass(frozen=True, eq=False)
class QuadraticReward(Reward):
    """r = −xᵀQx − R|a|², h = g·x − xᵀGx."""

    Q: Tensor
    R: float
    G: Tensor
    g: Tensor

    def running(self, t: Time, x: State, a: Action, context: Context) -> Scalar:
        return -inner(x @ self.Q, x) - self.R * inner(a, a)

    def terminal(self, x: State, context: Context) -> Scalar:
        return x @ self.g - inner(x @ self.G, x)


class Affine(nn.Module):
    """The mean action base(t) + k − (base slope(t) I + K) x; K and k are trained."""

    def __init__(self, K: Tensor, k: Tensor, slope: OfTime, offset: OfTime) -> None:
        super().__init__()
        self.K, self.k = nn.Parameter(K), nn.Parameter(k)
        self.slope, self.offset = slope, offset

    def forward(self, t: Tensor, x: Tensor, context: object) -> Tensor:
        return (
            like(self.offset(t), x)
            - like(self.slope(t), x) * x
            + self.k.to(x.dtype)
            - x @ self.K.mT.to(x.dtype)
        )


class LearnedStd(nn.Module):
    """exp(log_std) at all times."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.log_std = nn.Parameter(torch.tensor(math.log(std), dtype=torch.float64))

    def forward(self, t: Tensor) -> Tensor:
        return self.log_std.exp().expand(len(t))


@dataclass(frozen=True, eq=False)
class Quadratic:
    """xᵀPx + p·x + c."""

    P: Tensor
    p: Tensor
    c: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return inner(x @ self.P, x) + x @ self.p + self.c


@dataclass(frozen=True, eq=False)
class LinearProblem:
    """Isotropic dynamics, a quadratic reward, and a start N(start_mean, start_std² I).

    The reference policy has the mean offset(t) − slope(t) x. Without a `scheme` the chain is that
    of Euler and Maruyama.
    """

    sde: ElementwiseActionSDE
    reward: QuadraticReward
    horizon: float
    start_mean: Tensor
    start_std: float
    discount: float = 0.0
    kl_weight: float = 0.0
    temperature: float = 0.0
    slope: OfTime = field(default_factory=lambda: constant(0.0))
    offset: OfTime = field(default_factory=lambda: constant(0.0))
    scheme: Scheme | None = None

    def step(self, t0: Tensor, t1: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(decay, gain, std) of X' = decay X + gain a + std ξ."""
        if self.scheme is not None:
            return self.scheme(t0, t1)
        assert isinstance(self.sde, Isotropic)
        dt, sde = t1 - t0, self.sde
        return 1 + dt * sde.pull(t0), dt * sde.gain(t0), dt.sqrt() * sde.spread(t0)

    def initial(self, batch: int, generator: torch.Generator) -> tuple[Tensor, None]:
        """Initial states, no context."""
        noise = torch.randn(
            batch, len(self.start_mean), generator=generator, dtype=self.start_mean.dtype
        )
        return self.start_mean + self.start_std * noise, None

    @property
    def problem(self) -> ControlProblem:
        """The same for the library."""
        regularizer: Regularizer | None = None
        if self.kl_weight:
            regularizer = PathKL(GaussianPolicy(self.mean(0 * self.zero, self.k0)), self.kl_weight)
        elif self.temperature:
            regularizer = Entropy(self.temperature)
        return ControlProblem(
            self.sde, self.reward, self.initial, self.horizon, self.discount, regularizer
        )

    @property
    def zero(self) -> Tensor:
        """(d, d) zeros."""
        return torch.zeros(len(self.k0), len(self.k0), dtype=self.k0.dtype)

    @property
    def k0(self) -> Tensor:
        """(d,) zeros."""
        return torch.zeros_like(self.start_mean)

    def mean(self, K: Tensor, k: Tensor) -> Affine:
        """The mean of a policy that differs from the reference by k − K x."""
        return Affine(K.detach().clone(), k.detach().clone(), self.slope, self.offset)

    def values(
        self, grid: TimeGrid, K: Tensor, k: Tensor, std: Tensor, *, absorbs: bool = False
    ) -> list[Quadratic]:
        """The value of the chain at every node, differentiable in K, k and std.

        `std` is one number, or one a step; with `absorbs` the action is the only noise.
        """
        d, eye = len(self.k0), torch.eye(len(self.k0), dtype=self.k0.dtype)
        stds = std.expand(grid.steps)
        tail = Quadratic(-self.reward.G, self.reward.g, self.k0.sum())
        out, R = [tail], self.reward.R
        for j in reversed(range(grid.steps)):
            t, dt = grid.times[j : j + 1], grid.lengths[j]
            pull, gain, spread = self.step(t, t + dt)
            Kt, kt = self.slope(t) * eye + K, self.offset(t) + k
            F, f = pull * eye - gain * Kt, gain * kt
            noise = (gain * stds[j]) ** 2 + (0 if absorbs else spread**2)
            kl = 0.5 * self.kl_weight * (gain / spread) ** 2
            decay = math.exp(-self.discount * float(dt))
            P = (
                -dt * self.reward.Q
                - dt * R * Kt.mT @ Kt
                - kl * K.mT @ K
                + decay * F.mT @ tail.P @ F
            )
            p = 2 * dt * R * Kt.mT @ kt + 2 * kl * K.mT @ k
            p = p + decay * (2 * F.mT @ tail.P @ f + F.mT @ tail.p)
            c = -dt * R * (kt @ kt + d * stds[j] ** 2) - kl * k @ k
            if self.temperature:
                entropy = 0.5 * d * (1 + math.log(2 * math.pi)) + d * stds[j].log()
                c = c + self.temperature * dt * entropy
            c = c + decay * (f @ tail.P @ f + tail.p @ f + tail.c + noise * tail.P.trace())
            tail = Quadratic(0.5 * (P + P.mT), p, c.sum())
            out.append(tail)
        return out[::-1]

    def expected_return(
        self, grid: TimeGrid, K: Tensor, k: Tensor, std: Tensor, *, absorbs: bool = False
    ) -> Tensor:
        """J of the chain, exactly."""
        V, m = self.values(grid, K, k, std, absorbs=absorbs)[0], self.start_mean
        return V(m[None])[0] + self.start_std**2 * V.P.trace()

    def gradient(
        self, grid: TimeGrid, K: Tensor, k: Tensor, std: Tensor, *, absorbs: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """∂J/∂K, ∂J/∂k and ∂J/∂std of the chain, exactly."""
        leaves = [v.detach().clone().requires_grad_() for v in (K, k, std)]
        J = self.expected_return(grid, leaves[0], leaves[1], leaves[2], absorbs=absorbs)
        K_, k_, std_ = torch.autograd.grad(J, leaves, materialize_grads=True)
        return K_, k_, std_


def regulator(**changes: Any) -> LinearProblem:
    """Two coupled coordinates with discount, a running reward and constant coefficients."""
    settings: dict[str, Any] = {"discount": 0.4} | changes
    return LinearProblem(
        sde=Isotropic(constant(-0.3), constant(0.8), constant(0.6)),
        reward=QuadraticReward(
            Q=torch.tensor([[0.5, 0.2], [0.2, 0.9]], dtype=torch.float64),
            R=0.3,
            G=torch.tensor([[0.7, -0.1], [-0.1, 0.4]], dtype=torch.float64),
            g=torch.tensor([0.4, -0.5], dtype=torch.float64),
        ),
        horizon=1.2,
        start_mean=torch.tensor([0.8, -0.6], dtype=torch.float64),
        start_std=0.5,
        slope=constant(0.2),
        offset=constant(0.1),
        **settings,
    )
