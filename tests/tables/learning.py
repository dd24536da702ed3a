"""Advantages, transforms, critics, test functions and algorithms: what learns from paths."""

import torch
from torch import nn

import ctcontrol as ct
from tests.helpers import normal
from tests.problems import regulator
from tests.tables._row import row

# --- advantages: make() -> estimator; `exact` names the function for which it is exact on a chain
# of any step size: its value, or the expected gradient after the step (tests/problems) -----------

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
