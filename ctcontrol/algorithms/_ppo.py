"""Proximal policy optimisation in continuous time: the clipped surrogate of advantage rates."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ctcontrol._checks import (
    CtcontrolError,
    check_count,
    check_nonnegative,
    check_positive,
    check_share,
)
from ctcontrol._policy import Policy
from ctcontrol._problem import ControlProblem
from ctcontrol._solver import Solver
from ctcontrol._trajectory import Trajectory, Transitions
from ctcontrol._transform import AdvantageTransform
from ctcontrol._value import Value
from ctcontrol.advantages import AdvantageEstimator, TemporalDifferenceAdvantage
from ctcontrol.algorithms._base import PolicyLoss, penalty


@dataclass(frozen=True)
class ContinuousPPO:
    """Minimise −E Σ_k e^{−ρt_k} Δ_k min(ϱ_k A_k, clip(ϱ_k, 1 ± ε) A_k) + direct penalty.

    ϱ_k is the likelihood ratio of the drawn action and A_k its advantage *rate*. At ϱ = 1 the
    gradient is the policy gradient of J (docs/theory, surrogate). DDPO is this with a
    `NoiseAbsorbingPolicy` and `MonteCarloAdvantage`; CTRL is this with advantages from a value
    function.

    Attributes:
        advantage: the estimator of rates.
        clip: ε, bound on |ϱ − 1|.
        epochs: passes over a rollout.
        share: share of the rows used in a pass, in (0, 1]; an unbiased saving.
        log_ratio_scale: multiplies log ϱ. 1 is the true ratio; 1/d is the mean over d
            coordinates that DDPO's code uses.
        transform: applied to the rates, e.g. per-prompt standardisation.
    """

    advantage: AdvantageEstimator = field(default_factory=TemporalDifferenceAdvantage)
    clip: float = 0.2
    epochs: int = 1
    share: float = 1.0
    log_ratio_scale: float = 1.0
    transform: AdvantageTransform | None = None

    def __post_init__(self) -> None:
        check_positive("clip", self.clip)
        if check_nonnegative("epochs", self.epochs):
            check_count("epochs", self.epochs)
        check_share("share", self.share)
        check_positive("log_ratio_scale", self.log_ratio_scale)

    def signal(
        self, problem: ControlProblem, solver: Solver, value: Value | None, trajectory: Trajectory
    ) -> Tensor:
        """Advantage rates, (steps, batch); `CtcontrolError` where the policy does not explore."""
        if not bool((trajectory.stds > 0).all()):
            raise CtcontrolError(
                "the policy draws some actions with std 0 and so has no likelihood ratio; "
                "give it an exploration std > 0, or use PathwisePolicyGradient, which needs none"
            )
        rates = self.advantage(problem, solver, value, trajectory)
        return rates if self.transform is None else self.transform(rates, trajectory)

    def loss(
        self, problem: ControlProblem, solver: Solver, policy: Policy, rows: Transitions
    ) -> PolicyLoss:
        """The clipped surrogate, as a mean over paths of the sum over steps."""
        assert rows.signal is not None
        law = policy.dist(rows.t0, rows.x, rows.context)
        log_ratio = self.log_ratio_scale * law.log_ratio(rows.law, rows.action)
        ratio = log_ratio.exp()
        clipped = ratio.clamp(1 - self.clip, 1 + self.clip)
        gain = torch.minimum(ratio * rows.signal, clipped * rows.signal)
        gain = rows.weight * (rows.t1 - rows.t0) * gain
        loss = rows.steps * (penalty(problem, solver, rows, law) - gain).mean()
        outside = (ratio.detach() - 1).abs() > self.clip
        return PolicyLoss(loss, log_ratio.detach(), float(outside.float().mean()))
