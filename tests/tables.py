"""One row per implementation of every abstract type: what the contract tests are run on.

Adding an implementation means adding a row here; `test_every_implementation_has_a_row` of the
contract fails until it is there.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ctcontrol as ct
from ctcontrol.exact import lq, tilt
from ctcontrol.exact.tilt._problem import VariancePreservingReversal
from ctcontrol_diffusion.reverse_sde import ReverseSDE
from ctcontrol_diffusion.schedule import NoiseSchedule
from ctcontrol_diffusion.solvers import DDIM
from tests.helpers import normal, seeded
from tests.problems import Isotropic, LearnedStd, regulator

F64 = torch.float64


@dataclass(frozen=True, eq=False)
class Row:
    """One implementation, ready to be held to its contract."""

    name: str
    kind: type
    make: Callable[..., Any]
    facts: dict[str, Any] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        return self.facts[name]


def row(name: str, kind: type, make: Callable[..., Any], **facts: Any) -> Row:
    """A row with whatever else its contract asks for."""
    return Row(name, kind, make, facts)


def over(rows: list[Row]) -> pytest.MarkDecorator:
    """Run a test on every row of a table, as its argument `case`."""
    return pytest.mark.parametrize("case", rows, ids=[r.name for r in rows])


def kinds(rows: list[Row]) -> set[type]:
    """The implementations in a table."""
    return {r.kind for r in rows}


# --- dynamics: make() -> sde; state and action are event shapes ------------------------------


def plant(**changes: Any) -> lq.LQProblem:
    """Three states, two actions, everything coupled."""
    facts: dict[str, Any] = {
        "A": [[0.1, 0.4, 0.0], [-0.3, -0.2, 0.2], [0.1, 0.0, -0.5]],
        "B": [[0.6, 0.0], [0.2, 0.5], [0.0, -0.4]],
        "Q": [[0.8, 0.1, 0.0], [0.1, 0.6, 0.2], [0.0, 0.2, 0.5]],
        "R": [[0.5, 0.1], [0.1, 0.4]],
        "S": [[0.1, 0.0], [0.0, 0.1], [0.05, 0.0]],
        "G": [[0.5, 0.0, 0.1], [0.0, 0.7, 0.0], [0.1, 0.0, 0.3]],
        "volatility": [[0.5, 0.0, 0.1], [0.1, 0.4, 0.0], [0.0, 0.2, 0.6]],
        "horizon": 1.0,
        "initial_mean": [0.6, -0.4, 0.3],
        "initial_covariance": 0.2,
        "discount": 0.3,
        **changes,
    }
    return lq.LQProblem(**facts)


def schedule(floor: float = 0.02) -> NoiseSchedule:
    """The linear schedule of DDPM with 100 steps."""
    betas = torch.linspace(0.001, 0.2, 100, dtype=F64)
    return NoiseSchedule.from_alphas_cumprod((1 - betas).cumprod(0), floor)


def integrator() -> lq.LQProblem:
    """A plant whose action is added to the state, so that it can absorb the noise."""
    eye = [[1.0, 0.0], [0.0, 1.0]]
    return lq.LQProblem(
        A=[[-0.2, 0.5], [-0.4, 0.1]],
        B=[[0.7, 0.0], [0.0, 0.7]],
        Q=eye,
        R=eye,
        G=eye,
        volatility=0.4,
        horizon=1.0,
        initial_mean=[0.0, 0.0],
    )


def mixture() -> tilt.MixtureTilt:
    """Two modes in the plane, a reward that moves and narrows them."""
    return tilt.MixtureTilt(
        tilt.VariancePreserving(0.1, 8.0),
        tilt.GaussianMixture.of([0.3, 0.7], [[-1.0, 0.5], [1.5, 0.0]], [0.2, 0.4]),
        linear=[0.9, -0.3],
        quadratic=0.5,
        kl_weight=0.6,
    )


SDES = [
    row("ReverseSDE", ReverseSDE, lambda: ReverseSDE(schedule()), state=(2, 3), action=(2, 3)),
    row(
        "VariancePreservingReversal",
        VariancePreservingReversal,
        lambda: mixture().problem().sde,
        state=(2,),
        action=(2,),
    ),
    row(
        "LinearSDE",
        lq.LinearSDE,
        lambda: plant().problem().sde,
        state=(3,),
        action=(2,),
    ),
    row(
        "ElementwiseLinearSDE",
        lq.ElementwiseLinearSDE,
        lambda: integrator().problem().sde,
        state=(2,),
        action=(2,),
    ),
]

# --- volatility: make(batch) -> volatility; matrix(volatility) -> (batch, d, k); state shape ---


def _batch_diagonal(v: ct.DiagonalVolatility) -> Tensor:
    return torch.diag_embed(v.value.flatten(1))


VOLATILITIES = [
    row(
        "Scalar",
        ct.ScalarVolatility,
        lambda n: ct.ScalarVolatility(normal(n, seed=1).abs() + 0.3),
        matrix=lambda v: v.value[:, None, None] * torch.eye(3, dtype=v.value.dtype),
        singular=lambda: ct.ScalarVolatility(torch.tensor([1.0, 0.0])),
    ),
    row(
        "Diagonal",
        ct.DiagonalVolatility,
        lambda n: ct.DiagonalVolatility(normal(n, 3, seed=2) + 2.0),
        matrix=_batch_diagonal,
        singular=lambda: ct.DiagonalVolatility(torch.tensor([[1.0, 2.0, 0.5], [1.0, 0.0, 1.0]])),
    ),
    row(
        "Dense",
        ct.DenseVolatility,
        lambda n: ct.DenseVolatility(normal(3, 3, seed=3)),
        matrix=lambda v: v.value[None],
        singular=lambda: ct.DenseVolatility(torch.tensor([[0.1], [0.3], [0.7]])),
    ),
    row(
        "DenseWide",
        ct.DenseVolatility,
        lambda n: ct.DenseVolatility(normal(3, 5, seed=4)),
        matrix=lambda v: v.value[None],
        singular=lambda: ct.DenseVolatility(normal(3, 1, seed=5) @ normal(1, 5, seed=6)),
    ),
]

# --- policies: make() -> policy; times at which they are defined; action shape; noise or not ---

GRID = ct.TimeGrid.from_times([0.0, 0.1, 0.25, 0.5, 0.8, 1.0])


def _linear_mean() -> nn.Module:
    r = regulator()
    return r.mean(normal(2, 2, seed=7), normal(2, seed=8))


POLICIES = [
    row(
        "Gaussian",
        ct.GaussianPolicy,
        lambda: ct.GaussianPolicy(_linear_mean(), 0.4),
        absorbs=False,
        trained=2,
    ),
    row(
        "GaussianLearnedStd",
        ct.GaussianPolicy,
        lambda: ct.GaussianPolicy(_linear_mean(), LearnedStd(0.5)),
        absorbs=False,
        trained=3,
    ),
    row(
        "GaussianTimeStd",
        ct.GaussianPolicy,
        lambda: ct.GaussianPolicy(_linear_mean(), lambda t: 0.2 + t),
        absorbs=False,
        trained=2,
    ),
    row(
        "NoiseAbsorbing",
        ct.NoiseAbsorbingPolicy,
        lambda: ct.NoiseAbsorbingPolicy(_linear_mean(), regulator().sde, ct.EulerMaruyama(), GRID),
        absorbs=True,
        trained=2,
    ),
    row(
        "LinearGaussian",
        lq.LinearGaussianPolicy,
        lambda: lq.LinearGaussianPolicy(
            normal(3, 2, 2, seed=9).numpy(),
            normal(3, 2, seed=10).numpy(),
            std=[0.3, 0.5],
            times=[0.0, 0.3, 0.5, 1],
        ),
        absorbs=False,
        trained=2,
    ),
    row(
        "FixedLinearGaussian",
        lq.FixedLinearGaussianPolicy,
        lambda: lq.FixedLinearGaussianPolicy(
            lq.LinearGaussianLaw(lambda t: (1 - t) * torch.eye(2).numpy(), [0.1, 0.2], 0.3)
        ),
        absorbs=False,
        trained=0,
    ),
]

# --- solvers: make() -> solver; sde; intervals (t0, t1) for rows; event shape; orders ----------

SOLVERS = [
    row(
        "EulerMaruyama/isotropic",
        ct.EulerMaruyama,
        ct.EulerMaruyama,
        sde=lambda: Isotropic(lambda t: -1 - t, lambda t: 0.5 + t, lambda t: 0.3 + 0.2 * t),
        state=(3,),
        action=(3,),
        absorbs=True,
    ),
    row(
        "EulerMaruyama/dense",
        ct.EulerMaruyama,
        ct.EulerMaruyama,
        sde=lambda: plant().problem().sde,
        state=(3,),
        action=(2,),
        absorbs=False,
    ),
    row(
        "EulerMaruyama/reverse",
        ct.EulerMaruyama,
        ct.EulerMaruyama,
        sde=lambda: ReverseSDE(schedule()),
        state=(2, 2),
        action=(2, 2),
        absorbs=True,
    ),
    *(
        row(
            f"DDIM/{eta:g}",
            DDIM,
            lambda eta=eta: DDIM(eta),
            sde=lambda: ReverseSDE(schedule()),
            state=(2, 2),
            action=(2, 2),
            absorbs=True,
        )
        for eta in (1.0, 0.4)
    ),
]

# --- links: make(horizon) -> link ---------------------------------------------------------------

LINKS = [
    row("CosSin", ct.CosSin, ct.CosSin),
    row("Linear", ct.Linear, ct.Linear),
    row("CosOneMinusCos", ct.CosOneMinusCos, ct.CosOneMinusCos),
    row("Variance", ct.Variance, lambda horizon: ct.Variance(lambda t: 1 - (t / horizon) ** 2)),
]

# --- values: make() -> value over states (batch, d); terminal(x) is the reward at t = horizon ---


class Network(nn.Module):
    """A small smooth function of (t, x)."""

    def __init__(self, inputs: int, dtype: torch.dtype = F64) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(inputs + 1, 16, dtype=dtype), nn.Tanh(), nn.Linear(16, 1, dtype=dtype)
        )

    def forward(self, t: Tensor, x: Tensor, context: object) -> Tensor:
        return self.body(torch.cat([t[:, None], x], 1)).squeeze(1)


def smooth_reward(x: Tensor, context: object = None) -> Tensor:
    """sin of a linear map: no derivative of it vanishes."""
    return torch.sin(x @ torch.arange(1.0, x.shape[1] + 1, dtype=x.dtype))


def _plant_policy() -> lq.LinearGaussianPolicy:
    return lq.LinearGaussianPolicy(normal(2, 3, seed=11).numpy(), [0.2, -0.3], std=[0.3, 0.4])


VALUES = [
    *(
        row(
            f"Pinned/{link.name}",
            ct.PinnedValue,
            lambda link=link: ct.PinnedValue(
                lambda t, x, c, mean: smooth_reward(x, c), Network(3), link.make(1.0)
            ),
            states=3,
            terminal=smooth_reward,
        )
        for link in LINKS
    ),
    row(
        "LQ",
        lq.ExactValue,
        lambda: plant().value(_plant_policy()),
        states=3,
        terminal=lambda x: plant().problem().reward.terminal(x, None),
    ),
    row(
        "LQChain",
        lq.ChainValue,
        lambda: plant().chain(GRID.times.numpy()).value(_plant_policy()),
        states=3,
        terminal=lambda x: plant().problem().reward.terminal(x, None),
        times=GRID.times[[0, 1, 1, 2, 3, 4, 0]],  # defined there only, without a rate in time
    ),
    row(
        "Tilt",
        tilt.TiltValue,
        lambda: mixture().value(),
        states=2,
        terminal=lambda x: mixture().reward(x),
    ),
]

# --- rewards: make() -> reward; states, actions, contexts --------------------------------------

REWARDS = [
    row(
        "Terminal",
        ct.TerminalReward,
        lambda: ct.TerminalReward(smooth_reward),
        state=(3,),
        action=(2,),
        context=lambda n: None,
    ),
    row(
        "Quadratic",
        lq.QuadraticReward,
        lambda: plant().problem().reward,
        state=(3,),
        action=(2,),
        context=lambda n: None,
    ),
]

# --- regularizers: make() -> regularizer; weight ------------------------------------------------

REGULARIZERS = [
    row(
        "PathKL",
        ct.PathKL,
        lambda weight=0.7: ct.PathKL(ct.GaussianPolicy(_linear_mean(), 0.3), weight),
        knob="kl_weight",
    ),
    row("Entropy", ct.Entropy, lambda weight=0.7: ct.Entropy(weight), knob="temperature"),
]

# --- noise: make(horizon, shape) -> source; scale is the std per square root of time ------------

NOISES = [
    row("White", ct.WhiteNoise, lambda horizon, shape: ct.WhiteNoise(seeded(12)), scale=1.0),
    row("Zero", ct.ZeroNoise, lambda horizon, shape: ct.ZeroNoise(), scale=0.0),
    row(
        "BrownianPath",
        ct.BrownianPath,
        lambda horizon, shape: ct.BrownianPath(horizon, shape, seed=13),
        scale=1.0,
    ),
]

# --- advantages: make() -> estimator; `exact` names the function for which it is exact on a chain
# of any step size: its value, or the expected gradient after the step (tests/problems.py) --------

ADVANTAGES = [
    row("Ito", ct.ItoAdvantage, ct.ItoAdvantage, needs_value=True, exact="gradient"),
    row("Action", ct.ActionAdvantage, ct.ActionAdvantage, needs_value=True, exact="gradient"),
    row(
        "ActionRecordedMean",
        ct.ActionAdvantage,
        lambda: ct.ActionAdvantage(through_mean=False),
        needs_value=True,
        exact="gradient",
    ),
    row(
        "TemporalDifference",
        ct.TemporalDifferenceAdvantage,
        ct.TemporalDifferenceAdvantage,
        needs_value=True,
        exact="value",
    ),
    row(
        "MonteCarlo",
        ct.MonteCarloAdvantage,
        ct.MonteCarloAdvantage,
        needs_value=False,
        exact="value",
    ),
]

TRANSFORMS = [
    row("Standardize", ct.Standardize, ct.Standardize),
    row("PerContext", ct.StandardizePerContext, ct.StandardizePerContext),
]

# --- critics: make() -> critic; `bootstraps` where the target depends on the value being right ---

CRITICS = [
    row("MonteCarlo", ct.MonteCarloFit, ct.MonteCarloFit, bootstraps=False),
    row("NoiseAware", ct.NoiseAwareFit, ct.NoiseAwareFit, bootstraps=False),
    row(
        "TemporalDifference",
        ct.TemporalDifferenceFit,
        ct.TemporalDifferenceFit,
        bootstraps=True,
    ),
]

# --- algorithms: make(**settings) -> algorithm; `learns_std` where the std has a gradient --------

ALGORITHMS = [
    *(
        row(
            f"PPO/{a.name}",
            ct.ContinuousPPO,
            lambda a=a, **settings: ct.ContinuousPPO(advantage=a.make(), **settings),
            exact=a.exact,
            learns_std=a.exact == "value",
        )
        for a in ADVANTAGES
    ),
    row(
        "Pathwise",
        ct.PathwisePolicyGradient,
        ct.PathwisePolicyGradient,
        exact="gradient",
        learns_std=False,
    ),
    row(
        "PathwiseProximal",
        ct.PathwisePolicyGradient,
        lambda **settings: ct.PathwisePolicyGradient(proximity=0.5, **settings),
        exact="gradient",
        learns_std=False,
    ),
]
