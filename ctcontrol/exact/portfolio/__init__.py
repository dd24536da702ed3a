"""Portfolios: the action is an investment, so it controls the volatility and exploration costs.

`MeanVariance` steers terminal wealth to a target with the least variance (Wang and Zhou 2020);
`MertonLog` maximizes logarithmic utility (Merton 1969, with entropy as in Jia and Zhou 2023). Both
know the exact value and advantage rate of their Gaussian policies and the entropy-regularized
optimum, and simulate through `problem()`.
"""

from ctcontrol.exact.portfolio._laws import Fraction as Fraction
from ctcontrol.exact.portfolio._laws import FractionPolicy as FractionPolicy
from ctcontrol.exact.portfolio._laws import Investment as Investment
from ctcontrol.exact.portfolio._laws import InvestmentPolicy as InvestmentPolicy
from ctcontrol.exact.portfolio._mean_variance import MeanVariance as MeanVariance
from ctcontrol.exact.portfolio._mean_variance import MeanVarianceValue as MeanVarianceValue
from ctcontrol.exact.portfolio._merton import LogWealthSDE as LogWealthSDE
from ctcontrol.exact.portfolio._merton import MertonLog as MertonLog
from ctcontrol.exact.portfolio._merton import MertonValue as MertonValue
from ctcontrol.exact.portfolio._merton import WealthSDE as WealthSDE
