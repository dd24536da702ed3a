"""The one supervised loop: minimize a minibatch loss with AdamW, keep the averaged weights."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from ctcontrol import NumericalError

WARM_UP_FRACTION = 0.02
MAX_GRADIENT_NORM = 1.0


@dataclass(frozen=True)
class FitOptions:
    """How long and how fast to fit.

    Attributes:
        iterations: number of updates.
        learning_rate: peak learning rate.
        weight_decay: decoupled, per unit of learning rate.
        average_decay: decay of the moving average of weights per update, in [0, 1).
    """

    iterations: int
    learning_rate: float
    weight_decay: float
    average_decay: float


@dataclass(frozen=True)
class FitStep:
    """What one iteration reports.

    Attributes:
        iteration: 1 .. iterations.
        loss: minibatch loss before the update.
    """

    iteration: int
    loss: float


def fit(module: nn.Module, loss: Callable[[], Tensor], options: FitOptions) -> Iterator[FitStep]:
    r"""Minimizes ``loss()`` over the parameters of ``module``; yields after every update.

    AdamW; the learning rate rises linearly over the first 2 % of the iterations and then follows
    a half cosine to zero; the gradient norm is clipped at 1. When the iterator is exhausted the
    module holds the exponential moving average of its weights, with decay
    $\min(\texttt{average\_decay}, (1 + n)/(10 + n))$ at iteration $n$, and is in eval mode.

    Args:
        module: trained in place.
        loss: draws a minibatch and returns its scalar loss; it owns data and randomness.
        options: iterations, rates and decays.

    Raises:
        NumericalError: when the loss becomes infinite or not a number.
    """
    module.train()
    optimizer = torch.optim.AdamW(
        module.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _warm_up_and_cosine(options.iterations))
    average = EMAModel(module.parameters(), decay=options.average_decay, foreach=True)
    for iteration in range(1, options.iterations + 1):
        value = loss()
        if not math.isfinite(value.item()):
            raise NumericalError(
                f"the pretraining loss became {value.item()} at iteration {iteration}; "
                f"lower the learning rate ({options.learning_rate:g})"
            )
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(module.parameters(), MAX_GRADIENT_NORM)
        optimizer.step()
        schedule.step()
        average.step(module.parameters())
        yield FitStep(iteration, value.item())
    average.copy_to(module.parameters())
    module.eval()


def _warm_up_and_cosine(iterations: int) -> Callable[[int], float]:
    warm_up = max(1, round(WARM_UP_FRACTION * iterations))

    def factor(n: int) -> float:
        if n < warm_up:
            return (n + 1) / warm_up
        return 0.5 * (1 + math.cos(math.pi * (n - warm_up) / max(1, iterations - warm_up)))

    return factor
