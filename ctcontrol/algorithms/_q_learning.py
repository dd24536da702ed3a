"""q-learning with the Gibbs normalisation: the policy's log density is the q-function."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ctcontrol._along import values_along
from ctcontrol._checks import CtcontrolError, check_positive
from ctcontrol._policy import Policy
from ctcontrol._problem import ControlProblem
from ctcontrol._regularizer import Entropy
from ctcontrol._trajectory import Trajectory, Transitions
from ctcontrol._value import Value
from ctcontrol.algorithms._base import Passes, PolicyLoss, log_ratio
from ctcontrol.critics import Critic
from ctcontrol.solvers import Solver


@dataclass(frozen=True)
class QLearning(Passes):
    """Jia and Zhou 2022 (2207.00713), on and off policy: q_ψ(t, x, a) = λ log π_ψ(a | t, x).

    The pair (V, q) with V(T, ·) = h and ∫ e^{q/λ} da = 1, which holds here by construction, is
    the optimal one exactly if e^{−ρt}V + ∫ e^{−ρu}(r − q) du is a martingale along *any* policy
    that explores (docs/theory, q-learning). Semi-gradient steps drive its increments to zero
    against the test functions ∂V/∂θ (`QLearningFit`, the critic that belongs to this) and
    ∂q/∂ψ = λ ∂log π:

        δ_k = e^{−ρΔ}V_{k+1} − V_k + (r_k − q_k)Δ,      ψ ← ψ + α Σ_k e^{−ρt_k} δ_k ∂log π_ψ(a_k).

    The fixed point solves E Σ ζ_k δ_k = 0, which is O(Δ) from the optimum within the family. To
    descend Σ δ² with gradients through all of δ is another thing, and wrong: it adds the
    quadratic variation of V. On policy the first step is the policy gradient of J with the
    entropy bonus; off policy, with `behavior` given to `improve`, the steps are those of no
    objective. The std must be learned too: at the optimum the variance is λ over minus the
    curvature of the Hamiltonian in a.

    The problem's regularizer is `Entropy` with λ > 0; without it there is no Gibbs law.
    """

    @property
    def off_policy(self) -> bool:
        """True: the martingale condition holds along one policy if along all."""
        return True

    def signal(
        self, problem: ControlProblem, solver: Solver, value: Value | None, trajectory: Trajectory
    ) -> Tensor:
        """e^{−ρΔ}V_{k+1} − V_k + r_kΔ, (steps, batch): δ without q, per step.

        Raises:
            CtcontrolError: no value, or a problem without a temperature.
        """
        if value is None:
            raise CtcontrolError("QLearning needs a value function; give one")
        _temperature(problem)
        v = values_along(value, trajectory)
        shrink = (-trajectory.discount * trajectory.lengths).exp()
        return shrink * v[1:] - v[:-1] + trajectory.rewards * trajectory.lengths

    def loss(
        self, problem: ControlProblem, solver: Solver, policy: Policy, rows: Transitions
    ) -> PolicyLoss:
        """−Σ δ log π with δ held fixed, as a mean over paths of the sum over steps."""
        assert rows.signal is not None
        law = policy.dist(rows.t0, rows.x, rows.context)
        log_density = law.log_prob(rows.action)
        rate = _temperature(problem) * log_density.detach()
        surprise = rows.signal - rate * (rows.t1 - rows.t0)
        loss = -rows.steps * (rows.weight * surprise * log_density).mean()
        return PolicyLoss(loss, log_ratio(rows, law), law=law)


@dataclass(frozen=True, kw_only=True)
class QLearningFit(Critic):
    """Target = (r_k − λ log π_ψ(a_k))Δ + e^{−ρΔ}V(t_{k+1}, X_{k+1}), V held fixed.

    The step of V in q-learning, θ ← θ + α Σ δ_k ∂V/∂θ: with π_ψ the policy that learns, whoever
    drew the actions. On policy it has the mean of `TemporalDifferenceFit` with an entropy bonus.

    Attributes:
        policy: the policy that learns, as it is when targets are asked for.
        temperature: λ > 0, that of the problem.
    """

    policy: Policy
    temperature: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("temperature", self.temperature)

    @torch.no_grad()
    def targets(self, value: Value, trajectory: Trajectory) -> Tensor:
        rows = trajectory.transitions()

        def density(index: Tensor) -> Tensor:
            part = rows[index]
            return self.policy.dist(part.t0, part.x, part.context).log_prob(part.action)

        rate = self.temperature * rows.over(density).reshape(trajectory.rewards.shape)
        shrink = (-trajectory.discount * trajectory.lengths).exp()
        gain = (trajectory.rewards - rate) * trajectory.lengths
        return gain + shrink * values_along(value, trajectory)[1:]


def _temperature(problem: ControlProblem) -> float:
    entropy = problem.regularizer
    if not isinstance(entropy, Entropy) or entropy.temperature == 0:
        raise CtcontrolError(
            f"QLearning needs a problem with entropy, got {entropy}; give it Entropy(temperature) "
            "with temperature > 0, or use PolicyGradient"
        )
    return entropy.temperature
