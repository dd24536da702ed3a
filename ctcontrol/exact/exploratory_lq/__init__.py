"""Linear-quadratic control whose volatility the action controls, so that exploration costs.

One state, one action, dX = (AX + Bu)dt + (CX + Du)dW, and a reward that is quadratic with linear
terms. `ExploratoryLQ` is the discounted problem of Wang, Zariphopoulou and Zhou (2020),
`ErgodicLQ` the average reward of Jia and Zhou (2022); of every Gaussian policy both know the
exact value, advantage rate, gradient, occupation moments and performance difference, and of the
entropy-regularized problem the optimum. Policies are those of `ctcontrol.exact.lq`.
"""

from ctcontrol.exact.exploratory_lq._dynamics import (
    MultiplicativeNoiseSDE as MultiplicativeNoiseSDE,
)
from ctcontrol.exact.exploratory_lq._dynamics import QuadraticValue as QuadraticValue
from ctcontrol.exact.exploratory_lq._dynamics import ScalarQuadraticReward as ScalarQuadraticReward
from ctcontrol.exact.exploratory_lq._ergodic import ErgodicLQ as ErgodicLQ
from ctcontrol.exact.exploratory_lq._problem import ExploratoryLQ as ExploratoryLQ
from ctcontrol.exact.exploratory_lq._quadratic import AdvantageRate as AdvantageRate
from ctcontrol.exact.exploratory_lq._quadratic import Coefficients as Coefficients
from ctcontrol.exact.exploratory_lq._system import ControlledVolatilityLQ as ControlledVolatilityLQ
