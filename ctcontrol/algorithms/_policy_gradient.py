"""The likelihood-ratio policy gradient itself: offline over whole paths, or online in time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ctcontrol._gaussian import Gaussian
from ctcontrol._policy import Policy
from ctcontrol._problem import ControlProblem
from ctcontrol._trajectory import Trajectory, Transitions
from ctcontrol._transform import AdvantageTransform
from ctcontrol._value import Value
from ctcontrol.advantages import AdvantageEstimator, TemporalDifferenceAdvantage
from ctcontrol.algorithms._base import Passes, PolicyLoss, penalty
from ctcontrol.algorithms._rates import advantage_rates
from ctcontrol.solvers import Solver

AdaptedTerm = Callable[[Gaussian, Transitions], Tensor]
"""(the policy's law at the rows, the rows) -> (rows,), differentiable in the policy.

Its gradient is ζ, so it may depend on t0, x and what lies before, but not on the action.
"""


@dataclass(frozen=True)
class PolicyGradient(Passes):
    """Minimise −E Σ_k e^{−ρt_k} Δ_k A_k [log π_θ(a_k | t_k, X_k) + z_θ(t_k, X_k)] + direct penalty.

    Its gradient is −E Σ e^{−ρt} Δ A [∂log π + ζ] with ζ = ∂z: the policy gradient of Jia and Zhou
    2022 (2111.11232, Theorem 2) and, with a discount and horizons drawn from Exp(ρ), CPG of Zhao,
    Tang and Yao 2023 (2305.18901) (docs/theory, policy gradient). There is no likelihood ratio:
    only the first update after a rollout is on policy, so use one pass and, offline, a minibatch of
    the whole rollout.

    * *Baselines* come with the estimator: temporal differences subtract V(t, X), and
      `MonteCarloAdvantage` V or the batch mean. Anything that no action changes may be added.
    * *Test functions* ζ leave the mean alone where E[A | t, X] = 0, as for temporal differences of
      the exact V; with other estimators they add a bias.
    * *Entropy* is the problem's `Entropy`: −λ log π enters A through the recorded amount, averaged
      over actions, and its direct gradient through the penalty.
    * *Offline*: rows of all times, shuffled, each minibatch an estimate of the whole sum.
    * *Online*: rows in the order of time. With the minibatch as large as the batch of paths, each
      step of time is one update, made with the parameters left by the step before. What the
      rollout drew is from the policy at its start: acting with the newest parameters would take
      one path at a time.

    Attributes:
        advantage: the estimator of rates.
        online: take the rows in the order of time.
        test: z, whose gradient is ζ; none by default.
        transform: applied to the rates.
    """

    advantage: AdvantageEstimator = field(default_factory=TemporalDifferenceAdvantage)
    online: bool = False
    test: AdaptedTerm | None = None
    transform: AdvantageTransform | None = None

    def signal(
        self, problem: ControlProblem, solver: Solver, value: Value | None, trajectory: Trajectory
    ) -> Tensor:
        """Advantage rates, (steps, batch); `CtcontrolError` where the policy does not explore."""
        return advantage_rates(self.advantage, self.transform, problem, solver, value, trajectory)

    def minibatches(
        self, rows: Transitions, size: int, generator: torch.Generator
    ) -> Iterator[Transitions]:
        """Shuffled rows, or online consecutive ones: rows are kept step by step.

        With a `share` below 1 an online pass takes a random share of every minibatch.
        """
        if not self.online:
            yield from super().minibatches(rows, size, generator)
            return
        for _ in range(self.epochs):
            for index in torch.arange(len(rows), device=rows.t0.device).split(size):
                yield from rows[index].minibatches(size, generator, share=self.share)

    def loss(
        self, problem: ControlProblem, solver: Solver, policy: Policy, rows: Transitions
    ) -> PolicyLoss:
        """Weighted log likelihoods, as a mean over paths of the sum over steps."""
        assert rows.signal is not None
        law = policy.dist(rows.t0, rows.x, rows.context)
        log_ratio = law.log_ratio(rows.law, rows.action)  # log π up to a constant
        log_weight = log_ratio if self.test is None else log_ratio + self.test(law, rows)
        gain = rows.weight * (rows.t1 - rows.t0) * rows.signal * log_weight
        loss = rows.steps * (penalty(problem, solver, rows, law) - gain).mean()
        return PolicyLoss(loss, log_ratio.detach(), law=law)
