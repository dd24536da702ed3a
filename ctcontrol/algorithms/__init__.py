"""Algorithms as values: hyper-parameters, a signal and a loss.

All but `QLearning` descend −J, with whatever penalties the problem has.

| algorithm | bias | spread of one path's gradient | cost an update | needs |
|---|---|---|---|---|
| `PolicyGradient` | its estimator's | its estimator's; ∝ 1/ς with differences | policy | one pass |
| `ContinuousPPO` | the same; second order in the move; the clip's | the same | policy | nothing |
| `PathwisePolicyGradient` | ∇V's | none from the action | policy, mean of the step | ∇V |
| `ProximalRegression` | ∇V's | none from the action | policy | ∇V, drift affine in the action |
| `QLearning` | O(Δt) | ∝ 1/ς | policy | `Entropy`, a learned std, `QLearningFit` |

"Differences" are `TemporalDifferenceAdvantage`, whose spread does not depend on Δt; with rates in
closed form it does not grow as ς → 0. Estimators: `ctcontrol.advantages`. `PathwisePolicyGradient`
and `ProximalRegression` need a volatility free of the action. (docs/theory, policy gradient.)
"""

from ctcontrol.algorithms._base import Algorithm as Algorithm
from ctcontrol.algorithms._base import Passes as Passes
from ctcontrol.algorithms._base import PolicyLoss as PolicyLoss
from ctcontrol.algorithms._pathwise import PathwisePolicyGradient as PathwisePolicyGradient
from ctcontrol.algorithms._policy_gradient import AdaptedTerm as AdaptedTerm
from ctcontrol.algorithms._policy_gradient import PolicyGradient as PolicyGradient
from ctcontrol.algorithms._ppo import ContinuousPPO as ContinuousPPO
from ctcontrol.algorithms._prox import ProximalRegression as ProximalRegression
from ctcontrol.algorithms._q_learning import QLearning as QLearning
from ctcontrol.algorithms._q_learning import QLearningFit as QLearningFit
from ctcontrol.algorithms._trust import KLPenalty as KLPenalty
from ctcontrol.algorithms._trust import RootKLPenalty as RootKLPenalty
from ctcontrol.algorithms._trust import TrustPenalty as TrustPenalty
