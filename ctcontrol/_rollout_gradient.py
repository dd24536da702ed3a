"""The gradient of J with respect to the policy's parameters, through a rollout."""

import math
import warnings
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ctcontrol._checks import CtcontrolError, check_count, check_finite, check_kind
from ctcontrol._ensemble import SubstitutedPolicy
from ctcontrol._estimate import Estimate
from ctcontrol._loop import Run
from ctcontrol._policy import Policy
from ctcontrol._problem import ControlProblem
from ctcontrol._record import checkpoints
from ctcontrol._replay import Mark, check_same, starts
from ctcontrol._simulate import POLICIES, check_run, noise_for
from ctcontrol._time_grid import TimeGrid
from ctcontrol.noise import NoiseSource, WhiteNoise
from ctcontrol.solvers import EulerMaruyama, Scheme

Method = Literal["autograd", "adjoint", "checkpoint", "forward"]


@dataclass(frozen=True, eq=False)
class RolloutGradient:
    """J and its gradient, over one set of paths.

    Attributes:
        value: J.
        gradient: of J, by the names of `policy.named_parameters()`, in their shapes.
        stderr: of the gradient, in the same shapes; None where it is not known.
    """

    value: Estimate
    gradient: dict[str, Tensor]
    stderr: dict[str, Tensor] | None


def rollout_gradient(
    problem: ControlProblem,
    policy: Policy,
    grid: TimeGrid,
    batch: int,
    *,
    generator: torch.Generator,
    method: Method = "autograd",
    solver: Scheme | None = None,
    noise: NoiseSource | None = None,
    groups: int | None = None,
) -> RolloutGradient:
    """∂J/∂θ by differentiating every path at fixed noise: the pathwise (reparameterized) gradient.

    Unbiased for J of the *chain* that is simulated, to which all methods give the same numbers up
    to rounding, if scheme, policy and rewards are differentiable functions without jumps: what a
    reward counts by thresholds it does not see. Actions that explore are differentiated at
    fixed ξ = (a − mean)/std. N steps of a batch cost, in the work of a forward pass and in memory:

    - `autograd`: one pass back; everything between all nodes is kept.
    - `checkpoint`: one forward pass more; √N states, and what is between the nodes of √N steps.
    - `adjoint`: likewise; all N states, and what is inside one step: the discrete adjoint
      λ_k = ∂gain_k/∂x + (∂X_{k+1}/∂x)ᵀ λ_{k+1}.
    - `forward`: two passes for each number in the parameters; nothing is kept, and the gradient is
      known path by path.

    The noise is not stored but drawn again. None of these solves an adjoint equation in continuous
    time, whose discretization is biased at any step. Where everything is linear and
    quadratic no sampling is needed: `ctcontrol.exact.lq`, chain(times).gradient(policy), is this
    gradient's mean.

    Args:
        problem: dynamics, reward and initial law.
        policy: whose parameters that require gradients are differentiated; their `.grad` is
            left alone.
        grid: decision times; must end at the problem's horizon.
        batch: number of paths.
        generator: source of the initial states, the actions and, by default, the noise. The
            paths are those of `simulate`.
        method: see above.
        solver: the scheme; Euler–Maruyama by default.
        noise: the Brownian increments; white noise with a seed from `generator` by default.
        groups: cut the batch in this many rollouts, one after another, for that fraction of the
            memory and an error bar from their spread. By default as few as the noise allows.

    Raises:
        CtcontrolError: an unknown method, a policy without trainable parameters or on which the
            return does not depend, more groups than paths, or what `simulate` refuses.
        NumericalError: a state, return or gradient that is NaN or infinite, or steps that, made
            again, lead elsewhere (dropout, or noise that is not the same when asked again).
    """
    check_count("batch", batch)
    check_run(problem, grid, generator)
    check_kind("policy", policy, Policy, POLICIES)
    solver = solver or EulerMaruyama()
    check_kind("solver", solver, Scheme, "take EulerMaruyama()")
    policy.check_solver(solver)
    if method not in get_args(Method):
        known = ", ".join(get_args(Method))
        raise CtcontrolError(f"method must be one of {known}, got {method!r}")
    parameters = {name: p for name, p in policy.named_parameters() if p.requires_grad}
    if not parameters:
        raise CtcontrolError(
            f"{type(policy).__name__} has no trainable parameters; a gradient needs some"
        )
    run = Run(problem, policy, grid, solver)
    found: list[_Part] = []
    for start in starts(run, noise_for(policy, noise), batch, generator, groups):
        found.append(_ahead(run, start) if method == "forward" else _back(run, start, method))
    returns = torch.cat([part.returns for part in found])
    samples = noise or WhiteNoise(0)
    gradient = {
        name: sum((len(p.returns) / batch * p.gradient[name] for p in found), torch.zeros_like(v))
        for name, v in parameters.items()
    }
    check_finite("the rollout", gradient, "take smaller steps, or look at the reward's gradient")
    value = Estimate.of(samples.replicates(returns))
    return RolloutGradient(value, gradient, _stderr(found, samples))


@dataclass(frozen=True, eq=False)
class _Part:
    """What some of the paths say.

    Attributes:
        returns: (paths,).
        gradient: of their mean return.
        slopes: of each return, (paths, numbers in the parameter); empty where unknown.
    """

    returns: Tensor
    gradient: dict[str, Tensor]
    slopes: dict[str, Tensor]


def _back(run: Run, start: Mark, method: Method) -> _Part:
    """From the end, section by section: each is made again, and differentiated."""
    steps = run.grid.steps
    nodes = {"autograd": (0,), "adjoint": range(steps)}.get(method, checkpoints(steps))
    marks, goal = [start], None
    if len(nodes) > 1:
        first = start.fork()
        with torch.no_grad():
            goal, marks = start.roll_marking(run, frozenset(nodes))
        marks.insert(0, first)
    parameters = {name: p for name, p in run.policy.named_parameters() if p.requires_grad}
    gradient = {name: torch.zeros_like(p) for name, p in parameters.items()}
    returns, costate, end = None if goal is None else goal.returns, None, steps
    while marks:
        mark = marks.pop()  # its memory is free when it is done
        x = mark.x.detach().requires_grad_(mark.k > 0)
        with torch.enable_grad():
            rollout = replace(mark, x=x).roll(run, end)
            total = rollout.returns.sum() / len(x)
            if costate is not None:
                total = total + (rollout.final * costate).sum()
        if goal is not None and costate is None:
            check_same(rollout.final, goal.final)
        if not total.requires_grad:
            raise CtcontrolError(
                f"the return does not depend on the parameters of {type(run.policy).__name__} by "
                "operations of torch; compute mean action and reward without detach or numpy"
            )
        inputs = [*parameters.values(), *([x] if mark.k else [])]
        slopes = list[Tensor | None](torch.autograd.grad(total, inputs, allow_unused=True))
        for name, slope in zip(parameters, slopes, strict=False):
            if slope is not None:
                gradient[name] += slope
        costate = torch.zeros_like(x) if slopes[-1] is None else slopes[-1]
        returns = rollout.returns.detach() if returns is None else returns
        end = mark.k
    assert returns is not None
    return _Part(returns, gradient, {})


def _ahead(run: Run, start: Mark) -> _Part:
    """The tangent of every path in one parameter after the other."""
    plain = {name: p.detach() for name, p in run.policy.named_parameters()}
    directions = [
        (name, i)
        for name, p in run.policy.named_parameters()
        for i in range(p.numel())
        if p.requires_grad
    ]
    returns, slopes = torch.zeros(()), {name: list[Tensor]() for name, _ in directions}
    for name, i in directions:
        last = (name, i) == directions[-1]
        unit = torch.zeros_like(plain[name])
        unit.view(-1)[i] = 1.0
        with torch.no_grad(), forward_ad.dual_level():
            with warnings.catch_warnings():  # of torch, at the first dual number: its own script
                warnings.simplefilter("ignore", DeprecationWarning)
                dual = forward_ad.make_dual(plain[name], unit)
            policy = SubstitutedPolicy(run.policy, plain | {name: dual})
            mark = start if last else start.fork()
            rollout = mark.roll(replace(run, policy=policy), run.grid.steps)
            returns, slope = forward_ad.unpack_dual(rollout.returns)
            slopes[name].append(torch.zeros_like(returns) if slope is None else slope)
    each = {name: torch.stack(some, 1) for name, some in slopes.items()}
    gradient = {name: some.mean(0).view_as(plain[name]) for name, some in each.items()}
    return _Part(returns, gradient, each)


def _stderr(parts: list[_Part], noise: NoiseSource) -> dict[str, Tensor] | None:
    """From path to path where that is known, else from the spread of the parts."""
    out: dict[str, Tensor] = {}
    for name, mean in parts[0].gradient.items():
        if name in parts[0].slopes:
            columns = torch.cat([part.slopes[name] for part in parts]).unbind(1)
            free = [noise.replicates(column) for column in columns]
            bars = torch.stack([column.std() / math.sqrt(len(column)) for column in free])
            out[name] = bars.view_as(mean)
        elif len(parts) > 1:
            paths = mean.new_tensor([len(part.returns) for part in parts])
            share = (paths / paths.sum()).reshape(-1, *[1] * mean.ndim)
            means = torch.stack([part.gradient[name] for part in parts])
            off = share * (means - (share * means).sum(0))
            out[name] = off.norm(dim=0) * math.sqrt(len(parts) / (len(parts) - 1))
    return out or None
