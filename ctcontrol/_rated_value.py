"""A value function with the advantage rates of its policy: V(t, x) and q(t, x, a)."""

from collections.abc import Callable

import torch
from torch import Tensor

from ctcontrol._checks import ShapeError
from ctcontrol._gaussian import Gaussian
from ctcontrol._typing import Action, Context, Scalar, State, Time
from ctcontrol._value import Value

Coefficients = Callable[[Tensor, Tensor, Context], Tensor]
"""(t, x, context) -> (batch, m) or (batch, m + m(m + 1)/2), m the number of action coordinates."""


class RatedValue(Value):
    """V, and q(t, x, a) = g·z + Σ_{i≤j} h_ij (z_i z_j − 1{i = j}) with z = (a − μ)/ς, law N(μ, ς²).

    Whatever the coefficients g and h of (t, x), E_π q = 0 holds by construction: q is centred,
    not normalised as ∫e^{q/λ} = 1, so it may be the rate of *any* policy and not of a Gibbs one
    alone. (Jia and Zhou 2022, 2207.00713: q^π with the constraint ∫(q − λ log π)π da = 0, here
    with the entropy bonus on the other side, as in every advantage rate of this library.) For
    drifts affine and rewards quadratic in the action, and a volatility free of it, the true rate
    has this form. (docs/theory, q-learning.)

    Args:
        value: V.
        coefficients: (t, x, context) -> (batch, m), g alone, or (batch, m + m(m + 1)/2), g and
            h row by row; per unit of time. A module, trained with `value`.
    """

    def __init__(self, value: Value, coefficients: Coefficients) -> None:
        super().__init__()
        self.value = value
        self.coefficients = coefficients

    def at(self, t: Time, x: State, context: Context, mean: Action | None = None) -> Scalar:
        return self.value.at(t, x, context, mean)

    def given(self, notes: Tensor | None) -> "RatedValue":
        return RatedValue(self.value.given(notes), self.coefficients)

    def rate(self, t: Time, x: State, a: Action, context: Context, law: Gaussian) -> Scalar:
        """q at actions `a` of a policy with this law, (batch,), per unit of time.

        Raises:
            ShapeError: coefficients of another width.
        """
        z = ((a - law.mean) / law.spread).flatten(1)
        m = z.shape[1]
        found = self.coefficients(t, x, context)
        if found.shape not in ((len(z), m), (len(z), m + m * (m + 1) // 2)):
            raise ShapeError(
                f"coefficients must return shape {(len(z), m)}, or with a quadratic part "
                f"{(len(z), m + m * (m + 1) // 2)}, got {tuple(found.shape)}"
            )
        linear = (found[:, :m] * z).sum(1)
        if found.shape[1] == m:
            return linear
        i, j = torch.triu_indices(m, m, device=z.device)
        return linear + (found[:, m:] * (z[:, i] * z[:, j] - (i == j).to(z))).sum(1)
