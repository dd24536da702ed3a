"""One Brownian path for every grid."""

import math

import torch
from torch import Tensor

from ctcontrol.noise._base import NoiseStream


class BrownianPath(NoiseStream):
    """One Brownian path for every grid: the same seed gives the same W on coarse and fine grids.

    Increments come from torchsde's `BrownianInterval` on a float64 clock, so that a coarse
    increment is exactly the sum of the fine ones it spans. Its tree is dyadic: W does not depend
    on which increments were asked for before.

    Args:
        horizon: end of the path.
        shape: (batch, *noise).
        seed: entropy of the path.
        dtype: of the increments.
    """

    def __init__(
        self,
        horizon: float,
        shape: tuple[int, ...],
        *,
        seed: int,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> None:
        from torchsde import BrownianInterval  # pulls in scipy and trampoline: only where wanted

        flat = (shape[0], math.prod(shape[1:]))
        self.path = BrownianInterval(
            0.0,
            horizon,
            size=flat,
            entropy=seed,
            dtype=dtype,
            device=device,
            pool_size=64,
            tol=1e-6 * horizon,
            halfway_tree=True,
        )

    def increment(self, t0: float, t1: float, out: Tensor) -> Tensor:
        value = self.path(t0, t1)
        assert isinstance(value, Tensor)
        return out.copy_(value.reshape(out.shape))
