"""From the realised return: unbiased whatever the value function is."""

from dataclasses import dataclass

from torch import Tensor

from ctcontrol._along import martingale_along, values_along
from ctcontrol._problem import ControlProblem
from ctcontrol._trajectory import Trajectory, discounted_to_go
from ctcontrol._value import Value
from ctcontrol.advantages._base import needed
from ctcontrol.solvers import Solver


@dataclass(frozen=True)
class MonteCarloAdvantage:
    """(G_k − baseline)/Δ_k: the realised return to go, as in REINFORCE and DDPO.

    The baseline is V where there is one, else the mean over the batch at each step. Times Δ_k it
    is the classical weight G − baseline of a step's log-likelihood gradient.
    """

    def __call__(
        self, problem: ControlProblem, solver: Solver, value: Value | None, trajectory: Trajectory
    ) -> Tensor:
        to_go = trajectory.return_to_go()
        if value is None:
            baseline = to_go.mean(1, keepdim=True)
        else:
            baseline = values_along(value, trajectory)[:-1]
        return (to_go - baseline) / trajectory.lengths


@dataclass(frozen=True)
class NoiseAwareAdvantage:
    """(G_k − Σ_{j>k} e^{−ρ(t_j − t_k)} ⟨∇V(t_j, X_j), innovation_j⟩ − V(t_k, X_k))/Δ_k.

    The simulator knows its own noise. Given the action at step k, what is subtracted for the
    later steps has mean zero whatever V is, and V(t_k, X_k) is a baseline: as a weight of the
    log-likelihood gradient the estimate is unbiased for *any* V, as `MonteCarloAdvantage` is,
    which it becomes without the sum. As V becomes exact G_k minus the sum tends to the return
    that step k alone makes uncertain: the noise of the step itself is left, as in
    `TemporalDifferenceAdvantage` but without its bias, and a second-order remainder of the later
    steps, of the same order in Δ (docs/theory, noise-aware evaluation).

    Attributes:
        through_mean: differentiate V also through the policy's mean inside it (the denoised
            image); dearer, unbiased either way.
    """

    through_mean: bool = False

    def __call__(
        self, problem: ControlProblem, solver: Solver, value: Value | None, trajectory: Trajectory
    ) -> Tensor:
        value = needed(value, self)
        now = martingale_along(value, trajectory, through_mean=self.through_mean)
        later = discounted_to_go(now, 0.0, trajectory.grid, trajectory.discount) - now
        baseline = values_along(value, trajectory)[:-1]
        return (trajectory.return_to_go() - later - baseline) / trajectory.lengths
