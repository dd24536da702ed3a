"""A model in torch."""

import math

import torch
from torch import Tensor

from benchmarks.cases import Case
from benchmarks.models import Array, Backend, Dynamics, dynamics


def dtype_of(case: Case) -> torch.dtype:
    """The precision of a case."""
    return torch.float32 if case.dtype == "float32" else torch.float64


def torch_dynamics(case: Case, *, tensor_times: bool = False) -> Dynamics:
    """The model, with times that are numbers or tensors."""

    def array(value: Array) -> Tensor:
        return torch.tensor(value, dtype=dtype_of(case)).contiguous()

    exp = torch.exp if tensor_times else math.exp
    softmax = lambda x: torch.softmax(x, -1)
    return dynamics(case.model, Backend(array, torch.tanh, softmax, torch.log, exp))


def first(case: Case, generator: torch.Generator | None = None, batch: int = 0) -> Tensor:
    """X_0, (batch, d); the batch of the case by default."""
    rows, dtype = batch or case.batch, dtype_of(case)
    if case.start is None:
        return torch.randn(rows, case.model.dimension, dtype=dtype, generator=generator)
    return torch.tensor(case.start, dtype=dtype).repeat(rows, 1)
