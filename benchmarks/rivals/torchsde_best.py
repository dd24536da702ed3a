"""torchsde with the cheapest noise it can be given: fresh normals, nothing remembered."""

from typing import Any

import torch
import torchsde
from torch import Tensor

from benchmarks.cases import Case, Run
from benchmarks.rivals import torchsde_default
from benchmarks.rivals._torch import dtype_of


class FreshNormals(torchsde.BaseBrownian):
    """Independent increments, each asked for once; no Lévy area."""

    __slots__ = ("case",)

    def __init__(self, case: Case) -> None:
        self.case = case

    def __call__(
        self, ta: Any, tb: Any = None, return_U: bool = False, return_A: bool = False
    ) -> Tensor:
        return torch.randn(self.shape, dtype=self.dtype) * float(tb - ta) ** 0.5

    def __repr__(self) -> str:
        return "FreshNormals()"

    @property
    def dtype(self) -> torch.dtype:
        """Of the increments."""
        return dtype_of(self.case)

    @property
    def device(self) -> torch.device:
        """The processor."""
        return torch.device("cpu")

    @property
    def shape(self) -> tuple[int, int]:
        """(batch, d)."""
        return self.case.batch, self.case.model.dimension

    @property
    def levy_area_approximation(self) -> str:
        """None."""
        return "none"


def prepare(case: Case) -> Run | None:
    """`sdeint` with Euler's method and these."""
    return torchsde_default.prepare(case, FreshNormals)
