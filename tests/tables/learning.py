"""Links, values, rewards, regularizers, advantages, transforms, critics and algorithms."""

import torch
from torch import Tensor, nn

import ctcontrol as ct
from ctcontrol.exact import exploratory_lq, hopf_cole, lq, ou, portfolio, tilt
from tests.helpers import normal
from tests.problems import regulator
from tests.tables._row import F64, row
from tests.tables.dynamics import GRID, investment, linear_mean, merton, mixture, plant

# --- links: make(horizon) -> link ---------------------------------------------------------------

LINKS = [
    row("CosSin", ct.CosSin, ct.CosSin),
    row("Linear", ct.Linear, ct.Linear),
    row("CosOneMinusCos", ct.CosOneMinusCos, ct.CosOneMinusCos),
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
    row(
        "NoiseAware",
        ct.NoiseAwareAdvantage,
        ct.NoiseAwareAdvantage,
        needs_value=True,
        exact="value",
    ),
    row(
        "Generalized",
        ct.GeneralizedAdvantage,
        lambda: ct.GeneralizedAdvantage(decay=3.0),
        needs_value=True,
        exact="value",
    ),
    row(
        "Learned",
        ct.LearnedAdvantage,
        ct.LearnedAdvantage,
        needs_value=True,
        exact="rate",
    ),
    row("Centered", ct.CenteredAdvantage, ct.CenteredAdvantage, needs_value=True, exact="gradient"),
]

TRANSFORMS = [
    row("Standardize", ct.Standardize, ct.Standardize),
    row("PerContext", ct.StandardizePerContext, ct.StandardizePerContext),
]


def _contract_mean() -> nn.Module:
    """The mean of the policy that the contract of critics runs."""
    return regulator().mean(normal(2, 2, seed=1) / 2, normal(2, seed=2) / 2)


# --- critics: make() -> critic; `bootstraps` where the target depends on the value being right ---

CRITICS = [
    row("MonteCarlo", ct.MonteCarloFit, ct.MonteCarloFit, bootstraps=False),
    row("NoiseAware", ct.NoiseAwareFit, ct.NoiseAwareFit, bootstraps=False),
    row(
        "NoiseAwareLambda",
        ct.NoiseAwareFit,
        lambda **settings: ct.NoiseAwareFit(decay=2.0, **settings),
        bootstraps=True,
    ),
    row(
        "LambdaReturn",
        ct.LambdaReturnFit,
        lambda **settings: ct.LambdaReturnFit(decay=2.0, **settings),
        bootstraps=True,
    ),
    row(
        "TemporalDifference",
        ct.TemporalDifferenceFit,
        ct.TemporalDifferenceFit,
        bootstraps=True,
    ),
    row("Sarsa", ct.SarsaFit, ct.SarsaFit, bootstraps=True),
    row("OneStepResidual", ct.OneStepResidualFit, ct.OneStepResidualFit, bootstraps=True),
    row(
        "QLearning",
        ct.QLearningFit,
        lambda **settings: ct.QLearningFit(
            policy=ct.GaussianPolicy(_contract_mean(), 0.4), temperature=0.5, **settings
        ),
        bootstraps=True,
        regularizer="temperature",
    ),
]

# --- test functions: make() -> test function of a value with 2 features; how many they are ------

TEST_FUNCTIONS = [
    row("ParameterGradient", ct.ParameterGradient, ct.ParameterGradient, count=2),
    row("EligibilityTrace", ct.EligibilityTrace, lambda: ct.EligibilityTrace(2.0), count=2),
    row(
        "StateFunctions",
        ct.StateFunctions,
        lambda: ct.StateFunctions(lambda t, x, c: torch.cat([t[:, None], x, x.square()], 1)),
        count=5,
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
            learns_std=a.exact != "gradient",
        )
        for a in ADVANTAGES
    ),
    *(
        row(
            f"PPO/{name}",
            ct.ContinuousPPO,
            lambda trust=trust, **settings: ct.ContinuousPPO(clip=None, trust=trust, **settings),
            exact="value",
            learns_std=True,
        )
        for name, trust in (("KL", ct.KLPenalty(0.7)), ("RootKL", ct.RootKLPenalty(0.7)))
    ),
    *(
        row(
            f"PolicyGradient/{name}",
            ct.PolicyGradient,
            lambda chosen=chosen, **settings: ct.PolicyGradient(**chosen, **settings),
            exact="value",
            learns_std=True,
        )
        for name, chosen in (
            ("offline", {}),
            ("online", {"online": True}),
            ("test", {"test": lambda law, rows: 0.3 * ct.inner(law.mean, rows.x)}),
        )
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
    *(
        row(
            f"ProximalRegression/{c:g}",
            ct.ProximalRegression,
            lambda c=c, **settings: ct.ProximalRegression(proximity=c, **settings),
            exact="gradient",
            learns_std=False,
        )
        for c in (0.0, 0.5)
    ),
    row(
        "QLearning",
        ct.QLearning,
        ct.QLearning,
        exact="value",
        learns_std=True,
        regularizers=["temperature"],
    ),
]
