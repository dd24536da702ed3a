"""Hypothesis strategies: valid objects made of numbers that shrink."""

import torch
from hypothesis import strategies as st
from torch import Tensor

from ctcontrol import Gaussian, TimeGrid

lengths = st.floats(0.01, 2.0)
finite = st.floats(-5.0, 5.0)
positive = st.floats(0.05, 5.0)


@st.composite
def grids(draw: st.DrawFn, *, most: int = 8) -> TimeGrid:
    """Grids from 0 with steps between 0.01 and 2."""
    steps = draw(st.lists(lengths, min_size=1, max_size=most))
    return TimeGrid.from_times([sum(steps[:k]) for k in range(len(steps) + 1)])


@st.composite
def tensors(draw: st.DrawFn, *shape: int, elements: st.SearchStrategy[float] = finite) -> Tensor:
    """Float64 tensors of a shape."""
    count = 1
    for n in shape:
        count *= n
    values = draw(st.lists(elements, min_size=count, max_size=count))
    return torch.tensor(values, dtype=torch.float64).reshape(shape)


@st.composite
def gaussians(draw: st.DrawFn, batch: int, *event: int) -> Gaussian:
    """Gaussians with one std a row, or one a coordinate."""
    shape = (batch, *event) if draw(st.booleans()) else (batch,)
    return Gaussian(draw(tensors(batch, *event)), draw(tensors(*shape, elements=positive)))
