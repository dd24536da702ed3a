"""Proximal policy optimisation in continuous time: the surrogate of advantage rates, held near."""

from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor

from ctcontrol._checks import check_positive, check_share
from ctcontrol._gaussian import Gaussian
from ctcontrol._policy import Policy
from ctcontrol._problem import ControlProblem
from ctcontrol._trajectory import Trajectory, Transitions
from ctcontrol._transform import AdvantageTransform
from ctcontrol._value import Value
from ctcontrol.advantages import AdvantageEstimator, TemporalDifferenceAdvantage
from ctcontrol.algorithms._base import Passes, PolicyLoss, penalty
from ctcontrol.algorithms._rates import advantage_rates
from ctcontrol.algorithms._trust import TrustPenalty
from ctcontrol.solvers import Solver

ROUNDING = 1e-9
"""Nodes that are as close to a time lie at it."""


@dataclass(frozen=True)
class ContinuousPPO(Passes):
    """Minimise −E Σ_k e^{−ρt_k} Δ_k [min(ϱ_k A_k, clip(ϱ_k, 1 ± ε) A_k)/c − C d_k] + penalty.

    log ϱ_k is c times the log likelihood ratio of the drawn action, usually c = 1, A_k its
    advantage *rate* and d_k a distance of the policies; the penalty is the direct one. At ϱ = 1
    the gradient is the policy gradient of J (docs/theory, surrogate), whatever c is.
    DDPO is this with a `NoiseAbsorbingPolicy` and `MonteCarloAdvantage`; CTRL is this with
    advantages from a value function; CPPO (Zhao, Tang and Yao 2023) is this without `clip` and
    with the `trust` of a `RootKLPenalty`; TRPO is this without `clip`, with a trust penalty of
    constant coefficient, and stepped by a `NaturalUpdater`, whose line search then ascends the
    lower bound L − C E Σ e^{−ρt} Δ d.

    Attributes:
        advantage: the estimator of rates.
        clip: ε, bound on |ϱ − 1|; None for no bound.
        log_ratio_scale: c. 1 is the true ratio; 1/d is the mean over d coordinates that DDPO's
            code uses. It changes what is clipped, not the gradient at ϱ = 1.
        transform: applied to the rates, e.g. per-prompt standardisation.
        trust: the penalty C d and how C adapts; None for none.
        credited: share of the horizon, in (0, 1], in which actions earn their advantage. Steps that
            begin later pay their penalties and nothing else. The last steps of a denoising decide
            little, but a change of the network moves their likelihoods most: they bring much of
            the noise of the gradient and hardly any of it else. 1 leaves nothing out and is
            unbiased.

    Raises:
        CtcontrolError: a number out of its range.
    """

    advantage: AdvantageEstimator = field(default_factory=TemporalDifferenceAdvantage)
    clip: float | None = 0.2
    log_ratio_scale: float = 1.0
    transform: AdvantageTransform | None = None
    trust: TrustPenalty | None = None
    credited: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.clip is not None:
            check_positive("clip", self.clip)
        check_positive("log_ratio_scale", self.log_ratio_scale)
        check_share("credited", self.credited)

    def signal(
        self, problem: ControlProblem, solver: Solver, value: Value | None, trajectory: Trajectory
    ) -> Tensor:
        """Advantage rates, (steps, batch); `CtcontrolError` where the policy does not explore."""
        rates = advantage_rates(self.advantage, self.transform, problem, solver, value, trajectory)
        if self.credited == 1:
            return rates
        begins = trajectory.grid.times[:-1] / trajectory.grid.times[-1]
        late = begins >= self.credited * (1 - ROUNDING)
        return rates.masked_fill(late.to(rates.device)[:, None], 0.0)

    def loss(
        self, problem: ControlProblem, solver: Solver, policy: Policy, rows: Transitions
    ) -> PolicyLoss:
        """The surrogate, as a mean over paths of the sum over steps."""
        assert rows.signal is not None
        law = policy.dist(rows.t0, rows.x, rows.context)
        log_ratio = self.log_ratio_scale * law.log_ratio(rows.law, rows.action)
        ratio = log_ratio.exp()
        gain, outside = ratio * rows.signal, 0.0
        if self.clip is not None:
            clipped = ratio.clamp(1 - self.clip, 1 + self.clip)
            gain = torch.minimum(gain, clipped * rows.signal)
            outside = float(((ratio.detach() - 1).abs() > self.clip).float().mean())
        gain = gain / self.log_ratio_scale  # else the penalties would count for 1/scale times more
        if self.trust is not None:
            gain = gain - self.trust.coefficient * self._distance(self.trust, rows, law)
        gain = rows.weight * (rows.t1 - rows.t0) * gain
        loss = rows.steps * (penalty(problem, solver, rows, law) - gain).mean()
        return PolicyLoss(loss, log_ratio.detach(), outside, law)

    def adapted(self, policy: Policy, rows: Transitions) -> Self:
        """The same with the trust coefficient that follows the distance the policy moved."""
        if self.trust is None or self.trust.factor == 1:
            return self
        return replace(self, trust=self.trust.adapted(self.moved(self.trust, policy, rows)))

    @torch.no_grad()
    def moved(self, trust: TrustPenalty, policy: Policy, rows: Transitions) -> float:
        """Mean distance of `policy` from the law of the rows, weighted by e^{−ρt}Δ."""
        weight = rows.weight * (rows.t1 - rows.t0)

        def distance(index: Tensor) -> Tensor:
            part = rows[index]
            return self._distance(trust, part, policy.dist(part.t0, part.x, part.context))

        return float((weight * rows.over(distance)).sum() / weight.sum())

    def _distance(self, trust: TrustPenalty, rows: Transitions, law: Gaussian) -> Tensor:
        return trust.distance(rows.law.kl(law))
