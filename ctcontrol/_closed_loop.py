"""A policy put into the drift: feedback in continuous time."""

from ctcontrol._checks import CtcontrolError
from ctcontrol._policy import Policy
from ctcontrol._sde import (
    ActionAffineSDE,
    AdditiveClosedLoopSDE,
    AdditiveNoiseSDE,
    ClosedLoopSDE,
    ControlledSDE,
    UncontrolledVolatilitySDE,
    of_kind,
)
from ctcontrol._typing import Action, Context, State, Time


def closed_loop(sde: ControlledSDE, policy: Policy) -> ClosedLoopSDE:
    """dX = b(t, X, μ(t, X)) dt + σ dW with μ the policy's mean action.

    What a fine grid of held actions tends to, without the error of holding them: of order Δ in
    every expectation, whatever the scheme. For action-affine dynamics the law of the states is
    also that of an exploring policy, whose noise averages out (docs/theory, relaxed dynamics).

    Raises:
        CtcontrolError: a controlled volatility; or, at a step, a policy with std > 0 where the
            drift is not affine in the action.
    """
    remedy = "a volatility that depends on the action is not closed by a mean action"
    shared = of_kind(sde, UncontrolledVolatilitySDE, "closed_loop", remedy)
    affine = isinstance(sde, ActionAffineSDE)

    def feedback(t: Time, x: State, context: Context) -> Action:
        law = policy.dist(t, x, context)
        if not affine and bool((law.std != 0).any()):
            raise CtcontrolError(
                f"the policy explores with a std up to {float(law.std.max()):g}, and the drift is "
                "not affine in the action, so its mean is not the drift at the mean action; use a "
                "policy with std = 0"
            )
        return law.mean

    kind = AdditiveClosedLoopSDE if isinstance(sde, AdditiveNoiseSDE) else ClosedLoopSDE
    return kind(shared, feedback)
