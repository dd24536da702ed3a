"""ctcontrol, as its README shows it: a problem, a policy, `simulate`."""

import torch
from torch import Tensor

from benchmarks.cases import Case, Rollout, Run
from benchmarks.models import Linear, Mixture
from benchmarks.rivals._torch import dtype_of, torch_dynamics
from benchmarks.rollout import rollout
from ctcontrol import ControlProblem, GaussianPolicy, Policy, TerminalReward, TimeGrid, like
from ctcontrol.exact.lq import LinearGaussianPolicy, LQProblem
from ctcontrol.exact.tilt import Reversal, VariancePreserving


def prepare(case: Case) -> Run:
    """The problem and the policy of the case, simulated in one call."""
    problem, policy = _linear(case) if isinstance(case.model, Linear) else _reversed(case)
    grid = TimeGrid.uniform(case.model.horizon, case.steps)

    def run(seed: int) -> Rollout:
        generator = torch.Generator().manual_seed(seed)
        final, returns = rollout(problem, policy, grid, case.batch, generator)
        return Rollout(final.numpy(), returns.numpy() if case.cost else None)

    return run


def lq(case: Case) -> LQProblem:
    """The case as a linear-quadratic problem with Q = R = G = I."""
    model = case.model
    assert isinstance(model, Linear)
    return LQProblem(
        A=model.A,
        B=model.B,
        Q=[[float(i == j) for j in range(len(model.A))] for i in range(len(model.A))],
        R=[[float(i == j) for j in range(len(model.K))] for i in range(len(model.K))],
        G=[[float(i == j) for j in range(len(model.A))] for i in range(len(model.A))],
        volatility=model.volatility,
        horizon=model.horizon,
        initial_mean=model.start,
    )


def _linear(case: Case) -> tuple[ControlProblem, Policy]:
    model, dtype = case.model, dtype_of(case)
    assert isinstance(model, Linear)
    problem = lq(case).problem(dtype)
    if not case.cost:
        problem = ControlProblem(problem.sde, _nothing(), problem.initial, problem.horizon)
    if not model.layers:
        return problem, LinearGaussianPolicy(model.K, dtype=dtype)
    act = torch_dynamics(case).act
    return problem, GaussianPolicy(lambda t, x, context: act(t, x))


def _reversed(case: Case) -> tuple[ControlProblem, Policy]:
    model, dtype = case.model, dtype_of(case)
    assert isinstance(model, Mixture)
    act = torch_dynamics(case, tensor_times=True).act

    def start(batch: int, generator: torch.Generator) -> tuple[Tensor, None]:
        x = torch.empty(batch, model.dimension, dtype=dtype)
        return x.normal_(generator=generator), None

    sde = Reversal(VariancePreserving(*model.beta, model.horizon))
    problem = ControlProblem(sde, _nothing(), start, model.horizon)

    def score(t: Tensor, x: Tensor, context: object) -> Tensor:
        # In a rollout all paths share their time, which then is one number expanded.
        return act(t[0] if t.stride(0) == 0 else like(t, x), x)

    return problem, GaussianPolicy(score)


def _nothing() -> TerminalReward:
    return TerminalReward(lambda x, context: x[:, 0])
