"""Regression of the policy's mean on the explicit maximiser of a trust region."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ctcontrol._along import gradients_along
from ctcontrol._checks import CtcontrolError, check_count, check_nonnegative
from ctcontrol._conjugate import conjugate_gradients
from ctcontrol._policy import Policy
from ctcontrol._problem import ControlProblem
from ctcontrol._regularizer import PathKL
from ctcontrol._sde import ActionAffineSDE, of_kind
from ctcontrol._tensor import inner
from ctcontrol._trajectory import Trajectory, Transitions
from ctcontrol._value import Value
from ctcontrol.algorithms._base import Passes, PolicyLoss, log_ratio
from ctcontrol.solvers import Solver


@dataclass(frozen=True)
class ProximalRegression(Passes):
    """Minimise E Σ_k e^{−ρt_k} φ-distance of μ_θ to μ′_k, where μ′_k maximises

    φ(μ) = ⟨m(μ) − m(μ_old), ∇V⟩ + r(μ)Δ − κ KL_step(μ ‖ μ_ref) − c KL_step(μ ‖ μ_old).

    m is the mean of the step and KL_step that of one step, κ the weight of the problem's `PathKL`
    (0 without one). For drifts affine in the action and rewards at most quadratic in it φ is a
    concave quadratic, and μ′ one solve; for reverse diffusions without a running reward

        μ′ = (κ μ_ref + ∇V + c μ_old)/(κ + c)      (docs/theory, prox).

    c = 0 is proximal policy iteration, μ_ref + ∇V/κ, and without PathKL but with a quadratic cost
    of the action it is Kleinman's: both are Newton's method for the HJB equation. The distance is
    (κ + c) KL_step(μ_θ ‖ μ′) plus the Bregman divergence of −r Δ: the curvature of φ itself, so
    that the loss is φ(μ′) − φ(μ_θ), what is left to gain, and its first gradient the policy
    gradient. `PathwisePolicyGradient(proximity=c)` descends the same function; here the target is
    made once a rollout, and updates need neither ∇V nor the reference. The exploration is left
    alone: `Entropy` moves no mean.

    Attributes:
        proximity: c ≥ 0, reward per nat.
        solves: steps of conjugate gradients for μ′; as many as the action has coordinates is
            exact, and one is where φ curves alike in all directions, as without a running cost.
        through_mean: differentiate V also through the policy's mean inside it.
    """

    proximity: float = 0.0
    solves: int = 20
    through_mean: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_nonnegative("proximity", self.proximity)
        check_count("solves", self.solves)

    def signal(
        self, problem: ControlProblem, solver: Solver, value: Value | None, trajectory: Trajectory
    ) -> Tensor:
        """μ′ at the nodes, (steps, batch, *action).

        Raises:
            CtcontrolError: no value, dynamics that are not affine in the action, or a φ that is
                not concave somewhere and so has no maximiser.
        """
        if value is None:
            raise CtcontrolError("ProximalRegression needs a value function; give one")
        slope = gradients_along(value, trajectory, through_mean=self.through_mean)
        target = self._maximizer(problem, solver, trajectory.transitions(signal=slope))
        return target.reshape(trajectory.means.shape)

    def _maximizer(self, problem: ControlProblem, solver: Solver, rows: Transitions) -> Tensor:
        """One Newton step from μ_old: −φ″ d = φ′, exact for a quadratic."""
        with torch.enable_grad():
            action = rows.law.mean.detach().clone().requires_grad_()
            slope = torch.autograd.grad(
                self._objective(problem, solver, rows, action).sum(), action, create_graph=True
            )[0]

            def curvature(v: Tensor) -> Tensor:
                if not slope.requires_grad:  # φ is linear
                    return torch.zeros_like(v)
                return -torch.autograd.grad((slope * v).sum(), action, retain_graph=True)[0]

            ascent = slope.detach()
            bends = inner(ascent, curvature(ascent))
            if bool((bends < 0).any()) or bool(
                (bends == 0).logical_and(inner(ascent, ascent) > 0).any()
            ):
                raise CtcontrolError(
                    "the trust region has no maximiser: the reward does not bend down in the "
                    f"action and kl_weight + proximity is {self._weights(problem)[0]:g} + "
                    f"{self.proximity:g}; raise the proximity, or give the problem a PathKL"
                )
            return action.detach() + conjugate_gradients(curvature, ascent, self.solves)

    def _objective(
        self, problem: ControlProblem, solver: Solver, rows: Transitions, action: Tensor
    ) -> Tensor:
        assert rows.signal is not None
        sde = _affine(problem)
        kl_weight, reference = self._weights(problem)[0], rows.anchor
        ends = (rows.t0, rows.t1, rows.x)
        gain = inner(solver.mean(sde, *ends, action, rows.context), rows.signal)
        running = problem.reward.running(rows.t0, rows.x, action, rows.context)
        gain = gain + running * (rows.t1 - rows.t0)
        if kl_weight and reference is not None:
            gain = gain - kl_weight * solver.step_kl(sde, *ends, action, reference, rows.context)
        if self.proximity:
            old = rows.law.mean
            gain = gain - self.proximity * solver.step_kl(sde, *ends, action, old, rows.context)
        return gain

    def _weights(self, problem: ControlProblem) -> tuple[float, float]:
        """(κ, κ + c)."""
        kl = problem.regularizer
        kl_weight = kl.weight if isinstance(kl, PathKL) else 0.0
        return kl_weight, kl_weight + self.proximity

    def loss(
        self, problem: ControlProblem, solver: Solver, policy: Policy, rows: Transitions
    ) -> PolicyLoss:
        """What is left to gain, as a mean over paths of the sum over steps."""
        assert rows.signal is not None
        law, target, dt = policy.dist(rows.t0, rows.x, rows.context), rows.signal, rows.t1 - rows.t0
        gap = self._bregman(problem, rows, law.mean) * dt
        weight = self._weights(problem)[1]
        if weight:
            ends = (rows.t0, rows.t1, rows.x)
            gap = gap + weight * solver.step_kl(
                _affine(problem), *ends, law.mean, target, rows.context
            )
        loss = rows.steps * (rows.weight * gap).mean()
        return PolicyLoss(loss, log_ratio(rows, law), law=law)

    def _bregman(self, problem: ControlProblem, rows: Transitions, mean: Tensor) -> Tensor:
        """r(μ′) + ⟨∇r(μ′), μ − μ′⟩ − r(μ) ≥ 0 for a concave r; 0 where r ignores the action."""
        assert rows.signal is not None
        with torch.enable_grad():
            target = rows.signal.detach().clone().requires_grad_()
            there = problem.reward.running(rows.t0, rows.x, target, rows.context)
            slope = (
                torch.autograd.grad(there.sum(), target, materialize_grads=True)[0]
                if there.requires_grad
                else torch.zeros_like(target)
            )
        here = problem.reward.running(rows.t0, rows.x, mean, rows.context)
        return there.detach() + inner(slope, mean - rows.signal) - here


def _affine(problem: ControlProblem) -> ActionAffineSDE:
    remedy = "it linearises the mean of a step; use ContinuousPPO, which does not"
    return of_kind(problem.sde, ActionAffineSDE, "ProximalRegression", remedy)
