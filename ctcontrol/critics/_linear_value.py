"""Values that are linear in their parameters."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ctcontrol._along import rows_along
from ctcontrol._checks import CtcontrolError, ShapeError, check_count
from ctcontrol._trajectory import Trajectory
from ctcontrol._typing import Action, Context, Scalar, State, Time
from ctcontrol._value import Value

Features = Callable[[Time, State, Context], Tensor]
"""(t, x, context) -> (batch, number of features)."""
Base = Callable[[Time, State, Context], Scalar]
"""(t, x, context) -> (batch,)."""


class LinearValue(Value):
    """V(t, x) = base(t, x) + θ·φ(t, x), θ starting at 0.

    For V(T, ·) = h choose base(T, ·) = h and φ(T, ·) = 0, e.g. base = h and features times
    T − t. What can be solved instead of descended takes values of this kind.

    Args:
        features: φ, (t, x, context) -> (batch, size).
        size: the number of features.
        base: what is not learned; 0 by default.
        dtype: of the parameters.
    """

    def __init__(
        self,
        features: Features,
        size: int,
        base: Base | None = None,
        *,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        self._functions = (features, base)  # in a tuple: modules among them are not trained
        self.theta = nn.Parameter(torch.zeros(check_count("size", size), dtype=dtype))

    def features(self, t: Time, x: State, context: Context) -> Tensor:
        """φ, (batch, size); raises `ShapeError` where the function returns something else."""
        phi = self._functions[0](t, x, context)
        if phi.shape != (len(x), len(self.theta)):
            raise ShapeError(
                f"features must return shape {(len(x), len(self.theta))} for this value, got "
                f"{tuple(phi.shape)}"
            )
        return phi

    def at(self, t: Time, x: State, context: Context, mean: Action | None = None) -> Scalar:
        learned = self.features(t, x, context) @ self.theta.to(x.dtype)
        base = self._functions[1]
        return learned if base is None else base(t, x, context) + learned


def features_along(value: Value, trajectory: Trajectory) -> Tensor:
    """φ at all nodes, (steps + 1, batch, size); 0 at the last, where V is the terminal reward.

    Raises:
        CtcontrolError: a value that is not a `LinearValue`.
    """
    if not isinstance(value, LinearValue):
        raise CtcontrolError(
            f"this needs a LinearValue, got {type(value).__name__}; give its features, or use a "
            "Critic, which descends instead of solving"
        )
    inside = rows_along(value.features, trajectory)
    return torch.cat([inside, torch.zeros_like(inside[:1])])
