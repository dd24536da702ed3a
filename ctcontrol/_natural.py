"""One natural-gradient step with a line search, in place of an optimiser's."""

import math
from collections.abc import Callable, Iterable, Sequence
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
from ctcontrol._division import ALONE, Collective
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

    def step(
        self,
        loss: Tensor | Iterable[Tensor],
        again: Reevaluate | Sequence[Reevaluate] = (),
        collective: Collective = ALONE,
    ) -> float:
        """Descend `loss`; returns the norm of its gradient.

        Args:
            loss: (), or parts whose sum it is, each asked for when it is needed.
            again: the same parts of the loss and of the KL as functions of the parameters. One
                part keeps its graph for all Fisher-vector products; several are evaluated again
                for each, one after another.
            collective: processes, each with some of the parts; all of them make the same step.

        Raises:
            CtcontrolError: `again` is missing.
            NumericalError: the loss, the KL or a gradient is NaN or infinite; nothing was changed.
        """
        parts = [again] if callable(again) else list(again)
        if not parts and collective.size == 1:
            raise CtcontrolError(
                "a natural gradient needs the loss and the KL as functions of the parameters; "
                "give `again`, or use Updater, which needs neither"
            )
        gradient, before = self._descent(loss, collective)
        norm = float(gradient.norm())
        if not (math.isfinite(before) and math.isfinite(norm)):
            raise NumericalError(self._complaint(before, norm))
        if norm == 0:
            return norm
        fisher = self._fisher(parts, collective)
        direction = conjugate_gradients(fisher, gradient[None], self.iterations)
        length = float((direction * fisher(direction)).sum())
        if not math.isfinite(length):
            raise NumericalError(self._complaint(before, norm))
        if length > 0:
            move = direction[0] * (2 * self.radius / length) ** 0.5
            self._search(move, before, parts, collective)
        return norm

    @staticmethod
    def _complaint(loss: float, norm: float) -> str:
        return (
            f"the loss is {loss:g} with gradient norm {norm:g}, or the KL has no gradient; lower "
            "the radius, explore with a larger std, or look at the batch for extreme rewards"
        )

    def _descent(
        self, loss: Tensor | Iterable[Tensor], collective: Collective
    ) -> tuple[Tensor, float]:
        """The gradient of the sum of all parts of the loss, and that sum."""
        gradient, value = self._zeros(), torch.zeros((), dtype=torch.float64)

        def work() -> None:
            for part in [loss] if isinstance(loss, Tensor) else loss:
                gradient.add_(self._gradient(part))
                value.add_(part.detach().cpu())

        gradient, value = self._together(work, [gradient, value], collective)
        return gradient, float(value)

    def _fisher(
        self, parts: Sequence[Reevaluate], collective: Collective
    ) -> Callable[[Tensor], Tensor]:
        """v (1, n) -> F v + damping · v."""
        kept: list[Tensor] = []  # a single part keeps its graph

        def fisher(v: Tensor) -> Tensor:
            product = self._zeros()

            def work() -> None:
                if len(parts) == 1:
                    kept.extend([] if kept else [self._slope(parts[0])])
                    product.add_(self._gradient(kept[0] @ v[0], keep=True))
                    return
                for evaluate in parts:
                    product.add_(self._gradient(self._slope(evaluate) @ v[0]))

            return (self._together(work, [product], collective)[0] + self.damping * v[0])[None]

        return fisher

    @torch.no_grad()
    def _search(
        self, move: Tensor, before: float, again: Sequence[Reevaluate], collective: Collective
    ) -> None:
        start = [p.clone() for p in self.parameters]
        parts = move.split([p.numel() for p in self.parameters])
        bound = self.radius * (1 + ROUNDING)
        for j in range(self.tries):
            for p, old, part in zip(self.parameters, start, parts, strict=True):
                p.copy_(old - self.backtrack**j * part.reshape(p.shape))
            values = torch.zeros(2, dtype=torch.float64)

            def evaluate(values: Tensor = values) -> None:
                for part in again:
                    values.add_(torch.stack(part()).cpu())

            loss, kl = self._together(evaluate, [values], collective)[0].tolist()
            if loss < before and kl <= bound:
                return
        for p, old in zip(self.parameters, start, strict=True):
            p.copy_(old)

    @staticmethod
    def _together(
        work: Callable[[], None], sums: list[Tensor], collective: Collective
    ) -> list[Tensor]:
        """Let `work` add to `sums`, and add those of all processes."""
        error: Exception | None = None
        try:
            work()
        except Exception as raised:
            error = raised
        collective.agree(error)
        return collective.sum(sums)

    def _zeros(self) -> Tensor:
        first = self.parameters[0]
        return first.new_zeros(sum(p.numel() for p in self.parameters))

    def _slope(self, evaluate: Reevaluate) -> Tensor:
        """∇KL of a part, with the graph that differentiates it again."""
        found = torch.autograd.grad(
            evaluate()[1], self.parameters, create_graph=True, materialize_grads=True
        )
        return self._flat(found)

    def _gradient(self, y: Tensor, *, keep: bool = False) -> Tensor:
        return self._flat(
            torch.autograd.grad(y, self.parameters, retain_graph=keep, materialize_grads=True)
        )

    @staticmethod
    def _flat(tensors: tuple[Tensor, ...]) -> Tensor:
        return torch.cat([t.flatten() for t in tensors])

    def state_dict(self) -> dict[str, Any]:
        """Nothing: every step starts from the rollout alone."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict()`."""
