"""Value functions with derivatives, and the pinned form whose terminal condition is exact."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ctcontrol._link import Link
from ctcontrol._tangent import tangent
from ctcontrol._tensor import inner
from ctcontrol._typing import Action, Context, Scalar, State, Time

Guess = Callable[[Tensor, Tensor, Context, Tensor | None], Tensor]
"""(t, x, context, mean action or None) -> (batch,)."""
Residual = Callable[[Tensor, Tensor, Context], Tensor]
"""(t, x, context) -> (batch,)."""


class InformedResidual(nn.Module, ABC):
    """A residual that also looks at what a rollout has found out: mean actions and notes."""

    @abstractmethod
    def forward(
        self,
        t: Time,
        x: State,
        context: Context,
        mean: Action | None = None,
        notes: Tensor | None = None,
    ) -> Scalar:
        """(batch,); what is None is to be found out again, from (t, x, context) alone.

        `notes`, (batch, …), is what the policy's network computed at these rows beside the mean
        action (`NotingMean`), as it was during the rollout.
        """


@dataclass(frozen=True, eq=False)
class Jet:
    """A value and its derivatives at rows.

    Attributes:
        value: V, (batch,).
        time: ∂V/∂t, (batch,).
        gradient: ∇V, (batch, *state).
        hessian: ∇²V, (batch, d, d) for vector states, or None if it was not asked for.
    """

    value: Scalar
    time: Scalar
    gradient: State
    hessian: Float[Tensor, "batch d d"] | None = None


def _derivatives(
    y: Scalar, *inputs: Tensor, twice: bool = False, again: bool = False
) -> tuple[Tensor, ...]:
    """Row by row ∂y/∂input; zero where y does not depend on it, as slopes of linear values."""
    if not y.requires_grad:
        return tuple(torch.zeros_like(x) for x in inputs)
    return torch.autograd.grad(
        y.sum(), inputs, create_graph=twice, retain_graph=twice or again, materialize_grads=True
    )


class Value(nn.Module, ABC):
    """V(t, x, context), the expected discounted return to go."""

    @abstractmethod
    def at(self, t: Time, x: State, context: Context, mean: Action | None = None) -> Scalar:
        """V, (batch,).

        `mean` is the policy's mean action at (t, x) where the caller has it already, as every
        rollout does: values built on it (a denoised image) then need no second evaluation.
        """

    def given(self, notes: Tensor | None) -> "Value":
        """This value for rows of a rollout with these notes, (rows, …), of its policy, or None.

        Override only where notes are read: the answer shares all parameters with `self`, counts
        the notes as constants, and is to be asked about exactly these rows, in their order.
        """
        return self

    def jet(
        self,
        t: Time,
        x: State,
        context: Context,
        mean: Action | None = None,
        *,
        hessian: bool = False,
    ) -> Jet:
        """V, ∂V/∂t, ∇V and, for vector states, ∇²V, by autograd; detached.

        With `mean` given it counts as a constant of x, so what flows through it is left out.
        Override only where the derivatives are known in closed form.
        """
        with torch.enable_grad():
            t, x = t.detach().requires_grad_(), x.detach().requires_grad_()
            value = self.at(t, x, context, mean)
            dt, gradient = _derivatives(value, t, x, twice=hessian)
            second = None
            if hessian:
                columns = [
                    _derivatives(gradient[:, i], x, again=True)[0] for i in range(x.shape[1])
                ]
                second = torch.stack(columns, dim=-1)
        return Jet(value.detach(), dt.detach(), gradient.detach(), second)

    def gradient(self, t: Time, x: State, context: Context, mean: Action | None = None) -> State:
        """∇V alone, detached."""
        return self.jet(t, x, context, mean).gradient

    def along(
        self, t: Time, x: State, direction: State, context: Context, mean: Action | None = None
    ) -> Scalar:
        """⟨direction, ∇V⟩, (batch,)."""
        return inner(direction, self.gradient(t, x, context, mean))


class QuadraticStateValue(Value):
    """V(t, x) = xᵀM(t)x + 2m(t)ᵀx + c(t): as a control variate it takes all noise into account."""

    @abstractmethod
    def quadratic(
        self, times: Sequence[float]
    ) -> tuple[Float[Tensor, "times d d"], Float[Tensor, "times d"]]:
        """M, symmetric, and m at these times; float64."""


class PinnedValue(Value):
    """V = c_in(t) · guess(t, x) + c_out(t) · residual(t, x): pinned to the reward at the horizon.

    The guess is what is known before learning, with guess(T, x) = h(x): the terminal reward of
    x, or of the denoised x for diffusion models (Score as Action, eq. 20). Only the residual
    learns.

    Args:
        guess: (t, x, context, mean action or None) -> (batch,); its parameters stay frozen.
        residual: (t, x, context) -> (batch,), a module; or an `InformedResidual`.
        link: the coefficients.
        derivative: how `along` differentiates. `reverse` makes ∇V by backpropagation, which keeps
            all that lies between; `forward` the derivative in the one direction, which keeps
            nothing. Where an operation has none of it, a warning says so and reverse is taken.
    """

    def __init__(
        self,
        guess: Guess,
        residual: Residual | InformedResidual,
        link: Link,
        *,
        derivative: Literal["reverse", "forward"] = "reverse",
    ) -> None:
        super().__init__()
        self._guess = (guess,)  # in a tuple: not a submodule, so never trained, never saved
        self.residual = residual
        self.link = link
        self._notes: tuple[Tensor | None] = (None,)
        self._derivative = [derivative]  # in a list: shared by all that `given` makes

    def given(self, notes: Tensor | None) -> "PinnedValue":
        if not isinstance(self.residual, InformedResidual):
            return self
        bound = PinnedValue(self._guess[0], self.residual, self.link)
        bound._notes, bound._derivative = (notes,), self._derivative
        return bound

    def at(self, t: Time, x: State, context: Context, mean: Action | None = None) -> Scalar:
        c_in, c_out = self.link.coefficients(t)
        known = c_in * self._guess[0](t, x, context, mean)
        if isinstance(self.residual, InformedResidual):
            return known + c_out * self.residual(t, x, context, mean, *self._notes)
        return known + c_out * self.residual(t, x, context)

    def along(
        self, t: Time, x: State, direction: State, context: Context, mean: Action | None = None
    ) -> Scalar:
        if self._derivative[0] == "forward":
            try:
                return tangent(lambda y: self.at(t, y, context, mean), x, direction)
            except NotImplementedError as error:
                self._derivative[0] = "reverse"
                reason = str(error).partition(". ")[0]
                warnings.warn(
                    f"the value cannot be differentiated in forward mode ({reason}); reverse mode "
                    "is taken from now on, which gives the same numbers",
                    stacklevel=2,
                )
        return super().along(t, x, direction, context, mean)
