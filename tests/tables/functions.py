"""Links, values, rewards and regularizers: functions of time, state and action."""

from typing import Literal

import torch
from torch import Tensor, nn

import ctcontrol as ct
from ctcontrol._replay import RunningReward
from ctcontrol.exact import exploratory_lq, hopf_cole, lq, ou, portfolio, tilt
from tests.helpers import normal
from tests.tables._row import F64, row
from tests.tables.dynamics import GRID, investment, linear_mean, merton, mixture, plant

# --- links: make(horizon) -> link ---------------------------------------------------------------

LINKS = [
    row("CosSin", ct.CosSin, ct.CosSin),
    row("Linear", ct.Linear, ct.Linear),
    row("CosOneMinusCos", ct.CosOneMinusCos, ct.CosOneMinusCos),
    row("Constant", ct.Constant, ct.Constant, steady=True),
    row("Variance", ct.Variance, lambda horizon: ct.Variance(lambda t: 1 - (t / horizon) ** 2)),
]

# --- values: make() -> value over states (batch, d); terminal(x) is the reward at t = horizon;
# domain maps normal numbers to states where not all are allowed ---------------------------------


class Network(nn.Module):
    """A small smooth function of (t, x)."""

    def __init__(self, inputs: int, dtype: torch.dtype = F64) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(inputs + 1, 16, dtype=dtype), nn.Tanh(), nn.Linear(16, 1, dtype=dtype)
        )

    def forward(self, t: Tensor, x: Tensor, context: object) -> Tensor:
        return self.body(torch.cat([t[:, None], x], 1)).squeeze(1)


class Informed(ct.InformedResidual):
    """A network of (t, x) that sees what it is told, or finds it out."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Network(3)

    def forward(
        self,
        t: Tensor,
        x: Tensor,
        context: object,
        mean: Tensor | None = None,
        notes: Tensor | None = None,
    ) -> Tensor:
        noted = self.noted(t, x) if notes is None else notes
        return self.network(t, x, context) * (1 + noted) + (0 if mean is None else mean.sum(1))

    @staticmethod
    def noted(t: Tensor, x: Tensor) -> Tensor:
        """What a policy's network would have computed at these rows."""
        return t * x.square().sum(1)


def informed_value(derivative: Literal["reverse", "forward"] = "reverse") -> ct.PinnedValue:
    """A value that reads notes."""
    guess = lambda t, x, c, mean: smooth_reward(x, c)
    return ct.PinnedValue(guess, Informed(), ct.CosSin(1.0), derivative=derivative)


def smooth_reward(x: Tensor, context: object = None) -> Tensor:
    """sin of a linear map: no derivative of it vanishes."""
    return torch.sin(x @ torch.arange(1.0, x.shape[1] + 1, dtype=x.dtype))


def _plant_policy() -> lq.LinearGaussianPolicy:
    return lq.LinearGaussianPolicy(normal(2, 3, seed=11).numpy(), [0.2, -0.3], std=[0.3, 0.4])


def _linear_value() -> ct.LinearValue:
    value = ct.LinearValue(
        lambda t, x, c: (1 - t[:, None]) * torch.cat([x, x.square()], 1),
        6,
        lambda t, x, c: smooth_reward(x, c),
    )
    torch.nn.init.constant_(value.theta, 0.3)
    return value


def _investor() -> lq.LinearGaussianLaw:
    return lq.LinearGaussianLaw([[0.5]], [0.2], 0.3)


def _market() -> portfolio.MeanVariance:
    return portfolio.MeanVariance(
        sharpe=0.9, volatility=0.4, horizon=1.0, initial_wealth=1.0, target=1.4, temperature=0.3
    )


def oscillator() -> ou.OrnsteinUhlenbeck:
    """A cubic reward on the way, a quartic one at the end."""
    return ou.OrnsteinUhlenbeck(
        rate=0.9,
        volatility=0.7,
        running=[0.2, -0.5, 0.3, 0.4],
        terminal=[0.1, 0.6, -0.2, 0.3, 0.1],
        discount=0.5,
        horizon=1.0,
        initial_mean=1.2,
    )


def steered() -> hopf_cole.HopfCole:
    """Two modes in the plane, and a price on being far from the origin."""
    return hopf_cole.HopfCole(
        hopf_cole.LogMixture(mixture().data),
        volatility=0.8,
        action_cost=1.5,
        state_cost=0.4,
        horizon=1.0,
        initial_mean=[0.2, -0.3],
    )


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
    row("Informed", ct.PinnedValue, informed_value, states=3, terminal=smooth_reward),
    row(
        "InformedForward",
        ct.PinnedValue,
        lambda: informed_value("forward"),
        states=3,
        terminal=smooth_reward,
    ),
    row(
        "RatedInformed",
        ct.RatedValue,
        lambda: ct.RatedValue(informed_value(), lambda t, x, c: x),
        states=3,
        terminal=smooth_reward,
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
        "LinearInParameters",
        ct.LinearValue,
        _linear_value,
        states=3,
        terminal=smooth_reward,
    ),
    row(
        "Rated",
        ct.RatedValue,
        lambda: ct.RatedValue(_linear_value(), lambda t, x, c: x),
        states=3,
        terminal=smooth_reward,
    ),
    row(
        "Tilt",
        tilt.TiltValue,
        lambda: mixture().value(),
        states=2,
        terminal=lambda x: mixture().reward(x),
    ),
    row(
        "Hermite",
        ou.HermiteValue,
        lambda: oscillator().value(),
        states=1,
        terminal=lambda x: oscillator().problem().reward.terminal(x, None),
    ),
    row(
        "HopfCole",
        hopf_cole.HopfColeValue,
        lambda: steered().value(),
        states=2,
        terminal=lambda x: steered().problem().reward.terminal(x, None),
    ),
    row(
        "TiltPretrained",
        tilt.PretrainedValue,
        lambda: mixture().pretrained_value(),
        states=2,
        terminal=lambda x: mixture().reward(x),
    ),
    row(
        "ExploratoryLQ",
        exploratory_lq.QuadraticValue,
        lambda: investment().value(_investor(), 1.0),
        states=1,
        terminal=lambda x: investment().problem(1.0, tail=_investor()).reward.terminal(x, None),
    ),
    row(
        "MeanVariance",
        portfolio.MeanVarianceValue,
        lambda: _market().value(portfolio.Investment(0.8, 0.3, 0.5)),
        states=1,
        terminal=lambda x: _market().problem().reward.terminal(x, None),
    ),
    row(
        "Merton",
        portfolio.MertonValue,
        lambda: merton().value(portfolio.Fraction(0.8, 0.3)),
        states=1,
        domain=torch.exp,
        terminal=lambda x: merton().problem().reward.terminal(x, None),
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
        "Running",
        RunningReward,
        lambda: RunningReward(oscillator().problem().reward),
        state=(1,),
        action=(1,),
        context=lambda n: None,
    ),
    row(
        "Step",
        lq.StepReward,
        lambda: plant().skeleton(_plant_policy(), [0, 0.3, 0.4, 1.0]).problem().reward,
        state=(3,),
        action=(2,),
        context=lambda n: None,
    ),
    row(
        "ScalarQuadratic",
        exploratory_lq.ScalarQuadraticReward,
        lambda: investment().problem(1.0).reward,
        state=(1,),
        action=(1,),
        context=lambda n: None,
    ),
    row(
        "Polynomial",
        ou.PolynomialReward,
        lambda: oscillator().problem().reward,
        state=(1,),
        action=(1,),
        context=lambda n: None,
    ),
    row(
        "HopfCole",
        hopf_cole.HopfColeReward,
        lambda: steered().problem().reward,
        state=(2,),
        action=(2,),
        context=lambda n: None,
    ),
    row(
        "ScorePenalty",
        tilt.ScorePenaltyReward,
        lambda: tilt.ScorePenaltyReward(
            tilt.FlowMatching(), mixture().pretrained_score, 0.7, smooth_reward
        ),
        state=(2,),
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
    row(
        "ActionAsState",
        ct.ActionAsStateReward,
        lambda: ct.ActionAsStateReward(plant().problem().reward, 3, 0.7),
        state=(5,),
        action=(2,),
        context=lambda n: None,
    ),
]

# --- regularizers: make() -> regularizer; weight ------------------------------------------------

REGULARIZERS = [
    row(
        "PathKL",
        ct.PathKL,
        lambda weight=0.7: ct.PathKL(ct.GaussianPolicy(linear_mean(), 0.3), weight),
        knob="kl_weight",
    ),
    row("Entropy", ct.Entropy, lambda weight=0.7: ct.Entropy(weight), knob="temperature"),
]
