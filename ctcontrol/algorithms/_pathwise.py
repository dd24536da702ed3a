"""Policy gradient by differentiating the value along the action."""

from dataclasses import dataclass

from torch import Tensor

from ctcontrol._along import gradients_along
from ctcontrol._checks import CtcontrolError, check_nonnegative
from ctcontrol._policy import Policy
from ctcontrol._problem import ControlProblem
from ctcontrol._sde import UncontrolledVolatilitySDE, of_kind
from ctcontrol._tensor import inner
from ctcontrol._trajectory import Trajectory, Transitions
from ctcontrol._value import Value
from ctcontrol.algorithms._base import Passes, PolicyLoss, log_ratio, penalty
from ctcontrol.solvers import Solver


@dataclass(frozen=True)
class PathwisePolicyGradient(Passes):
    """Minimise −E Σ_k e^{−ρt_k} [⟨m_θ − m_old, ∇V⟩ + (r(μ_θ) − r(μ_old))Δ_k] + penalties.

    m is the mean of the step, so for reverse diffusions the bracket is g²Δ⟨μ_θ − μ_old, ∇V⟩:
    the policy gradient with the Gaussian integral over actions done exactly (docs/theory,
    policy gradient, second form). Independent of the exploration; its accuracy is that of ∇V.
    The Hessian drops out because the volatility does not depend on the action; where it does,
    `CtcontrolError`.

    Attributes:
        proximity: c ≥ 0, adds e^{−ρt}c times the step KL to the policy that made the rollout: the
            trust region whose maximiser is a plain regression (docs/theory, prox). Needs
            steps with noise.
        through_mean: differentiate V also through the policy's mean inside it.
    """

    proximity: float = 0.0
    through_mean: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_nonnegative("proximity", self.proximity)

    def signal(
        self, problem: ControlProblem, solver: Solver, value: Value | None, trajectory: Trajectory
    ) -> Tensor:
        """∇V at the nodes, (steps, batch, *state)."""
        if value is None:
            raise CtcontrolError("PathwisePolicyGradient needs a value function; give one")
        _shared_volatility(problem)
        return gradients_along(value, trajectory, through_mean=self.through_mean)

    def loss(
        self, problem: ControlProblem, solver: Solver, policy: Policy, rows: Transitions
    ) -> PolicyLoss:
        """The linearised return, as a mean over paths of the sum over steps."""
        assert rows.signal is not None
        sde, ends = _shared_volatility(problem), (rows.t0, rows.t1, rows.x)
        law = policy.dist(rows.t0, rows.x, rows.context)
        new = solver.mean(sde, *ends, law.mean, rows.context)
        old = solver.mean(sde, *ends, rows.law.mean, rows.context)
        running = problem.reward.running(rows.t0, rows.x, law.mean, rows.context)
        gain = inner(new - old, rows.signal) + running * (rows.t1 - rows.t0)
        cost = penalty(problem, solver, rows, law)
        if self.proximity:
            moved = solver.step_kl(sde, *ends, law.mean, rows.law.mean, rows.context)
            cost = cost + rows.weight * self.proximity * moved
        loss = rows.steps * (cost - rows.weight * gain).mean()
        return PolicyLoss(loss, log_ratio(rows, law), law=law)


def _shared_volatility(problem: ControlProblem) -> UncontrolledVolatilitySDE:
    remedy = "it drops the Hessian; use a likelihood ratio with ItoAdvantage, e.g. ContinuousPPO"
    return of_kind(problem.sde, UncontrolledVolatilitySDE, "PathwisePolicyGradient", remedy)
