"""The shape vocabulary: every public signature is written in these names.

`batch` is the number of paths (or rows), `*state` and `*action` are the event axes, of any
number. Time is always a vector with one entry a row.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

Time: TypeAlias = Float[Tensor, "batch"]
"""Control time, one entry a row; runs from 0 to the horizon."""
State: TypeAlias = Float[Tensor, "batch *state"]
Action: TypeAlias = Float[Tensor, "batch *action"]
Noise: TypeAlias = Float[Tensor, "batch *noise"]
Scalar: TypeAlias = Float[Tensor, "batch"]
"""One number a row."""
Context: TypeAlias = Any
"""Whatever conditions a row (prompts, parameters): `context[rows]` must select rows; or None."""

InitialLaw: TypeAlias = Callable[[int, torch.Generator], tuple[Tensor, Context]]
"""(batch, generator) -> (initial states, context); it also fixes dtype and device."""
MeanFunction: TypeAlias = Callable[[Tensor, Tensor, Context], Tensor]
"""(t, x, context) -> mean action: a gain, a network, a score."""
