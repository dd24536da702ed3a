"""One natural-gradient step with a line search, in place of an optimiser's."""

from typing import Any

import torch
from torch import Tensor, nn

from ctcontrol._checks import (
    CtcontrolError,
    NumericalError,
    check_count,
    check_nonnegative,
    check_positive,
)
from ctcontrol._conjugate import conjugate_gradients
from ctcontrol._updater import Reevaluate, trainable

ROUNDING = 1e-6
"""What a KL may exceed the radius by, relatively: the step of a quadratic ends exactly there."""


class NaturalUpdater:
    """θ ← θ − γʲ √(2δ / sᵀFs) s with Fs = ∇loss, F the Hessian of the mean KL: TRPO's step.

    s comes from conjugate gradients on Fisher-vector products (differentiating ⟨∇KL, v⟩ again);
    at the policy of the rollout F is its Fisher information. j is the first of 0, 1, … for which
    the loss falls and the KL stays below δ; where none does, nothing moves. With a loss that is
    minus a lower bound of the return (`ContinuousPPO` with a trust penalty and no clip) every
    step taken raises that bound (docs/theory, surrogate). Meant for one whole rollout an update:
    give `improve` a minibatch of all rows. (Schulman et al. 2015, 1502.05477.)

    Args:
        module: what is trained.
        radius: δ > 0, bound on the mean KL per row, in nats.
        iterations: steps of conjugate gradients.
        damping: ≥ 0, added to F as a multiple of the identity.
        backtrack: γ in (0, 1), from one step length to the next.
        tries: step lengths tried.

    Raises:
        CtcontrolError: a number out of its range, or a module without trainable parameters.
    """

    def __init__(
        self,
        module: nn.Module,
        radius: float = 0.01,
        *,
        iterations: int = 10,
        damping: float = 1e-3,
        backtrack: float = 0.8,
        tries: int = 15,
    ) -> None:
        self.parameters = trainable(module)
        self.radius = check_positive("radius", radius)
        self.iterations = check_count("iterations", iterations)
        self.damping = check_nonnegative("damping", damping)
        if not 0 < backtrack < 1:
            raise CtcontrolError(f"backtrack must lie in (0, 1), got {backtrack}; 0.8 is usual")
        self.backtrack, self.tries = backtrack, check_count("tries", tries)

    def step(self, loss: Tensor, again: Reevaluate | None = None) -> float:
        """Descend `loss`; returns the norm of its gradient.

        Raises:
            CtcontrolError: `again` is missing.
            NumericalError: the loss, the KL or a gradient is NaN or infinite; nothing was changed.
        """
        if again is None:
            raise CtcontrolError(
                "a natural gradient needs the loss and the KL as functions of the parameters; "
                "give `again`, or use Updater, which needs neither"
            )
        gradient = self._flat(torch.autograd.grad(loss, self.parameters, materialize_grads=True))
        slopes = torch.autograd.grad(
            again()[1], self.parameters, create_graph=True, materialize_grads=True
        )
        slope, before = self._flat(slopes), float(loss.detach())
        norm = float(gradient.norm())
        if not bool(
            torch.isfinite(torch.cat([gradient, slope.detach(), loss.detach()[None]])).all()
        ):
            raise NumericalError(
                f"the loss is {before:g} with gradient norm {norm:g}, or the KL has no gradient; "
                "lower the radius, explore with a larger std, or look at the batch for extreme "
                "rewards"
            )
        if norm == 0:
            return norm

        def fisher(v: Tensor) -> Tensor:
            products = torch.autograd.grad(
                slope @ v[0], self.parameters, retain_graph=True, materialize_grads=True
            )
            return (self._flat(products) + self.damping * v[0])[None]

        direction = conjugate_gradients(fisher, gradient[None], self.iterations)
        length = float((direction * fisher(direction)).sum())
        if length > 0:
            self._search(direction[0] * (2 * self.radius / length) ** 0.5, before, again)
        return norm

    @torch.no_grad()
    def _search(self, move: Tensor, before: float, again: Reevaluate) -> None:
        start = [p.clone() for p in self.parameters]
        parts = move.split([p.numel() for p in self.parameters])
        bound = self.radius * (1 + ROUNDING)
        for j in range(self.tries):
            for p, old, part in zip(self.parameters, start, parts, strict=True):
                p.copy_(old - self.backtrack**j * part.reshape(p.shape))
            loss, kl = again()
            if float(loss) < before and float(kl) <= bound:
                return
        for p, old in zip(self.parameters, start, strict=True):
            p.copy_(old)

    @staticmethod
    def _flat(tensors: tuple[Tensor, ...]) -> Tensor:
        return torch.cat([t.flatten() for t in tensors])

    def state_dict(self) -> dict[str, Any]:
        """Nothing: every step starts from the rollout alone."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict()`."""
