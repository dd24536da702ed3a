"""Algorithms as values: hyper-parameters, a signal and a loss."""

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
