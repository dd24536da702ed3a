"""The one supervised loop: minimize a minibatch loss with AdamW, keep the averaged weights."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from ctcontrol import NumericalError
from ctcontrol_diffusion.run import tensors as t

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
    """All of a :class:`Fit` at once: its steps, and then the averaged weights."""
    whole = Fit(module, loss, options)
    yield from whole.steps()
    whole.finish()


class Fit:
    r"""Minimizes ``loss()`` over the parameters of ``module``; can be stopped and continued.

    AdamW; the learning rate rises linearly over the first 2 % of the iterations and then follows
    a half cosine to zero; the gradient norm is clipped at 1. Besides the weights their exponential
    moving average is kept, with decay $\min(\texttt{average\_decay}, (1 + n)/(10 + n))$ at
    iteration $n$.

    Args:
        module: trained in place.
        loss: draws a minibatch and returns its scalar loss; it owns data and randomness.
        options: iterations, rates and decays.

    Attributes:
        iteration: updates made so far.
    """

    def __init__(self, module: nn.Module, loss: Callable[[], Tensor], options: FitOptions) -> None:
        self.module, self.loss, self.options = module, loss, options
        self.iteration = 0
        self.optimizer = torch.optim.AdamW(
            module.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay
        )
        self.average = EMAModel(module.parameters(), decay=options.average_decay, foreach=True)

    def steps(self) -> Iterator[FitStep]:
        """Yields after every update that is left.

        Raises:
            NumericalError: when the loss becomes infinite or not a number.
        """
        self.module.train()
        while self.iteration < self.options.iterations:
            value = self.loss()
            number = value.item()
            if not math.isfinite(number):
                raise NumericalError(
                    f"the pretraining loss became {number} at iteration {self.iteration + 1}; "
                    f"lower the learning rate ({self.options.learning_rate:g})"
                )
            for group in self.optimizer.param_groups:
                group["lr"] = self.options.learning_rate * self._factor()
            self.optimizer.zero_grad(set_to_none=True)
            value.backward()
            nn.utils.clip_grad_norm_(self.module.parameters(), MAX_GRADIENT_NORM)
            self.optimizer.step()
            self.average.step(self.module.parameters())
            self.iteration += 1
            yield FitStep(self.iteration, number)

    def finish(self) -> None:
        """Puts the averaged weights into the module, and the module into evaluation mode."""
        self.average.copy_to(self.module.parameters())
        self.module.eval()

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """(tensors, plain values) from which :meth:`restore` continues bit for bit."""
        optimizer, plain = t.optimizer_tensors(self.optimizer.state_dict())
        tensors = {f"module/{k}": v for k, v in t.module_tensors(self.module).items()}
        tensors |= {f"optimizer/{k}": v for k, v in optimizer.items()}
        tensors |= {f"average/{i}": v.cpu() for i, v in enumerate(self.average.shadow_params)}
        return tensors, {"iteration": self.iteration, "optimizer": plain}

    def restore(self, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> None:
        """Takes up what :meth:`state` gave for a fit of the same module and options.

        Raises:
            CtcontrolError: a tensor is missing, unknown or of another shape.
            KeyError: a part is missing.
        """
        parts: dict[str, dict[str, Tensor]] = {"module": {}, "optimizer": {}, "average": {}}
        for name, value in tensors.items():
            part, _, rest = name.partition("/")
            parts[part][rest] = value
        t.check_module(self.module, parts["module"])
        optimizer = t.optimizer_state(parts["optimizer"], plain["optimizer"], self.optimizer)
        shadows = [parts["average"][str(i)] for i in range(len(self.average.shadow_params))]
        self.module.load_state_dict(parts["module"])
        self.optimizer.load_state_dict(optimizer)
        for mine, saved in zip(self.average.shadow_params, shadows, strict=True):
            mine.copy_(saved)
        self.iteration = self.average.optimization_step = plain["iteration"]

    def _factor(self) -> float:
        """Of the learning rate at the next update."""
        n, total = self.iteration, self.options.iterations
        warm_up = max(1, round(WARM_UP_FRACTION * total))
        if n < warm_up:
            return (n + 1) / warm_up
        return 0.5 * (1 + math.cos(math.pi * (n - warm_up) / max(1, total - warm_up)))
