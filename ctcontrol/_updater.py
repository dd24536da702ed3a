"""One step of an optimiser, with clipping and a guard."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_swa_multi_avg_fn

from ctcontrol._checks import (
    CtcontrolError,
    NumericalError,
    check_count,
    check_nonnegative,
    check_positive,
)
from ctcontrol._division import ALONE, Collective

AVERAGE = "average"
"""Key of a parameter's mean beside what the optimiser keeps of it."""

_average = get_swa_multi_avg_fn()
"""Equal weights: (means so far, parameters, how many were averaged)."""

Reevaluate = Callable[[], tuple[Tensor, Tensor]]
"""() -> (loss, mean KL from the policy of the rollout) at the parameters as they now are."""


@dataclass(frozen=True)
class WarmupCosine:
    """Factor of the learning rate: rises linearly over `warmup` updates, then falls as a cosine.

    At the `total`-th update and after it is `final`.

    Raises:
        CtcontrolError: a negative number.
    """

    warmup: int
    total: int
    final: float = 0.0

    def __post_init__(self) -> None:
        check_nonnegative("warmup", self.warmup)
        check_nonnegative("final", self.final)
        check_nonnegative("total", self.total)

    def __call__(self, update: int) -> float:
        """The factor at this update, counted from 0."""
        if update < self.warmup:
            return (update + 1) / self.warmup
        done = min(1.0, (update - self.warmup) / max(1, self.total - self.warmup))
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * done))


def trainable(module: nn.Module) -> list[nn.Parameter]:
    """The parameters that are trained; raises `CtcontrolError` if there are none."""
    found = [p for p in module.parameters() if p.requires_grad]
    if not found:
        raise CtcontrolError(
            f"{type(module).__name__} has no trainable parameters; an updater needs some"
        )
    return found


class Updater:
    """Gradient step on the trainable parameters of a module.

    Args:
        module: what is trained.
        optimizer: over the module's parameters.
        clip_norm: bound on the Euclidean norm of the gradient.
        schedule: update number -> factor of the learning rate; constant by default. The number
            is kept with the state of the optimiser.
        average_from: keep the mean of every parameter over the updates from this number on, for
            `use_average`; none is kept if None. What is left of the noise of the last gradients
            cancels in it (Polyak and Juditsky 1992).
    """

    def __init__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        clip_norm: float = 1.0,
        schedule: Callable[[int], float] | None = None,
        average_from: int | None = None,
    ) -> None:
        self.parameters = trainable(module)
        self.optimizer = optimizer
        if average_from is not None:
            check_count("average_from", average_from, least=0)
        self.average_from = average_from
        self._means: dict[Tensor, Tensor] = {}
        self.clip_norm = check_positive("clip_norm", clip_norm)
        self.schedule = schedule
        for group in optimizer.param_groups:
            group |= {"updates": 0, "full_lr": group["lr"]}

    @classmethod
    def adam(
        cls,
        module: nn.Module,
        learning_rate: float,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        clip_norm: float = 1.0,
        schedule: Callable[[int], float] | None = None,
        average_from: int | None = None,
    ) -> "Updater":
        """AdamW."""
        check_positive("learning_rate", learning_rate)
        trained: Iterable[nn.Parameter] = [p for p in module.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(
            trained or [nn.Parameter(torch.zeros(()))],
            lr=learning_rate,
            betas=betas,
            weight_decay=weight_decay,
        )
        return cls(
            module, optimizer, clip_norm=clip_norm, schedule=schedule, average_from=average_from
        )

    def step(
        self,
        loss: Tensor | Iterable[Tensor],
        again: Reevaluate | Sequence[Reevaluate] = (),
        collective: Collective = ALONE,
    ) -> float:
        """Descend `loss`; returns the norm of the gradient before clipping.

        Args:
            loss: (), or parts whose sum it is. Each part is asked for when the gradient of the one
                before is known and its graph gone, so that no more than one takes memory.
            again: left aside, since a first-order step looks at the loss once.
            collective: processes, each with some of the parts; all of them make the same step.

        Raises:
            NumericalError: the loss or its gradient is NaN or infinite; nothing was changed.
        """
        self.optimizer.zero_grad(set_to_none=True)
        total = self._backward([loss] if isinstance(loss, Tensor) else loss, collective)
        norm = float(nn.utils.clip_grad_norm_(self.parameters, self.clip_norm))
        if not (math.isfinite(total) and math.isfinite(norm)):
            raise NumericalError(
                f"the loss is {total:g} with gradient norm {norm:g}; lower the "
                "learning rate, or look at the batch for extreme rewards"
            )
        for group in self.optimizer.param_groups:
            if self.schedule is not None:
                group["lr"] = group["full_lr"] * self.schedule(group["updates"])
            group["updates"] += 1
        self.optimizer.step()
        self._remember()
        return norm

    @torch.no_grad()
    def use_average(self) -> None:
        """Put the means of `average_from` into the parameters; none before that update."""
        for parameter, mean in self._means.items():
            parameter.copy_(mean)

    @torch.no_grad()
    def _remember(self) -> None:
        if self.average_from is None:
            return
        for group in self.optimizer.param_groups:
            before = group["updates"] - 1 - self.average_from
            if before >= 0:
                means = [self._means.setdefault(p, p.detach().clone()) for p in group["params"]]
                _average(means, group["params"], before)

    def _backward(self, losses: Iterable[Tensor], collective: Collective) -> float:
        """Leave the gradient of the sum of all losses in the parameters; returns that sum."""
        total = torch.zeros((), dtype=torch.float64)
        error: Exception | None = None
        try:
            for part in losses:
                part.backward()
                total += part.detach().cpu()
        except Exception as raised:
            error = raised
        collective.agree(error)
        if collective.size == 1:
            return float(total)
        mine = [p.grad for p in self.parameters]
        known = torch.tensor([grad is not None for grad in mine], dtype=torch.long)
        full = [
            torch.zeros_like(p) if grad is None else grad
            for p, grad in zip(self.parameters, mine, strict=True)
        ]
        *full, known, total = collective.sum([*full, known, total])
        for p, grad, seen in zip(self.parameters, full, known.tolist(), strict=True):
            p.grad = grad if seen else None  # what no process has a gradient of stays as it is
        return float(total)

    def state_dict(self) -> dict[str, Any]:
        """State of the optimiser, and the means."""
        state = self.optimizer.state_dict()
        entries = {index: dict(entry) for index, entry in state["state"].items()}
        for index, p in enumerate(self._stepped()):
            if p in self._means:
                entries.setdefault(index, {})[AVERAGE] = self._means[p]
        return state | {"state": entries}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict()`."""
        entries = {index: dict(entry) for index, entry in state["state"].items()}
        means = {index: entry.pop(AVERAGE, None) for index, entry in entries.items()}
        self.optimizer.load_state_dict(state | {"state": entries})
        known = ((p, means.get(index)) for index, p in enumerate(self._stepped()))
        self._means = {p: mean.to(p, copy=True) for p, mean in known if mean is not None}

    def _stepped(self) -> list[Tensor]:
        """The optimiser's parameters in the order in which its state numbers them."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]
