"""How much better another policy is, as expectations along rollouts, with error bars."""

import torch
from torch import Tensor

from ctcontrol._along import gradients_along
from ctcontrol._checks import CtcontrolError, check_positive
from ctcontrol._estimate import Estimate
from ctcontrol._gaussian import Gaussian
from ctcontrol._girsanov import kl_rates
from ctcontrol._policy import Policy
from ctcontrol._problem import ControlProblem
from ctcontrol._regularizer import PathKL
from ctcontrol._trajectory import Trajectory
from ctcontrol._value import Value
from ctcontrol.advantages import AdvantageEstimator, ItoAdvantage
from ctcontrol.advantages._closed_form import average_action_terms, require_uncontrolled
from ctcontrol.solvers import Solver
from ctcontrol.solvers._euler import gaussian


def performance_difference(
    problem: ControlProblem,
    value: Value,
    trajectory: Trajectory,
    *,
    solver: Solver | None = None,
    estimator: AdvantageEstimator | None = None,
) -> Estimate:
    """J(π′) − J(π) = E^{π′} ∫₀ᵀ e^{−ρt} q^π(t, X, a) dt, V = V^π, from rollouts of π′.

    Penalties and entropy bonus are those of π′, as recorded. With `ItoAdvantage`, the default,
    the error is O(Δ); rates that leave out what no action changes (`ActionAdvantage`) are wrong
    here. `TemporalDifferenceAdvantage` makes the sum telescope to the return less V(0, X_0), which
    says nothing new. (docs/theory, performance difference.)
    """
    rate = estimator or ItoAdvantage()
    return _integral(rate(problem, gaussian(solver), value, trajectory), trajectory)


def surrogate(
    problem: ControlProblem,
    value: Value,
    policy: Policy,
    trajectory: Trajectory,
    *,
    solver: Solver | None = None,
) -> Estimate:
    """L^π(π′) − J(π) = E^π ∫₀ᵀ e^{−ρt} A_t(X_t) dt with A = E_{a∼π′}[q^π], π′ = `policy`.

    From rollouts of π, with V = V^π; the likelihood ratio is integrated out, so it has no
    variance from it. The same value and gradient at π′ = π as J(π′) − J(π). (docs/theory,
    surrogate.) Averages over actions are as exact as those of `CenteredAdvantage`.
    """
    rates = surrogate_rates(problem, value, policy, trajectory, solver=solver)
    return _integral(rates, trajectory)


def surrogate_rates(
    problem: ControlProblem,
    value: Value,
    policy: Policy,
    trajectory: Trajectory,
    *,
    solver: Solver | None = None,
) -> Tensor:
    """A_t(x) = E_{a∼π′}[q^π(t, x, a)] − (penalties of π′ over those of π), (steps, batch)."""
    scheme = gaussian(solver)
    require_uncontrolled(problem, "surrogate")
    gradient = gradients_along(value, trajectory, through_mean=True).flatten(0, 1)
    with torch.no_grad():
        rows = trajectory.transitions()
        law = policy.dist(rows.t0, rows.x, rows.context)
        new, old = (
            average_action_terms(problem, scheme, rows, gradient, which)
            for which in (law, rows.law)
        )
        rates = (new - old).reshape(trajectory.rewards.shape)
        return rates - _penalty_change(problem, scheme, law, trajectory)


def clipped_surrogate(
    problem: ControlProblem,
    value: Value | None,
    policy: Policy,
    trajectory: Trajectory,
    *,
    clip: float,
    estimator: AdvantageEstimator,
    solver: Solver | None = None,
) -> Estimate:
    """E^π Σ_k e^{−ρt_k} Δ_k min(ϱ_k A_k, clip(ϱ_k, 1 ± ε) A_k), less the change of the penalties.

    What PPO maximises, from rollouts of π with rates A of `estimator`. The minimum is never above
    ϱ_k A_k, so for centered rates this is at most the surrogate and may stand in its place in
    `SurrogateBound.lower`. (The clip alone bounds no KL: Gaussian ratios are unbounded.)
    """
    check_positive("clip", clip)
    scheme = gaussian(solver)
    rates = estimator(problem, scheme, value, trajectory)
    with torch.no_grad():
        rows = trajectory.transitions()
        law = policy.dist(rows.t0, rows.x, rows.context)
        ratio = law.log_ratio(rows.law, rows.action).exp().reshape(rates.shape)
        gain = torch.minimum(ratio * rates, ratio.clamp(1 - clip, 1 + clip) * rates)
        change = _penalty_change(problem, scheme, law, trajectory)
    return _integral(gain - change, trajectory)


def regret(
    problem: ControlProblem,
    optimal: Policy,
    trajectory: Trajectory,
    *,
    solver: Solver | None = None,
) -> Estimate:
    """J* − J(π) = κ E^π Σ_k e^{−ρt_k} KL(step at μ_π ‖ step at μ*), from rollouts of π.

    A certificate for problems with a path-KL penalty κ whose running reward does not see the
    action; without discount it is κ KL(P^π ‖ P*), both started at the law of the rollouts. The
    recorded mean actions count. Exact up to O(Δt); every term is ≥ 0, so it is sharp near the
    optimum, where a difference of two returns is all noise. (docs/theory, performance difference.)

    Raises:
        CtcontrolError: another regularizer: then minus `performance_difference` with the
            optimal value is the regret.
    """
    if not isinstance(problem.regularizer, PathKL):
        raise CtcontrolError(
            "the regret identity needs a PathKL regularizer, got "
            f"{type(problem.regularizer).__name__}; take minus performance_difference with the "
            "optimal value"
        )
    rates = kl_rates(problem, None, optimal, trajectory, solver=solver)
    return _integral(problem.penalty_weight * rates, trajectory)


def _penalty_change(
    problem: ControlProblem, solver: Solver, law: Gaussian, trajectory: Trajectory
) -> Tensor:
    """w (amount of `law` − amount recorded)/Δ, (steps, batch)."""
    if problem.regularizer is None:
        return torch.zeros_like(trajectory.rewards)
    rows = trajectory.transitions()
    amount = problem.regularizer.amount(
        solver, problem.sde, rows.t0, rows.t1, rows.x, law, rows.anchor, rows.context
    )
    change = amount.reshape(trajectory.rewards.shape) - trajectory.penalties
    return problem.penalty_weight * change / trajectory.lengths


def _integral(rates: Tensor, trajectory: Trajectory) -> Estimate:
    """E Σ_k e^{−ρt_k} Δ_k rates_k."""
    times = trajectory.grid.times[:-1, None].to(rates)
    weight = (-trajectory.discount * times).exp() * trajectory.lengths
    return Estimate.of((weight * rates).sum(0))
