"""torchsde as its README shows it, on a float64 clock (a float32 one is many times slower)."""

from collections.abc import Callable

import torch
import torchsde
from torch import Tensor

from benchmarks.cases import Case, Rollout, Run
from benchmarks.rivals._torch import dtype_of, first, torch_dynamics


class Process(torch.nn.Module):
    """The model with diagonal noise."""

    sde_type, noise_type = "ito", "diagonal"

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.act, self.drift, self.variance = torch_dynamics(case, tensor_times=True)
        shape = (case.batch, case.model.dimension)
        self.ones = torch.ones(shape, dtype=dtype_of(case))

    def f(self, t: Tensor, y: Tensor) -> Tensor:
        """The drift."""
        return self.drift(t, y, self.act(t, y))

    def g(self, t: Tensor, y: Tensor) -> Tensor:
        """The volatility, one number a coordinate."""
        return self.ones * self.variance(t) ** 0.5


def prepare(
    case: Case, brownian: Callable[[Case], torchsde.BaseBrownian] | None = None
) -> Run | None:
    """`sdeint` with Euler's method and its own Brownian motion, or another."""
    if case.cost:
        return None
    process = Process(case)
    times = torch.tensor([0.0, case.model.horizon], dtype=torch.float64)

    @torch.no_grad()
    def run(seed: int) -> Rollout:
        torch.manual_seed(seed)
        x, noise = first(case), None if brownian is None else brownian(case)
        path = torchsde.sdeint(process, x, times, bm=noise, method="euler", dt=case.step)
        assert isinstance(path, Tensor)
        return Rollout(path[-1].numpy())

    return run
