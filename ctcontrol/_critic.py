"""What a value function is regressed on."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from ctcontrol._along import gradients_along, values_along
from ctcontrol._checks import check_count, check_share
from ctcontrol._tensor import inner
from ctcontrol._trajectory import Trajectory, Transitions, discounted_to_go
from ctcontrol._value import Value


@dataclass(frozen=True, kw_only=True)
class Critic(ABC):
    """Least squares of V(t_k, X_k) on a target, by minibatches.

    Attributes:
        epochs: passes over the rollout.
        minibatch: rows a step of the optimiser.
        share: share of the rows used in a pass, in (0, 1].
    """

    epochs: int = 1
    minibatch: int = 512
    share: float = 1.0

    def __post_init__(self) -> None:
        check_count("critic epochs", self.epochs)
        check_count("critic minibatch", self.minibatch)
        check_share("critic share", self.share)

    @abstractmethod
    def targets(self, value: Value, trajectory: Trajectory) -> Tensor:
        """(steps, batch), without gradients."""

    def loss(self, value: Value, rows: Transitions) -> Tensor:
        """½ mean (V − target)²."""
        assert rows.target is not None
        guess = value.at(rows.t0, rows.x, rows.context, rows.law.mean)
        return 0.5 * (guess - rows.target).square().mean()


@dataclass(frozen=True, kw_only=True)
class MonteCarloFit(Critic):
    """Target = the realised return to go G_k: the martingale loss (Jia, Zhou 2022, 2108.06655)."""

    def targets(self, value: Value, trajectory: Trajectory) -> Tensor:
        return trajectory.return_to_go()


@dataclass(frozen=True, kw_only=True)
class NoiseAwareFit(Critic):
    """Target = G_k − Σ_{j≥k} e^{−ρ(t_j − t_k)} ⟨∇V_old(t_j, X_j), innovation_j⟩.

    The simulator knows its own noise. What is subtracted is a martingale increment whatever V_old
    is, so the target keeps its mean; as V_old becomes right, G_k minus it tends to V(t_k, X_k)
    and the variance vanishes (docs/theory, noise-aware evaluation). The gradient is that of the
    value before this fit and takes the recorded mean action as constant: any adapted integrand
    is unbiased.
    """

    def targets(self, value: Value, trajectory: Trajectory) -> Tensor:
        gradient = gradients_along(value, trajectory, through_mean=False)
        with torch.no_grad():
            flat = inner(gradient.flatten(0, 1), trajectory.innovations.flatten(0, 1))
            martingale = flat.reshape(trajectory.steps, trajectory.batch)
            noise = discounted_to_go(martingale, 0.0, trajectory.grid, trajectory.discount)
        return trajectory.return_to_go() - noise


@dataclass(frozen=True, kw_only=True)
class TemporalDifferenceFit(Critic):
    """Target = gain_k + e^{−ρΔ} V(t_{k+1}, X_{k+1}) with V held fixed: semi-gradient TD(0)."""

    def targets(self, value: Value, trajectory: Trajectory) -> Tensor:
        v = values_along(value, trajectory)
        shrink = (-trajectory.discount * trajectory.lengths).exp()
        return trajectory.gains + shrink * v[1:]
