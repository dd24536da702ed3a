"""Likelihood ratios of two policies along a rollout, and the KL between their paths."""

import torch
from torch import Tensor

from ctcontrol._along import rows_along
from ctcontrol._checks import CtcontrolError
from ctcontrol._estimate import Estimate
from ctcontrol._policy import Policy
from ctcontrol._problem import ControlProblem
from ctcontrol._sde import UncontrolledVolatilitySDE, of_kind
from ctcontrol._tensor import inner
from ctcontrol._trajectory import Trajectory
from ctcontrol._typing import Scalar
from ctcontrol.solvers import Solver
from ctcontrol.solvers._euler import gaussian


@torch.no_grad()
def action_log_ratio(policy: Policy, reference: Policy, trajectory: Trajectory) -> Scalar:
    """Σ_k log π(a_k | t_k, X_k) − log π_ref(a_k | t_k, X_k) of each path, (batch,), in nats.

    The exact log ratio of the joint laws of states *and* actions, because given the action the
    next state has the same law under both. Under `policy` E e^{−log ratio} = 1, and the mean of
    the log ratio is the KL of the joint laws. For a noise-absorbing policy it is the ratio of
    the paths.

    Raises:
        CtcontrolError: a policy that draws some action with std 0: use `path_log_ratio`.
    """
    rows = trajectory.transitions()
    law, other = (p.dist(rows.t0, rows.x, rows.context) for p in (policy, reference))
    if not bool((law.std > 0).all() and (other.std > 0).all()):
        raise CtcontrolError(
            "an action of std 0 has no likelihood ratio; use path_log_ratio, or give both "
            "policies an exploration std > 0"
        )
    return law.log_ratio(other, rows.action).reshape(trajectory.rewards.shape).sum(0)


@torch.no_grad()
def path_log_ratio(
    problem: ControlProblem,
    policy: Policy,
    reference: Policy,
    trajectory: Trajectory,
    *,
    solver: Solver | None = None,
) -> Scalar:
    """log dP/dP_ref of each path of states under the policies' mean actions, (batch,), in nats.

    Σ_k ⟨w_k, ΔW_k⟩ + ½|w_k|²Δ_k with w = C^{−½}(m(μ) − m(μ_ref))/Δ and ΔW what drives the step
    under P: for Euler–Maruyama Girsanov's formula with w = σ⁻¹(b(μ) − b(μ_ref)), for other
    schemes the exact ratio of the Gaussian steps that were taken (docs/theory, path KL). Along
    rollouts of `policy` E e^{−log ratio} = 1, if those take the mean action or absorb the noise;
    with exploration besides, the states spread by O(Δ) more than the formula knows, and
    `action_log_ratio` is exact.

    Raises:
        CtcontrolError: a controlled or singular volatility, or a step without noise.
    """
    scheme, sde = gaussian(solver), _uncontrolled(problem, "path_log_ratio")
    rows = trajectory.transitions()
    here, there = _means(policy, trajectory), _means(reference, trajectory)
    ends = (rows.t0, rows.t1, rows.x)
    center = scheme.mean(sde, *ends, here, rows.context)
    gap = center - scheme.mean(sde, *ends, there, rows.context)
    after = trajectory.states[1:].flatten(0, 1)
    w, dw = (scheme.driving(sde, *ends, rows.action, v) for v in (gap, after - center))
    terms = inner(w, dw + 0.5 * w) / (rows.t1 - rows.t0)
    return terms.reshape(trajectory.rewards.shape).sum(0)


@torch.no_grad()
def kl_rates(
    problem: ControlProblem,
    policy: Policy | None,
    reference: Policy | None,
    trajectory: Trajectory,
    *,
    solver: Solver | None = None,
) -> Tensor:
    """KL(step at μ ‖ step at μ_ref)/Δ at the visited states, (steps, batch), nats a unit of time.

    Exact for the chain of the solver, at any step size; ½|σ⁻¹(b(μ) − b(μ_ref))|² for
    Euler–Maruyama. None takes the recorded mean actions. Raises as `Solver.step_kl`.
    """
    scheme, sde = gaussian(solver), _uncontrolled(problem, "kl_rates")
    rows = trajectory.transitions()
    kl = scheme.step_kl(
        sde,
        rows.t0,
        rows.t1,
        rows.x,
        _means(policy, trajectory),
        _means(reference, trajectory),
        rows.context,
    )
    return kl.reshape(trajectory.rewards.shape) / trajectory.lengths


def path_kl(
    problem: ControlProblem,
    policy: Policy,
    reference: Policy,
    trajectory: Trajectory,
    *,
    solver: Solver | None = None,
) -> Estimate:
    """KL(P ‖ P_ref) = E^P Σ_k KL(step at μ ‖ step at μ_ref), in nats, from rollouts of `policy`.

    The expectation is under `policy`: with rollouts of the reference this is another number. It
    is the mean of `path_log_ratio` with the noise averaged out, hence sharper, and what `PathKL`
    adds up. Raises as `kl_rates`.
    """
    rates = kl_rates(problem, policy, reference, trajectory, solver=solver)
    return Estimate.of((rates * trajectory.lengths).sum(0))


def _uncontrolled(problem: ControlProblem, who: str) -> UncontrolledVolatilitySDE:
    remedy = "laws of paths with different volatility are singular to each other"
    return of_kind(problem.sde, UncontrolledVolatilitySDE, who, remedy)


def _means(policy: Policy | None, trajectory: Trajectory) -> Tensor:
    if policy is None:
        return trajectory.means.flatten(0, 1)
    return rows_along(lambda t, x, c: policy.dist(t, x, c).mean, trajectory).flatten(0, 1)
