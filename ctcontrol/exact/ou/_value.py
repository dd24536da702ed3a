"""Sums of eigenfunctions, each with its own rate of decay, as a `Value`."""

import torch
from torch import Tensor

from ctcontrol._typing import Action, Context, Scalar, State, Time
from ctcontrol._value import Jet, Value
from ctcontrol.exact.lq._arrays import Array


class HermiteValue(Value):
    """V(t, x) = Σ_n [a_n + (b_n − a_n) e^{−r_n(T − t)}] He_n(x/ℓ) for scalar states (batch, 1).

    Args:
        scale: ℓ > 0, in units of the state.
        lasting: a_n, (degree + 1,), what is left far from the horizon.
        terminal: b_n, (degree + 1,), what is paid at the horizon.
        rates: r_n, (degree + 1,), per unit of time.
        horizon: T, or None where V = Σ a_n He_n does not depend on time.
    """

    def __init__(
        self, scale: float, lasting: Array, terminal: Array, rates: Array, horizon: float | None
    ) -> None:
        super().__init__()
        self.scale, self.horizon = scale, horizon
        self.coefficients = tuple(torch.tensor(v) for v in (lasting, terminal, rates))

    def at(self, t: Time, x: State, context: Context, mean: Action | None = None) -> Scalar:
        """V, (batch,), differentiable in t and x."""
        weights, _ = self._weights(t, x)
        return (weights * self._hermite(x)).sum(1)

    def jet(
        self,
        t: Time,
        x: State,
        context: Context,
        mean: Action | None = None,
        *,
        hessian: bool = False,
    ) -> Jet:
        """V and its derivatives by He_n′ = n He_{n−1}; detached."""
        t, x = t.detach(), x.detach()
        weights, decay = self._weights(t, x)
        polynomials = self._hermite(x)
        order = torch.arange(polynomials.shape[1]).to(x)
        first = torch.zeros_like(polynomials)
        first[:, 1:] = order[1:] * polynomials[:, :-1] / self.scale
        second = torch.zeros_like(polynomials)
        second[:, 1:] = order[1:] * first[:, :-1] / self.scale
        return Jet(
            value=(weights * polynomials).sum(1),
            time=(decay * polynomials).sum(1),
            gradient=(weights * first).sum(1, keepdim=True),
            hessian=(weights * second).sum(1)[:, None, None] if hessian else None,
        )

    def _weights(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """The coefficients of He_n at each row, (batch, degree + 1), and their rates in t."""
        lasting, terminal, rates = (v.to(x) for v in self.coefficients)
        if self.horizon is None:
            return lasting.expand(len(x), -1), torch.zeros(len(x), len(lasting)).to(x)
        remaining = (self.horizon - t)[:, None]
        fading = (terminal - lasting) * torch.exp(-rates * remaining)
        return lasting + fading, rates * fading

    def _hermite(self, x: Tensor) -> Tensor:
        """He_0 … He_degree at x/ℓ, (batch, degree + 1), by He_{n+1} = z He_n − n He_{n−1}."""
        z = x[:, 0] / self.scale
        rows = [torch.ones_like(z), z]
        for n in range(1, len(self.coefficients[0]) - 1):
            rows.append(z * rows[n] - n * rows[n - 1])
        return torch.stack(rows[: len(self.coefficients[0])], 1)
