"""Dynamics, volatilities, policies, solvers and noise."""

from typing import Any

import torch
from torch import Tensor, nn

import ctcontrol as ct
from ctcontrol._ensemble import SubstitutedPolicy
from ctcontrol.exact import exploratory_lq, lq, portfolio, tilt
from ctcontrol.noise import WhiteStream
from ctcontrol_diffusion.reverse_sde import ReverseSDE
from ctcontrol_diffusion.schedule import NoiseSchedule
from tests.helpers import normal
from tests.problems import LearnedStd, regulator
from tests.tables._row import F64, row

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


def integrator(**changes: Any) -> lq.LQProblem:
    """A plant whose action is added to the state, so that it can absorb the noise."""
    eye = [[1.0, 0.0], [0.0, 1.0]]
    facts: dict[str, Any] = {
        "A": [[-0.2, 0.5], [-0.4, 0.1]],
        "B": [[0.7, 0.0], [0.0, 0.7]],
        "Q": eye,
        "R": eye,
        "G": eye,
        "volatility": 0.4,
        "horizon": 1.0,
        "initial_mean": [0.0, 0.0],
        **changes,
    }
    return lq.LQProblem(**facts)


def cart() -> lq.LQProblem:
    """Position and velocity; noise and action reach the velocity alone."""
    return integrator(
        A=[[0.0, 1.0], [-0.5, -0.3]], B=[[0.0], [1.0]], R=[[1.0]], volatility=[[0.0], [0.6]]
    )


class Geometric(ct.ElementwiseActionSDE):
    """dX = (0.3X + a) dt + ½X dW."""

    def free_drift(self, t: ct.Time, x: ct.State, context: ct.Context) -> ct.State:
        return 0.3 * x

    def action_gain(self, t: ct.Time) -> ct.Scalar:
        return torch.ones_like(t)

    def volatility(self, t: ct.Time, x: ct.State, a: ct.Action | None = None) -> ct.Volatility:
        return ct.DiagonalVolatility(0.5 * x)


def mixture() -> tilt.MixtureTilt:
    """Two modes in the plane, a reward that moves and narrows them."""
    return tilt.MixtureTilt(
        tilt.VariancePreserving(0.1, 8.0),
        tilt.GaussianMixture.of([0.3, 0.7], [[-1.0, 0.5], [1.5, 0.0]], [0.2, 0.4]),
        linear=[0.9, -0.3],
        quadratic=0.5,
        kl_weight=0.6,
    )


def investment() -> exploratory_lq.ErgodicLQ:
    """One state and one action that moves drift and noise; every coefficient is there."""
    return exploratory_lq.ErgodicLQ(
        A=-0.7, B=0.8, C=0.3, D=0.5, M=1.2, N=1.0, R=0.2, P=0.3, Q=-0.1, temperature=0.25
    )


def merton() -> portfolio.MertonLog:
    """A stock worth more than all one has."""
    return portfolio.MertonLog(
        drift=0.12, rate=0.03, volatility=0.25, horizon=1.0, temperature=0.02
    )


GAIN = [[0.4, 0.2, 0.0], [0.1, 0.5, 0.3]]

SDES = [
    row("ReverseSDE", ReverseSDE, lambda: ReverseSDE(schedule()), state=(2, 3), action=(2, 3)),
    *(
        row(
            f"Reversal/{name}",
            tilt.Reversal,
            lambda forward=forward, eta=eta: tilt.Reversal(forward, eta),
            state=(2,),
            action=(2,),
        )
        for name, forward, eta in (
            ("VP", tilt.VariancePreserving(0.1, 8.0), 1.0),
            ("SubVP", tilt.SubVariancePreserving(0.1, 8.0), 0.5),
            ("VE", tilt.VarianceExploding(0.1, 5.0), 1.0),
            ("FlowMatching", tilt.FlowMatching(), 0.0),
        )
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
    row(
        "ClosedLinear",
        lq.ClosedLinearSDE,
        lambda: plant().skeleton(lq.LinearGaussianLaw(GAIN), [0.0, 1.0]).problem().sde,
        state=(3,),
        action=(2,),
    ),
    row(
        "ClosedLoop",
        ct.ClosedLoopSDE,
        lambda: ct.ClosedLoopSDE(Geometric(), lambda t, x, c: x.sin()),
        state=(1,),
        action=(1,),
    ),
    row(
        "AdditiveClosedLoop",
        ct.AdditiveClosedLoopSDE,
        lambda: ct.closed_loop(
            integrator().problem().sde, ct.GaussianPolicy(lambda t, x, c: x.sin())
        ),
        state=(2,),
        action=(2,),
    ),
    row(
        "ActionAsState",
        ct.ActionAsStateSDE,
        lambda: ct.ActionAsStateSDE(investment().sde(), 1, 0.3),
        state=(2,),
        action=(1,),
    ),
    row(
        "MultiplicativeNoise",
        exploratory_lq.MultiplicativeNoiseSDE,
        lambda: investment().sde(),
        state=(1,),
        action=(1,),
    ),
    row(
        "Wealth",
        portfolio.WealthSDE,
        lambda: merton().problem().sde,
        state=(1,),
        action=(1,),
    ),
    row(
        "LogWealth",
        portfolio.LogWealthSDE,
        lambda: merton().log_problem().sde,
        state=(1,),
        action=(1,),
    ),
]

# --- volatility: make(batch) -> volatility; matrix(volatility) -> (batch, d, k); state shape ---


def _batch_diagonal(v: ct.DiagonalVolatility) -> Tensor:
    return torch.diag_embed(v.value.flatten(1))


def _block_matrix(v: ct.BlockVolatility) -> Tensor:
    """Both blocks as they act on unit vectors, row by row."""
    assert isinstance(v.second, ct.ScalarVolatility)
    noise = torch.eye(v.noises + 3 - v.states, dtype=v.second.value.dtype)
    rows = len(v.second.value)
    return torch.stack([v.mul(e.expand(rows, -1)) for e in noise], -1)


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
    row(
        "DenseRows",
        ct.DenseVolatility,
        lambda n: ct.DenseVolatility(normal(n, 3, 4, seed=14)),
        matrix=lambda v: v.value,
        singular=lambda: ct.DenseVolatility(torch.eye(3).expand(2, 3, 3).clone().tril(-1)),
    ),
    row(
        "Block",
        ct.BlockVolatility,
        lambda n: ct.BlockVolatility(
            ct.DenseVolatility(normal(2, 4, seed=7)),
            ct.ScalarVolatility(normal(n, seed=8).abs() + 0.3),
            2,
            4,
        ),
        matrix=_block_matrix,
        singular=lambda: ct.BlockVolatility(
            ct.ScalarVolatility(torch.ones(2)), ct.ScalarVolatility(torch.zeros(2)), 2, 2
        ),
    ),
]

# --- policies: make() -> policy; times at which they are defined; action shape; noise or not ---

GRID = ct.TimeGrid.from_times([0.0, 0.1, 0.25, 0.5, 0.8, 1.0])


def linear_mean() -> nn.Module:
    r = regulator()
    return r.mean(normal(2, 2, seed=7), normal(2, seed=8))


POLICIES = [
    row(
        "Gaussian",
        ct.GaussianPolicy,
        lambda: ct.GaussianPolicy(linear_mean(), 0.4),
        absorbs=False,
        trained=2,
    ),
    row(
        "GaussianLearnedStd",
        ct.GaussianPolicy,
        lambda: ct.GaussianPolicy(linear_mean(), LearnedStd(0.5)),
        absorbs=False,
        trained=3,
    ),
    row(
        "GaussianStdOfTime",
        ct.GaussianPolicy,
        lambda: ct.GaussianPolicy(linear_mean(), ct.LearnedStd([0.3, 0.5], of_time=True)),
        absorbs=False,
        trained=4,
    ),
    row(
        "GaussianTimeStd",
        ct.GaussianPolicy,
        lambda: ct.GaussianPolicy(linear_mean(), lambda t: 0.2 + t),
        absorbs=False,
        trained=2,
    ),
    row(
        "NoiseAbsorbing",
        ct.NoiseAbsorbingPolicy,
        lambda: ct.NoiseAbsorbingPolicy(linear_mean(), regulator().sde, ct.EulerMaruyama(), GRID),
        absorbs=True,
        trained=2,
    ),
    row(
        "Ensemble",
        ct.PolicyEnsemble,
        lambda: ct.PolicyEnsemble([ct.GaussianPolicy(linear_mean(), 0.4)]),
        absorbs=False,
        trained=2,
    ),
    row(
        "Substituted",
        SubstitutedPolicy,
        lambda: SubstitutedPolicy(ct.GaussianPolicy(linear_mean(), 0.4), {}),
        absorbs=False,
        trained=0,
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
    row(
        "Fraction",
        portfolio.FractionPolicy,
        lambda: portfolio.FractionPolicy(portfolio.Fraction(0.8, 0.3)),
        absorbs=False,
        trained=2,
    ),
    row(
        "Investment",
        portfolio.InvestmentPolicy,
        lambda: portfolio.InvestmentPolicy(portfolio.Investment(0.8, 0.3, 0.5), 1.6, 1.0),
        absorbs=False,
        trained=3,
    ),
]

# --- noise: make(horizon, shape) -> source; scale is the std per square root of time ------------

NOISES = [
    row("White", ct.WhiteNoise, lambda horizon, shape: ct.WhiteNoise(12), scale=1.0),
    row("WhiteStream", WhiteStream, lambda horizon, shape: WhiteStream(12), scale=1.0),
    row("Zero", ct.ZeroNoise, lambda horizon, shape: ct.ZeroNoise(), scale=0.0),
    row(
        "BrownianPath",
        ct.BrownianPath,
        lambda horizon, shape: ct.BrownianPath(horizon, shape, seed=13),
        scale=1.0,
    ),
    row("Antithetic", ct.Antithetic, lambda horizon, shape: ct.Antithetic(12), scale=1.0),
    row(
        "MomentMatched",
        ct.MomentMatched,
        lambda horizon, shape: ct.MomentMatched(12, group=16),
        scale=1.0,
    ),
    row("Sobol/bridge", ct.Sobol, lambda horizon, shape: ct.Sobol(12), scale=1.0),
    row(
        "Sobol/pca",
        ct.Sobol,
        lambda horizon, shape: ct.Sobol(12, scrambles=8, construction="pca"),
        scale=1.0,
    ),
    row(
        "Coarsened",
        ct.Coarsened,
        lambda horizon, shape: ct.Coarsened(
            ct.WhiteNoise(12), ct.TimeGrid.from_times([0.0, 0.1, 0.2, 0.25, 0.5, 0.9, 0.95, 1.0])
        ),
        scale=1.0,
    ),
]
