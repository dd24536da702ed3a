"""Continuous Q-score matching for linear dynamics: actions that diffuse, and an exact Q.

`CQSM`: the action is a part of the state and its drift Ψ is what is controlled, so Q(x, a) of any
linear Ψ, the optimal Ψ*, and every step of policy iteration Ψ′ = λ⁻¹∂_aQ^Ψ are answers of a
linear-quadratic problem, discounted without a horizon.
"""

from ctcontrol.exact.cqsm._problem import CQSM as CQSM
