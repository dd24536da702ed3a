"""Algorithms as values: hyper-parameters, a signal and a loss."""

from ctcontrol.algorithms._base import Algorithm as Algorithm
from ctcontrol.algorithms._base import PolicyLoss as PolicyLoss
from ctcontrol.algorithms._pathwise import PathwisePolicyGradient as PathwisePolicyGradient
from ctcontrol.algorithms._ppo import ContinuousPPO as ContinuousPPO
